//! The list of valid attachments that a GC is given.

use twill_conf::network::NetworkConf;

/// `container/ifname` of each, or the words of the refusal, for an object that begins with a name.
fn listed(rest: &str) -> String {
    match NetworkConf::for_gc(format!(r#"{{"name":"n"{rest}}}"#).as_bytes()) {
        Ok((_, valid)) => {
            let valid: Vec<_> = valid.iter().map(|one| format!("{}/{}", one.container, one.ifname)).collect();
            valid.join(" ")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn either_key_will_do_and_what_either_names_is_valid() {
    let (a, b) = (r#"{"containerID":"a","ifname":"eth0"}"#, r#"{"containerID":"b","ifname":"eth1","more":[7]}"#);
    assert_eq!(listed(&format!(r#","cni.dev/valid-attachments":[{a},{b}]"#)), "a/eth0 b/eth1");
    assert_eq!(listed(&format!(r#","cni.dev/attachments":[{a}]"#)), "a/eth0");
    let both = format!(r#","cni.dev/attachments":[{a}],"cni.dev/valid-attachments":[{b}]"#);
    assert_eq!(listed(&both), "b/eth1 a/eth0");
    assert_eq!(listed(&format!(r#","cni.dev/attachments":null,"cni.dev/valid-attachments":[{b}]"#)), "b/eth1");
}

#[test]
fn null_is_an_empty_list_and_a_missing_one_is_none() {
    for empty in ["null", "[]"] {
        assert_eq!(listed(&format!(r#","cni.dev/valid-attachments":{empty}"#)), "");
        assert_eq!(listed(&format!(r#","cni.dev/attachments":{empty}"#)), "");
    }
    let text = listed("");
    assert!(text.starts_with("cni.dev/valid-attachments: missing"), "{text}");
}

#[test]
fn a_list_that_cannot_be_understood_in_full_is_refused_and_says_where() {
    for (entry, wanted) in [
        (r#"{"ifname":"eth0"}"#, "[1].containerID: missing"),
        (r#"{"containerID":"a"}"#, "[1].ifname: missing"),
        (r#"{"containerID":"a","ifname":null}"#, "[1].ifname: missing"),
        (r#"{"containerID":"-a","ifname":"eth0"}"#, r#"[1].containerID: "-a" is not valid"#),
        (r#"{"containerID":"a","ifname":"e/0"}"#, r#"[1].ifname: "e/0" is not valid"#),
        (r#"{"containerID":7,"ifname":"eth0"}"#, "[1].containerID: the integer 7 is not valid"),
        (r#""a""#, r#"[1]: the string "a" is not valid"#),
        ("null", "[1]: null is not valid"),
    ] {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let text = listed(&format!(r#","{key}":[{{"containerID":"a","ifname":"eth0"}},{entry}]"#));
            assert!(text.starts_with(&format!("{key}{wanted}")), "{entry}: {text}");
        }
    }
    for wrong in [r#""""#, "{}", "false"] {
        let text = listed(&format!(r#","cni.dev/attachments":null,"cni.dev/valid-attachments":{wrong}"#));
        assert!(text.starts_with("cni.dev/valid-attachments: "), "{wrong}: {text}");
    }
}

#[test]
fn what_else_a_configuration_holds_is_not_looked_at() {
    assert_eq!(listed(r#","subnets":7,"runtimeConfig":"x","unknown":1,"cni.dev/attachments":[]"#), "");
}
