//! The judgement, by what nft shows: of rules that are asserted as values, and of rules that nft was given.

use serde_json::json;
use twill_testkit::Namespaces;

use super::*;
use crate::{NetNs, nft};

const TUNNEL: Arrival = Arrival { ipv6: false, port: 4789 };

fn by(policy: &str, rules: &[Value]) -> Option<How> {
    let rule = |(handle, expr): (u64, &Value)| json!({ "rule": { "handle": handle, "expr": expr } });
    let rules: Vec<Value> = (10..).zip(rules).map(rule).collect();
    judge(&json!({ "nftables": rules }), policy == "drop", TUNNEL)
}

#[test]
fn what_is_not_understood_ends_the_look() {
    let drop = json!([{ "drop": null }]);
    let counted = json!([{ "counter": { "packets": 0, "bytes": 0 } }, { "drop": null }]);
    assert_eq!(by("accept", &[counted]), Some(How::Rule(10)));
    for strange in [
        json!([{ "jump": { "target": "docker" } }]),
        json!([{ "goto": { "target": "x" } }]),
        json!([{ "return": null }]),
        json!([{ "vmap": { "key": { "meta": { "key": "iifname" } }, "data": { "set": [] } } }]),
        json!([{ "xt": { "type": "match", "name": "conntrack" } }, { "accept": null }]),
        json!([{ "mangle": {} }]),
    ] {
        assert_eq!(by("drop", &[strange.clone(), drop.clone()]), None, "{strange}");
    }
    let limited = json!([{ "limit": { "rate": 9, "per": "second" } }, { "drop": null }]);
    assert_eq!(by("accept", std::slice::from_ref(&limited)), None);
    assert_eq!(by("drop", &[limited]), Some(How::Policy));
}

/// What is found where nft has this ruleset.
fn found(node: &NetNs, ruleset: &str, arrival: Arrival) -> Vec<(String, &'static str)> {
    all(node, ruleset, &[arrival])
}

fn all(node: &NetNs, ruleset: &str, arrivals: &[Arrival]) -> Vec<(String, &'static str)> {
    node.run(|| {
        nft::change("empty it", "flush ruleset\n").unwrap();
        nft::change("set it", ruleset).unwrap();
        let how = |how| if how == How::Policy { "policy" } else { "rule" };
        look("twill", arrivals).unwrap().into_iter().map(|shut| (shut.place.to_string(), how(shut.how))).collect()
    })
    .unwrap()
}

#[test]
fn rules_and_policies_that_are_sure_to_drop_a_tunnels_packets_are_found_and_no_others() {
    let Some(namespaces) = Namespaces::claim().filter(|_| twill_testkit::has_program("nft")) else { return };
    namespaces.add("node");
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    let input = |rules: &str| {
        let server = "ct state established,related accept\n iif lo accept\n tcp dport { 22, 2379 } accept\n";
        let policy = if rules.contains("POLICY") { "drop" } else { "accept" };
        let rules = rules.replace("POLICY", server);
        format!("table inet f {{ chain in {{ type filter hook input priority 0; policy {policy};\n{rules}\n}}; }}\n")
    };
    for (rules, how) in [
        ("udp dport 4789 drop", "rule"),
        ("udp dport { 53, 4000-5000 } counter reject", "rule"),
        ("meta l4proto udp udp dport != 53 log drop", "rule"),
        ("iif lo accept\n meta l4proto { tcp, udp } drop", "rule"),
        ("udp dport 53 accept\n ip protocol udp drop", "rule"),
        ("POLICY", "policy"),
        ("POLICY udp dport { 53, 67 } accept\n meta l4proto icmp accept\n ct state invalid drop", "policy"),
        (
            "POLICY icmp type echo-request accept\n icmpv6 type echo-request accept\n ip6 saddr fd00::/8 accept",
            "policy",
        ),
    ] {
        assert_eq!(found(&node, &input(rules), TUNNEL), [("inet f in".to_owned(), how)], "{rules}");
    }
    for rules in [
        "",
        "udp dport 53 drop",
        "tcp dport 4789 drop",
        "udp sport 4789 drop",
        "udp dport 4789 ip saddr 192.0.2.9 drop",
        "udp dport 4789 meta length > 1400 drop",
        "ip saddr 192.0.2.0/24 accept\n udp dport 4789 drop",
        "iifname \"eth0\" accept\n udp dport 4789 drop",
        "ct state new accept\n udp dport 4789 drop",
        "POLICY udp dport 4789 accept",
        "POLICY ip saddr 192.0.2.0/24 accept",
        "POLICY iifname \"eth*\" accept",
    ] {
        assert_eq!(found(&node, &input(rules), TUNNEL), [], "{rules}");
    }
    let of = |table: &str, hook: &str| {
        format!("table {table} {{ chain c {{ type filter hook {hook} priority -300; udp dport 4789 drop; }}; }}\n")
    };
    assert_eq!(found(&node, &of("ip raw", "prerouting"), TUNNEL), [("ip raw c".to_owned(), "rule")]);
    for (table, hook) in [("ip6 raw", "prerouting"), ("inet twill", "input"), ("ip x", "output"), ("ip x", "forward")] {
        assert_eq!(found(&node, &of(table, hook), TUNNEL), [], "{table} {hook}");
    }
    assert_eq!(found(&node, &of("ip6 raw", "input"), Arrival { ipv6: true, ..TUNNEL }).len(), 1);
}

#[test]
fn what_a_named_set_holds_and_what_an_unknown_word_means_is_not_known() {
    let Some(namespaces) = Namespaces::claim().filter(|_| twill_testkit::has_program("nft")) else { return };
    namespaces.add("node");
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    let input = |policy: &str, rule: &str| {
        let sets = "set p { type inet_proto; elements = { tcp, udp }; }; set d { type inet_service; elements = { 4789 }; }; \
                    set i { type ifname; elements = { eth0 }; }; set s { type ct_state; elements = { new }; };";
        format!(
            "table inet f {{ {sets} chain in {{ type filter hook input priority 0; policy {policy}; {rule}; }}; }}\n"
        )
    };
    for condition in
        ["meta l4proto @p", "ip protocol @p", "udp dport @d", "iifname @i", "ct state @s", "meta l4proto 17-20"]
    {
        assert_eq!(found(&node, &input("drop", &format!("{condition} accept")), TUNNEL), [], "{condition}");
        let unlike = condition.replace('@', "!= @").replace("17-", "!= 17-");
        assert_eq!(found(&node, &input("accept", &format!("{unlike} drop")), TUNNEL), [], "{unlike}");
    }
    for word in [json!("@p"), json!("user-datagram"), json!(17), json!(200)] {
        for left in [json!({ "meta": { "key": "l4proto" } }), json!({ "meta": { "key": "nfproto" } })] {
            let condition = |op: &str| json!({ "match": { "op": op, "left": left, "right": word } });
            assert_eq!(by("drop", &[json!([condition("=="), { "accept": null }])]), None, "{word}");
            assert_eq!(by("accept", &[json!([condition("!="), { "drop": null }])]), None, "{word}");
        }
    }
    // What is known to be something else is.
    assert_eq!(found(&node, &input("drop", "meta l4proto { tcp, icmp, ipv6-icmp } accept"), TUNNEL).len(), 1);
}

#[test]
fn a_dormant_table_drops_nothing() {
    let Some(namespaces) = Namespaces::claim().filter(|_| twill_testkit::has_program("nft")) else { return };
    namespaces.add("node");
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    for family in ["ip", "inet"] {
        let table = |name: &str, flags: &str| {
            format!(
                "table {family} {name} {{ {flags} chain in {{ type filter hook input priority 0; policy drop; }}; }}\n"
            )
        };
        let told = found(&node, &(table("awake", "") + &table("asleep", "flags dormant;")), TUNNEL);
        assert_eq!(told, [(format!("{family} awake in"), "policy")]);
    }
}

#[test]
fn several_arrivals_are_judged_by_one_reading_and_a_chain_that_drops_both_is_told_once() {
    let Some(namespaces) = Namespaces::claim().filter(|_| twill_testkit::has_program("nft")) else { return };
    namespaces.add("node");
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    let table = |family: &str, rule: &str| {
        format!("table {family} f {{ chain in {{ type filter hook input priority 0; {rule}; }}; }}\n")
    };
    let both = [TUNNEL, Arrival { ipv6: true, ..TUNNEL }];
    let places = |ruleset: &str, of: &[Arrival]| -> Vec<String> {
        all(&node, ruleset, of).into_iter().map(|(place, _)| place).collect()
    };
    assert_eq!(places(&table("ip", "policy drop"), &both), ["ip f in"]);
    assert_eq!(places(&table("ip6", "policy drop"), &both), ["ip6 f in"]);
    assert_eq!(places(&table("inet", "policy drop"), &both), ["inet f in"]);
    assert_eq!(places(&table("inet", "policy drop; meta nfproto ipv6 accept"), &both), ["inet f in"]);
    assert_eq!(places(&table("inet", "policy drop; meta nfproto ipv6 accept"), &both[1..]), [""; 0]);
    assert_eq!(places(&table("inet", "policy drop"), &[]), [""; 0]);
}
