//! The judgement, by what nft 1.0.6 shows of Docker's, firewalld's and other people's chains.

use serde_json::{Value, json};
use twill_testkit::Namespaces;

use super::listing::rules;
use super::*;
use crate::{NetNs, chains};

const PODS: Passage = Passage { interfaces: "tw*", own: "twill", ipv4: true, ipv6: true, open: true };

fn chain(place: &str, policy: Option<&str>, of: &[Value]) -> Chain {
    let [family, table, name] = place.split(' ').collect::<Vec<_>>()[..] else { unreachable!("three words") };
    let mut object = json!({"family": family, "table": table, "name": name, "handle": 1});
    if let Some(policy) = policy {
        object["type"] = json!("filter");
        object["hook"] = json!("forward");
        object["policy"] = json!(policy);
    }
    let listing = json!({"nftables": [{"metainfo": {}}, {"chain": object}]});
    let mut chain = Chain::from(chains::read(&listing).pop().expect("it is a chain"));
    let rule = |(handle, expr): (usize, &Value)| json!({"rule": {"handle": handle, "expr": expr}});
    let mut listed: Vec<Value> = (10..).zip(of).map(rule).collect();
    for rule in &mut listed {
        if let Some(comment) =
            rule["rule"]["expr"].as_array_mut().and_then(|steps| steps.pop_if(|step| step.is_string()))
        {
            rule["rule"]["comment"] = comment;
        }
    }
    chain.rules = rules(&json!({ "nftables": listed }));
    chain
}

/// A rule that accepts by interfaces, as nft shows one of iptables.
fn accepts(direction: &str, interfaces: &str, comment: Option<&str>) -> Value {
    let condition = json!({"match": {"op": "==", "left": {"meta": {"key": direction}}, "right": interfaces}});
    let counter = json!({"counter": {"packets": 1, "bytes": 2}});
    let mut steps = vec![condition, counter, json!({"accept": null})];
    steps.extend(comment.map(|comment| json!(comment)));
    Value::Array(steps)
}

fn jump(chain: &str) -> Value {
    json!([{"counter": {"packets": 0, "bytes": 0}}, {"jump": {"target": chain}}])
}

fn told(chains: &[Chain], passage: &Passage) -> Vec<String> {
    let entrance = |barrier: &Barrier| barrier.entrance.as_ref().map_or("nowhere".to_owned(), ToString::to_string);
    barriers(chains, passage).iter().map(|one| format!("{} by {}", one.place, entrance(one))).collect()
}

#[test]
fn a_chain_of_iptables_that_drops_is_opened_by_dockers_where_it_asks_that() {
    let forward = |of: &[Value]| chain("ip filter FORWARD", Some("drop"), of);
    let docker = chain("ip filter DOCKER-USER", None, &[json!([{"return": null}])]);
    assert_eq!(told(&[forward(&[]), docker.clone()], &PODS), ["ip filter FORWARD by ip filter FORWARD"]);
    let asked =
        forward(&[jump("DOCKER-USER"), json!([{"xt": {"type": "match", "name": "conntrack"}}, {"accept": null}])]);
    assert_eq!(told(&[asked, docker], &PODS), ["ip filter FORWARD by ip filter DOCKER-USER"]);
}

#[test]
fn firewalld_refuses_by_its_last_rule_and_another_persons_chain_has_no_entrance() {
    let reject = json!([{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]);
    let firewalld = chain("inet firewalld filter_FORWARD", Some("accept"), &[reject]);
    assert_eq!(told(&[firewalld], &PODS), ["inet firewalld filter_FORWARD by inet firewalld filter_FORWARD"]);
    let reject = json!([{"counter": {"packets": 0, "bytes": 0}}, {"xt": {"type": "target", "name": "REJECT"}}]);
    let of_iptables = chain("ip filter FORWARD", Some("accept"), &[reject]);
    assert_eq!(told(&[of_iptables], &PODS), ["ip filter FORWARD by ip filter FORWARD"]);
    let own = chain("inet filter forward", Some("drop"), &[]);
    assert_eq!(told(&[own], &PODS), ["inet filter forward by nowhere"]);
    let conditional =
        json!([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth9"}}, {"drop": null}]);
    assert_eq!(told(&[chain("ip filter FORWARD", Some("accept"), &[conditional])], &PODS), [""; 0]);
}

#[test]
fn what_others_have_opened_for_pods_is_no_barrier_and_what_we_have_opened_stays_one() {
    let with = |comment| [accepts("iifname", "tw*", comment), accepts("oifname", "tw*", comment)];
    assert_eq!(told(&[chain("ip filter FORWARD", Some("drop"), &with(None))], &PODS), [""; 0]);
    assert_eq!(told(&[chain("ip filter FORWARD", Some("drop"), &with(Some(MARK)))], &PODS).len(), 1);
    assert_eq!(
        told(&[chain("ip filter FORWARD", Some("drop"), &with(None)[..1])], &PODS).len(),
        1,
        "one way is not both"
    );
}

#[test]
fn a_family_that_pods_do_not_have_concerns_nobody() {
    let chains = ["ip filter FORWARD", "ip6 filter FORWARD"].map(|place| chain(place, Some("drop"), &[]));
    let only = Passage { ipv6: false, ..PODS };
    assert_eq!(told(&chains, &only), ["ip filter FORWARD by ip filter FORWARD"]);
}

#[test]
fn only_rules_that_have_our_comment_and_our_form_are_deleted() {
    let strange = json!([{"drop": null}, MARK]);
    let chain = chain(
        "ip filter DOCKER-USER",
        None,
        &[accepts("iifname", "tw*", Some(MARK)), accepts("oifname", "tw*", Some("mine")), strange],
    );
    assert_eq!(deletions(&chain), "delete rule ip filter DOCKER-USER handle 10\n");
}

#[test]
fn who_only_looks_is_told_of_what_is_closed_still() {
    let told = |chains: &[Chain]| closed(chains, &PODS).iter().map(|one| one.place.to_string()).collect::<Vec<_>>();
    let forward = |of: &[Value]| chain("ip filter FORWARD", Some("drop"), of);
    let ours = |direction| accepts(direction, "tw*", Some(MARK));
    assert_eq!(told(&[forward(&[])]), ["ip filter FORWARD"]);
    assert_eq!(told(&[forward(&[ours("iifname")])]), ["ip filter FORWARD"], "half open is closed");
    assert_eq!(told(&[forward(&[ours("iifname"), ours("oifname")])]), [""; 0]);
    let half_by_others = forward(&[accepts("iifname", "tw*", None), ours("oifname")]);
    assert_eq!(told(&[half_by_others]), [""; 0]);
}

#[test]
fn a_dormant_tables_chain_is_no_barrier_until_it_wakes_and_keeps_no_rule_of_ours() {
    let Some(namespaces) = Namespaces::claim().filter(|_| twill_testkit::has_program("nft")) else { return };
    namespaces.add("node");
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    let told = |flags: &str| {
        let chains = "chain FORWARD { type filter hook forward priority 0; policy drop; }";
        nft::change("set them", &format!("flush ruleset\ntable ip filter {{ {flags}{chains}; }}\n")).unwrap();
        look(&PODS).unwrap().iter().map(|one| one.place.to_string()).collect::<Vec<_>>()
    };
    node.run(|| {
        assert_eq!(told(""), ["ip filter FORWARD"]);
        assert_eq!(keep(&PODS).unwrap().opened.len(), 1);
        nft::change("let it sleep", "add table ip filter { flags dormant; }\n").unwrap();
        assert_eq!(close().unwrap().len(), 1, "it sleeps with our rules in it");
        assert_eq!(told("flags dormant; "), [""; 0]);
    })
    .unwrap();
}
