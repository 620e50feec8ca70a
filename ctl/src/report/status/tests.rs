//! What the status finds in small clusters.

mod daemons;

use twill_cluster::record::Told;

use super::*;
use crate::print;
use crate::report::{Report, Verdict};

const CONFIG: (&str, &str) = (
    "config",
    r#"{"pool":[{"name":"default","cidr":"10.42.0.0/16","block":26},{"name":"six","cidr":"fd42::/48","block":122}]}"#,
);
const NODE: &str = r#"{"machine_id":"m1","nonce":"x","underlay":{"ipv4":"192.0.2.1/24"},"tunnel":{"ipv4":"10.42.0.1"},
                       "vxlan":{"mac":"02:00:00:00:00:01"},"version":"0.1.0","labels":{"zone":"a"}}"#;
const BLOCK: &str = r#"{"node":"n1","machine_id":"m1","epoch":2,"nonce":"x"}"#;
const HEALTHY: [(&str, &str); 4] = [
    CONFIG,
    ("nodes/n1", NODE),
    ("blocks/4/0a2a0000-26", BLOCK),
    ("blocks/6/fd420000000000000000000000000000-122", BLOCK),
];

fn status(entries: &[(&str, &str)], alive: &[&str]) -> Status {
    Status::new(
        &Picture::of(entries),
        &alive.iter().map(|name| (name.parse().unwrap(), vec![])).collect(),
        Answers::new(),
    )
}

fn problems(entries: &[(&str, &str)], alive: &[&str]) -> Vec<String> {
    status(entries, alive).problems.iter().map(|problem| format!("{}: {}", problem.subject, problem.what)).collect()
}

#[test]
fn a_healthy_cluster_has_no_problems() {
    let status = status(&HEALTHY, &["n1"]);
    assert_eq!(status.problems, []);
    assert_eq!((status.nodes[0].blocks, status.pools[0].used, status.pools[0].total), (2, 1, 1024));
    let report = Report::Status(status);
    assert_eq!(report.verdict(), Verdict::Good);
    let wanted = "\
revision 20, configuration 1, back end vxlan

NODE  ALIVE  DRAINING  UNDERLAY   TUNNEL     VTEP               BLOCKS  VERSION
n1    yes    no        192.0.2.1  10.42.0.1  02:00:00:00:00:01  2       0.1.0

POOL     CIDR          BLOCK  BLOCKS     NODES  MASQUERADE  REMARKS
default  10.42.0.0/16  /26    1 of 1024  1      yes
six      fd42::/48     /122   1 of 2^74  1      yes

no problems
";
    assert_eq!(print::render(&report, crate::arguments::Output::Text), wanted);
    let json: serde_json::Value =
        serde_json::from_str(&print::render(&report, crate::arguments::Output::Json)).unwrap();
    assert_eq!(json["nodes"][0]["tunnel"][0], "10.42.0.1");
    assert_eq!(json["pools"][1]["total"], u64::MAX);
    assert_eq!(json["config"]["revision"], 1);
}

#[test]
fn with_and_without_etcd_the_document_has_the_same_keys() {
    let keys = |report: &Report| {
        let text = print::render(report, crate::arguments::Output::Json);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let with = keys(&Report::Status(status(&HEALTHY, &["n1"])));
    let local = Local { node: None, draining: false, attached: 0, failures: 0, blocks: Vec::new() };
    for local in [None, Some(local)] {
        let alone = Report::LocalStatus(Box::new(Alone::new(Untold::new("etcd is away", "bring it back"), local)));
        assert_eq!(alone.verdict(), Verdict::Unknown);
        assert_eq!(keys(&alone), with);
    }
    assert_eq!(with, ["config", "local", "nodes", "notes", "pools", "problems", "revision", "unknown"]);
}

#[test]
fn what_bgp_may_not_be_meant_to_do_is_a_note() {
    let config =
        r#"{"pool":[{"name":"default","cidr":"10.42.0.0/16","block":26}],"bgp":{"reflectors":{"nodes":"has(r)"}}}"#;
    let status = status(&[("config", config), HEALTHY[1], HEALTHY[2]], &["n1"]);
    let told: Vec<_> = status.notes.iter().map(|note| format!("{}: {}", note.subject, note.what)).collect();
    assert_eq!(told, ["AS 64512: none of its nodes is a reflector: they are meshed until one is"]);
    assert_eq!(status.problems, []);
}

#[test]
fn an_empty_cluster_lacks_its_configuration() {
    assert_eq!(problems(&[], &[]), ["configuration: there is none: no node can claim a block"]);
    let text = print::render(&Report::Status(status(&[], &[])), crate::arguments::Output::Text);
    assert!(text.starts_with("revision 20, no configuration\n\nno nodes\n\nPROBLEM configuration: "), "{text}");
    assert!(text.ends_with("    fix: make one with 'twillctl config init FILE', then 'twillctl config apply FILE'\n"));
}

#[test]
fn a_node_that_is_not_alive_is_a_problem() {
    let found = problems(&HEALTHY, &[]);
    assert_eq!(found, ["node n1: its daemon has not been heard of for a minute; its pods keep what they have"]);
}

#[test]
fn what_a_node_tells_of_itself_is_its_problem_and_a_stranger_tells_nothing() {
    let told = |what: &str| vec![Told { what: what.to_owned(), fix: "mend it".to_owned() }];
    let alive = [("n1", told("a barrier")), ("n9", told("a lie"))].map(|(name, told)| (name.parse().unwrap(), told));
    let status = Status::new(&Picture::of(&HEALTHY), &alive.into(), Answers::new());
    let lines: Vec<_> = status.problems.iter().map(Problem::line).collect();
    assert_eq!(lines, ["node n1: a barrier; mend it"]);
}

#[test]
fn what_many_nodes_tell_alike_is_one_problem() {
    let told = |what: &str| vec![Told { what: what.to_owned(), fix: "switch it on".to_owned() }];
    let nodes: Vec<(NodeName, Vec<Told>)> =
        (1..=5).map(|number| (format!("n{number}").parse().unwrap(), told("n9 does not answer"))).collect();
    let lines: Vec<_> =
        problems::told(nodes.iter().map(|(name, told)| (name, told))).iter().map(Problem::line).collect();
    assert_eq!(lines, ["nodes n1, n2, n3 and 2 more: n9 does not answer; switch it on"]);
}

#[test]
fn a_node_that_is_being_drained_is_shown_so_and_is_no_problem() {
    let mut entries = HEALTHY;
    let drained = NODE.replacen('{', r#"{"drain":"w","#, 1);
    entries[1].1 = &drained;
    let status = status(&entries[..3], &["n1"]);
    assert_eq!((status.problems.as_slice(), status.nodes[0].draining), (&[][..], true));
    let text = print::render(&Report::Status(status), crate::arguments::Output::Text);
    assert!(text.contains("\nn1    yes    YES       192.0.2.1  "), "{text}");
}

#[test]
fn a_node_without_a_block_of_a_family_is_a_problem() {
    let found = problems(&HEALTHY[..3], &["n1"]);
    assert_eq!(found, ["node n1: it has no IPv6 block: it can give no pod an IPv6 address"]);
}

#[test]
fn a_node_that_cannot_be_sent_to_is_a_problem() {
    let bare = r#"{"machine_id":"m1","nonce":"x"}"#;
    let mut entries = HEALTHY;
    entries[1].1 = bare;
    let found = problems(&entries, &["n1"]);
    assert_eq!(found[0], "node n1: it has no underlay address: no other node can send to it");
    assert_eq!(found[1], "node n1: it has no VTEP: no other node can send to its pods");
}

#[test]
fn garbage_is_named_with_its_key_and_harms_nobody_else() {
    let mut entries = HEALTHY.to_vec();
    entries.push(("nodes/n2", "rubbish"));
    entries.push(("blocks/4/0a2a0040-26", "{}"));
    entries.push(("blocks/4/zz", "{}"));
    let status = status(&entries, &["n1"]);
    let subjects: Vec<_> = status.problems.iter().map(|problem| problem.subject.as_str()).collect();
    assert_eq!(subjects, ["block 10.42.0.64/26", "blocks/4/zz", "node n2"]);
    assert_eq!(status.nodes.len(), 1);
    assert_eq!(Report::Status(status).verdict(), Verdict::Problems);
}

#[test]
fn records_that_contradict_each_other_are_one_problem_each() {
    let mut entries = HEALTHY.to_vec();
    let twin = HEALTHY.iter().find(|(key, _)| *key == "nodes/n1").unwrap().1;
    entries.push(("nodes/n2", twin));
    entries.push(("blocks/4/0a2a0020-27", r#"{"node":"n2","machine_id":"m1","epoch":4,"nonce":"x"}"#));
    let found: Vec<_> =
        problems(&entries, &["n1", "n2"]).into_iter().filter(|found| found.starts_with("records: ")).collect();
    let about = |what: &str| found.iter().filter(|found| found.contains(what)).count();
    assert_eq!(
        (about("block 10.42.0.32/27 of node n2 overlaps"), about("VTEP's MAC"), about("underlay address")),
        (1, 1, 1)
    );
}

#[test]
fn a_configuration_that_cannot_be_read_is_one_problem() {
    let mut entries = HEALTHY;
    entries[0].1 = r#"{"pool":[]}"#;
    let found = problems(&entries, &["n1"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("configuration: ") && found[0].contains("pool: missing"), "{found:?}");
}

#[test]
fn blocks_without_a_rightful_owner_are_problems() {
    let mut entries = HEALTHY.to_vec();
    entries.push(("blocks/4/0a2a0040-26", r#"{"node":"gone","machine_id":"m","epoch":2,"nonce":"x"}"#));
    entries.push(("blocks/4/0a2a0080-26", r#"{"node":"n1","machine_id":"m1","epoch":1,"nonce":"x"}"#));
    let found = problems(&entries, &["n1"]);
    let wanted = [
        "block 10.42.0.64/26: its owner gone has no record: the node was deleted without its blocks, or never came up",
        "block 10.42.0.128/26: it was claimed by an earlier registration of n1 (epoch 1, now 2)",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_pool_of_which_every_block_is_owned_is_a_problem() {
    let mut entries = HEALTHY;
    entries[0].1 = r#"{"pool":[{"name":"default","cidr":"10.42.0.0/26","block":26}]}"#;
    let found = problems(&entries[..3], &["n1"]);
    assert_eq!(found, ["pool default: all of its blocks (1) have owners: no node can claim another one"]);
}

#[test]
fn a_pool_is_shown_with_what_few_have_and_reserved_blocks_do_not_count() {
    let mut entries = HEALTHY;
    entries[0].1 = r#"{"pool":[
        {"name":"default","cidr":"10.42.0.0/24","block":26,"nodes":"zone == 'a'","reserved":["10.42.0.64/26","10.42.0.1"]},
        {"name":"six","cidr":"fd42::/48","block":122,"disabled":true,"announce":true}]}"#;
    let status = status(&entries, &["n1"]);
    assert_eq!(status.problems, []);
    let text = print::render(&Report::Status(status), crate::arguments::Output::Text);
    let wanted = "\
POOL     CIDR          BLOCK  BLOCKS     NODES  MASQUERADE  REMARKS
default  10.42.0.0/24  /26    1 of 3     1      yes         for nodes with zone == 'a'; reserved 10.42.0.64/26 10.42.0.1
six      fd42::/48     /122   1 of 2^74  1      yes         DISABLED; announced
";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn a_selector_that_matches_no_node_is_worth_a_word_and_changes_no_exit_status() {
    let mut entries = HEALTHY;
    entries[0].1 = r#"{"pool":[{"name":"default","cidr":"10.42.0.0/16","block":26},{"name":"six","cidr":"fd42::/48","block":122},
                                {"name":"gpu","cidr":"10.43.0.0/16","block":26,"nodes":"has(gpu)"}]}"#;
    let status = status(&entries, &["n1"]);
    assert_eq!(status.problems, []);
    let report = Report::Status(status);
    assert_eq!(report.verdict(), Verdict::Good);
    let text = print::render(&report, crate::arguments::Output::Text);
    let wanted = "
no problems

NOTE pool gpu: no node has labels with has(gpu): only pods that name it are given anything of it
    fix: if that is not meant, correct its \"nodes\", or the labels of the nodes in their twilld.toml
";
    assert!(text.ends_with(wanted), "{text}");
}

#[test]
fn a_node_that_no_pool_is_for_is_a_problem() {
    let mut entries = HEALTHY;
    entries[0].1 = r#"{"pool":[{"name":"default","cidr":"10.42.0.0/16","block":26,"nodes":"zone == 'b'"},
                                {"name":"six","cidr":"fd42::/48","block":122,"disabled":true}]}"#;
    let wanted = ["node n1: no pool is for it: each is disabled, or its \"nodes\" do not match the labels of the node"];
    assert_eq!(problems(&entries, &["n1"]), wanted);
}
