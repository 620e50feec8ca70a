//! The rules over the simulated store.

use std::net::IpAddr;

use serde_json::json;

use super::*;
use crate::record::{Holder, Use};
use crate::simulated::{Fate, SimulatedStore};
use crate::store::{Range, StoreError};
use crate::txn::Outcome;

const BLOCK: &str = "10.42.0.0/26";

/// A node that owns a block, and its mirror.
struct Node {
    etcd: SimulatedStore,
    mirror: Mirror,
    now: BootTime,
    log: Vec<Output>,
}

fn put(etcd: &SimulatedStore, key: &str, value: serde_json::Value) -> i64 {
    let op = Op::Put { key: key.into(), value: value.to_string().into_bytes(), lease: None };
    match etcd.apply(&Txn { when: Vec::new(), then: vec![op] }) {
        Outcome::Done(revision) => revision,
        Outcome::Refused(_) => panic!("nothing was compared"),
    }
}

fn delete(etcd: &SimulatedStore, key: &str) {
    etcd.apply(&Txn { when: Vec::new(), then: vec![Op::Delete { key: key.into() }] });
}

fn block(text: &str) -> Block {
    text.parse().unwrap()
}

fn own() -> String {
    key::addresses(&"n1".parse().unwrap(), block(BLOCK))
}

fn holder(state: Use, container: &str) -> Holder {
    let until = (state == Use::Cooling).then_some(1030);
    Holder {
        state,
        since: 1000,
        until,
        pod: None,
        container: Some(container.into()),
        network: Some("net".into()),
        ifname: Some("eth0".into()),
        interface: None,
    }
}

fn content(addresses: &[(&str, Use)]) -> Content {
    let addresses = addresses.iter().map(|(ip, state)| (ip.parse().unwrap(), holder(*state, ip)));
    Content { addresses: addresses.collect(), ..Content::default() }
}

impl Node {
    /// Registered as n1 among so many nodes, with a block that it has just claimed.
    fn new(nodes: usize) -> Self {
        let etcd = SimulatedStore::new();
        for number in 2..=nodes {
            put(&etcd, &format!("nodes/n{number}"), json!({ "machine_id": "m", "nonce": "x" }));
        }
        let epoch = put(&etcd, "nodes/n1", json!({ "machine_id": "m", "nonce": "x" }));
        claim(&etcd, "n1", epoch, BLOCK);
        let mirror = Mirror::new("n1".parse().unwrap(), "run".into());
        let mut node = Self { etcd, mirror, now: BootTime(Duration::from_secs(1)), log: Vec::new() };
        node.feed(Input::Epoch(Some(epoch)));
        node.see();
        node
    }

    fn see(&mut self) {
        let mut view = View::default();
        view.replace(&self.etcd.look(&Range::watched()));
        self.feed(Input::View(Arc::new(view)));
    }

    fn has(&mut self, cidr: &str, content: Content) {
        let mut contents = self.mirror.contents.clone().unwrap_or_default();
        contents.insert(block(cidr), content);
        self.feed(Input::Contents(contents));
    }

    fn feed(&mut self, input: Input) {
        let outputs = self.mirror.step(input, self.now);
        self.log.extend(outputs);
    }

    /// Performs what is ordered. The answer takes so long.
    fn act(&mut self, took: Duration) -> Option<Answer> {
        let place = self.log.iter().position(|output| matches!(output, Output::Order(_)))?;
        let Output::Order(order) = self.log.remove(place) else { unreachable!("it is an order") };
        let answer = match &order {
            Order::Read(range) => Answer::Read(self.etcd.look(range)),
            Order::Write(txn) => match self.etcd.transact(txn) {
                Ok(Outcome::Done(revision)) => Answer::Written(revision),
                Ok(Outcome::Refused(_)) => Answer::Refused,
                Err(StoreError::Unavailable { cause, .. }) => Answer::Away(cause),
                Err(error) => Answer::Unknown(error.to_string()),
            },
        };
        self.feed(Input::Answer(answer.clone(), took));
        Some(answer)
    }

    /// Lets time pass in steps of a tenth of a second, and counts the writes that are done.
    fn pass(&mut self, time: Duration) -> usize {
        let mut written = 0;
        for _ in 0..time.as_millis() / 100 {
            self.now.0 += Duration::from_millis(100);
            self.feed(Input::Tick);
            while let Some(answer) = self.act(Duration::ZERO) {
                written += usize::from(matches!(answer, Answer::Written(_)));
            }
        }
        written
    }

    fn mirrored(&self, key: &str) -> Option<MirrorRecord> {
        let found = self.etcd.look(&Range::key(key)).entries;
        found.first().map(|entry| serde_json::from_slice(&entry.value).unwrap())
    }
}

fn claim(etcd: &SimulatedStore, node: &str, epoch: i64, cidr: &str) {
    let (name, block) = (node.parse().unwrap(), block(cidr));
    let value = |value: serde_json::Value| value.to_string().into_bytes();
    let record = value(json!({ "node": node, "machine_id": "m", "epoch": epoch, "nonce": "x" }));
    let mirror = value(json!({ "epoch": epoch, "nonce": "x", "addresses": {} }));
    let put = |key, value| Op::Put { key, value, lease: None };
    let then = vec![put(key::block(block), record), put(key::addresses(&name, block), mirror)];
    etcd.apply(&Txn { when: Vec::new(), then });
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_given_out_is_mirrored_and_what_has_cooled_costs_no_write() {
    let mut node = Node::new(1);
    let given = content(&[("10.42.0.1", Use::Attached), ("10.42.0.2", Use::Cooling)]);
    node.has(BLOCK, given.clone());
    assert_eq!(node.pass(3 * SECOND), 1);
    assert_eq!(node.mirrored(&own()).unwrap().content, given);
    assert_eq!(node.pass(30 * SECOND), 0);
    node.has(BLOCK, content(&[("10.42.0.1", Use::Attached)]));
    assert_eq!(node.pass(30 * SECOND), 0, "a reader sees that the time of cooling is over");
    node.has(BLOCK, content(&[("10.42.0.1", Use::Deleting)]));
    assert_eq!(node.pass(3 * SECOND), 1);
}

#[test]
fn an_empty_block_that_was_just_claimed_is_not_written_again() {
    let mut node = Node::new(1);
    node.has(BLOCK, Content::default());
    assert_eq!(node.pass(5 * SECOND), 0);
    let epoch = node.mirror.epoch.unwrap();
    claim(&node.etcd, "n1", epoch, "10.42.0.64/26");
    node.see();
    node.has("10.42.0.64/26", Content::default());
    assert_eq!(node.pass(5 * SECOND), 0);
    node.has("10.42.0.64/26", content(&[("10.42.0.70", Use::Attached)]));
    assert_eq!(node.pass(2 * SECOND), 1, "by the revision of the claim, without another read");
}

#[test]
fn a_node_writes_once_in_a_second_and_in_a_large_cluster_less_often() {
    for (nodes, most) in [(1, 20), (300, 7), (5000, 1)] {
        let mut node = Node::new(nodes);
        let mut written = 0;
        for turn in 0..200 {
            let state = if turn % 2 == 0 { Use::Attached } else { Use::Deleting };
            node.has(BLOCK, content(&[("10.42.0.1", state)]));
            written += node.pass(SECOND / 10);
        }
        assert!(written <= most && (written > 0 || nodes == 5000), "{nodes} nodes: {written} writes in 20 s");
    }
}

#[test]
fn nodes_that_start_together_do_not_write_together() {
    let first = |name: &str| {
        let mut mirror = Mirror::new(name.parse().unwrap(), format!("run-{name}"));
        let mut view = View::default();
        let nodes = (0..5000).map(|number| crate::view::Entry {
            key: format!("nodes/n{number}"),
            value: br#"{"machine_id":"m","nonce":"x"}"#.to_vec(),
            created: 1,
            modified: 1,
        });
        view.replace(&Snapshot { revision: 1, entries: nodes.collect() });
        mirror.view = Some(Arc::new(view));
        mirror.epoch = Some(1);
        mirror.step(Input::Tick, BootTime::default());
        mirror.due.unwrap().0
    };
    let times: Vec<Duration> = (0..40).map(|number| first(&format!("n{number}"))).collect();
    assert!(times.iter().all(|time| *time <= 50 * SECOND), "{times:?}");
    let early = times.iter().filter(|time| **time < 25 * SECOND).count();
    assert!((8..=32).contains(&early), "{early} of 40 in the first half");
}

#[test]
fn a_late_write_recreates_no_mirror_of_a_block_that_is_not_this_nodes_any_more() {
    for what in ["given back", "given back and claimed again", "somebody else's", "the node deleted", "a newer write"] {
        let mut node = Node::new(1);
        node.has(BLOCK, content(&[("10.42.0.1", Use::Attached)]));
        node.etcd.destine([Fate::Late]);
        node.pass(2 * SECOND);
        let epoch = node.mirror.epoch.unwrap();
        match what {
            "the node deleted" => delete(&node.etcd, "nodes/n1"),
            "a newer write" => drop(put(&node.etcd, &own(), json!({ "epoch": epoch, "nonce": "newer" }))),
            _ => {
                delete(&node.etcd, &key::block(block(BLOCK)));
                delete(&node.etcd, &own());
            }
        }
        match what {
            "given back and claimed again" => claim(&node.etcd, "n1", epoch, BLOCK),
            "somebody else's" => claim(&node.etcd, "n2", 7, BLOCK),
            _ => {}
        }
        let before = node.etcd.look(&Range::prefix("addresses/"));
        assert!(node.etcd.has_late(), "{what}: nothing is on its way");
        node.etcd.deliver();
        assert_eq!(node.etcd.look(&Range::prefix("addresses/")).entries, before.entries, "{what}");
    }
}

#[test]
fn a_write_without_an_answer_is_looked_for_and_not_repeated() {
    let mut node = Node::new(1);
    node.has(BLOCK, content(&[("10.42.0.1", Use::Attached)]));
    node.etcd.destine([Fate::AnswerLost]);
    assert_eq!(node.pass(30 * SECOND), 0);
    assert_eq!(node.mirrored(&own()).unwrap().content.addresses.len(), 1);
}

#[test]
fn the_mirror_rests_longer_each_time_while_etcd_is_away_and_says_so_once() {
    let mut node = Node::new(1);
    node.has(BLOCK, content(&[("10.42.0.1", Use::Attached)]));
    node.etcd.destine(vec![Fate::Unavailable; 4]);
    // 5, 10, 20 and 40 s, each by half more or less.
    assert_eq!(node.pass(37 * SECOND), 0);
    let rests = node.log.iter().filter(|output| matches!(output, Output::Rests(Rest::Away(_)))).count();
    assert_eq!(rests, 1);
    assert_eq!(node.pass(600 * SECOND), 1);
    assert_eq!(node.log.last(), Some(&Output::GoesOn));
}

#[test]
fn where_etcd_is_slow_or_full_the_mirror_rests() {
    for (answer, took) in [(Answer::Written(90), 2 * SECOND), (Answer::Full("alarm".into()), Duration::ZERO)] {
        let mut node = Node::new(1);
        node.has(BLOCK, content(&[("10.42.0.1", Use::Attached)]));
        node.pass(SECOND);
        node.log.clear();
        node.mirror.flight = Some(Flight::Write(BTreeMap::new()));
        node.feed(Input::Answer(answer, took));
        assert!(matches!(node.log[..], [Output::Rests(Rest::Slow(_) | Rest::Full(_))]), "{:?}", node.log);
        node.has(BLOCK, content(&[("10.42.0.1", Use::Deleting)]));
        assert_eq!(node.pass(2 * SECOND), 0);
    }
}

#[test]
fn a_mirror_that_somebody_deleted_comes_back_and_one_without_a_block_goes() {
    let mut node = Node::new(1);
    let stray = key::addresses(&"n1".parse().unwrap(), block("10.42.9.0/26"));
    put(&node.etcd, &stray, json!({ "epoch": 1, "nonce": "x" }));
    node.has(BLOCK, content(&[("10.42.0.1", Use::Attached)]));
    node.pass(3 * SECOND);
    assert_eq!(node.mirrored(&stray), None);
    delete(&node.etcd, &own());
    assert_eq!(node.pass(5 * SECOND), 0);
    node.feed(Input::Audit);
    node.pass(2 * SECOND);
    assert!(node.mirrored(&own()).is_some());
}

#[test]
fn a_stray_mirror_of_a_block_that_is_being_claimed_is_left() {
    let mut node = Node::new(1);
    node.has(BLOCK, Content::default());
    // The claim is done, and no view has shown it yet.
    claim(&node.etcd, "n1", node.mirror.epoch.unwrap(), "10.42.9.0/26");
    node.pass(20 * SECOND);
    assert!(node.mirrored(&key::addresses(&"n1".parse().unwrap(), block("10.42.9.0/26"))).is_some());
}

#[test]
fn a_block_of_65536_addresses_is_cut_with_a_count_and_etcd_takes_it() {
    let ip = |number: u32| IpAddr::from((0x0a2a_0000 + number).to_be_bytes());
    let wide = block("10.42.0.0/16");
    let inventory = twill_ipam::store::Inventory {
        addresses: (0..65_536)
            .map(|number| {
                let (since, until) = (BootTime(SECOND), BootTime(31 * SECOND));
                let by = twill_ipam::store::Occupant::Cooling { since, until, owner: Some(twill_ipam::KeyHash(7)) };
                twill_ipam::store::Occupied { ip: ip(number), block: Some(wide), by }
            })
            .collect(),
        ..Default::default()
    };
    let cut = Content::of(&inventory, wide, SECOND);
    assert_eq!(cut.addresses.len() as u64 + cut.left_out, 65_536);
    assert!(cut.left_out > 0 && cut.addresses.contains_key(&ip(0)));
    let record = MirrorRecord { epoch: 1, nonce: "x".into(), content: cut, other: serde_json::Map::new() };
    let length = serde_json::to_vec(&record).unwrap().len();
    assert!((LONGEST_MIRROR / 4..=LONGEST_MIRROR).contains(&length), "{length}");
}

#[test]
fn full_blocks_take_turns() {
    let mut node = Node::new(1);
    let epoch = node.mirror.epoch.unwrap();
    let cidrs: Vec<String> = (0..200).map(|number| format!("10.43.{number}.0/24")).collect();
    for cidr in &cidrs {
        claim(&node.etcd, "n1", epoch, cidr);
    }
    node.see();
    // The first ones change all the time.
    for turn in 0..6 {
        for cidr in &cidrs {
            let ip = cidr.replace(".0/24", &format!(".{turn}"));
            node.has(cidr, content(&[(&ip, Use::Attached)]));
        }
        node.pass(SECOND);
    }
    let empty = |cidr: &&String| {
        let record = node.mirrored(&key::addresses(&"n1".parse().unwrap(), block(cidr)));
        record.is_some_and(|record| record.content.addresses.is_empty())
    };
    assert_eq!(cidrs.iter().filter(empty).count(), 0);
}

#[test]
fn at_the_end_of_the_daemon_what_is_due_is_written_at_once_unless_the_mirror_rests() {
    let mut node = Node::new(5000);
    node.has(BLOCK, content(&[("10.42.0.1", Use::Attached)]));
    assert_eq!(node.mirrored(&own()).unwrap().content, Content::default(), "its turn has not come");
    assert!(node.mirror.hurry(node.now));
    node.feed(Input::Tick);
    while node.act(Duration::ZERO).is_some() {}
    assert_eq!(node.mirrored(&own()).unwrap().content.addresses.len(), 1);
    let later = now_and(node.now, SECOND);
    (node.mirror.rests, node.mirror.due) = (true, Some(later));
    assert!(!node.mirror.hurry(node.now));
    (node.mirror.rests, node.mirror.due) = (true, Some(later));
    assert!(node.mirror.hurry(later), "a rest ends by itself, also where nothing was to be written since");
}
