//! Many speakers over links in memory, each in its own order.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Speakers, each with a prefix of its own, and what is on its way from one to another.
struct Net {
    ribs: Vec<Rib>,
    links: BTreeMap<(usize, usize), VecDeque<Batch>>,
}

fn speaker(n: usize) -> u8 {
    u8::try_from(n + 1).unwrap()
}

fn prefix(n: usize) -> IpNetwork {
    net(&format!("10.42.{n}.0/24"))
}

impl Net {
    /// `kind` says what the second speaker is to the first, where they have a session. External speakers each are their own AS.
    fn new(count: usize, kind: impl Fn(usize, usize) -> Option<Kind>) -> Self {
        let pairs: Vec<_> = (0..count).flat_map(|a| (0..count).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
        let external = pairs.iter().any(|(a, b)| kind(*a, *b).is_some_and(Kind::is_external));
        let asn = |n: usize| Asn(if external { 65000 + u32::from(speaker(n)) } else { 64512 });
        let rib =
            |n: usize| Rib::new(Identity { asn: asn(n), ..identity(speaker(n)) }, Multipath::default(), Start::Cold);
        let mut net_of = Self { ribs: (0..count).map(rib).collect(), links: BTreeMap::new() };
        for n in 0..count {
            net_of.ribs[n].set_reach([(net("192.0.2.0/24"), Some(0))].into_iter().collect());
            net_of.ribs[n].originate(prefix(n), &through(&[]));
        }
        for (a, b) in pairs {
            let Some(kind) = kind(a, b) else { continue };
            let n = speaker(b);
            net_of.ribs[a].configure(id(n), Peer { asn: PeerAs::Is(asn(b)), local_as: asn(a), ..peer(n, kind) });
            // No shared subnet: each hop is the next hop, so that loops would show.
            net_of.ribs[a].up(id(n), Session { asn: asn(b), links: vec![], ..session(speaker(a), n) }, NOW);
            net_of.links.insert((a, b), VecDeque::new());
        }
        net_of
    }

    /// Lets one link make a step: what is to be sent is put on it, or what is on it arrives. Returns whether there was anything.
    fn step(&mut self, (a, b): (usize, usize), send: bool) -> bool {
        let link = self.links.get_mut(&(a, b)).unwrap();
        if send && self.ribs[a].is_dirty(id(speaker(b))) {
            link.extend(self.ribs[a].drain(id(speaker(b)), 2));
            return true;
        }
        let Some(batch) = link.pop_front() else { return false };
        match batch {
            Batch::Withdraw { routes } => self.ribs[b].forget(id(speaker(a)), &routes),
            Batch::Advertise { attributes, next_hop, routes } => {
                assert_eq!(self.ribs[b].learn(id(speaker(a)), &attributes, next_hop, &routes), []);
            }
            Batch::EndOfRib(family) => self.ribs[b].end_of_rib(id(speaker(a)), family),
        }
        true
    }

    /// In the given order first, then until nothing moves. Each order must end.
    fn settle(&mut self, order: &[(prop::sample::Index, bool)]) {
        let links: Vec<_> = self.links.keys().copied().collect();
        for (index, send) in order {
            self.step(links[index.index(links.len())], *send);
        }
        for _ in 0..10_000 {
            let moved = links.iter().filter(|link| self.step(**link, true)).count();
            if moved == 0 {
                return;
            }
        }
        panic!("the speakers do not come to rest");
    }

    /// The speakers that a packet passes from one to the owner of a prefix, or none where it does not arrive.
    fn way(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut way = vec![from];
        while *way.last()? != to {
            let next_hop = self.ribs[*way.last()?].selected(prefix(to)).first()?.next_hop?;
            let next = (0..self.ribs.len()).find(|n| end(speaker(*n)) == next_hop)?;
            if way.contains(&next) {
                return None;
            }
            way.push(next);
        }
        Some(way)
    }

    fn ways(&self) -> impl Iterator<Item = ((usize, usize), Option<Vec<usize>>)> {
        let all = 0..self.ribs.len();
        all.clone().flat_map(move |a| all.clone().map(move |b| (a, b))).map(|(a, b)| ((a, b), self.way(a, b)))
    }
}

fn orders() -> impl Strategy<Value = Vec<(prop::sample::Index, bool)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_full_mesh_reaches_all_directly(count in 2..7usize, order in orders()) {
        let mut net = Net::new(count, |_, _| Some(Kind::Internal));
        net.settle(&order);
        for ((a, b), way) in net.ways() {
            prop_assert_eq!(way, Some(if a == b { vec![a] } else { vec![a, b] }));
        }
    }

    #[test]
    fn clients_of_any_of_two_reflectors_reach_all_directly(
        homes in prop::collection::vec(0..3u8, 1..6),
        order in orders(),
    ) {
        // Speakers 0 and 1 are reflectors; each other one is a client of the first, the second or both.
        let reflects = |reflector: usize, client: usize| {
            reflector < 2 && client >= 2 && (homes[client - 2] == 2 || usize::from(homes[client - 2]) == reflector)
        };
        let kind = |a: usize, b: usize| match (a < 2, b < 2) {
            (true, true) => Some(Kind::Internal),
            (true, false) => reflects(a, b).then_some(Kind::Client),
            (false, true) => reflects(b, a).then_some(Kind::Internal),
            (false, false) => None,
        };
        let mut net = Net::new(homes.len() + 2, kind);
        net.settle(&order);
        for ((a, b), way) in net.ways() {
            prop_assert_eq!(way, Some(if a == b { vec![a] } else { vec![a, b] }));
        }
    }

    #[test]
    fn systems_in_any_graph_reach_each_other_on_shortest_ways_and_forget_who_leaves(
        count in 2..7usize,
        edges in prop::collection::vec((0..7usize, 0..7usize), 0..8),
        order in orders(),
        leaves in 0..7usize,
    ) {
        // A ring, so that all are connected, and some more.
        let near = |a: usize, b: usize| (a + 1) % count == b || (b + 1) % count == a;
        let joined = |a: usize, b: usize| near(a, b) || edges.contains(&(a, b)) || edges.contains(&(b, a));
        let mut net = Net::new(count, |a, b| joined(a, b).then_some(SINGLE));
        net.settle(&order);
        for ((a, b), way) in net.ways() {
            let length = way.as_ref().map(|way| way.len() - 1);
            prop_assert!(length.is_some(), "{a} does not reach {b}");
            let path = net.ribs[a].selected(prefix(b))[0].attributes.as_path.length();
            prop_assert_eq!(length, Some(path), "the way is what the path says");
            prop_assert!(path <= 1 || !joined(a, b));
        }
        let leaves = leaves % count;
        net.ribs[leaves].retract(prefix(leaves));
        net.settle(&order);
        for rib in &net.ribs {
            prop_assert_eq!(rib.selected(prefix(leaves)), vec![]);
            prop_assert_eq!(rib.routes().count(), count - 1);
        }
    }
}
