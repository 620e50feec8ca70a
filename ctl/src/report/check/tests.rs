//! Each thing that can be wrong is found, with its remedy, and what is only on its way is not.

use serde_json::{Value, json};
use twill_cluster::inquiry::Page;
use twill_cluster::inquiry::client::Silence;
use twill_cluster::view::{Entry, Snapshot};
use twill_cluster::{Census, View};

use super::*;
use crate::arguments::Output;
use crate::print;
use crate::report::{Report, Verdict};

/// A sound cluster: n1 and n2 with a block each, mirrored; n1 has a pod. A key is at the revision of its place.
fn sound() -> Vec<(String, Value)> {
    let node = |name: &str| json!({ "machine_id": name, "nonce": "x" });
    let block = |name: &str, epoch| json!({ "node": name, "machine_id": name, "epoch": epoch, "nonce": "x" });
    let attached = json!({ "10.42.0.1": { "state": "attached", "since": 1 } });
    let entries = [
        ("config", json!({ "pool": [{ "name": "default", "cidr": "10.42.0.0/16", "block": 26 }] })),
        ("nodes/n1", node("n1")),
        ("nodes/n2", node("n2")),
        ("blocks/4/0a2a0000-26", block("n1", 2)),
        ("blocks/4/0a2a0040-26", block("n2", 3)),
        ("addresses/n1/4/0a2a0000-26", json!({ "epoch": 2, "nonce": "x", "addresses": attached })),
        ("addresses/n2/4/0a2a0040-26", json!({ "epoch": 3, "nonce": "x" })),
    ];
    entries.map(|(key, value)| (key.to_owned(), value)).into()
}

fn snapshot(entries: &[(String, Value)]) -> Snapshot {
    let entry = |(i, (key, value)): (i64, &(String, Value))| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned).into_bytes();
        Entry { key: key.clone(), value, created: i, modified: i }
    };
    Snapshot { revision: 50, entries: (1..).zip(entries).map(entry).collect() }
}

fn page(page: Value) -> Page {
    serde_json::from_value(page).unwrap()
}

/// n1 with a pod, and whatever more.
fn of_n1(more: Value) -> Page {
    let mut whole =
        json!({ "blocks": [{ "block": "10.42.0.0/26", "open": true }], "addresses": [at("10.42.0.1", json!({}))] });
    for (field, value) in more.as_object().unwrap() {
        whole[field] = value.clone();
    }
    page(whole)
}

fn at(ip: &str, more: Value) -> Value {
    let mut whole = json!({ "ip": ip, "state": "attached", "since": 1, "container": "c1", "row": 7 });
    for (field, value) in more.as_object().unwrap() {
        whole[field] = value.clone();
    }
    whole
}

fn evidence(entries: &[(String, Value)], n1: Page) -> Evidence {
    let snapshot = snapshot(entries);
    let mut after = View::default();
    after.replace(&snapshot);
    let mut live: Answers<Page> = BTreeMap::new();
    live.insert("n1".parse().unwrap(), Ok(n1));
    live.insert("n2".parse().unwrap(), Ok(page(json!({}))));
    Evidence { census: Census::of(snapshot), live, after, now: 100 }
}

/// "subject: what" of each problem, and the remedies, of a cluster that differs from a sound one.
fn found(change: impl FnOnce(&mut Vec<(String, Value)>)) -> (Vec<String>, Remedies) {
    let mut entries = sound();
    change(&mut entries);
    told(&evidence(&entries, of_n1(json!({}))))
}

fn told(evidence: &Evidence) -> (Vec<String>, Remedies) {
    let (check, remedies) = judge(evidence);
    (check.problems.iter().map(|problem| format!("{}: {}", problem.subject, problem.what)).collect(), remedies)
}

fn put(entries: &mut Vec<(String, Value)>, key: &str, value: Value) {
    match entries.iter_mut().find(|(there, _)| there == key) {
        Some(entry) => entry.1 = value,
        None => entries.push((key.to_owned(), value)),
    }
}

fn only(name: &str, rows: &[i64], links: &[&str]) -> Remedies {
    let own =
        Own { rows: rows.iter().copied().collect(), links: links.iter().map(|link| (*link).to_owned()).collect() };
    Remedies { own: BTreeMap::from([(name.parse().unwrap(), own)]), ..Remedies::default() }
}

#[test]
fn a_sound_cluster_has_no_problems_and_needs_no_remedy() {
    let (check, remedies) = judge(&evidence(&sound(), of_n1(json!({}))));
    assert_eq!((check.problems.as_slice(), &remedies), (&[][..], &Remedies::default()));
    let report = Report::Check(check);
    assert_eq!(report.verdict(), Verdict::Good);
    let wanted = "revision 50: 2 of 2 nodes answered, with 1 address in use; 2 blocks in etcd\n\nno problems\n";
    assert_eq!(print::render(&report, Output::Text), wanted);
}

#[test]
fn what_is_left_of_a_node_without_a_record_is_deleted_unless_it_is_alive() {
    let forget = |entries: &mut Vec<(String, Value)>| entries.retain(|(key, _)| key != "nodes/n2");
    let (problems, remedies) = found(forget);
    let what = "node n2: it has no record, and there are 1 blocks (10.42.0.64/26) and 1 mirrors of it: its record was \
                deleted by other means than twillctl";
    assert_eq!(problems, [what]);
    assert_eq!(remedies.ghosts, BTreeSet::from(["n2".parse().unwrap()]));
    let (problems, remedies) = found(|entries| {
        forget(entries);
        put(entries, "alive/n2", json!({}));
    });
    assert_eq!((problems.len(), remedies), (1, Remedies::default()), "it comes back by itself");
}

#[test]
fn an_unreadable_record_is_told_and_its_node_is_no_ghost() {
    let (problems, remedies) = found(|entries| put(entries, "nodes/n2", json!("rubbish")));
    assert!(
        problems[0]
            .starts_with("node n2: its record, the key nodes/n2, cannot be read: it is not JSON (expected value"),
        "{problems:?}"
    );
    assert_eq!(remedies, Remedies::default());
}

#[test]
fn mirrors_that_do_not_fit_their_blocks_are_written_anew_by_their_nodes() {
    let empty = || json!({ "epoch": 3, "nonce": "x" });
    let stranger = json!({ "192.0.2.1": { "state": "cooling", "since": 1 } });
    let strange = json!({ "epoch": 3, "nonce": "x", "addresses": stranger });
    let own = "addresses/n2/4/0a2a0040-26";
    for (key, value, what) in [
        (own, None, "the mirror of 10.42.0.64/26 is missing"),
        ("addresses/n2/4/0a2a0080-26", Some(empty()), "a mirror of 10.42.0.128/26, which is nobody's"),
        ("addresses/n2/4/0a2a0000-26", Some(empty()), "a mirror of 10.42.0.0/26, which is n1's"),
        (
            own,
            Some(json!("rubbish")),
            "node n2's mirror of 10.42.0.64/26 cannot be read: it is not JSON (expected value at line 1 column 1)",
        ),
        (own, Some(strange), "this mirror of 10.42.0.64/26 has 192.0.2.1, which does not lie in it"),
    ] {
        let change = |entries: &mut Vec<(String, Value)>| match value {
            Some(value) => put(entries, key, value),
            None => entries.retain(|(there, _)| there != key),
        };
        assert_eq!(found(change), (vec![format!("{key}: {what}")], only("n2", &[], &[])));
    }
    let (problems, remedies) = found(|entries| put(entries, "addresses/rubbish", json!({})));
    assert!(
        problems[0].starts_with("addresses/rubbish: this key is none of Twill's: it is not addresses/"),
        "{problems:?}"
    );
    assert_eq!(remedies, Remedies::default(), "nobody's to write");
}

#[test]
fn garbage_in_a_mirror_says_whose_it_is_and_who_is_to_see_to_it() {
    let told = |more: &[(&str, Value)]| {
        let mut entries = sound();
        put(&mut entries, "addresses/gone/4/0a2a0080-26", json!("rubbish"));
        more.iter().for_each(|(key, value)| put(&mut entries, key, value.clone()));
        let (check, remedies) = judge(&evidence(&entries, of_n1(json!({}))));
        let of_mirror = |problem: &&Problem| problem.subject == "addresses/gone/4/0a2a0080-26";
        let problem = check.problems.iter().find(of_mirror).expect("it is told").clone();
        assert!(problem.what.starts_with("node gone's mirror of 10.42.0.128/26 cannot be read: "), "{problem:?}");
        (problem.fix, problem.by_fix, remedies.ghosts.len())
    };
    let block = json!({ "node": "gone", "machine_id": "m", "epoch": 2, "nonce": "x" });
    for (more, fix, by_fix) in [
        (vec![], "gone has no record: if its machine is off or gone, 'twillctl node delete gone' deletes it", false),
        (vec![("alive/gone", json!({}))], "its daemon is alive and will register anew; wait, and check again", false),
        (vec![("nodes/gone", json!("rubbish"))], "see to the record of gone first, which cannot be read either", false),
        (
            vec![("blocks/4/0a2a0080-26", block)],
            "'twillctl ipam check --fix' deletes it with all that is left of gone",
            true,
        ),
    ] {
        assert_eq!(told(&more), (fix.to_owned(), by_fix, usize::from(by_fix)));
    }
}

#[test]
fn what_fix_leaves_to_people_is_told_with_what_they_can_do() {
    let (check, _) = judge(&evidence(&sound()[1..], of_n1(json!({}))));
    let mut mending = Mending::default();
    mending.leave(&check.problems);
    let wanted = "configuration: make one with 'twillctl config init FILE', then 'twillctl config apply FILE'";
    assert!(mending.left.contains(&wanted.to_owned()) && mending.left.len() == check.problems.len(), "{mending:?}");
    let (check, remedies) = judge(&evidence(&sound()[..6], of_n1(json!({}))));
    let mut mending = Mending::default();
    mending.leave(&check.problems);
    assert_eq!((check.problems.len(), mending, remedies), (1, Mending::default(), only("n2", &[], &[])));
}

#[test]
fn blocks_over_others_outside_of_pools_and_of_earlier_epochs_are_told() {
    let block = |name: &str, epoch| json!({ "node": name, "machine_id": name, "epoch": epoch, "nonce": "x" });
    let mirror = || json!({ "epoch": 3, "nonce": "x" });
    let (problems, remedies) = found(|entries| {
        put(entries, "blocks/4/0a2a0010-28", block("n2", 3));
        put(entries, "addresses/n2/4/0a2a0010-28", mirror());
        put(entries, "blocks/4/c0000200-26", block("n2", 3));
        put(entries, "addresses/n2/4/c0000200-26", mirror());
        put(entries, "blocks/4/0a2a0100-26", block("n2", 9));
        put(entries, "addresses/n2/4/0a2a0100-26", mirror());
    });
    let wanted = [
        "block 10.42.1.0/26: it was claimed by an earlier registration of n2 (epoch 9, now 3)",
        "block 192.0.2.0/26: it is n2's and lies in no pool: nothing is assigned from it, and no route leads to it",
        "block 10.42.0.16/28: it is n2's and lies in 10.42.0.0/26, which is n1's",
    ];
    assert_eq!((problems, remedies), (wanted.map(str::to_owned).into(), Remedies::default()));
}

#[test]
fn a_tunnel_address_outside_of_the_nodes_blocks_is_told() {
    let record = json!({ "machine_id": "n2", "nonce": "x", "tunnel": { "ipv4": "10.42.0.9" } });
    let (problems, _) = found(|entries| put(entries, "nodes/n2", record));
    assert_eq!(problems, ["node n2: its tunnel address 10.42.0.9 is in none of its blocks: no other node uses it"]);
}

#[test]
fn attachments_without_a_link_or_half_made_are_mended_by_their_node_once_each() {
    let addresses = json!([
        at("10.42.0.1", json!({ "fault": "no-link", "pod": "shop/till-0" })),
        at("10.42.0.2", json!({ "fault": "half-made", "row": 8, "state": "deleting" })),
        at("fd42::1", json!({ "fault": "no-link" })),
    ]);
    let (problems, remedies) = told(&evidence(&sound(), of_n1(json!({ "addresses": addresses }))));
    let wanted = [
        "address 10.42.0.1: n1 has it for the pod shop/till-0, whose link is gone",
        "address 10.42.0.2: n1 has it for the container c1, whose ADD or DEL was killed half-way",
    ];
    assert_eq!((problems, remedies), (wanted.map(str::to_owned).into(), only("n1", &[7, 8], &[])));
}

#[test]
fn a_link_without_a_row_is_taken_over_by_its_node() {
    let strays = json!([{ "interface": "tw0000000000001", "addresses": ["10.42.0.5", "fd42::5"] }]);
    let (problems, remedies) = told(&evidence(&sound(), of_n1(json!({ "strays": strays }))));
    let what = "interface tw0000000000001: this link of a pod on n1 (10.42.0.5, fd42::5) has no row in the node's store: its \
                addresses look free";
    assert_eq!((problems, remedies), (vec![what.to_owned()], only("n1", &[], &["tw0000000000001"])));
}

#[test]
fn an_address_that_pods_of_two_nodes_have_is_told_and_nothing_is_done_about_it() {
    let mut evidence = evidence(&sound(), of_n1(json!({})));
    let twice = page(json!({ "addresses": [at("10.42.0.1", json!({ "container": "c2" }))] }));
    evidence.live.insert("n2".parse().unwrap(), Ok(twice));
    let (problems, remedies) = told(&evidence);
    assert!(
        problems.contains(&"address 10.42.0.1: the container c1 on n1 and the container c2 on n2 both have it".into())
    );
    assert!(
        problems.contains(&"address 10.42.0.1: n2 has it for the container c2, and its block belongs to n1".into())
    );
    assert_eq!((problems.len(), remedies), (2, Remedies::default()));
    let (problems, _) = found(|entries| {
        let addresses = json!({ "10.42.0.1": { "state": "attached", "since": 1 } });
        put(entries, "addresses/n2/4/0a2a0040-26", json!({ "epoch": 3, "nonce": "x", "addresses": addresses }));
    });
    assert!(
        problems.contains(&"address 10.42.0.1: the mirrors of n1 and n2 both have it in use".into()),
        "{problems:?}"
    );
}

#[test]
fn a_block_that_was_claimed_or_lost_while_nodes_were_asked_is_no_problem() {
    let uses = json!({
        "blocks": [{ "block": "10.42.0.0/26", "open": true }, { "block": "10.42.0.128/26", "open": true }],
        "addresses": [at("10.42.0.130", json!({}))],
    });
    let mut evidence = evidence(&sound(), of_n1(uses));
    let (problems, remedies) = told(&evidence);
    let wanted = [
        "block 10.42.0.128/26: n1 assigns addresses from it, but etcd gives it to nobody",
        "address 10.42.0.130: n1 has it for the container c1, and its block belongs to nobody",
    ];
    assert_eq!((problems, remedies), (wanted.map(str::to_owned).into(), Remedies::default()));
    let mut later = sound();
    later.push(("blocks/4/0a2a0080-26".into(), json!({ "node": "n1", "machine_id": "m", "epoch": 2, "nonce": "x" })));
    evidence.after.replace(&snapshot(&later));
    assert_eq!(told(&evidence).0, Vec::<String>::new());
}

#[test]
fn a_node_that_does_not_answer_means_could_not_tell_unless_there_is_a_problem() {
    let mut silent = evidence(&sound(), of_n1(json!({})));
    let why = Silence::Timeout(std::time::Duration::from_secs(5));
    silent.live.insert("n2".parse().unwrap(), Err(why));
    let report = Report::Check(judge(&silent).0);
    assert_eq!(report.verdict(), Verdict::Unknown);
    let text = print::render(&report, Output::Text);
    assert!(text.contains("1 of 2 nodes answered"), "{text}");
    let line =
        "\nCOULD NOT TELL: what node n2 has in use: no answer within 5 s\n    fix: try again, with a longer --timeout";
    assert!(text.contains(line), "{text}");
    let strays = json!([{ "interface": "tw0000000000001", "addresses": [] }]);
    silent.live.insert("n1".parse().unwrap(), Ok(of_n1(json!({ "strays": strays }))));
    assert_eq!(Report::Check(judge(&silent).0).verdict(), Verdict::Problems);
}

#[test]
fn what_was_fixed_and_what_was_not_are_printed_apart() {
    let judged = || judge(&evidence(&sound(), of_n1(json!({})))).0;
    let json = print::render(&Report::Check(judged()), Output::Json);
    assert!(!json.contains("\"fixed\""), "nothing was to be mended");
    let left = vec!["n2: no answer within 5 s".to_owned()];
    let mending = Mending { fixed: vec!["n1: interface tw1: taken over".to_owned()], left };
    let report = Report::Check(Check { mending: Some(mending), ..judged() });
    let text = print::render(&report, Output::Text);
    assert!(
        text.starts_with("FIXED n1: interface tw1: taken over\nNOT FIXED n2: no answer within 5 s\n\nrevision"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&print::render(&report, Output::Json)).unwrap();
    assert_eq!(
        (json["fixed"].as_array().map(Vec::len), &json["left"][0]),
        (Some(1), &json!("n2: no answer within 5 s"))
    );
}
