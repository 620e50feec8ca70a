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
        r#"7 subnet: unknown key; did you mean "subnets"? Known here are type, name, cniVersion, runDir, subnets, pools, mtu, spoofCheck, hostEndFilter, routes, dns, ingressRate, ingressBurst, egressRate, egressBurst, prevResult, capabilities, runtimeConfig, args, ipMasq, ipam, cniVersions, disableCheck, disableGC, loadOnlyInlinedPlugins"#,
    ),
    (
        r#""bridge":"cni0"}"#,
        r#"7 bridge: unknown key; known here are type, name, cniVersion, runDir, subnets, pools, mtu, spoofCheck, hostEndFilter, routes, dns, ingressRate, ingressBurst, egressRate, egressBurst, prevResult, capabilities, runtimeConfig, args, ipMasq, ipam, cniVersions, disableCheck, disableGC, loadOnlyInlinedPlugins"#,
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
    (r#""hostEndFilter":0}"#, r#"7 hostEndFilter: the integer 0 is not valid: true or false, without quotes"#),
    (r#""spoofCheck":"off"}"#, r#"7 spoofCheck: the string "off" is not valid: true or false, without quotes"#),
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
    (r#""capabilities":[]}"#, r#"7 capabilities: a list is not valid: an object, as in {"portMappings": true}"#),
    (
        r#""runtimeConfig":{"ipRanges":[[{"subnet":"10.0.0.0/24"}]]}}"#,
        r#"2 runtimeConfig.ipRanges: [[{"subnet":"10.0.0.0/24"}]] is not supported: leave it out; ranges stand in "subnets", or are the cluster's pools"#,
    ),
    (
        r#""runtimeConfig":{"ips":"10.0.0.9"}}"#,
        r#"7 runtimeConfig.ips: the string "10.0.0.9" is not valid: a list of addresses, as in ["10.42.0.9", "fd42::9"]"#,
    ),
    (
        r#""runtimeConfig":{"IPs":["fd00::1","0.0.0.0"]}}"#,
        r#"7 runtimeConfig.IPs[1]: "0.0.0.0" is not valid: an IPv4 or IPv6 address, as in "10.42.0.9" or "fd42::9", with or without a prefix length"#,
    ),
    (
        r#""args":{"cni":{"ips":["10.0.0.8/24","10.0.0.9"]}}}"#,
        r#"7 args.cni.ips[1]: "10.0.0.9" is not valid: one address of each family, and 10.0.0.8 is asked for too"#,
    ),
    (
        r#""runtimeConfig":{"mac":"02:00:00:00:00"}}"#,
        r#"7 runtimeConfig.mac: "02:00:00:00:00" is not valid: a MAC address of six bytes, as in "02:00:5e:10:00:01""#,
    ),
    (
        r#""runtimeConfig":{"MAC":"03:00:00:00:00:01"}}"#,
        r#"7 runtimeConfig.MAC: "03:00:00:00:00:01" is not valid: a MAC address of one interface, whose first byte is even; this one is multicast"#,
    ),
    (
        r#""args":{"cni":{"mac":"00:00:00:00:00:00"}}}"#,
        r#"7 args.cni.mac: "00:00:00:00:00:00" is not valid: a MAC address that is not all zero"#,
    ),
    (
        r#""runtimeConfig":{"mac":"02:00:00:00:00:01","Mac":""}}"#,
        r#"7 runtimeConfig.mac: the string "02:00:00:00:00:01" is not valid: keys are read here without regard to case, and Mac stands there too"#,
    ),
    (
        r#""runtimeConfig":{"portMappings":{}}}"#,
        r#"7 runtimeConfig.portMappings: an object is not valid: a list of objects, as in [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]"#,
    ),
    (
        r#""runtimeConfig":{"portMappings":[{"containerPort":80}]}}"#,
        "7 runtimeConfig.portMappings[0].hostPort: missing: the port of the node, from 1 to 65535",
    ),
    (
        r#""runtimeConfig":{"PortMappings":[{"HostPort":80,"ContainerPort":0}]}}"#,
        r#"7 runtimeConfig.PortMappings[0].ContainerPort: "0" is not valid: a port of the pod, an integer from 1 to 65535"#,
    ),
    (
        r#""runtimeConfig":{"portMappings":[{"hostPort":65536,"containerPort":80}]}}"#,
        r#"7 runtimeConfig.portMappings[0].hostPort: "65536" is not valid: a port of the node, or 0 for none, an integer from 0 to 65535"#,
    ),
    (
        r#""runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"protocol":"icmp"}]}}"#,
        r#"7 runtimeConfig.portMappings[0].protocol: "icmp" is not valid: "tcp", "udp" or "sctp""#,
    ),
    (
        r#""runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"hostIP":"eth0"}]}}"#,
        r#"7 runtimeConfig.portMappings[0].hostIP: "eth0" is not valid: an address of the node, as in "192.0.2.1", or none for all of them"#,
    ),
    (
        r#""runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80},{"hostPort":80,"containerPort":81,"hostIP":"192.0.2.1"}]}}"#,
        r#"7 runtimeConfig.portMappings[1].hostPort: "80/tcp" is not valid: each port of an address of the node once; runtimeConfig.portMappings[0] has it too"#,
    ),
    (
        r#""runtimeConfig":{"bandwidth":{"ingressRate":-1}}}"#,
        r#"7 runtimeConfig.bandwidth.ingressRate: "-1" is not valid: a rate in bits a second, or 0 for no limit, an integer from 0 to 9223372036854775807"#,
    ),
    (
        r#""runtimeConfig":{"bandwidth":{"EgressRate":"10M"}}}"#,
        r#"7 runtimeConfig.bandwidth.EgressRate: the string "10M" is not valid: a rate in bits a second, or 0 for no limit, an integer from 0 to 9223372036854775807"#,
    ),
    (
        r#""runtimeConfig":{"bandwidth":{"egressBurst":8000}}}"#,
        r#"7 runtimeConfig.bandwidth.egressBurst: "8000" is not valid: a burst needs its rate (egressRate)"#,
    ),
    (r#""ingressRate":7,"ingressBurst":8}"#, r#"7 ingressRate: "7" is not valid: at least 8, a byte a second"#),
    (r#""ingressRate":8,"ingressBurst":7}"#, r#"7 ingressBurst: "7" is not valid: at least 8, a byte"#),
    (
        r#""routes":[{"gw":"169.254.1.1"}]}"#,
        r#"7 routes[0].dst: missing: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#,
    ),
    (
        r#""routes":[{"dst":"10.0.0.1/8"}]}"#,
        r#"7 routes[0].dst: "10.0.0.1/8" is not valid: a prefix has no host bits: 10.0.0.0/8"#,
    ),
    (
        r#""routes":[{"dst":"10.0.0.0/8","gw":"10.42.0.1"}]}"#,
        r#"7 routes[0].gw: "10.42.0.1" is not valid: none, or 169.254.1.1: the node is the only one on the pod's link"#,
    ),
    (
        r#""routes":[{"dst":"10.0.0.0/8"},{"dst":"10.0.0.0/8","mtu":1400}]}"#,
        r#"7 routes[1].dst: "10.0.0.0/8" is not valid: each destination once in a table and priority; routes[0] has it too"#,
    ),
    (
        r#""routes":[{"dst":"fd00::/8","mtu":1279}]}"#,
        r#"7 routes[0].mtu: "1279" is not valid: the MTU of the way in bytes, an integer from 1280 to 65535"#,
    ),
    (
        r#""routes":[{"dst":"fd00::/8","table":255}]}"#,
        r#"7 routes[0].table: "255" is not valid: another than the kernel's own, 255"#,
    ),
    (
        r#""routes":[{"dst":"fd00::/8","scope":253}]}"#,
        r#"7 routes[0].scope: "253" is not valid: a scope wider than the link, where the gateway is, an integer from 0 to 252"#,
    ),
    (
        r#""routes":[{"dst":"fd00::/8","metric":1}]}"#,
        "7 routes[0].metric: unknown key; known here are dst, gw, mtu, advmss, priority, table, scope",
    ),
    (
        r#""dns":{"nameservers":["dns.example.org"]}}"#,
        r#"7 dns.nameservers[0]: "dns.example.org" is not valid: the address of a name server, as in "10.96.0.10""#,
    ),
    (r#""dns":{"search":["a b"]}}"#, r#"7 dns.search[0]: "a b" is not valid: a domain without white space"#),
    (
        r#""runtimeConfig":{"dns":{"servers":["10.0.0.1"],"nameservers":["10.0.0.2"]}}}"#,
        r#"7 runtimeConfig.dns.servers: "10.0.0.1" is not valid: either nameservers or servers, not both"#,
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
