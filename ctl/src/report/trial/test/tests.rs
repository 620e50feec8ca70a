//! The matrix, what each pattern of failures means, and JUnit's text.

mod unsent;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use twill_cluster::inquiry::client::Silence;
use twill_cluster::inquiry::trial::{By, MOST_SHOTS, Opened, Place, Pod};
use twill_cluster::record::{Told, Underlay};
use twill_conf::cluster::Vxlan;
use twill_fabric::family::Family;

use super::super::junit::junit;
use super::super::plan::{Ground, results, volleys};
use super::*;
use crate::arguments::Output;
use crate::print;
use crate::report::{Report, Verdict as Exit};

fn node(number: usize) -> NodeName {
    format!("n{number}").parse().unwrap()
}

fn opened(number: usize) -> Opened {
    let pod = |last: usize| Pod {
        addresses: vec![
            format!("10.42.{number}.{last}").parse().unwrap(),
            format!("fd42::{number}:{last}").parse().unwrap(),
        ],
        mtu: 1450,
    };
    let gateways = vec!["192.0.2.254".parse().unwrap()];
    let text = || "x".to_owned();
    Opened {
        pods: vec![pod(10), pod(11)],
        gateways,
        kernel: text(),
        version: text(),
        processors: 2,
        devices: Vec::new(),
    }
}

fn underlay(number: usize) -> Underlay {
    Underlay { ipv4: Some(format!("192.0.2.{number}/24").parse().unwrap()), ipv6: None }
}

fn ways(nodes: usize, families: &[Family]) -> Vec<Way> {
    let opened: BTreeMap<_, _> = (1..=nodes).map(|number| (node(number), opened(number))).collect();
    let underlays: BTreeMap<_, _> = (1..=nodes).map(|number| (node(number), underlay(number))).collect();
    Ground { opened: &opened, underlays: &underlays, families, size: None, outside: None }.ways()
}

/// A cluster of so many nodes, in which each way fares as `fares` says.
fn tested(nodes: usize, vxlan: bool, fares: impl Fn(&Way) -> Verdict) -> Tested {
    tested_by(nodes, vxlan, &[Family::V4], fares, Vec::new())
}

fn tested_by(
    nodes: usize,
    vxlan: bool,
    families: &[Family],
    fares: impl Fn(&Way) -> Verdict,
    failures: Vec<(NodeName, Failure)>,
) -> Tested {
    let came = |way: Way| {
        let heard = |count: usize| Heard {
            sent: 3,
            micros: vec![300, 100, 200][..count].to_vec(),
            saw: (count > 0).then_some(way.source).flatten(),
            ..Heard::default()
        };
        let mut result = match fares(&way) {
            Verdict::Nothing => Result { small: heard(0), full: heard(0) },
            Verdict::SmallOnly => Result { small: heard(3), full: heard(0) },
            Verdict::Lossy => Result { small: heard(2), full: heard(3) },
            Verdict::Passed | Verdict::WrongSource => Result { small: heard(3), full: heard(3) },
        };
        if fares(&way) == Verdict::WrongSource {
            result.small.saw = Some("10.42.1.0".parse().unwrap());
        }
        (way, Some(result))
    };
    let backend = if vxlan { "vxlan" } else { "host-gw" };
    let underlays = (1..=nodes).map(|number| (node(number), underlay(number))).collect();
    Tested::new(&Evidence {
        ground: blame::Ground { backend, vxlan: vxlan.then(Vxlan::default), underlays, asked_size: false },
        nodes: (1..=nodes).map(node).collect(),
        left_out: 0,
        failures,
        ways: ways(nodes, families).into_iter().map(came).collect(),
        left: Vec::new(),
        asked_outside: false,
    })
}

/// Subject and beginning of each problem.
fn problems(tested: &Tested) -> Vec<String> {
    tested.problems.iter().map(|problem| format!("{}: {}", problem.subject, problem.what)).collect()
}

fn leads(way: &Way, from: usize, to: usize) -> bool {
    way.from == node(from) && way.to == Some(node(to))
}

fn joins(way: &Way, one: usize, other: usize) -> bool {
    leads(way, one, other) || leads(way, other, one)
}

fn encapsulated(way: &Way) -> bool {
    matches!(way.kind, Kind::PodToPod | Kind::NodeToPod)
}

#[test]
fn a_healthy_cluster_is_a_matrix_without_problems() {
    let report = tested_by(2, true, &[Family::V4, Family::V6], |_| Verdict::Passed, Vec::new());
    let report = Report::Tested(report);
    assert_eq!(report.verdict(), Exit::Good);
    let wanted = "\
2 nodes, back end vxlan: n1 n2

pod to pod, IPv4  n1       n2
n1                0.20 ms  0.20 ms
n2                0.20 ms  0.20 ms

pod to pod, IPv6  n1       n2
n1                0.20 ms  0.20 ms
n2                0.20 ms  0.20 ms

pod to node, IPv4  n1       n2
n1                 0.20 ms  0.20 ms
n2                 0.20 ms  0.20 ms

node to pod, IPv4  n1       n2
n1                 0.20 ms  0.20 ms
n2                 0.20 ms  0.20 ms

node to pod, IPv6  n1       n2
n1                 0.20 ms  0.20 ms
n2                 0.20 ms  0.20 ms

pod to outside, IPv4  192.0.2.254
n1                    0.20 ms
n2                    0.20 ms

22 of 22 ways carry small and full-size packets; no problems
";
    assert_eq!(print::render(&report, Output::Text), wanted);
}

#[test]
fn what_fails_stands_in_the_matrix_with_its_cause_below() {
    let report = tested(2, true, |way| match encapsulated(way) && joins(way, 1, 2) {
        true => Verdict::Nothing,
        false => Verdict::Passed,
    });
    let report = Report::Tested(report);
    assert_eq!(report.verdict(), Exit::Problems);
    let shown = print::render(&report, Output::Text);
    let matrix =
        "pod to pod, IPv4  n1       n2\nn1                0.20 ms  NOTHING\nn2                NOTHING  0.20 ms\n";
    assert!(shown.contains(matrix), "{shown}");
    let problem = "\
PROBLEM pods on n1 and n2: n2 (192.0.2.2) answers, but not through the tunnel: encapsulated packets do not arrive
    fix: let UDP port 4789 pass in every firewall on the way to n2, and on both nodes; then compare vni and port of vxlan.twill on both, \
look at rp_filter of the interfaces between nodes, and try checksum_offload = \"off\"; 'twillctl trace' from a pod of the \
one to one of the other shows where it ends

10 of 14 ways carry small and full-size packets
";
    assert!(shown.ends_with(problem), "{shown}");
}

#[test]
fn without_a_tunnel_pods_addresses_are_what_is_dropped() {
    let fares = |way: &Way| if encapsulated(way) && joins(way, 1, 2) { Verdict::Nothing } else { Verdict::Passed };
    let report = tested(2, false, fares);
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].what.contains("plain packets with pods' addresses do not arrive"), "{report:?}");
}

#[test]
fn nodes_that_do_not_reach_each_other_either_are_no_fault_of_the_back_end() {
    let report = tested(2, true, |way| if joins(way, 1, 2) { Verdict::Nothing } else { Verdict::Passed });
    let told = problems(&report);
    assert!(told.len() == 1 && told[0].contains("n2 (192.0.2.2) does not answer, neither at"), "{told:?}");
}

#[test]
fn large_packets_tell_of_their_direction() {
    let report =
        tested(2, true, |way| if encapsulated(way) && leads(way, 1, 2) { Verdict::SmallOnly } else { Verdict::Passed });
    let told = problems(&report);
    let begin = "pods on n1 to n2: small packets to n2 (192.0.2.2) come back, and those of 1450 bytes";
    assert!(told.len() == 1 && told[0].starts_with(begin), "{told:?}");
    assert!(report.problems[0].fix.contains("1500 bytes, 50 of them the tunnel's"), "{report:?}");
}

#[test]
fn a_size_of_the_operators_choice_is_not_called_the_mtu_of_pods() {
    let mut evidence = evidence_of_small_only();
    evidence.ground.asked_size = true;
    let told = problems(&Tested::new(&evidence));
    assert!(told[0].ends_with("those of 1450 bytes, as --size has it, do not"), "{told:?}");
    evidence.ground.asked_size = false;
    let told = problems(&Tested::new(&evidence));
    assert!(told[0].ends_with("those of 1450 bytes, the MTU of pods, do not"), "{told:?}");
}

#[test]
fn what_pods_do_not_send_is_known_by_the_least_mtu_of_all() {
    let mut opened: BTreeMap<_, _> = (1..=2).map(|number| (node(number), opened(number))).collect();
    opened.get_mut(&node(2)).unwrap().pods[1].mtu = 1400;
    let nobody = BTreeMap::new();
    let ground = |size| Ground { opened: &opened, underlays: &nobody, families: &[], size, outside: None };
    for size in [None, Some(96), Some(1400)] {
        assert_eq!(ground(size).too_small(), None, "{size:?}");
    }
    for size in [1401, 65_535] {
        assert_eq!(ground(Some(size)).too_small(), Some((&node(2), 1400)), "{size}");
    }
}

#[test]
fn what_many_pairs_have_in_common_is_told_of_few() {
    let fares = |way: &Way| {
        if encapsulated(way) && way.to != Some(way.from.clone()) { Verdict::Nothing } else { Verdict::Passed }
    };
    let told = problems(&tested(5, true, fares));
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[2].ends_with("and it is the same between 7 more pairs of nodes"), "{told:?}");
}

#[test]
fn a_node_that_forwards_nothing_is_one_problem() {
    let dropped = |way: &Way| {
        let forwarded = way.kind == Kind::PodToPod || way.kind == Kind::PodToOutside;
        let at_one = way.from == node(1) || way.to == Some(node(1));
        (forwarded && at_one)
            || (way.kind == Kind::NodeToPod && leads(way, 2, 1))
            || (way.kind == Kind::PodToNode && leads(way, 1, 2))
    };
    let report = tested(2, true, |way| if dropped(way) { Verdict::Nothing } else { Verdict::Passed });
    let told = problems(&report);
    assert_eq!(
        told,
        ["node n1: it reaches its pods, and they do not reach each other: something drops what it forwards"]
    );
    assert!(report.problems[0].fix.contains("open_forward"), "{report:?}");
}

#[test]
fn a_node_that_does_not_reach_its_own_pods_is_another_one() {
    let at_one = |way: &Way| encapsulated(way) && (way.from == node(1) || way.to == Some(node(1)));
    let told = problems(&tested(2, true, |way| if at_one(way) { Verdict::Nothing } else { Verdict::Passed }));
    assert_eq!(told, ["node n1: it does not reach its own pods"]);
}

#[test]
fn whose_address_is_changed_on_the_way_is_told_once() {
    let fares = |way: &Way| match way.kind == Kind::PodToPod && leads(way, 1, 2) {
        true => Verdict::WrongSource,
        false => Verdict::Passed,
    };
    let report = tested(3, true, fares);
    assert_eq!(problems(&report), ["node n1: a pod there that sends by 10.42.1.10 is heard as 10.42.1.0 (n1 to n2)"]);
    let way = report.ways.iter().find(|way| way.verdict == Verdict::WrongSource).unwrap();
    assert_eq!((way.source, way.saw), ("10.42.1.10".parse().ok(), "10.42.1.0".parse().ok()));
}

#[test]
fn a_node_that_pods_may_not_reach_is_told_and_one_that_answers_nobody_is_worth_a_note() {
    let to_node = |way: &Way| way.kind == Kind::PodToNode && leads(way, 1, 2);
    let report = tested(2, true, |way| if to_node(way) { Verdict::Nothing } else { Verdict::Passed });
    assert_eq!(problems(&report), ["node n1: its pods do not reach the node n2 (192.0.2.2), though the node does"]);
    let nobody = |way: &Way| to_node(way) || (way.kind == Kind::NodeToNode && leads(way, 1, 2));
    let report = tested(2, true, |way| if nobody(way) { Verdict::Nothing } else { Verdict::Passed });
    assert!(report.problems.is_empty() && report.notes[0].what.contains("answers no pings"), "{report:?}");
}

#[test]
fn an_outside_that_answers_the_node_and_not_its_pods_is_a_problem() {
    let pods = |way: &Way| way.kind == Kind::PodToOutside && way.from == node(1);
    let report = tested(2, true, |way| if pods(way) { Verdict::Nothing } else { Verdict::Passed });
    assert_eq!(problems(&report), ["node n1: its pods do not reach 192.0.2.254 outside, and the node does"]);
    assert!(report.problems[0].fix.contains("masquerade"), "{report:?}");
    let both = |way: &Way| way.to.is_none();
    let report = tested(2, true, |way| if both(way) { Verdict::Nothing } else { Verdict::Passed });
    assert!(report.problems.is_empty(), "a gateway need not answer pings: {report:?}");
    assert_eq!(report.notes.len(), 2, "{report:?}");
}

#[test]
fn packets_that_are_lost_are_worth_a_note() {
    let report = tested(2, true, |way| if leads(way, 1, 2) { Verdict::Lossy } else { Verdict::Passed });
    assert!(report.problems.is_empty(), "{report:?}");
    assert!(report.notes[0].what.starts_with("1 of 6 packets pod to pod of n1 to n2 are lost"), "{report:?}");
    assert!(print::render(&Report::Tested(report), Output::Text).contains("11 of 14 ways carry"));
}

/// Of two nodes between which only small packets come through.
fn evidence_of_small_only() -> Evidence {
    let heard = |answers: usize| Heard { sent: ROUNDS, micros: vec![100; answers], ..Heard::default() };
    let came = |way: Way| (way, Some(Result { small: heard(3), full: heard(0) }));
    let underlays = (1..=2).map(|number| (node(number), underlay(number))).collect();
    let between = |way: &Way| way.kind == Kind::PodToPod && joins(way, 1, 2);
    Evidence {
        ground: blame::Ground { backend: "host-gw", vxlan: None, underlays, asked_size: false },
        nodes: vec![node(1), node(2)],
        left_out: 0,
        failures: Vec::new(),
        ways: ways(2, &[Family::V4]).into_iter().filter(between).map(came).collect(),
        left: Vec::new(),
        asked_outside: false,
    }
}

/// A report of two nodes' ways, of which each came to `came`.
fn tested_with(ways: Vec<Way>, came: &Result) -> Tested {
    Tested::new(&Evidence {
        ground: blame::Ground { backend: "vxlan", vxlan: None, underlays: BTreeMap::new(), asked_size: false },
        nodes: vec![node(1), node(2)],
        left_out: 0,
        failures: Vec::new(),
        ways: ways.into_iter().map(|way| (way, Some(came.clone()))).collect(),
        left: Vec::new(),
        asked_outside: false,
    })
}

#[test]
fn full_size_packets_that_are_lost_count_as_small_ones_do() {
    let heard = |answers: usize| Heard { sent: ROUNDS, micros: vec![100; answers], ..Heard::default() };
    let report = tested_with(ways(2, &[Family::V4]), &Result { small: heard(3), full: heard(1) });
    assert!(report.ways.iter().all(|way| way.verdict == Verdict::Lossy), "{report:?}");
    assert!(report.notes[0].what.starts_with("2 of 6 packets pod to pod"), "{report:?}");
}

#[test]
fn where_nothing_was_tried_nothing_can_be_told() {
    let report = Report::Tested(tested_with(Vec::new(), &Result::default()));
    assert_eq!(report.verdict(), Exit::Unknown);
    assert!(print::render(&report, Output::Text).contains("COULD NOT TELL: whether packets come through"));
    for sent in [0, ROUNDS - 1] {
        let heard = Heard { sent, ..Heard::default() };
        let report = tested_with(ways(2, &[Family::V4]), &Result { small: heard.clone(), full: heard });
        assert!(report.ways.is_empty() && report.unknown[1].what.starts_with("node n2: its part"), "{report:?}");
        assert_eq!(Report::Tested(report).verdict(), Exit::Unknown);
    }
}

#[test]
fn an_answer_that_does_not_fit_its_question_has_no_results() {
    let ways = ways(2, &[Family::V4]);
    let volley = &volleys(&ways)[0][0];
    let heard = |sent, answers: usize| Heard { sent, micros: vec![1; answers], ..Heard::default() };
    let all = |one: Heard| vec![one; volley.shots.len()];
    assert_eq!(results(volley, &all(heard(3, 2))).unwrap().len(), volley.ways.len());
    let one_less = all(heard(3, 2))[1..].to_vec();
    for strange in [Vec::new(), one_less, all(heard(3, 4)), all(heard(ROUNDS + 1, 0))] {
        assert_eq!(results(volley, &strange), None, "{strange:?}");
    }
}

#[test]
fn pods_that_a_node_could_not_take_down_are_a_problem_with_its_words() {
    let told = Told { what: "its pod is not detached".into(), fix: "wait".into() };
    let report = Evidence {
        left: vec![(node(1), Failure::refused(told)), (node(2), Failure::silent(&Silence::Dead))],
        ground: blame::Ground { backend: "vxlan", vxlan: None, underlays: BTreeMap::new(), asked_size: false },
        nodes: Vec::new(),
        left_out: 0,
        failures: Vec::new(),
        ways: Vec::new(),
        asked_outside: false,
    };
    let report = Tested::new(&report);
    assert_eq!(problems(&report), ["node n1: its pod is not detached"]);
    assert!(report.unknown[0].what.starts_with("whether the pods on n2 are gone"), "{report:?}");
}

#[test]
fn who_refuses_is_a_problem_and_of_who_is_silent_nothing_can_be_told() {
    let refused = Failure::refused(Told { what: "the plugin is not at /x".into(), fix: "install it".into() });
    let silent = Failure::silent(&Silence::Timeout(Duration::from_secs(1)));
    let passed = |_: &Way| Verdict::Passed;
    let report = tested_by(1, true, &[Family::V4], passed, vec![(node(7), silent.clone())]);
    assert_eq!(Report::Tested(report.clone()).verdict(), Exit::Unknown);
    assert!(report.unknown[0].what.starts_with("node n7: no answer within 1 s"), "{report:?}");
    let report = tested_by(1, true, &[Family::V4], passed, vec![(node(7), silent), (node(8), refused)]);
    assert_eq!(problems(&report), ["node n8: the plugin is not at /x"]);
    assert_eq!(Report::Tested(report).verdict(), Exit::Problems, "a problem is one, whatever else could not be seen");
}

#[test]
fn a_node_that_is_dead_is_a_problem_though_all_others_are_well() {
    let dead = vec![(node(7), Failure::silent(&Silence::Dead))];
    let report = tested_by(2, true, &[Family::V4], |_| Verdict::Passed, dead);
    assert_eq!(
        problems(&report),
        ["node n7: its daemon has not been heard of for a minute; its pods keep what they have"]
    );
    assert!(report.problems[0].fix.starts_with("look at twilld on n7") && report.unknown.is_empty(), "{report:?}");
    assert_eq!(Report::Tested(report).verdict(), Exit::Problems);
}

#[test]
fn a_request_has_no_more_shots_than_it_may_and_a_round_one_for_each_node() {
    let ways = ways(20, &Family::ALL);
    let mut tried = vec![0; ways.len()];
    for round in volleys(&ways) {
        let nodes: std::collections::BTreeSet<_> = round.iter().map(|volley| &volley.node).collect();
        assert_eq!(nodes.len(), round.len(), "a node twice in a round");
        for volley in &round {
            assert!(volley.shots.len() <= MOST_SHOTS && volley.shots.len() == 2 * volley.ways.len());
            volley.ways.iter().for_each(|way| tried[*way] += 1);
            let by_pod =
                volley.shots.iter().any(|shot| shot.by == By::Pod && shot.to.to_string().starts_with("192.0.2."));
            assert!(!by_pod, "nodes have no responder");
            let is_pod = matches!(volley.from, Place::Pod(_));
            assert!(volley.ways.iter().all(|way| ways[*way].source.is_some() == is_pod));
        }
    }
    assert!(tried.iter().all(|count| *count == 1), "each way once");
}

#[test]
fn junit_has_a_case_for_each_way_and_its_text_is_escaped() {
    let mut report =
        tested(1, true, |way| if way.kind == Kind::PodToOutside { Verdict::SmallOnly } else { Verdict::Passed });
    report.problems = vec![Problem::new("node <n1>", "a \"quoted\" & broken thing", "mend it")];
    report.unknown = vec![Untold::new("node n2: silent\u{1b}", "look there")];
    let wanted = "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites>
<testsuite name=\"twillctl test\" tests=\"6\" failures=\"2\" errors=\"1\">
<testcase classname=\"pod to pod.IPv4\" name=\"n1 to n1\" time=\"0.000200\"/>
<testcase classname=\"pod to node.IPv4\" name=\"n1 to n1\" time=\"0.000200\"/>
<testcase classname=\"node to pod.IPv4\" name=\"n1 to n1\" time=\"0.000200\"/>
<testcase classname=\"pod to outside.IPv4\" name=\"n1 to 192.0.2.254\" time=\"0.000200\"><failure message=\"3 of 3 packets of 100 bytes \
and 0 of 3 packets of 1450 bytes were answered by 192.0.2.254\"/></testcase>
<testcase classname=\"problem\" name=\"node &lt;n1&gt;\"><failure message=\"a &quot;quoted&quot; &amp; broken thing; fix: mend it\"/></testcase>
<testcase classname=\"unknown\" name=\"could not tell\"><error message=\"node n2: silent\u{fffd}; look there\"/></testcase>
</testsuite>
</testsuites>
";
    assert_eq!(junit(&report), wanted);
}

#[test]
fn the_json_of_a_way_has_its_packets() {
    let report = tested(1, true, |_| Verdict::Passed);
    let way = serde_json::to_value(&report.ways[0]).unwrap();
    let wanted = json!({
        "kind": "pod-to-pod", "from": "n1", "to": "n1", "family": "IPv4", "address": "10.42.1.11",
        "small": { "bytes": 100, "sent": 3, "answered": 3, "micros": 200 },
        "full": { "bytes": 1450, "sent": 3, "answered": 3, "micros": 200 },
        "source": "10.42.1.10", "saw": "10.42.1.10", "verdict": "passed", "no_way": null, "unsent": null,
    });
    assert_eq!(way, wanted);
}
