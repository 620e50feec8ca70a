//! What stands in the way, or is not there: it is named, what is foreign survives, and the rest is done.

use super::*;

#[test]
fn a_foreign_route_in_the_way_survives_and_is_named() {
    let Some(mut node) = Node::new() else { return };
    let desired = desired("192.0.2.1", "192.0.2.2");
    node.ip("route add 10.42.2.0/26 via 192.0.2.55 dev under proto static metric 7777");
    node.ip("-6 route add fd42:0:0:2::/64 via 2001:db8::55 dev under proto bird metric 7777");
    let outcome = node.reconcile(&desired);
    let texts: Vec<String> = outcome.errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    let expected = "add route 10.42.2.0/26 via 192.0.2.2 dev under proto 116 metric 7777: EEXIST: File exists \
                    (taken by 10.42.2.0/26 via 192.0.2.55 dev under proto 4 metric 7777)";
    assert_eq!(texts[0], expected);
    assert!(
        texts[1].ends_with("(taken by fd42:0:0:2::/64 via 2001:db8::55 dev under proto 12 metric 7777)"),
        "{}",
        texts[1]
    );
    assert!(node.ip("route show 10.42.2.0/26").contains("via 192.0.2.55"));

    let again = node.reconcile(&desired);
    assert_eq!((again.repairs.len(), again.errors.len()), (0, 2));
}

#[test]
fn a_changed_route_never_replaces_a_foreign_one_of_the_same_key() {
    let Some(mut node) = Node::new() else { return };
    let desired = desired("192.0.2.1", "192.0.2.2");
    node.settle(&desired);
    node.ip("route replace 10.42.2.0/26 via 192.0.2.7 dev under proto 116 metric 7777");
    node.ip("route prepend 10.42.2.0/26 via 192.0.2.55 dev under proto static metric 7777");
    let outcome = node.reconcile(&desired);
    assert_eq!(outcome.errors.len(), 1, "{outcome:?}");
    assert_eq!(outcome.errors[0].errno(), Some(Errno::EEXIST));
    let standing = node.ip("route show 10.42.2.0/26");
    assert!(standing.contains("via 192.0.2.55") && standing.contains("proto static"), "{standing}");
}

#[test]
fn a_changed_route_to_which_a_foreign_one_was_appended_is_replaced_and_that_one_survives() {
    let Some(mut node) = Node::new() else { return };
    let desired = desired("192.0.2.1", "192.0.2.2");
    node.settle(&desired);
    node.ip("route replace 10.42.2.0/26 via 192.0.2.7 dev under proto 116 metric 7777");
    node.ip("route append 10.42.2.0/26 via 192.0.2.55 dev under proto static metric 7777");
    let outcome = node.reconcile(&desired);
    assert_eq!((outcome.repairs.len(), outcome.errors.len()), (1, 0), "{outcome:?}");
    let standing = node.ip("route show 10.42.2.0/26");
    let gateways: Vec<_> = standing.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(gateways, ["192.0.2.2", "192.0.2.55"], "{standing}");
    let again = node.reconcile(&desired);
    assert_eq!((again.repairs.len(), again.errors.len()), (0, 0), "{again:?}");
}

#[test]
fn what_lies_on_a_missing_device_is_one_error_and_the_rest_is_done() {
    let Some(mut node) = Node::new() else { return };
    let mut desired = desired("192.0.2.1", "192.0.2.2");
    for host in 1..=20u8 {
        let target = Target::Device(name("tw_gone"));
        route(&format!("10.43.0.{host}/32"), PROTOCOL_POD, target).insert_into(&mut desired.routes);
    }
    let outcome = node.reconcile(&desired);
    assert_eq!(outcome.repairs.len(), 22);
    assert!(matches!(&outcome.errors[..], [Error::NoDevice { .. }]), "{:?}", outcome.errors);
    let expected =
        "add 10.43.0.1/32 dev tw_gone proto 117 metric 7777 and 19 other objects: there is no device tw_gone";
    assert_eq!(outcome.errors[0].to_string(), expected);
}

#[test]
fn a_vni_and_port_that_another_device_has_are_an_error_and_the_rest_is_done() {
    let Some(mut node) = Node::new() else { return };
    node.ip("link add other type vxlan id 7777 dstport 4789 local 192.0.2.1");
    let outcome = node.reconcile(&desired("192.0.2.1", "192.0.2.2"));
    assert_eq!(outcome.errors[0].errno(), Some(Errno::EEXIST), "{:?}", outcome.errors);
    let text = outcome.errors[0].to_string();
    assert!(text.starts_with("add link vxlan.twill mtu 1430"), "{text}");
    assert!(
        outcome.repairs.iter().any(|repair| repair.object.starts_with("10.42.2.0/26 via")),
        "{:?}",
        outcome.repairs
    );
}

#[test]
fn a_sysctl_that_is_not_there_is_an_error_that_names_it() {
    let Some(mut node) = Node::new() else { return };
    let mut desired = KernelState::default();
    desired.sysctls.insert("net/ipv6/conf/none/forwarding".to_owned(), "1".to_owned());
    desired.sysctls.insert("../../tmp/x".to_owned(), "1".to_owned());
    let texts: Vec<String> = node.reconcile(&desired).errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].contains("does not lie below /proc/sys"), "{texts:?}");
    assert!(texts[1].contains("net/ipv6/conf/none/forwarding"), "{texts:?}");
}
