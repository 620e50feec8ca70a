//! Whole reports, as they are printed.

use std::time::Duration;

use twill_cluster::inquiry::client::Silence;
use twill_cluster::inquiry::trace::{Answer, End, Outer, Packet, Port, Transport};

use super::*;
use crate::report::Verdict;
use crate::report::trace::Spot;

fn spot(title: &str, ip: &str, node: &str) -> Spot {
    let behind = Some("tw0000000000002".to_owned());
    Spot { title: format!("{title} ({ip})"), ip: ip.parse().ok(), node: node.parse().ok(), behind }
}

fn packet() -> Packet {
    let (source, destination) = ("10.42.1.1".parse().ok(), "10.42.2.9".parse().unwrap());
    Packet { source, destination, port: Some(Port { protocol: Transport::Tcp, number: 80 }), size: Some(1400) }
}

fn step(device: Option<&str>, what: &str, mtu: Option<u32>) -> Step {
    let device = device.map(str::to_owned);
    Step { device, what: what.to_owned(), objects: Vec::new(), mtu, state: State::Good, cause: None, fix: None }
}

fn leg(node: &str, steps: Vec<Step>, end: End) -> Leg {
    Leg::told(node.parse().unwrap(), Answer { steps, end, packet: packet(), revision: 7 })
}

/// n1's half, by which the packet goes on to n2.
fn sends() -> Leg {
    let found = "10.42.2.0/26 via 10.42.2.0 dev vxlan.twill".to_owned();
    let route = Object { kind: "route".to_owned(), expected: Some(found.clone()), found: Some(found) };
    let routed = Step { objects: vec![route], ..step(None, "routed to node n2", None) };
    let steps = vec![step(Some("tw0000000000001"), "the pod's packet comes in", Some(1450)), routed];
    leg("n1", steps, End::Leaves { node: "n2".parse().unwrap(), outer: Some(outer()) })
}

fn outer() -> Outer {
    Outer { source: [192, 168, 9, 1].into(), destination: [192, 168, 9, 2].into(), vni: 7777, port: 4789 }
}

fn report(legs: Vec<Leg>, back: Vec<Leg>) -> Trace {
    let (from, to) = (spot("pod shop/a", "10.42.1.1", "n1"), spot("pod shop/b", "10.42.2.9", "n2"));
    let path = Path::new(packet(), &from, Some(&to), legs, back);
    Trace::new("shop/a".to_owned(), "shop/b".to_owned(), vec![path])
}

const SENT: &str = "\
From pod shop/a (10.42.1.1) to pod shop/b (10.42.2.9), tcp port 80, 1400 bytes:

node n1
   1  tw0000000000001  the pod's packet comes in, up to 1450 bytes
   2  -                routed to node n2
                         route 10.42.2.0/26 via 10.42.2.0 dev vxlan.twill
";

#[test]
fn a_packet_that_arrives_is_told_there_and_back_with_the_steps_counted_on() {
    let to = || "the pod behind it".to_owned();
    let delivered =
        |node: &str| leg(node, vec![step(Some("eth0"), "delivered", Some(1440))], End::Delivered { to: to() });
    let told = report(vec![sends(), delivered("n2")], vec![delivered("n1")]);
    assert_eq!(told.verdict(), Verdict::Good);
    let rest = "
node n2
   3  eth0             delivered, up to 1440 bytes

As far as both ends can tell the packet arrives; packets of up to 1440 bytes pass

The reply:

node n1
   4  eth0             delivered, up to 1440 bytes

As far as both ends can tell the reply arrives
";
    assert_eq!(trace(&told), format!("{SENT}{rest}"));
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!((&json["paths"][0]["there"], &json["paths"][0]["mtu"]), (&"arrives".into(), &1440.into()));
    assert_eq!((&json["paths"][0]["destination"], &json["problems"]), (&"10.42.2.9".into(), &serde_json::json!([])));
}

#[test]
fn a_step_that_is_broken_is_marked_and_its_cause_and_fix_come_last() {
    let neighbour =
        Object { kind: "neighbour".to_owned(), expected: Some("10.42.2.9 lladdr x".to_owned()), found: None };
    let broken = Step {
        objects: vec![neighbour],
        state: State::Broken,
        cause: Some("the neighbour is missing".to_owned()),
        fix: Some("put it back".to_owned()),
        ..step(Some("tw2"), "delivered to the pod", None)
    };
    let told = report(vec![sends(), leg("n2", vec![broken], End::Lost)], Vec::new());
    assert_eq!(told.verdict(), Verdict::Problems);
    let rest = "
node n2
   3  tw2              delivered to the pod  (BROKEN)
                         neighbour expected: 10.42.2.9 lladdr x
                         neighbour found:    none
                         the neighbour is missing

The packet does not arrive

PROBLEM node n2: the neighbour is missing
    fix: put it back
";
    assert_eq!(trace(&told), format!("{SENT}{rest}"));
}

#[test]
fn what_a_silent_node_is_to_do_is_told_and_leaves_it_open() {
    let (two, one) = ("n2".parse().unwrap(), "n1".parse().unwrap());
    let silence = Silence::Timeout(Duration::from_secs(1));
    let to = spot("pod shop/b", "10.42.2.9", "n2");
    let silent = Leg::expected_to_receive(two, &one, Some(&outer()), Some(&to), &silence);
    let told = report(vec![sends(), silent], Vec::new());
    assert_eq!(told.verdict(), Verdict::Unknown);
    let rest = "
node n2, as is expected of it: no answer within 1 s
   3  -                it is to come in from n1 (192.168.9.1) in UDP to port 4789, identifier 7777  (UNKNOWN)
   4  tw0000000000002  it is to be delivered to pod shop/b (10.42.2.9)  (UNKNOWN)

It cannot be told whether the packet arrives

COULD NOT TELL: what node n2 does: no answer within 1 s; what is told is what its records promise
    fix: try again, with a longer --timeout; if it never answers, look at twilld on n2, and at etcd's roles (docs/etcd.md)
";
    assert_eq!(trace(&told), format!("{SENT}{rest}"));
    let dead = |from: &str| {
        Leg::expected_to_receive("n2".parse().unwrap(), &from.parse().unwrap(), None, None, &Silence::Dead)
    };
    let told = report(vec![sends(), dead("n1")], vec![dead("n1")]);
    assert_eq!(told.verdict(), Verdict::Problems);
    let [dead] = told.problems.as_slice() else { panic!("{:?}", told.problems) };
    assert!(dead.line().starts_with("node n2: its daemon has not been heard of"), "{dead:?}");
}

#[test]
fn a_node_that_sends_on_what_it_is_to_deliver_is_a_problem() {
    let on = leg("n2", Vec::new(), End::Leaves { node: "n3".parse().unwrap(), outer: None });
    let told = report(vec![sends(), on], Vec::new());
    assert_eq!((told.verdict(), told.problems.len()), (Verdict::Problems, 1));
    assert_eq!(told.problems[0].what, "it sends on to node n3 what it was to deliver");
}

#[test]
fn what_is_odd_is_a_note_and_no_problem() {
    let odd = Step {
        state: State::Odd,
        cause: Some("in fragments".to_owned()),
        fix: Some("another MTU".to_owned()),
        ..step(Some("eth0"), "leaves", None)
    };
    let told = report(vec![leg("n1", vec![odd], End::Outside)], Vec::new());
    assert_eq!(told.verdict(), Verdict::Good);
    let text = trace(&told);
    assert!(
        text.ends_with("the packet leaves the cluster\n\nNOTE node n1: in fragments\n    fix: another MTU\n"),
        "{text}"
    );
}
