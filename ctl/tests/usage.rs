//! What the tool says without a cluster, word for word: help, bad usage, `config init` and `config validate`.

#[test]
fn help_usage_and_validation_say_what_they_said() {
    trycmd::TestCases::new()
        .register_bin("twillctl", std::path::Path::new(env!("CARGO_BIN_EXE_twillctl")))
        .env("TWILL_ETCD", "")
        .env("TWILL_ETCD_CA", "")
        .env("TWILL_PREFIX", "")
        .env("TWILL_RUN_DIR", "")
        .case("tests/cmd/*.trycmd");
}
