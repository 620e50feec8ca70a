//! The runtime: whom it has attached, detached and collected, and whom it forgets.

use std::collections::HashSet;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use twill_attach::course::add::{Wanted, add};
use twill_attach::course::del::{Unwanted, del};
use twill_attach::course::gc::gc;
use twill_conf::network::{Bandwidth, Shape};
use twill_ipam::store::Reservation;
use twill_ipam::sweep::Collection;
use twill_ipam::{Extras, Key, KeyHash};
use twill_linux::{IfName, MacAddr};

use super::processes::Answer;
use super::{SUBNET, World};
use crate::board::Kind;
use crate::hands::Pod;

pub(super) fn key(container: u8) -> Key {
    let container = format!("c{container}").parse().unwrap();
    Key { network: "net".parse().unwrap(), container, ifname: "eth0".parse().unwrap() }
}

fn netns(container: u8, other: bool) -> PathBuf {
    format!("/run/netns/c{container}{}", if other { "b" } else { "a" }).into()
}

/// Every second container has a limit for what it sends: by a device that outlives its link.
fn extras(container: u8) -> Extras {
    let egress = Some(Shape { rate: 8_000_000, burst: None });
    let bandwidth = (container % 2 == 1).then_some(Bandwidth { ingress: None, egress });
    Extras { bandwidth, ..Extras::default() }
}

impl World {
    pub(super) fn add(&mut self, container: u8, other: bool, steps: u32) {
        let instance = {
            let mut board = self.board.lock();
            let serial = board.serial();
            *board.namespaces.entry((container, other)).or_insert(serial)
        };
        let pod = Pod { path: (container, other), instance };
        let (run_dir, key, netns, extras) =
            (self.run_dir(), key(container), netns(container, other), extras(container));
        let (board, alone) = (self.board.clone(), self.alone);
        self.begin(Kind::Add, Some(key.hash()), Some(pod), steps, move |hands| {
            let subnets: Vec<IpNetwork> = if alone { vec![SUBNET.parse().unwrap()] } else { Vec::new() };
            let (began, hash) = (board.lock().now, key.hash());
            let wanted = Wanted {
                run_dir: &run_dir,
                reservation: Reservation {
                    key: &key,
                    netns: &netns,
                    pod: None,
                    subnets: &subnets,
                    pools: &[],
                    requested: &[],
                },
                hash,
                extras: &extras,
                ifname: IfName::new("eth0").unwrap(),
                mac: MacAddr(hash.pod_mac()),
                answers: false,
                filtered: false,
                mtu: None,
                routes: &[],
                began,
                ring: &|| board.lock().heard,
            };
            Answer::Added(add(hands, &wanted).map(|made| made.plan.addresses))
        });
    }

    pub(super) fn del(&mut self, container: u8, steps: u32) {
        let (run_dir, hash) = (self.run_dir(), key(container).hash());
        if !self.is_crowded() {
            self.board.lock().oracle.excuse(hash);
        }
        self.begin(Kind::Del, Some(hash), None, steps, move |hands| {
            Answer::Deleted(del(hands, &Unwanted { run_dir: &run_dir, hash, netns: None }))
        });
    }

    pub(super) fn gc(&mut self, steps: u32) {
        let run_dir = self.run_dir();
        let board = self.board.clone();
        let valid: HashSet<KeyHash> = board.lock().oracle.lives.keys().copied().collect();
        self.begin(Kind::Gc, None, None, steps, move |hands| {
            let (network, began) = ("net".parse().unwrap(), board.lock().now);
            drop(gc(hands, &run_dir, &Collection { network: &network, valid: &valid, began }));
            Answer::Collected
        });
    }

    pub(super) fn forget(&mut self, container: u8) {
        let mut board = self.board.lock();
        if board.destroy(container, false) | board.destroy(container, true) {
            board.count("fault: namespace gone without a DEL");
        }
    }
}
