//! What a node's own kernel does not send is told of that node.

use super::*;

/// A cluster of two nodes by VXLAN, in which some ways carry nothing, and of some the kernel of the sender says why.
fn unsent(
    nothing: impl Fn(&Way) -> bool,
    no_way: impl Fn(&Way) -> Option<i32>,
    unsent: impl Fn(&Way) -> Option<i32>,
) -> Tested {
    let came = |way: Way| {
        let heard = |answers: usize| Heard {
            sent: ROUNDS,
            micros: vec![100; answers],
            saw: (answers > 0).then_some(way.source).flatten(),
            no_way: no_way(&way),
            unsent: unsent(&way),
        };
        let answers = if nothing(&way) { 0 } else { 3 };
        (way.clone(), Some(Result { small: heard(answers), full: heard(answers) }))
    };
    let underlays = (1..=2).map(|number| (node(number), underlay(number))).collect();
    Tested::new(&Evidence {
        ground: blame::Ground { backend: "vxlan", vxlan: Some(Vxlan::default()), underlays, asked_size: false },
        nodes: vec![node(1), node(2)],
        left_out: 0,
        failures: Vec::new(),
        ways: ways(2, &[Family::V4]).into_iter().map(came).collect(),
        left: Vec::new(),
        asked_outside: false,
    })
}

#[test]
fn a_route_that_refuses_is_the_nodes_that_has_it_and_no_firewalls_between() {
    for (from, to) in [(1, 2), (2, 1)] {
        let nothing = |way: &Way| encapsulated(way) && joins(way, 1, 2);
        // EINVAL, as a route of the type blackhole gives it.
        let no_way = |way: &Way| (way.kind == Kind::NodeToPod && leads(way, from, to)).then_some(22);
        let report = unsent(nothing, no_way, |_| None);
        let told = problems(&report);
        let begin = format!(
            "node n{from}: this node has no route to the pods of n{to} (192.0.2.{to}): the kernel sends nothing to 10.42.{to}.10: "
        );
        assert!(told.len() == 1 && told[0].starts_with(&begin), "{told:?}");
        assert!(report.problems[0].fix.starts_with("a route or a policy rule of somebody else"), "{report:?}");
        let way = report.ways.iter().find(|way| way.no_way.is_some()).unwrap();
        assert_eq!(serde_json::to_value(way).unwrap()["no_way"], json!(22));
    }
}

#[test]
fn what_a_node_does_not_let_out_to_another_is_its_own_firewalls() {
    let nothing = |way: &Way| joins(way, 1, 2);
    let kept = |way: &Way| (matches!(way.kind, Kind::NodeToNode | Kind::NodeToPod) && leads(way, 1, 2)).then_some(1);
    let report = unsent(nothing, |_| None, kept);
    let told = problems(&report);
    let begin = "node n1: a firewall of this node itself drops what it sends to n2 itself: ";
    assert!(told.len() == 1 && told[0].starts_with(begin), "{told:?}");
    assert!(report.problems[0].fix.contains("output"), "{report:?}");
}

#[test]
fn what_a_node_does_not_let_out_to_pods_says_nothing_of_what_it_forwards() {
    let to_pods = |way: &Way| way.kind == Kind::NodeToPod && leads(way, 1, 2);
    let kept = |way: &Way| to_pods(way).then_some(1);
    let told = problems(&unsent(to_pods, |_| None, kept));
    let begin = "node n1: a firewall of this node itself drops what it sends to the pods of n2 (192.0.2.2): ";
    assert!(told.len() == 1 && told[0].starts_with(begin), "{told:?}");
    let tunnel = |way: &Way| encapsulated(way) && joins(way, 1, 2);
    let told = problems(&unsent(tunnel, |_| None, kept));
    assert!(told.len() == 1 && told[0].contains("but not through the tunnel"), "{told:?}");
}
