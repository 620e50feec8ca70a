//! Back ends that are switched while nodes look, reconcile and write in any order, and learn of each other by BGP at any time: nobody
//! sends what the other one cannot receive, and nobody is without a way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use twill_cluster::View;
use twill_conf::cluster::{Backend, Kind, Vxlan};
use twill_ipam::Block;
use twill_linux::IfName;
use twill_linux::state::{KernelState, LinkKind, METRIC, RouteKey, Target};

use super::sample::{Sample, mac, name};
use super::{Learned, Local, Reckoning};
use crate::ends::{Ends, Known, Standing};

/// Each with a block of either family.
const NODES: u16 = 3;

/// One node, with what it has seen and done.
struct Node {
    local: Local,
    view: View,
    kernel: KernelState,
    standing: Option<Standing>,
    ends: Ends,
    /// What BGP would tell it of the others, and whether it has.
    told: Learned,
    is_told: bool,
}

/// A cluster on its way.
struct World {
    /// What can be configured.
    backends: &'static [Named],
    /// As it stands in etcd.
    etcd: View,
    nodes: Vec<Node>,
    now: Instant,
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The node hears of all that was written.
    Look(usize),
    /// It brings its kernel to what it knows; or all but the removals, where something is refused.
    Pass(usize, bool),
    /// It writes its record.
    Say(usize),
    /// All three in turn.
    Round(usize, bool),
    /// The operator applies another configuration.
    Apply(usize),
    /// The node learns by BGP where all blocks are.
    Learn(usize),
    /// Some time passes.
    Wait(u8),
}

/// A back end.
#[derive(Debug, Clone, Copy)]
enum Named {
    Vxlan,
    Direct,
    HostGw,
    Bgp,
}

/// Where all nodes are on one subnet.
const TOGETHER: [Named; 4] = [Named::Vxlan, Named::Direct, Named::HostGw, Named::Bgp];
/// Where each has a subnet of its own.
const APART: [Named; 3] = [Named::Vxlan, Named::Direct, Named::Bgp];

fn kind(named: Named) -> Kind {
    match named {
        Named::Vxlan => Kind::Vxlan(Vxlan::default()),
        Named::Direct => Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() }),
        Named::HostGw => Kind::HostGw,
        Named::Bgp => Kind::Bgp,
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..usize::from(NODES);
    let step = prop_oneof![
        2 => node().prop_map(Step::Look),
        2 => (node(), prop::bool::weighted(0.7)).prop_map(|(node, whole)| Step::Pass(node, whole)),
        2 => node().prop_map(Step::Say),
        9 => (node(), prop::bool::weighted(0.7)).prop_map(|(node, whole)| Step::Round(node, whole)),
        2 => (0..TOGETHER.len()).prop_map(Step::Apply),
        1 => node().prop_map(Step::Learn),
        3 => (5..15u8).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

impl World {
    /// All of them at rest.
    fn new(backends: &'static [Named], first: usize) -> Self {
        let apart = backends.len() == APART.len();
        let backend = kind(backends[first]);
        let is_told = backend == Kind::Bgp;
        let mut sample = Sample::new(&["10.42.0.0/16", "fd42::/64"]);
        for number in 1..=NODES {
            let subnet = if apart { 10 + number } else { 9 };
            sample = sample
                .node(number, &[&format!("192.168.{subnet}.{number}/24"), &format!("fd{subnet}::{number}/64")])
                .but(number, |record| record.value.vxlan = None)
                .block(number, &format!("10.42.{number}.0/26"))
                .block(number, &format!("fd42::{number}00/122"));
        }
        let nodes = (1..=NODES).map(|number| Node {
            local: sample.local(number, &[]),
            view: View::default(),
            kernel: KernelState::default(),
            standing: None,
            ends: Ends::new(mac(number)),
            told: told(&sample, number),
            is_told,
        });
        let mut world = Self { backends, nodes: nodes.collect(), etcd: sample.view.clone(), now: Instant::now() };
        world.etcd.config.as_mut().unwrap().value.backend = Backend { kind: backend, mtu: None };
        world.settle();
        world
    }

    /// Everything happens that can.
    fn settle(&mut self) {
        for _ in 0..6 {
            for node in 0..self.nodes.len() {
                [Step::Look(node), Step::Pass(node, true), Step::Say(node)]
                    .into_iter()
                    .for_each(|step| self.take(step));
            }
            self.take(Step::Wait(11));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Look(node) => self.nodes[node].view = self.etcd.clone(),
            Step::Pass(node, whole) => self.nodes[node].pass(whole),
            Step::Say(node) => self.say(node),
            Step::Round(node, whole) => {
                [Step::Look(node), Step::Pass(node, whole), Step::Say(node)]
                    .into_iter()
                    .for_each(|step| self.take(step));
            }
            Step::Apply(at) => {
                let backend = kind(self.backends[at % self.backends.len()]);
                self.etcd.config.as_mut().unwrap().value.backend.kind = backend;
                self.etcd.revision += 1;
            }
            Step::Learn(node) => self.nodes[node].is_told = true,
            Step::Wait(seconds) => self.now += Duration::from_secs(seconds.into()),
        }
    }

    /// Only the node writes its record, so what it knows of it is what stands.
    fn say(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let (Some(config), name) = (&node.view.config, &node.local.name) else { return };
        let own = node.view.nodes.get(name).map(|record| &record.value);
        let known =
            Known { own, config: Some(&config.value), standing: node.standing, nodes: 3, mtu: 1500, connected: false };
        let (vxlan, path) = node.ends.say(known, self.now);
        let record = Arc::make_mut(self.etcd.nodes.get_mut(name).unwrap());
        if (&record.value.vxlan, record.value.path) != (&vxlan, path) {
            (record.value.vxlan, record.value.path) = (vxlan, path);
            self.etcd.revision += 1;
            record.modified = self.etcd.revision;
        }
    }

    /// Every pair has a way, and one that is understood.
    fn check(&self) -> Result<(), String> {
        for (at, node) in self.nodes.iter().enumerate() {
            for (to, peer) in self.nodes.iter().enumerate().filter(|(to, _)| *to != at) {
                for block in &peer.local.blocks {
                    let pair = format!("from {} to {block} of {}", node.local.name, peer.local.name);
                    let key = RouteKey { destination: block.cidr(), metric: METRIC };
                    let Some(route) = node.kernel.routes.get(&key) else { return Err(format!("no route {pair}")) };
                    if let Target::Gateway { device, .. } = route.target
                        && device == tunnel()
                    {
                        let mac = mac(u16::try_from(to + 1).unwrap());
                        let there = node.kernel.fdb.contains_key(&(device, mac));
                        if !there || node.device().is_none() || node.device() != peer.device() {
                            return Err(format!("what is sent {pair} is not received"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Node {
    fn pass(&mut self, whole: bool) {
        if self.view.config.is_none() {
            return;
        }
        let nothing = Learned::default();
        let learned = if self.is_told { &self.told } else { &nothing };
        let wanted = Reckoning::default().follow(&self.view, &self.local, learned);
        let before = std::mem::replace(&mut self.kernel, wanted.state);
        if !whole {
            // The kernel refused to take routes out of the tunnel, and with it stays what they lead through.
            let stuck = before
                .routes
                .iter()
                .filter(|(_, route)| matches!(route.target, Target::Gateway { device, .. } if device == tunnel()));
            let stuck: Vec<_> = stuck.map(|(key, route)| (*key, route.clone())).collect();
            if !stuck.is_empty() {
                self.kernel.routes.extend(stuck);
                self.kernel.links.extend(before.links);
                self.kernel.fdb.extend(before.fdb);
            }
        }
        self.standing = Some(Standing { vxlan: wanted.vxlan, routed: whole, pods: 0 });
    }

    fn device(&self) -> Option<(u32, u16)> {
        self.kernel.links.get(&tunnel()).map(|link| {
            let LinkKind::Vxlan { vni, port, .. } = link.kind;
            (vni, port)
        })
    }
}

/// All blocks of the others, by way of a router.
fn told(sample: &Sample, number: u16) -> Learned {
    let device = IfName::new("eth0").unwrap();
    let others = sample.view.blocks.iter().filter(|(_, record)| record.value.node != name(number));
    let route = |(block, _): (&Block, _)| {
        let gateway = if block.cidr().is_ipv4() { "192.168.0.254" } else { "fd00::254" }.parse().unwrap();
        (block.cidr(), Target::Gateway { gateway, device, onlink: false })
    };
    Learned { routes: others.map(route).collect(), ..Learned::default() }
}

fn tunnel() -> IfName {
    crate::vxlan::devices()[0]
}

#[test]
fn a_promise_that_is_withdrawn_while_somebody_takes_it_up_is_kept() {
    let [n1, n2, n3] = [0, 1, 2];
    let mut world = World::new(&TOGETHER, 0);
    // n2 cannot take its routes out of the tunnel, so n3 keeps its end; nobody else sends, and n2 waits to withdraw its own.
    let to_plain =
        [Step::Apply(2), Step::Round(n1, true), Step::Round(n3, true), Step::Round(n2, false), Step::Wait(10)];
    // n3 hears of the way back and sends; n2, which has heard of nothing, withdraws.
    let and_back = [Step::Apply(0), Step::Round(n3, false), Step::Round(n3, false), Step::Say(n2)];
    // Now n2 hears of another configuration that has no tunnel, and of n3's word.
    let and_forth = [Step::Apply(2), Step::Round(n2, true)];
    for step in to_plain.into_iter().chain(and_back).chain(and_forth) {
        world.take(step);
        assert_eq!(world.check(), Ok(()), "after {step:?}");
    }
}

#[test]
fn a_route_that_bgp_has_learned_is_no_less_than_a_tunnel_of_which_nothing_was_said() {
    let [n1, n2, n3] = [0, 1, 2];
    let mut world = World::new(&APART, 0);
    let nodes = [n1, n2, n3];
    let rounds = nodes.into_iter().chain(nodes).map(|node| Step::Round(node, true));
    let to_bgp = nodes.into_iter().map(Step::Learn).chain([Step::Apply(2)]).chain(rounds).chain([Step::Wait(11)]);
    // n1 hears of the way back; n2, which has not, withdraws its end, and then hears of the way forth.
    let and_back = [Step::Apply(0), Step::Look(n1), Step::Pass(n1, true), Step::Say(n2)];
    let and_forth = [Step::Apply(2), Step::Look(n2), Step::Pass(n2, true)];
    for step in to_bgp.chain(and_back).chain(and_forth) {
        world.take(step);
        assert_eq!(world.check(), Ok(()), "after {step:?}");
    }
}

proptest! {
    #[test]
    fn in_whatever_order_nodes_switch_nobody_sends_what_the_other_cannot_receive(
        together in any::<bool>(),
        first in 0..4usize,
        steps in steps(),
    ) {
        let backends = if together { &TOGETHER[..] } else { &APART[..] };
        let mut world = World::new(backends, first % backends.len());
        world.check().unwrap();
        for (at, step) in steps.iter().enumerate() {
            world.take(*step);
            let told = world.check();
            prop_assert!(told.is_ok(), "after {:?}: {}", &steps[..=at], told.unwrap_err());
        }
        (0..world.nodes.len()).for_each(|node| world.take(Step::Learn(node)));
        world.settle();
        prop_assert_eq!(world.check(), Ok(()));
        let tunnelled = world.etcd.config.as_ref().unwrap().value.backend.kind.vxlan().is_some();
        let direct = world.etcd.config.as_ref().unwrap().value.backend.kind.vxlan().is_some_and(|vxlan| vxlan.direct);
        for node in &world.nodes {
            prop_assert_eq!(node.device().is_some(), tunnelled, "what nobody needs goes");
            let by_tunnel = node.kernel.routes.values().filter(|route| {
                matches!(route.target, Target::Gateway { device, .. } if device == tunnel())
            });
            let all = 2 * usize::from(NODES - 1);
            prop_assert_eq!(by_tunnel.count(), if tunnelled && !(direct && together) { all } else { 0 });
        }
    }
}
