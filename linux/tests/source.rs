//! The filter of a pod's sources on a device of the kernel: it is made, known again, and kept, and nothing is done to what others filter.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::process::Command;

use lab::{Namespace, name};
use twill_linux::table::link::{self, Device};
use twill_linux::table::source::{self, Filter, Sources};
use twill_linux::{MacAddr, Netlink};

/// A program of one instruction, which lets everything pass.
const OPEN: &str = "bpf da bytecode '1,6 0 0 4294967295'";

fn own(addresses: &[&str]) -> Sources {
    Sources(addresses.iter().map(|address| address.parse().unwrap()).collect())
}

/// Has a shell do it in the node, and gives what it says.
fn run(node: &Namespace, script: &str) -> String {
    let output = Command::new("ip").args(["netns", "exec", &node.name, "sh", "-euc", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The filters, as tc prints them.
fn shown(node: &Namespace) -> String {
    run(node, "tc filter show dev tw0 ingress")
}

fn pair(node: &Namespace, pod: &Namespace, sources: Option<Sources>) -> (Netlink, Device) {
    let end = |text: &str, last| link::VethEnd { name: name(text), mac: MacAddr([2, 0, 0, 0, 0, last]), index: 0 };
    let (alias, ipv4) = (None, Vec::new());
    let veth = link::Veth { host: end("tw0", 1), peer: end("eth0", 2), mtu: 1500, alias, ipv4, sources };
    let mut netlink = node.netlink();
    let made = veth.make(&mut netlink, &pod.open()).unwrap();
    assert_eq!(made.filtered, veth.sources.is_some());
    let index = made.pair.host;
    (netlink, Device { index, name: name("tw0") })
}

#[test]
fn a_filter_that_is_lost_or_another_is_put_back_before_all_others_and_theirs_stay() {
    let (Some(node), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let sources = own(&["10.42.0.5", "fd00::5"]);
    let (mut netlink, device) = pair(&node, &pod, Some(sources.clone()));
    let whole = shown(&node);
    let look = |netlink: &mut Netlink, sources: &Sources| source::look(netlink, device.index, sources).unwrap();
    assert_eq!(look(&mut netlink, &sources), Filter::Stands);
    let another = format!("handle 0x74770001 {OPEN}");
    for (damage, expected) in [
        ("tc filter del dev tw0 ingress pref 1".to_owned(), false),
        (format!("tc filter replace dev tw0 ingress protocol all pref 1 {another}"), true),
        // One that says what becomes of packets by a class.
        (
            format!(
                "tc filter del dev tw0 ingress pref 1; tc filter add dev tw0 ingress protocol all pref 1 {another}"
            )
            .replace(" da ", " "),
            true,
        ),
    ] {
        run(&node, &damage);
        assert_ne!(shown(&node), whole, "{damage}");
        assert_eq!(look(&mut netlink, &sources), Filter::Lost, "{damage}");
        assert_eq!(source::put_back(&mut netlink, device, &sources).unwrap(), expected, "{damage}");
        assert_eq!(shown(&node), whole, "{damage}");
        assert_eq!(look(&mut netlink, &sources), Filter::Stands, "{damage}");
    }
    // Somebody else's, asked first as it was added last; another one behind.
    run(&node, &format!("tc filter add dev tw0 ingress protocol all pref 1 {OPEN}"));
    run(&node, &format!("tc filter add dev tw0 ingress protocol all pref 7 {OPEN}"));
    assert_eq!(look(&mut netlink, &sources), Filter::Lost);
    assert!(source::put_back(&mut netlink, device, &sources).unwrap());
    assert_eq!(look(&mut netlink, &sources), Filter::Stands);
    let shown = shown(&node);
    assert!(shown.contains("handle 0x1 ") && shown.contains("pref 7"), "{shown}");
    // A pod that is attached anew under the same name has other addresses.
    let other = own(&["10.42.0.6"]);
    assert_eq!(look(&mut netlink, &other), Filter::Lost);
    assert!(source::put_back(&mut netlink, device, &other).unwrap());
    assert_eq!([&other, &sources].map(|wanted| look(&mut netlink, wanted)), [Filter::Stands, Filter::Lost]);
}

#[test]
fn where_it_has_no_hooks_of_its_own_or_others_stand_in_its_place_it_is_not_lost_but_absent() {
    let (Some(node), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let sources = own(&["10.42.0.5"]);
    let (mut netlink, device) = pair(&node, &pod, None);
    let mut expect_absent = |why: &str| {
        let found = source::look(&mut netlink, device.index, &sources).unwrap();
        assert_eq!(found, Filter::Absent, "{why}");
    };
    expect_absent("no hooks");
    run(&node, "tc qdisc add dev tw0 ingress");
    expect_absent("those of another plugin");
    run(&node, "tc qdisc del dev tw0 ingress");
    run(&node, "tc qdisc add dev tw0 clsact");
    run(&node, "tc filter add dev tw0 ingress protocol all pref 1 u32 match u32 0 0 flowid 1:1");
    expect_absent("a filter of another kind in its place");
}
