//! The network configuration of CNI.

use twill_conf::Error;
use twill_conf::network::NetworkConf;

use crate::compare;

/// The code by the plugin's rule, and the words.
fn refusal(json: &str) -> String {
    match NetworkConf::from_json(json.as_bytes()) {
        Ok(_) => "accepted".into(),
        Err(error @ Error::Syntax { .. }) => format!("6 {error}"),
        Err(error @ Error::Unsupported { .. }) => format!("2 {error}"),
        Err(error) => format!("7 {error}"),
    }
}

/// Each row stands behind `{"name":"n",` .
const KEYS: &[(&str, &str)] = &[
    (r#""cniVersion":1}"#, r#"7 cniVersion: the integer 1 is not valid: a version, as in "1.0.0""#),
    (r#""type":true}"#, r#"7 type: true is not valid: the name of the plugin, "twill""#),
    (
        r#""subnet":"10.0.0.0/24"}"#,
        r#"7 subnet: unknown key; did you mean "subnets"? Known here are type, name, cniVersion, runDir, subnets, pools, mtu, routes, dns, ingressRate, ingressBurst, egressRate, egressBurst, prevResult, capabilities, runtimeConfig, args, ipMasq, ipam, cniVersions, disableCheck, disableGC, loadOnlyInlinedPlugins"#,
    ),
    (
        r#""bridge":"cni0"}"#,
        r#"7 bridge: unknown key; known here are type, name, cniVersion, runDir, subnets, pools, mtu, routes, dns, ingressRate, ingressBurst, egressRate, egressBurst, prevResult, capabilities, runtimeConfig, args, ipMasq, ipam, cniVersions, disableCheck, disableGC, loadOnlyInlinedPlugins"#,
    ),
    (r#""runDir":"run"}"#, r#"7 runDir: "run" is not valid: an absolute path, beginning with '/'"#),
    (r#""runDir":{}}"#, "7 runDir: an object is not valid: an absolute path"),
    (
        r#""subnets":"10.0.0.0/24"}"#,
        r#"7 subnets: the string "10.0.0.0/24" is not valid: a list of prefixes, as in ["10.42.0.0/24"]"#,
    ),
    (
        r#""subnets":[]}"#,
        r#"7 subnets: "[]" is not valid: a list of prefixes, as in ["10.42.0.0/24"], or no such key where a daemon runs"#,
    ),
    (
        r#""subnets":[{"subnet":"10.0.0.0/24"}]}"#,
        r#"7 subnets[0]: an object is not valid: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#,
    ),
    (
        r#""subnets":["10.0.0.1/24"]}"#,
        r#"7 subnets[0]: "10.0.0.1/24" is not valid: a prefix has no host bits: 10.0.0.0/24"#,
    ),
    (
        r#""subnets":["10.0.0.0/24","10.0.0.128/25"]}"#,
        r#"7 subnets[1]: "10.0.0.128/25" is not valid: subnets may not overlap, and this one lies inside 10.0.0.0/24 of subnets[0]"#,
    ),
    (r#""subnets":["fe80::/64"]}"#, r#"7 subnets[0]: "fe80::/64" is not valid: it overlaps fe80::/10, link-local"#),
    (
        r#""subnets":["10.0.0.0/24"],"pools":["a"]}"#,
        r#"7 pools: "a" is not valid: either pools of the cluster or "subnets" of this node alone, not both"#,
    ),
    (
        r#""pools":["A"]}"#,
        r#"7 pools[0]: "A" is not valid: lower-case letters, digits and '-', beginning with a letter or digit, at most 63 characters"#,
    ),
    (r#""pools":["a","b","a"]}"#, r#"7 pools[2]: "a" is not valid: each pool once"#),
    (r#""pools":"a"}"#, r#"7 pools: the string "a" is not valid: a list of names of pools, as in ["default"]"#),
    (
        r#""mtu":67}"#,
        r#"7 mtu: "67" is not valid: the MTU of the pod's interface in bytes, an integer from 68 to 65535"#,
    ),
    (
        r#""mtu":1279,"subnets":["fd00::/64"]}"#,
        r#"7 mtu: "1279" is not valid: the MTU of the pod's interface in bytes, an integer from 1280 to 65535"#,
    ),
    (
        r#""mtu":65536}"#,
        r#"7 mtu: "65536" is not valid: the MTU of the pod's interface in bytes, an integer from 68 to 65535"#,
    ),
    (
        r#""mtu":"1500"}"#,
        r#"7 mtu: the string "1500" is not valid: the MTU of the pod's interface in bytes, an integer from 68 to 65535"#,
    ),
    (r#""prevResult":[]}"#, "7 prevResult: a list is not valid: the result of the plugin before, an object"),
    (r#""disableCheck":"no"}"#, r#"7 disableCheck: the string "no" is not valid: true or false, without quotes"#),
    (r#""cniVersions":["1.0.0",2]}"#, r#"7 cniVersions[1]: the integer 2 is not valid: a version, as in "1.0.0""#),
    (r#""ipMasq":1}"#, "7 ipMasq: the integer 1 is not valid: true or false, without quotes"),
    (r#""args":[]}"#, "7 args: a list is not valid: an object"),
    (
        r#""ipam":{"type":"host-local"}}"#,
        r#"2 ipam: {"type":"host-local"} is not supported: leave it out; Twill manages addresses by itself: ranges stand in "subnets", routes in "routes", name servers in "dns""#,
    ),
    (
        r#""ipam":"host-local"}"#,
        r#"2 ipam: "host-local" is not supported: leave it out; Twill manages addresses by itself: ranges stand in "subnets", routes in "routes", name servers in "dns""#,
    ),
    (
        r#""ipMasq":true}"#,
        "2 ipMasq: true is not supported: leave it out; whether a pool is masqueraded stands in the cluster configuration (masquerade)",
    ),
];

#[test]
fn a_key_is_refused_with_code_value_and_what_would_be_right() {
    compare(KEYS.iter().map(|(rest, wanted)| (*rest, refusal(&format!(r#"{{"name":"n",{rest}"#)), *wanted)));
}

const DOCUMENTS: &[(&str, &str)] = &[
    ("", "6 the network configuration on standard input cannot be read: one JSON object is wanted, and nothing came"),
    (
        " \n",
        "6 the network configuration on standard input cannot be read: one JSON object is wanted, and nothing came",
    ),
    ("[]", "6 the network configuration on standard input cannot be read: one JSON object is wanted, not a list"),
    ("null", "6 the network configuration on standard input cannot be read: one JSON object is wanted, not null"),
    (
        r#"{"name":"n"} x"#,
        "6 the network configuration on standard input cannot be read: trailing characters at line 1 column 14",
    ),
    ("name: n", "6 the network configuration on standard input cannot be read: expected ident at line 1 column 2"),
    ("{}", r#"7 name: missing: the name of the network, as in "twill""#),
    (r#"{"name":""}"#, r#"7 name: "" is not valid: it must match ^[A-Za-z0-9][A-Za-z0-9_.-]*$"#),
    (r#"{"name":"a/b"}"#, r#"7 name: "a/b" is not valid: it must match ^[A-Za-z0-9][A-Za-z0-9_.-]*$"#),
    (r#"{"name":["n"]}"#, "7 name: a list is not valid: a string"),
];

#[test]
fn a_document_of_another_shape_is_refused_with_its_code() {
    compare(DOCUMENTS.iter().map(|(json, wanted)| (*json, refusal(json), *wanted)));
}

#[test]
fn a_long_value_is_shown_shortened() {
    let json = format!(r#"{{"name":"n","ipam":{{"type":"{}"}}}}"#, "x".repeat(10_000));
    assert!(refusal(&json).len() < 300, "{}", refusal(&json));
}
