//! The firewall against a real nft, in namespaces.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lab::Namespace;
use nftables::schema::NfListObject;
use twill_linux::Error;
use twill_linux::monitor::{Echoes, Heard, Monitor};
use twill_linux::nft::{Firewall, Ruleset};

/// A ruleset of a chain, a set with two elements, one with two members, and a rule with a counter.
fn ruleset(port: u16) -> Ruleset {
    with_members(port, &["192.0.2.7", "192.0.2.8"])
}

fn with_members(port: u16, members: &[&str]) -> Ruleset {
    let objects = serde_json::json!([
        {"chain": {"family": "inet", "table": "twill", "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}},
        {"set": {"family": "inet", "table": "twill", "name": "inside", "type": "ipv4_addr", "flags": ["interval"],
                 "elem": [{"prefix": {"addr": "10.42.0.0", "len": 16}}, "192.0.2.1"]}},
        {"set": {"family": "inet", "table": "twill", "name": "nodes", "type": "ipv4_addr"}},
        {"rule": {"family": "inet", "table": "twill", "chain": "input", "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": port}},
            {"counter": {"packets": 0, "bytes": 0}},
            {"drop": null}]}},
    ]);
    let objects: Vec<NfListObject<'static>> = serde_json::from_value(objects).unwrap();
    let members = members.iter().map(|member| member.parse::<IpAddr>().unwrap()).collect();
    Ruleset { table: "twill".to_owned(), objects, members: BTreeMap::from([("nodes".to_owned(), members)]) }
}

struct Host {
    namespace: Namespace,
    firewall: Firewall,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Option<Self> {
        let namespace = Namespace::new()?;
        if !twill_testkit::has_program("nft") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("firewall.json");
        Some(Self { namespace, firewall: Firewall::new(&file, Arc::default()), file, _directory: directory })
    }

    fn try_reconcile(&mut self, desired: &Ruleset) -> Result<bool, Error> {
        let firewall = &mut self.firewall;
        self.namespace.open().run(|| firewall.reconcile(desired)).unwrap()
    }

    fn reconcile(&mut self, desired: &Ruleset) -> bool {
        self.try_reconcile(desired).unwrap()
    }

    fn advance(&mut self, desired: &Ruleset) -> bool {
        let firewall = &mut self.firewall;
        self.namespace.open().run(|| firewall.advance(desired)).unwrap().unwrap()
    }

    fn shown(&self) -> String {
        self.namespace.must("nft list ruleset")
    }
}

#[test]
fn a_table_is_made_once_and_again_when_the_ruleset_changes() {
    let Some(mut host) = Host::new() else { return };
    assert!(host.reconcile(&ruleset(4789)));
    assert!(host.shown().contains("udp dport 4789 counter packets 0 bytes 0 drop"), "{}", host.shown());
    assert!(!host.reconcile(&ruleset(4789)));
    assert!(host.reconcile(&ruleset(4790)));
    let shown = host.shown();
    assert!(shown.contains("4790") && !shown.contains("4789"), "{shown}");
    assert!(!host.reconcile(&ruleset(4790)));
}

#[test]
fn someone_elses_change_is_repaired() {
    let Some(mut host) = Host::new() else { return };
    host.reconcile(&ruleset(4789));
    for change in [
        "nft flush ruleset",
        "nft delete table inet twill",
        "nft flush table inet twill",
        "nft add rule inet twill input accept",
        "nft add element inet twill inside { 198.51.100.1 }",
        "nft delete element inet twill inside { 192.0.2.1 }",
        "nft add element inet twill nodes { 192.0.2.9 }",
        "nft delete element inet twill nodes { 192.0.2.7 }",
        "nft flush set inet twill nodes",
        "nft add chain inet twill more",
    ] {
        host.namespace.must(change);
        assert!(host.reconcile(&ruleset(4789)), "{change}");
        assert!(!host.reconcile(&ruleset(4789)), "after the repair of {change}");
    }
}

#[test]
fn members_come_and_go_without_a_new_table() {
    let Some(mut host) = Host::new() else { return };
    host.reconcile(&ruleset(4789));
    let before = host.namespace.must("nft -a list chain inet twill input");
    assert!(host.advance(&with_members(4789, &["192.0.2.8", "192.0.2.9"])));
    let shown = host.shown();
    assert!(shown.contains("elements = { 192.0.2.8, 192.0.2.9 }"), "{shown}");
    assert!(!host.advance(&with_members(4789, &["192.0.2.8", "192.0.2.9"])));
    assert!(!host.reconcile(&with_members(4789, &["192.0.2.8", "192.0.2.9"])), "a look finds the same");
    assert!(host.reconcile(&with_members(4789, &[])));
    assert!(!host.shown().contains("192.0.2.9"));
    assert_eq!(host.namespace.must("nft -a list chain inet twill input"), before, "its rules have their old handles");
    assert!(host.advance(&with_members(4790, &["192.0.2.9"])), "another frame");
    assert!(host.shown().contains("4790") && host.shown().contains("192.0.2.9"), "{}", host.shown());
}

#[test]
fn an_advance_that_does_not_find_what_it_goes_by_changes_nothing_and_the_next_one_looks() {
    let Some(mut host) = Host::new() else { return };
    host.reconcile(&ruleset(4789));
    host.namespace.must("nft flush ruleset");
    let firewall = &mut host.firewall;
    let wanted = with_members(4789, &["192.0.2.8"]);
    host.namespace.open().run(|| firewall.advance(&wanted)).unwrap().unwrap_err();
    assert!(host.advance(&wanted));
    assert!(!host.reconcile(&wanted));
}

#[test]
fn what_it_does_itself_is_no_news_and_what_another_does_is() {
    let Some(mut host) = Host::new() else { return };
    let echoes: Arc<Echoes> = Arc::default();
    host.firewall = Firewall::new(&host.file, Arc::clone(&echoes));
    let mut monitor = host.namespace.open().run(|| Monitor::open(echoes, Arc::default())).unwrap().unwrap();
    while monitor.wait(Duration::from_millis(300)).unwrap() != Heard::default() {}
    host.reconcile(&ruleset(4789));
    host.advance(&with_members(4789, &[]));
    assert_eq!(monitor.wait(Duration::from_millis(300)).unwrap(), Heard::default());
    host.namespace.must("nft add element inet twill nodes { 192.0.2.9 }");
    assert!(monitor.wait(Duration::from_secs(10)).unwrap().firewall);
}

#[test]
fn counters_that_count_are_no_change() {
    let Some(mut host) = Host::new() else { return };
    host.reconcile(&ruleset(4789));
    let send = || std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", "127.0.0.1:4789"));
    host.namespace.open().run(send).unwrap().unwrap();
    assert!(host.shown().contains("packets 1 bytes 29"), "{}", host.shown());
    assert!(!host.reconcile(&ruleset(4789)));
}

#[test]
fn the_memory_outlives_a_restart_and_its_loss_costs_one_change() {
    let Some(mut host) = Host::new() else { return };
    host.reconcile(&ruleset(4789));
    host.firewall = Firewall::new(&host.file, Arc::default());
    assert!(!host.reconcile(&ruleset(4789)));
    std::fs::write(&host.file, "nonsense").unwrap();
    host.firewall = Firewall::new(&host.file, Arc::default());
    assert!(host.reconcile(&ruleset(4789)));
    host.firewall = Firewall::new(&host.file, Arc::default());
    assert!(!host.reconcile(&ruleset(4789)));
}

#[test]
fn a_ruleset_that_nft_refuses_leaves_the_table_as_it_was() {
    let Some(mut host) = Host::new() else { return };
    host.reconcile(&ruleset(4789));
    let before = host.shown();
    let mut broken = ruleset(4790);
    let NfListObject::Rule(rule) = &mut broken.objects[3] else { panic!("the fourth object is the rule") };
    rule.chain = "missing".into();
    let error = host.try_reconcile(&broken).unwrap_err();
    assert!(error.to_string().starts_with("nft: apply the ruleset: "), "{error}");
    assert!(error.to_string().contains("No such file or directory"), "nft's own words: {error}");
    assert_eq!(host.shown(), before);
    host.reconcile(&ruleset(4789));
    assert!(!host.reconcile(&ruleset(4789)));
}

#[test]
fn other_tables_survive_and_ours_can_be_removed() {
    let Some(mut host) = Host::new() else { return };
    host.namespace.must("nft add table inet other");
    host.namespace.must("nft add table ip twill");
    host.reconcile(&ruleset(4789));
    let firewall = &mut host.firewall;
    assert!(host.namespace.open().run(|| firewall.remove("twill")).unwrap().unwrap());
    assert!(!host.namespace.open().run(|| firewall.remove("twill")).unwrap().unwrap(), "there is none any more");
    let shown = host.shown();
    assert!(shown.contains("table inet other") && shown.contains("table ip twill"), "{shown}");
    assert!(!shown.contains("table inet twill"), "{shown}");
    assert!(host.reconcile(&ruleset(4789)));
}

#[test]
fn a_memory_that_cannot_be_written_is_an_error_and_the_table_stands() {
    let Some(mut host) = Host::new() else { return };
    host.firewall = Firewall::new(Path::new("/proc/nowhere/firewall.json"), Arc::default());
    let error = host.try_reconcile(&ruleset(4789)).unwrap_err();
    assert!(error.to_string().starts_with("nft: remember what was applied: /proc/nowhere"), "{error}");
    assert!(host.shown().contains("table inet twill"));
    assert!(!host.reconcile(&ruleset(4789)), "this run of the program remembers");
}
