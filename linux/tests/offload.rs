//! Checksums that are left to the hardware, or not, against a real kernel.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::collections::{BTreeMap, BTreeSet};

use lab::{Namespace, name};
use twill_linux::state::{KernelState, Ownership};
use twill_linux::table::{Outcome, complete, reconcile};

const DEVICE: &str = "vx";

/// What `ethtool -k` shows, where it is installed.
fn shown(namespace: &Namespace) -> Option<String> {
    let features = namespace.run(&format!("ethtool -k {DEVICE}"));
    let features = String::from_utf8(features.stdout).unwrap();
    features.lines().find(|line| line.starts_with("tx-checksumming:")).map(str::to_owned)
}

fn repairs(outcome: Outcome) -> Vec<String> {
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    outcome.repairs.iter().map(ToString::to_string).collect()
}

#[test]
fn checksums_are_left_to_the_hardware_or_not_as_is_wanted_and_otherwise_let_be() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.ip(&format!("link add {DEVICE} type vxlan id 7 dstport 4789 local 192.0.2.1"));
    let mut netlink = namespace.netlink();
    let nobodys = Ownership::default();
    let at_first = shown(&namespace);
    for (on, word) in [(false, "off"), (true, "on"), (false, "off")] {
        let wanted = KernelState { offloads: BTreeMap::from([(name(DEVICE), on)]), ..KernelState::default() };
        assert!(
            repairs(complete(&mut netlink, &wanted, &nobodys, &BTreeSet::new()).unwrap()).is_empty(),
            "it stands, if otherwise"
        );
        let made = repairs(reconcile(&mut netlink, &wanted, &nobodys).unwrap());
        let was = if on { "off" } else { "on" };
        assert_eq!(made, [format!("offload: changed {DEVICE} tx {word} (was {was})")]);
        assert!(repairs(reconcile(&mut netlink, &wanted, &nobodys).unwrap()).is_empty(), "it stands");
        if at_first.is_some() {
            assert_eq!(shown(&namespace), Some(format!("tx-checksumming: {word}")));
        }
    }
    for wanted in [BTreeMap::new(), BTreeMap::from([(name("gone"), true)])] {
        let wanted = KernelState { offloads: wanted, ..KernelState::default() };
        assert!(repairs(reconcile(&mut netlink, &wanted, &nobodys).unwrap()).is_empty(), "{:?}", wanted.offloads);
    }
}
