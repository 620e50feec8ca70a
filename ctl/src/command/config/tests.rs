//! The way of an apply, against a store that answers by a script.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::mpsc;
use twill_cluster::store::{Event, Range, StoreError};
use twill_cluster::txn::{Compare, Outcome, Txn};
use twill_cluster::view::{Entry, Snapshot};

use super::replacement::{ATTEMPTS, replace};
use super::*;
use crate::report::Verdict;
use crate::report::config::{Applied, Would};

/// What the store will show and answer, in this order.
#[derive(Default)]
struct Script {
    reads: Mutex<VecDeque<Snapshot>>,
    answers: Mutex<VecDeque<Result<Outcome, StoreError>>>,
    sent: Mutex<Vec<Txn>>,
}

impl Store for Script {
    async fn read(&self, _: &Range) -> Result<Snapshot, StoreError> {
        let next = self.reads.lock().unwrap().pop_front();
        next.ok_or_else(|| StoreError::Unavailable { endpoints: "e".into(), cause: "gone".into() })
    }
    async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        self.sent.lock().unwrap().push(txn.clone());
        self.answers.lock().unwrap().pop_front().expect("the script has an answer for each transaction")
    }
    async fn grant(&self, _: Duration) -> Result<i64, StoreError> {
        unreachable!("an apply takes no lease")
    }
    async fn renew(&self, _: i64) -> Result<bool, StoreError> {
        unreachable!("an apply takes no lease")
    }
    fn watch(&self, _: Range) -> mpsc::Receiver<Event> {
        unreachable!("an apply does not watch")
    }
}

fn conf(vni: u32) -> ClusterConf {
    ClusterConf::from_toml(&format!("[[pool]]\nname='a'\ncidr='10.1.0.0/16'\n[backend]\nvni={vni}")).unwrap()
}

/// The configuration with this VNI at this revision, and a block where one is wanted.
fn shows(vni: u32, modified: i64, block: bool) -> Snapshot {
    let entry = |key: &str, value: Vec<u8>, modified| Entry { key: key.into(), value, created: 1, modified };
    let mut entries = vec![entry("config", conf(vni).to_json(), modified)];
    if block {
        let value = br#"{"node":"n1","machine_id":"m","epoch":1,"nonce":"x"}"#.to_vec();
        entries.push(entry("blocks/4/0a010000-26", value, 9));
    }
    Snapshot { revision: 10, entries }
}

fn lost() -> StoreError {
    StoreError::Unknown { endpoints: "e".into(), cause: "no answer".into() }
}

async fn run(
    reads: Vec<Snapshot>,
    answers: Vec<Result<Outcome, StoreError>>,
    new: &ClusterConf,
) -> (Result<Applied, Error>, Vec<Txn>) {
    let script =
        Script { reads: Mutex::new(reads.into()), answers: Mutex::new(answers.into()), sent: Mutex::default() };
    let result = replace(&script, new, How::default()).await;
    (result, script.sent.into_inner().unwrap())
}

#[tokio::test]
async fn what_stands_already_is_not_written_again() {
    let (applied, sent) = run(vec![shows(7, 5, false)], vec![], &conf(7)).await;
    let applied = applied.unwrap();
    assert_eq!((applied.revision, applied.changes.len(), sent.len()), (5, 0, 0));
}

#[tokio::test]
async fn a_write_compares_the_revision_that_was_read() {
    let (applied, sent) = run(vec![shows(7, 5, false)], vec![Ok(Outcome::Done(11))], &conf(8)).await;
    let applied = applied.unwrap();
    assert_eq!((applied.revision, applied.previous), (11, Some(5)));
    assert_eq!(applied.changes[0].key, "backend.vni");
    assert_eq!(sent[0].when, [Compare::Modified { key: "config".into(), revision: 5 }]);
}

#[tokio::test]
async fn the_first_of_two_who_write_at_once_wins() {
    let reads = vec![shows(7, 5, false), shows(9, 11, false)];
    let (applied, sent) = run(reads, vec![Ok(Outcome::Refused(11))], &conf(8)).await;
    let refused = applied.unwrap_err();
    assert!(matches!(refused, Error::Conflict { read: 5, now: 11 }), "{refused}");
    assert_eq!((refused.verdict(), sent.len()), (Verdict::Problems, 1));
}

#[tokio::test]
async fn a_block_that_was_claimed_in_between_is_seen_at_the_second_attempt() {
    let new = ClusterConf::from_toml("[[pool]]\nname='b'\ncidr='10.2.0.0/16'").unwrap();
    let reads = vec![shows(7, 5, false), shows(7, 5, true)];
    let (applied, sent) = run(reads, vec![Ok(Outcome::Refused(9))], &new).await;
    let refused = applied.unwrap_err().to_string();
    let words = "refused, nothing was changed: pool \"a\" cannot be removed while nodes have blocks there: n1 has \
                 10.1.0.0/26; to drain a pool, apply it with \"disabled = true\"";
    assert!(refused.starts_with(words), "{refused}");
    assert_eq!(sent.len(), 1);
}

#[tokio::test]
async fn a_transaction_that_is_refused_for_ever_is_given_up() {
    let reads = (0..=ATTEMPTS).map(|_| shows(7, 5, false)).collect();
    let answers = (0..ATTEMPTS).map(|_| Ok(Outcome::Refused(9))).collect();
    let (applied, sent) = run(reads, answers, &conf(8)).await;
    assert!(matches!(applied, Err(Error::Busy)));
    assert_eq!(sent.len(), ATTEMPTS as usize);
}

#[tokio::test]
async fn a_lost_answer_is_looked_up() {
    let (applied, _) = run(vec![shows(7, 5, false), shows(8, 11, false)], vec![Err(lost())], &conf(8)).await;
    assert_eq!(applied.unwrap().revision, 11);

    for later in [vec![shows(7, 5, false), shows(7, 5, false)], vec![shows(7, 5, false)]] {
        let (applied, _) = run(later, vec![Err(lost())], &conf(8)).await;
        let unclear = applied.unwrap_err();
        assert!(matches!(unclear, Error::Unclear(_)), "{unclear}");
        assert_eq!(unclear.verdict(), Verdict::Unknown);
    }
}

#[tokio::test]
async fn where_etcd_does_not_answer_it_is_told_whether_anything_was_written() {
    let before = || StoreError::Unavailable { endpoints: "e".into(), cause: "gone".into() };
    for (reads, answers, words) in [
        (vec![], vec![], "nothing was changed"),
        (vec![shows(7, 5, false)], vec![Err(before())], "nothing was changed"),
        (vec![shows(7, 5, false)], vec![Ok(Outcome::Refused(9))], "nothing was changed"),
        (
            vec![shows(7, 5, false)],
            vec![Err(lost())],
            "it is not known whether the configuration was written: look with 'twillctl config show'",
        ),
    ] {
        let failed = run(reads, answers, &conf(8)).await.0.unwrap_err();
        assert_eq!(failed.verdict(), Verdict::Unknown);
        assert!(failed.to_string().ends_with(&format!("; {words}")), "{failed}");
    }
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.toml");
    init(Some(&path)).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), ClusterConf::SAMPLE);
    std::fs::write(&path, "mine").unwrap();
    let refused = init(Some(&path)).unwrap_err();
    assert_eq!(refused.to_string(), format!("cannot make {}: File exists (os error 17)", path.display()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

/// A node with a pod that has an MTU of 1500 bytes, in a cluster by plain routes.
fn with_a_tall_pod() -> (Snapshot, Snapshot) {
    let toml = "[[pool]]\nname='a'\ncidr='10.1.0.0/16'\n[backend]\ntype='host-gw'";
    let entry = |key: &str, value: &[u8]| Entry { key: key.into(), value: value.into(), created: 1, modified: 3 };
    let node = br#"{"machine_id":"m","nonce":"x","underlay":{"ipv4":"192.168.9.1/24"},
                    "path":{"tunnels":false,"mtu":1500,"pods":1500}}"#;
    let config = ClusterConf::from_toml(toml).unwrap().to_json();
    let entries = vec![entry("config", &config), entry("nodes/n1", node)];
    let mirror = br#"{"epoch":1,"nonce":"x","addresses":{"10.1.0.1":{"state":"pod","pod":"shop/cart"}}}"#;
    let mirrors = vec![entry("addresses/n1/4/0a010000-26", mirror)];
    (Snapshot { revision: 10, entries }, Snapshot { revision: 10, entries: mirrors })
}

#[tokio::test]
async fn what_living_pods_would_lose_is_refused_with_their_names_and_a_note_with_force() {
    for force in [false, true] {
        let script = Script::default();
        let (picture, mirrors) = with_a_tall_pod();
        let nobody = Snapshot { revision: 10, entries: Vec::new() };
        script.reads.lock().unwrap().extend([picture, mirrors, nobody]);
        script.answers.lock().unwrap().extend(force.then_some(Ok(Outcome::Done(11))));
        let told = "pods on n1 have an MTU of 1500 bytes, and the new way carries 1450";
        match replace(&script, &conf(7777), How { force, expected: None }).await {
            Ok(applied) => {
                assert!(force);
                assert_eq!(applied.notes.len(), 1);
                assert!(applied.notes[0].what.starts_with(told), "{:?}", applied.notes);
            }
            Err(error) => {
                assert!(!force);
                let text = error.to_string();
                assert!(text.starts_with(&format!("refused, nothing was changed: {told}")), "{text}");
                assert!(
                    text.contains("(of the pods there, shop/cart)")
                        && text.ends_with("with --force it is applied all the same")
                );
                assert_eq!(error.verdict(), Verdict::Problems);
            }
        }
        assert_eq!(script.sent.lock().unwrap().len(), usize::from(force));
    }
}

#[tokio::test]
async fn what_some_nodes_daemon_cannot_is_refused_with_its_name_and_nothing_is_sent() {
    let value = br#"{"machine_id":"m","nonce":"x","underlay":{"ipv4":"192.0.2.1/24"},"version":"0.0.9"}"#.to_vec();
    let node = Entry { key: "nodes/n1".into(), value, created: 2, modified: 2 };
    for rest in ["[bgp]", "[backend]\ntype='bgp'"] {
        let new = ClusterConf::from_toml(&format!("[[pool]]\nname='a'\ncidr='10.1.0.0/16'\n{rest}")).unwrap();
        for force in [false, true] {
            let script = Script::default();
            let mut shown = shows(7, 5, false);
            shown.entries.push(node.clone());
            script.reads.lock().unwrap().push_back(shown);
            let refused = replace(&script, &new, How { force, expected: None }).await.unwrap_err();
            assert_eq!(refused.verdict(), Verdict::Problems);
            let words = refused.to_string();
            assert!(words.starts_with("refused, nothing was changed: ") && words.contains("n1"), "{words}");
            assert!(words.contains("speak BGP"), "{words}");
            assert!(script.sent.lock().unwrap().is_empty());
        }
    }
}

/// What a comparison says, of the scripted reads.
async fn outlook(reads: Vec<Snapshot>, new: &ClusterConf, force: bool) -> crate::report::config::Outlook {
    let script = Script { reads: Mutex::new(reads.into()), ..Script::default() };
    let prospect = Prospect::look(&script, new).await.unwrap();
    assert!(script.sent.into_inner().unwrap().is_empty());
    prospect.outlook("new.toml".into(), new, force)
}

#[tokio::test]
async fn who_only_asks_is_told_what_an_application_would_be() {
    let same = outlook(vec![shows(7, 5, false)], &conf(7), false).await;
    assert_eq!((same.would, same.revision, same.changes.len()), (Would::Nothing, Some(5), 0));
    let other = outlook(vec![shows(7, 5, false)], &conf(8), false).await;
    assert_eq!((other.would, other.changes[0].key.as_str()), (Would::Apply, "backend.vni"));
    let gone = ClusterConf::from_toml("[[pool]]\nname='b'\ncidr='10.2.0.0/16'").unwrap();
    let held = outlook(vec![shows(7, 5, true)], &gone, true).await;
    assert_eq!(held.would, Would::Refuse);
    assert!(held.refusals[0].starts_with("pool \"a\" cannot be removed while nodes have blocks there"), "{held:?}");
    let first = outlook(vec![Snapshot { revision: 3, entries: Vec::new() }], &conf(7), false).await;
    assert_eq!((first.would, first.revision), (Would::Apply, None));
    for (force, would) in [(false, Would::RefuseWithoutForce), (true, Would::Apply)] {
        let (picture, mirrors) = with_a_tall_pod();
        let nobody = Snapshot { revision: 10, entries: Vec::new() };
        let tall = outlook(vec![picture, mirrors, nobody], &conf(7777), force).await;
        assert_eq!((tall.would, tall.perils.len(), tall.nodes.len()), (would, 1, 1));
        assert!(tall.perils[0].contains("shop/cart"), "{tall:?}");
    }
}

#[tokio::test]
async fn a_revision_that_is_expected_and_not_there_is_refused_with_the_one_that_is() {
    for (expected, is_there) in [(5, true), (4, false), (0, false)] {
        let script = Script::default();
        script.reads.lock().unwrap().push_back(shows(7, 5, false));
        script.answers.lock().unwrap().extend(is_there.then_some(Ok(Outcome::Done(11))));
        let done = replace(&script, &conf(8), How { force: true, expected: Some(expected) }).await;
        match done {
            Ok(applied) => assert!(is_there && applied.revision == 11),
            Err(error) => {
                assert!(!is_there && error.verdict() == Verdict::Problems);
                let words = format!("is at revision 5, not at revision {expected};");
                assert!(error.to_string().contains(&words), "{error}");
            }
        }
        assert_eq!(script.sent.lock().unwrap().len(), usize::from(is_there));
    }
}
