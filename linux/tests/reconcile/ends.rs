//! Host ends of pods: kept as they shall be, never made nor removed.

use super::*;
use twill_linux::state::HostEnd;

const MAC: &str = "02:74:77:00:00:01";

/// What a node has of one pod.
fn of_pod() -> KernelState {
    let mut state = desired("192.0.2.1", "192.0.2.2");
    state.ends.insert(name(POD), HostEnd { name: name(POD), mac: mac(MAC), mtu: 1450 });
    state
}

#[test]
fn a_host_end_that_was_set_down_or_changed_is_put_right_with_all_that_was_on_it() {
    let Some(mut node) = Node::new() else { return };
    let desired = of_pod();
    node.settle(&desired);
    node.ip("link add br0 type bridge");
    let damages = [
        ("link set POD down", 4, "mtu 1450 address MAC type veth, down"),
        ("link set POD address 02:00:00:00:00:77", 2, "mtu 1450 address 02:00:00:00:00:77 type veth"),
        ("link set POD mtu 1400", 0, "mtu 1400 address MAC type veth"),
    ];
    for (damage, lost, was) in damages {
        node.ip(&damage.replace("POD", POD));
        let repairs = node.settle(&desired);
        let was = was.replace("MAC", MAC);
        let told = format!("changed link: {POD} mtu 1450 address {MAC} up (was {POD} {was})");
        // Routes and neighbours of both families go with a device that is down, neighbours with its MAC.
        assert_eq!((repairs[0].as_str(), repairs.len() - 1), (told.as_str(), lost), "{damage}: {repairs:?}");
    }
    // By a bridge or a VRF, or where it does not forward, the pod's packets would not be the node's.
    node.ip(&format!("link set {POD} master br0"));
    assert!(node.settle(&desired)[0].contains("type veth master #"));
    node.namespace.must(&format!("sysctl -qw net/ipv4/conf/{POD}/forwarding=0"));
    assert!(node.settle(&desired)[0].ends_with("type veth, does not forward IPv4)"));
    assert_eq!(node.namespace.must(&format!("sysctl -n net/ipv4/conf/{POD}/forwarding")).trim(), "1");
    let shown = node.ip(&format!("link show {POD}"));
    assert!(shown.contains("mtu 1450") && shown.contains(MAC) && shown.contains("UP"), "{shown}");
}

#[test]
fn by_a_state_from_the_disk_host_ends_are_kept_too() {
    let Some(mut node) = Node::new() else { return };
    let desired = of_pod();
    node.settle(&desired);
    node.ip(&format!("link set {POD} down"));
    let outcome = complete(&mut node.netlink, &desired, &node.ours, &BTreeSet::new()).unwrap();
    assert_eq!((outcome.repairs.len(), outcome.errors.len()), (5, 0), "{outcome:?}");
}

#[test]
fn what_is_no_veth_or_not_there_is_left_alone() {
    let Some(mut node) = Node::new() else { return };
    let end = |device: &str| HostEnd { name: name(device), mac: mac(MAC), mtu: 1400 };
    node.ip("link add tw00000000000bb type bridge");
    let mut desired = of_pod();
    desired.ends.extend(["tw00000000000bb", "tw00000000000cc"].map(|device| (name(device), end(device))));
    node.settle(&desired);
    let shown = node.ip("link show tw00000000000bb");
    assert!(shown.contains("mtu 1500") && !shown.contains(MAC), "{shown}");
    assert!(!node.namespace.must("ip link show").contains("tw00000000000cc"));
}
