//! The node configuration.

use twill_conf::Error;
use twill_conf::node::{NodeLayer, Setting};

use crate::compare;

const URL: &str = "a URL with scheme, host and port and nothing else, as in \"http://10.0.0.1:2379\"";

const FILES: &[(&str, &str)] = &[
    (
        "node_name = 'Node'",
        r#"node_name: "Node" is not valid: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253 characters"#,
    ),
    ("node_name = 7", "node_name: the integer 7 is not valid: a string"),
    (
        "nodeName = 'a'",
        r#"nodeName: unknown key; did you mean "node_name"? Known here are node_name, etcd, etcd_ca, etcd_cert, etcd_key, etcd_user, etcd_password_file, prefix, underlay, underlay_ipv4, underlay_ipv6, run_dir, state_dir, machine_id_file, cni_bin_dir, cni_conf_dir, log, metrics, labels"#,
    ),
    (
        "etcd = 'http://10.0.0.1:2379'",
        r#"etcd: the string "http://10.0.0.1:2379" is not valid: a list of URLs, as in ["http://10.0.0.1:2379"]"#,
    ),
    (
        "metrics = '9477'",
        r#"metrics: "9477" is not valid: an address of this machine and a port from 1, as in "127.0.0.1:9477" or "[::1]:9477"; "0.0.0.0:9477" for all addresses of IPv4, "[::]:9477" for all"#,
    ),
    (
        "metrics = ':9477'",
        r#"metrics: ":9477" is not valid: an address of this machine and a port from 1, as in "127.0.0.1:9477" or "[::1]:9477"; "0.0.0.0:9477" for all addresses of IPv4, "[::]:9477" for all"#,
    ),
    (
        "metrics = 'localhost:9477'",
        r#"metrics: "localhost:9477" is not valid: an address of this machine and a port from 1, as in "127.0.0.1:9477" or "[::1]:9477"; "0.0.0.0:9477" for all addresses of IPv4, "[::]:9477" for all"#,
    ),
    (
        "metrics = '10.0.0.1:0'",
        r#"metrics: "10.0.0.1:0" is not valid: an address of this machine and a port from 1, as in "127.0.0.1:9477" or "[::1]:9477"; "0.0.0.0:9477" for all addresses of IPv4, "[::]:9477" for all"#,
    ),
    (
        "metrics = 'fd00::1:9477'",
        r#"metrics: "fd00::1:9477" is not valid: an address of this machine and a port from 1, as in "127.0.0.1:9477" or "[::1]:9477"; "0.0.0.0:9477" for all addresses of IPv4, "[::]:9477" for all"#,
    ),
    ("etcd = []", r#"etcd: "[]" is not valid: a list of URLs, as in ["http://10.0.0.1:2379"]"#),
    ("etcd = ['http://a:1', 5]", "etcd[1]: the integer 5 is not valid: a URL"),
    (
        "prefix = 'twill/'",
        r#"prefix: "twill/" is not valid: a prefix that begins and ends with '/', as in "/twill/v1/""#,
    ),
    (
        "prefix = '/twill'",
        r#"prefix: "/twill" is not valid: a prefix that begins and ends with '/', as in "/twill/v1/""#,
    ),
    (
        "prefix = '/tw ill/'",
        r#"prefix: "/tw ill/" is not valid: a prefix that begins and ends with '/', as in "/twill/v1/""#,
    ),
    (
        "underlay = 'a-name-of-16-byt'",
        r#"underlay: "a-name-of-16-byt" is not valid: the name of an interface, 1 to 15 bytes, not '.' or '..', without '/', ':', '%' and white space; a pattern of names, as in "en*"; or "to:" and an address that is reached by it, as in "to:10.0.0.1""#,
    ),
    (
        "underlay = 'eth%d'",
        r#"underlay: "eth%d" is not valid: the name of an interface, 1 to 15 bytes, not '.' or '..', without '/', ':', '%' and white space; a pattern of names, as in "en*"; or "to:" and an address that is reached by it, as in "to:10.0.0.1""#,
    ),
    (
        "underlay = 'to:gateway'",
        r#"underlay: "to:gateway" is not valid: after "to:" the address of another machine, as in "to:10.0.0.1""#,
    ),
    (
        "underlay = 'to:fe80::1'",
        r#"underlay: "to:fe80::1" is not valid: after "to:" the address of another machine, as in "to:10.0.0.1""#,
    ),
    (
        "underlay_ipv4 = 'to:fd00::1'",
        r#"underlay_ipv4: "to:fd00::1" is not valid: an IPv4 address after "to:", as in "to:10.0.0.1""#,
    ),
    (
        "underlay_ipv6 = 'to:10.0.0.1'",
        r#"underlay_ipv6: "to:10.0.0.1" is not valid: an IPv6 address after "to:", as in "to:fd00::1""#,
    ),
    ("etcd_ca = 'ca.crt'", r#"etcd_ca: "ca.crt" is not valid: an absolute path, beginning with '/'"#),
    (
        "etcd_user = 'n1:secret'",
        r#"etcd_user: "n1" is not valid: the name of a user of etcd, without ':'; the password stands in the file that etcd_password_file names"#,
    ),
    ("run_dir = 'run/twill'", r#"run_dir: "run/twill" is not valid: an absolute path, beginning with '/'"#),
    ("state_dir = ''", r#"state_dir: "" is not valid: an absolute path, beginning with '/'"#),
    ("machine_id_file = './id'", r#"machine_id_file: "./id" is not valid: an absolute path, beginning with '/'"#),
    ("cni_bin_dir = 'bin'", r#"cni_bin_dir: "bin" is not valid: an absolute path, beginning with '/'"#),
    (
        "log = ' '",
        r#"log: " " is not valid: error, warn, info, debug, trace, or directives such as "info,twilld=debug""#,
    ),
    ("labels = 'zone=a'", r#"labels: the string "zone=a" is not valid: a table headed [labels]"#),
    ("labels.zone = 1", "labels.zone: the integer 1 is not valid: a string"),
    (
        "labels.'a b' = 'c'",
        r#"labels: "a b" is not valid: a label's name: letters, digits, '-', '_', '.' and '/', beginning and ending with a letter or digit, at most 128 characters"#,
    ),
    (
        "labels.a = \"b\\nc\"",
        r#"labels.a: "b\nc" is not valid: a label's value: at most 256 printable ASCII characters"#,
    ),
    ("etcd = [", "the node configuration cannot be read: line 1, column 9: unclosed array, expected `]`"),
];

fn parse_endpoints(key: &str, text: &str) -> Result<Vec<String>, Error> {
    let mut layer = NodeLayer::default();
    layer.set(Setting::Etcd, key, text)?;
    Ok(layer.etcd.expect("it was set"))
}

#[test]
fn a_file_is_refused_with_key_value_and_what_would_be_right() {
    compare(FILES.iter().map(|(toml, wanted)| {
        (*toml, NodeLayer::from_toml(toml).map_or_else(|e| e.to_string(), |_| "accepted".into()), *wanted)
    }));
}

#[test]
fn a_run_directory_too_deep_for_its_sockets_is_refused() {
    let path = |n: usize| format!("/{}", "x".repeat(n - 1));
    let mut layer = NodeLayer::default();
    layer.set(Setting::RunDir, "--run-dir", &path(95)).unwrap();
    let refused = layer.set(Setting::RunDir, "--run-dir", &path(96)).unwrap_err().to_string();
    assert!(refused.starts_with("--run-dir: \"/xxx"), "{refused}");
    assert!(refused.ends_with("at most 95 bytes, since the path of a socket in it may have 107"), "{refused}");
}

#[test]
fn labels_that_would_make_an_unreadable_record_are_refused() {
    let labels = |last: usize| {
        let label = |i: usize| format!("l{i:02} = '{}'\n", "x".repeat(if i < 15 { 253 } else { last }));
        NodeLayer::from_toml(&format!("[labels]\n{}", (0..16).map(label).collect::<String>()))
    };
    assert!(labels(253).is_ok());
    let refused = labels(254).unwrap_err().to_string();
    assert_eq!(refused, r#"labels: "4097 bytes" is not valid: at most 4096 bytes of names and values together"#);
}

#[test]
fn an_endpoint_has_scheme_host_and_port_and_nothing_else() {
    for good in ["http://10.0.0.1:2379", "https://etcd-0.example:1", "http://[fd00::1]:65535", "http://localhost:2379/"]
    {
        assert_eq!(parse_endpoints("--etcd", good).unwrap(), [good.trim_end_matches('/')]);
    }
    for bad in [
        "",
        "10.0.0.1:2379",
        "tcp://10.0.0.1:2379",
        "http://10.0.0.1",
        "http://10.0.0.1:0",
        "http://10.0.0.1:+1",
        "http://10.0.0.1:65536",
        "http://:2379",
        "http://fd00::1:2379",
        "http://[10.0.0.1]:2379",
        "http://me:secret@10.0.0.1:2379",
        "http://10.0.0.1:2379/v3",
        "http://a b:2379",
    ] {
        let refused = parse_endpoints("--etcd", bad).unwrap_err().to_string();
        let shown = bad.replace("http://me:secret@", "…@");
        assert_eq!(refused, format!("--etcd: {shown:?} is not valid: {URL}"));
    }
    assert_eq!(parse_endpoints("--etcd", "http://a:1, http://b:2").unwrap(), ["http://a:1", "http://b:2"]);
    let one_of_two = parse_endpoints("--etcd", "http://a:1,").unwrap_err().to_string();
    assert_eq!(one_of_two, format!("--etcd: \"\" is not valid: {URL}"));
}

#[test]
fn a_variable_is_refused_under_its_own_name() {
    let rows = [
        (
            ("TWILLD_NODE_NAME", "_"),
            r#"TWILLD_NODE_NAME: "_" is not valid: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253 characters"#,
        ),
        (
            ("TWILLD_ETCD", "a:1"),
            r#"TWILLD_ETCD: "a:1" is not valid: a URL with scheme, host and port and nothing else, as in "http://10.0.0.1:2379""#,
        ),
        (("TWILLD_RUN_DIR", "x"), r#"TWILLD_RUN_DIR: "x" is not valid: an absolute path, beginning with '/'"#),
        (("TWILLD_LABELS", "zone"), r#"TWILLD_LABELS: "zone" is not valid: labels as in "zone=a,rack=7""#),
        (
            ("TWILLD_RUNDIR", "/x"),
            r#"TWILLD_RUNDIR: unknown key; did you mean "TWILLD_RUN_DIR"? Known here are TWILLD_NODE_NAME, TWILLD_ETCD, TWILLD_ETCD_CA, TWILLD_ETCD_CERT, TWILLD_ETCD_KEY, TWILLD_ETCD_USER, TWILLD_ETCD_PASSWORD_FILE, TWILLD_PREFIX, TWILLD_UNDERLAY, TWILLD_UNDERLAY_IPV4, TWILLD_UNDERLAY_IPV6, TWILLD_RUN_DIR, TWILLD_STATE_DIR, TWILLD_MACHINE_ID_FILE, TWILLD_CNI_BIN_DIR, TWILLD_CNI_CONF_DIR, TWILLD_LOG, TWILLD_METRICS, TWILLD_LABELS, TWILLD_CONFIG"#,
        ),
    ];
    compare(rows.map(|((name, value), wanted)| {
        let found = NodeLayer::from_environment([(name, value)]).map_or_else(|e| e.to_string(), |_| "accepted".into());
        (name, found, wanted)
    }));
}

#[test]
fn what_resolve_cannot_fill_is_named() {
    let missing = NodeLayer::default().resolve("a").unwrap_err().to_string();
    assert_eq!(
        missing,
        r#"etcd: missing: at least one URL: etcd = ["http://10.0.0.1:2379"] in the file, --etcd or TWILLD_ETCD"#
    );
    let etcd = NodeLayer { etcd: Some(vec!["http://a:1".into()]), ..NodeLayer::default() };
    let host = etcd.resolve("my_host").unwrap_err().to_string();
    assert_eq!(
        host,
        r#"node_name: "my_host" is not valid: the host name stands in for it, and a node name has lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253 characters; set one"#
    );
}

#[test]
fn what_is_said_of_etcd_must_fit_together() {
    let rows = [
        (
            "etcd = ['https://a:1']",
            "etcd_ca (--etcd-ca): missing: the file with the certificate of the CA that signed etcd's, since https://a:1 begins with https://; for a public CA name the system's, as in /etc/ssl/certs/ca-certificates.crt",
        ),
        (
            "etcd = ['http://a:1']\netcd_ca = '/ca'",
            r#"etcd (--etcd): "http://a:1" is not valid: a URL that begins with https://, since etcd_ca (--etcd-ca) is given: TLS is for all"#,
        ),
        (
            "etcd = ['http://a:1']\netcd_cert = '/c'\netcd_key = '/k'",
            r#"etcd (--etcd): "http://a:1" is not valid: a URL that begins with https://, since etcd_cert (--etcd-cert) is given: TLS is for all"#,
        ),
        (
            "etcd = ['https://a:1', 'http://b:1']",
            r#"etcd (--etcd): "http://b:1" is not valid: a URL that begins with https://, as https://a:1 does: TLS is for all, or for none"#,
        ),
        (
            "etcd = ['https://a:1']\netcd_ca = '/ca'\netcd_cert = '/c'",
            "etcd_key (--etcd-key): missing: etcd_cert (--etcd-cert) is given, and is of no use without it",
        ),
        (
            "etcd = ['https://a:1']\netcd_ca = '/ca'\netcd_password_file = '/p'",
            "etcd_user (--etcd-user): missing: etcd_password_file (--etcd-password-file) is given, and is of no use without it",
        ),
        (
            "etcd = ['http://10.0.0.1:1']\netcd_user = 'n1'\netcd_password_file = '/p'",
            r#"etcd (--etcd): "http://10.0.0.1:1" is not valid: a URL that begins with https://, since the password of etcd_user would cross the network in clear"#,
        ),
    ];
    compare(rows.map(|(toml, wanted)| {
        let found =
            NodeLayer::from_toml(toml).unwrap().resolve("h").map_or_else(|e| e.to_string(), |_| "accepted".into());
        (toml, found, wanted)
    }));
}
