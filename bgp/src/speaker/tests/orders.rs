//! Whatever happens, and in whatever order: in the end all is as in a network that began with the end.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::policy::{Filter, Otherwise, Policy, Prefixes, Range};

#[derive(Debug, Clone)]
enum Happens {
    Originate(Index, u8),
    Retract(Index, u8),
    Break(Index, Index),
    Cut(Index, Index),
    Heal(Index, Index),
    Reset(Index, Index),
    Refresh(Index, Index),
    /// A node's filter for all its peers is on or off.
    Filter(Index, bool),
    /// A node has a session with another, or has not.
    Configure(Index, Index, bool),
    Stall(Index, bool),
    /// A node's speaker is killed and starts again, with or without the kernel's routes.
    Restart(Index, bool),
    /// So many things happen.
    Some(u8),
    Pass(u16),
}

fn happenings() -> impl Strategy<Value = Vec<Happens>> {
    let node = any::<Index>;
    let pair = || (node(), node());
    let one = prop_oneof![
        4 => (node(), 0..6u8).prop_map(|(node, prefix)| Happens::Originate(node, prefix)),
        2 => (node(), 0..6u8).prop_map(|(node, prefix)| Happens::Retract(node, prefix)),
        1 => pair().prop_map(|(one, other)| Happens::Break(one, other)),
        1 => pair().prop_map(|(one, other)| Happens::Cut(one, other)),
        1 => pair().prop_map(|(one, other)| Happens::Heal(one, other)),
        1 => pair().prop_map(|(one, other)| Happens::Reset(one, other)),
        1 => pair().prop_map(|(one, other)| Happens::Refresh(one, other)),
        1 => (node(), any::<bool>()).prop_map(|(node, on)| Happens::Filter(node, on)),
        1 => (node(), node(), any::<bool>()).prop_map(|(one, other, on)| Happens::Configure(one, other, on)),
        1 => (node(), any::<bool>()).prop_map(|(node, on)| Happens::Stall(node, on)),
        1 => (node(), any::<bool>()).prop_map(|(node, kept)| Happens::Restart(node, kept)),
        4 => any::<u8>().prop_map(Happens::Some),
        3 => (0..40_000u16).prop_map(Happens::Pass),
    ];
    prop::collection::vec(one, 0..40)
}

/// What is wanted of the nodes.
#[derive(Clone)]
struct Wanted {
    /// Each node is a system of its own, or all are one.
    external: bool,
    /// Systems take any other one for the peer.
    open: bool,
    /// Which have a session, each pair both ways.
    joined: Vec<Vec<bool>>,
    filtered: Vec<bool>,
    own: Vec<Vec<u8>>,
}

fn anycast(prefix: u8) -> IpNetwork {
    net(&format!("203.0.{prefix}.0/24"))
}

impl Wanted {
    fn config(&self, node: usize) -> Config {
        let peers = (0..self.own.len()).filter(|other| self.joined[node][*other]).map(|other| {
            let mut peer =
                if self.external { external(other, asn(other), asn(node)) } else { internal(other, Kind::Internal) };
            if self.external && self.open {
                peer.peer.asn = PeerAs::AnyBut(asn(node));
            }
            let import = if self.filtered[node] {
                Filter::only([Range::all_inside(net("203.0.0.0/23")).unwrap()].into_iter().collect::<Prefixes>())
            } else {
                Filter::all(Otherwise::Accept)
            };
            peer.peer.policy = Some(Arc::new(Policy { import, export: Filter::all(Otherwise::Accept) }));
            peer
        });
        let system = if self.external { asn(node) } else { Asn(64512) };
        config_in(node, system, peers.collect::<Vec<_>>())
    }

    fn start(&self, network: &mut Network, node: usize, begin: Begin) {
        network.start(node, self.config(node), begin);
        for prefix in &self.own[node] {
            network.step(node, Input::Originate(anycast(*prefix), igp()));
        }
    }

    fn fresh(&self, seed: u64) -> Network {
        let mut network = Network::new(self.own.len(), seed);
        (0..self.own.len()).for_each(|node| self.start(&mut network, node, Begin::Cold));
        network
    }

    fn sessions(&self) -> usize {
        self.joined.iter().flatten().filter(|joined| **joined).count()
    }

    fn play(&mut self, network: &mut Network, happens: &Happens) {
        let count = self.own.len();
        let two =
            |one: &Index, other: &Index| (one.index(count), (one.index(count) + 1 + other.index(count - 1)) % count);
        match happens {
            Happens::Originate(node, prefix) => {
                let node = node.index(count);
                self.own[node].push(*prefix);
                network.step(node, Input::Originate(anycast(*prefix), igp()));
            }
            Happens::Retract(node, prefix) => {
                let node = node.index(count);
                self.own[node].retain(|own| own != prefix);
                network.step(node, Input::Retract(anycast(*prefix)));
            }
            Happens::Break(one, other) => {
                let (one, other) = two(one, other);
                network.break_connections(one, other);
            }
            Happens::Cut(one, other) => {
                let (one, other) = two(one, other);
                network.cut(one, other);
            }
            Happens::Heal(one, other) => {
                let (one, other) = two(one, other);
                network.heal(one, other);
            }
            Happens::Reset(one, other) => {
                let (one, other) = two(one, other);
                network.step(one, Input::Reset(address(other), String::new()));
            }
            Happens::Refresh(one, other) => {
                let (one, other) = two(one, other);
                network.step(one, Input::Refresh(address(other)));
            }
            Happens::Filter(node, on) => {
                let node = node.index(count);
                self.filtered[node] = *on;
                network.configure(node, self.config(node));
            }
            Happens::Configure(one, other, on) => {
                let (one, other) = two(one, other);
                for (node, peer) in [(one, other), (other, one)] {
                    self.joined[node][peer] = *on;
                    network.configure(node, self.config(node));
                }
            }
            Happens::Stall(node, on) => network.stall(node.index(count), *on),
            Happens::Restart(node, kept) => {
                let node = node.index(count);
                network.kill(node);
                if !kept {
                    network.nodes[node].kernel.clear();
                }
                let begin = if *kept { Begin::Restarted { kept: PerFamily::both(true) } } else { Begin::Cold };
                self.start(network, node, begin);
            }
            Happens::Some(some) => network.some((*some).into()),
            Happens::Pass(time) => pass(network, Duration::from_millis((*time).into())),
        }
    }
}

fn kernels(network: &Network) -> Vec<Vec<Route>> {
    network.nodes.iter().map(|node| node.kernel.values().cloned().collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_ends_as_a_network_that_began_with_its_end(
        count in 2..6usize,
        external in any::<bool>(),
        open in any::<bool>(),
        edges in prop::collection::vec((any::<Index>(), any::<Index>()), 0..6),
        history in happenings(),
        seed in any::<u64>(),
    ) {
        // A ring, and some more; or all with all.
        let near = |one: usize, other: usize| {
            (one + 1) % count == other || edges.get(one).is_some_and(|(_, end)| end.index(count) == other)
        };
        let is_joined = |one: usize, other: usize| one != other && (!external || near(one, other) || near(other, one));
        let joined = (0..count).map(|one| (0..count).map(|other| is_joined(one, other)).collect()).collect();
        let mut wanted = Wanted { external, open, joined, filtered: vec![false; count], own: vec![Vec::new(); count] };
        let mut network = wanted.fresh(seed).shuffled();
        for happens in &history {
            wanted.play(&mut network, happens);
        }
        for node in 0..count {
            network.stall(node, false);
            (0..count).for_each(|other| network.heal(node, other));
        }
        // Longer than all waits for a restart.
        pass(&mut network, Duration::from_mins(12));
        let mut fresh = wanted.fresh(1);
        pass(&mut fresh, Duration::from_mins(1));
        prop_assert_eq!((network.established(), fresh.established()), (wanted.sessions(), wanted.sessions()));
        prop_assert_eq!(kernels(&network), kernels(&fresh));
        let all: Vec<Vec<_>> = (0..count).map(|node| speaker(&network, node).routes().collect()).collect();
        prop_assert_eq!(kernels(&network), all, "changes add up to what is used");
        for node in 0..count {
            let (tables, expected) = (speaker(&network, node).table(), speaker(&fresh, node).table());
            prop_assert_eq!(tables.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "what is said of the routes of {}", node);
            prop_assert!(speaker(&network, node).peers().iter().all(|peer| !peer.is_behind));
        }
    }
}
