//! What is reckoned from what nodes tell, and how it is printed.

use twill_cluster::inquiry::client::Silence;
use twill_cluster::inquiry::trial::{Answered, Carried};
use twill_cluster::record::Told;

use super::*;
use crate::arguments::Output;
use crate::print;
use crate::report::{Report, Verdict};

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn usage(machine: &str, busy_millis: u64) -> Usage {
    Usage { machine: machine.into(), busy_millis }
}

/// So many gigabits in two seconds.
fn carried(gigabits: u64) -> Answer {
    Answer::Carried(Carried { bytes: gigabits * 125_000_000, micros: 2_000_000, retransmits: 0, datagrams: 0 })
}

fn rounds() -> Rounds {
    let mut rounds = Rounds::default();
    for (pods, nodes) in [(8, 10), (10, 10), (9, 20)] {
        rounds.add(Path::Pods, Load::Tcp { streams: 1 }, &carried(pods), 400);
        rounds.add(Path::Nodes, Load::Tcp { streams: 1 }, &carried(nodes), 300);
    }
    let packets =
        Answer::Carried(Carried { bytes: 64_000_000, micros: 2_000_000, retransmits: 0, datagrams: 1_000_000 });
    rounds.add(Path::Pods, Load::Udp { bytes: SMALL }, &packets, 0);
    let answered = |median_nanos| Answer::Answered(Answered { count: 9, median_nanos, late_nanos: 3 * median_nanos });
    rounds.add(Path::Pods, Load::Questions { bytes: SMALL }, &answered(50_000), 0);
    rounds.add(Path::Nodes, Load::Questions { bytes: SMALL }, &answered(40_000), 0);
    rounds
}

fn benched() -> Benched {
    let device = |role: &str, name: &str, off: &[&str]| Device {
        role: role.into(),
        name: name.into(),
        mtu: 1450,
        off: off.iter().map(|name| (*name).to_owned()).collect(),
    };
    let conditions = Conditions {
        node: node("n1"),
        kernel: "6.1.0".into(),
        twilld: "0.1.0".into(),
        processors: 2,
        devices: vec![device("pod", "eth0", &[]), device("tunnel", "vxlan.twill", &["tx-checksumming"])],
    };
    Benched {
        backend: "vxlan",
        config_revision: 7,
        family: "IPv4".into(),
        nodes: vec![node("n1"), node("n2")],
        rounds: 3,
        seconds: 2,
        streams: 8,
        conditions: vec![conditions],
        one_machine: false,
        figures: rounds().figures(),
        problems: Vec::new(),
        notes: Vec::new(),
        unknown: Vec::new(),
    }
}

#[test]
fn one_machine_that_is_both_nodes_counts_once() {
    let before = [usage("a", 1000), usage("b", 500)];
    assert_eq!(spent(&before, &[usage("a", 1300), usage("b", 600)]), 400);
    assert_eq!(spent(&[usage("a", 1000), usage("a", 1001)], &[usage("a", 1300), usage("a", 1301)]), 300);
    assert_eq!(spent(&before, &[usage("a", 1300), usage("c", 1)]), 300, "one was started anew");
}

#[test]
fn figures_are_medians_in_their_units_and_compared_round_by_round() {
    let figures = rounds().figures();
    let of = |quantity| figures.iter().find(|figure| figure.quantity == quantity).unwrap();
    let median = |quantity| of(quantity).pods.unwrap().median;
    assert_eq!(median(Quantity::TcpOne), 4.5, "Gbit/s");
    assert_eq!(of(Quantity::TcpOne).ratio.unwrap().median, 0.8);
    assert_eq!(median(Quantity::CostOne), 400.0 / 9.0, "ms/Gbit");
    assert_eq!((median(Quantity::Packets), median(Quantity::Median), median(Quantity::Late)), (500.0, 50.0, 150.0));
    assert!(!figures.iter().any(|figure| figure.quantity == Quantity::TcpMany), "it was not measured");
}

#[test]
fn nothing_that_arrives_is_no_figure_that_json_cannot_say() {
    let mut rounds = Rounds::default();
    rounds.add(Path::Pods, Load::Tcp { streams: 8 }, &carried(0), 100);
    let figures = rounds.figures();
    assert_eq!(figures.len(), 1, "a rate of nothing, and no price of it: {figures:?}");
}

#[test]
fn the_report_has_its_conditions_and_its_table() {
    let report = Report::Benched(Box::new(benched()));
    assert_eq!(report.verdict(), Verdict::Good);
    let wanted = "\
n1 to n2, back end vxlan (configuration 7), pods by IPv4; medians of 3 alternating rounds of 2 s for each figure (in brackets the least \
and the greatest), several streams are 8; POD/NODE: 1 is as good as node to node, less is worse

n1: Linux 6.1.0, 2 processors, twilld 0.1.0; pod eth0 MTU 1450; tunnel vxlan.twill MTU 1450, off: tx-checksumming

WHAT                                     BACK END  POD TO POD        NODE TO NODE      POD/NODE
TCP, one stream, Gbit/s                  vxlan     4.50 (4.00–5.00)  5.00 (5.00–10.00) 0.80
UDP of 64 bytes, read, 1000/s            vxlan     500 (500–500)     -                 -
request and response, p50, µs            vxlan     50.0 (50.0–50.0)  40.0 (40.0–40.0)  0.80
request and response, p99, µs            vxlan     150 (150–150)     120 (120–120)     0.80
processor time, one stream, CPU ms/Gbit  vxlan     44.4 (40.0–50.0)  30.0 (15.0–30.0)  0.60
";
    let shown = print::render(&report, Output::Text);
    let squeezed = |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    assert_eq!(squeezed(&shown), squeezed(wanted), "{shown}");
}

#[test]
fn the_page_has_the_plot_the_table_and_the_conditions() {
    let html = benched().html().unwrap();
    for word in ["<svg ", "pod to pod", "vxlan.twill MTU 1450, off: tx-checksumming", "<td>4.50 (4.00–5.00)</td>"] {
        assert!(html.contains(word), "{word} is missing in {html}");
    }
}

#[test]
fn a_node_that_lacks_something_is_a_problem_and_one_machine_is_worth_a_note() {
    let told = Told { what: "there is no iperf3".into(), fix: "install it".into() };
    let report = Benched { one_machine: true, figures: Vec::new(), ..benched() };
    let report = report.with(&[(node("n2"), Failure::refused(told))], &[(node("n1"), Failure::silent(&Silence::Dead))]);
    assert_eq!((report.problems[0].subject.as_str(), report.problems[0].fix.as_str()), ("node n2", "install it"));
    assert!(
        report.notes[0].what.contains("one machine") && report.unknown[0].what.contains("pods on n1"),
        "{report:?}"
    );
    assert_eq!(Report::Benched(Box::new(report)).verdict(), Verdict::Problems);
}
