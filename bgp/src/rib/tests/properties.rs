//! What holds of every history.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Two neighbours of other systems, one of our own, one that routes are reflected to and from.
const PEERS: [(u8, Kind); 4] = [(1, SINGLE), (2, SINGLE), (3, Kind::Internal), (4, Kind::Client)];
const PREFIXES: [&str; 4] = ["10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16", "fd01::/64"];

#[derive(Debug, Clone)]
enum Step {
    Learn(usize, usize, u8),
    Forget(usize, usize),
    Close(usize),
    Up(usize),
    /// The peer is sent a part of what it is to be sent.
    Drain(usize),
    /// The kernel's owner takes what has changed.
    Take,
}

/// What a peer says: a few things that the decision process tells apart, and some that are refused.
fn said(peer: usize, what: u8) -> Attributes {
    let (n, kind) = PEERS[peer];
    let first = if kind.is_external() { vec![65000 + u32::from(n)] } else { vec![] };
    let longer = [&first[..], &[65100 + u32::from(what % 2)]].concat();
    let (med, local_pref) = (Some(u32::from(what % 3)), Some(100 + u32::from(what % 2)));
    match what {
        0..3 => Attributes { med, ..through(&first) },
        3..6 => Attributes { med, ..through(&longer) },
        6..8 => Attributes { local_pref, ..through(&longer) },
        8 => Attributes { communities: vec![Community::NO_EXPORT], ..through(&longer) },
        9 => Attributes {
            originator: Some(Ipv4Addr::new(10, 255, 0, 9)),
            clusters: vec![Ipv4Addr::LOCALHOST],
            ..through(&longer)
        },
        // Through our own system.
        _ => through(&[&first[..], &[64512]].concat()),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (peer, prefix) = (|| 0..PEERS.len(), || 0..PREFIXES.len());
    let step = prop_oneof![
        8 => (peer(), prefix(), 0..11u8).prop_map(|(peer, prefix, what)| Step::Learn(peer, prefix, what)),
        3 => (peer(), prefix()).prop_map(|(peer, prefix)| Step::Forget(peer, prefix)),
        1 => peer().prop_map(Step::Close),
        2 => peer().prop_map(Step::Up),
        3 => peer().prop_map(Step::Drain),
        1 => Just(Step::Take),
    ];
    prop::collection::vec(step, 1..60)
}

/// Which route, and what is said of it.
type Key = (IpNetwork, PathId);
type Said = (Arc<Attributes>, NextHop);

/// A speaker, and beside it what its peers last said, what they were told, and what the kernel has.
struct World {
    rib: Rib,
    up: [bool; PEERS.len()],
    said: BTreeMap<(usize, usize), u8>,
    kernel: BTreeMap<IpNetwork, Vec<Selected>>,
    told: [BTreeMap<Key, Said>; PEERS.len()],
}

impl World {
    fn new() -> Self {
        Self {
            rib: rib(&PEERS),
            up: [true; PEERS.len()],
            said: BTreeMap::new(),
            kernel: BTreeMap::new(),
            told: Default::default(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Learn(peer, prefix, what) if self.up[peer] => {
                learn(&mut self.rib, PEERS[peer].0, PREFIXES[prefix], &said(peer, what));
                self.said.insert((peer, prefix), what);
            }
            Step::Forget(peer, prefix) if self.up[peer] => {
                self.rib.forget(id(PEERS[peer].0), &[(net(PREFIXES[prefix]), PathId(0))]);
                self.said.remove(&(peer, prefix));
            }
            Step::Close(peer) if self.up[peer] => {
                self.rib.down(id(PEERS[peer].0), Down::Closed, NOW);
                self.up[peer] = false;
                self.said.retain(|(of, _), _| *of != peer);
                self.told[peer].clear();
            }
            Step::Up(peer) if !self.up[peer] => {
                self.rib.up(id(PEERS[peer].0), session(100, PEERS[peer].0), NOW);
                self.up[peer] = true;
            }
            Step::Drain(peer) if self.up[peer] => {
                let batches = self.rib.drain(id(PEERS[peer].0), 2);
                self.hear(peer, batches);
            }
            Step::Take => {
                for Change { prefix, routes } in self.rib.changes() {
                    self.kernel.insert(prefix, routes);
                }
                self.kernel.retain(|_, routes| !routes.is_empty());
            }
            _ => {}
        }
    }

    fn hear(&mut self, peer: usize, batches: Vec<Batch>) {
        for batch in batches {
            match batch {
                Batch::Withdraw { routes } => {
                    for route in routes {
                        assert!(self.told[peer].remove(&route).is_some(), "{route:?} was never announced");
                    }
                }
                Batch::Advertise { attributes, next_hop, routes } => {
                    self.told[peer]
                        .extend(routes.into_iter().map(|route| (route, (Arc::clone(&attributes), next_hop))));
                }
                Batch::EndOfRib(_) => {}
            }
        }
    }

    /// Everybody is told, and the kernel's owner too, until there is nothing left to say.
    fn settle(&mut self) {
        self.take(&Step::Take);
        for (peer, (n, _)) in PEERS.iter().enumerate() {
            for _ in 0..1000 {
                self.take(&Step::Drain(peer));
            }
            assert!(!self.up[peer] || !self.rib.is_dirty(id(*n)), "it ends");
        }
    }

    fn used(&self) -> BTreeMap<IpNetwork, Vec<Selected>> {
        self.rib.routes().filter(|(_, routes)| !routes.is_empty()).collect()
    }
}

proptest! {
    #[test]
    fn all_follows_from_what_was_last_said_in_whatever_order(steps in steps(), order in prop::collection::vec(any::<Index>(), 16)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        world.settle();

        let mut fresh = World::new();
        for peer in (0..PEERS.len()).filter(|peer| !world.up[*peer]) {
            fresh.take(&Step::Close(peer));
        }
        let mut said: Vec<_> = world.said.iter().map(|((peer, prefix), what)| Step::Learn(*peer, *prefix, *what)).collect();
        for at in order {
            if said.is_empty() { break }
            let at = at.index(said.len());
            fresh.take(&said.swap_remove(at));
        }
        fresh.settle();

        prop_assert_eq!(world.used(), fresh.used());
        prop_assert_eq!(&world.kernel, &world.used(), "what was reported adds up");
        prop_assert_eq!(&world.told, &fresh.told, "so does what was sent");
        for (peer, (n, _)) in PEERS.iter().enumerate() {
            let told = world.rib.told(id(*n)).map(|(prefix, path, attributes, next_hop)| ((prefix, path), (attributes, next_hop)));
            prop_assert_eq!(&world.told[peer], &told.collect::<BTreeMap<_, _>>());
            let count = world.said.keys().filter(|(of, prefix)| *of == peer && net(PREFIXES[*prefix]).is_ipv4()).count();
            prop_assert_eq!(world.rib.summary(id(*n), Family::Ipv4).unwrap().received as usize, count);
        }
    }

    #[test]
    fn when_all_is_withdrawn_nothing_is_left(steps in steps()) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        for peer in 0..PEERS.len() {
            for prefix in 0..PREFIXES.len() {
                world.take(&Step::Forget(peer, prefix));
            }
        }
        world.settle();
        world.told.iter_mut().for_each(BTreeMap::clear);
        prop_assert_eq!((world.rib.routes().count(), world.kernel.len()), (0, 0));
        prop_assert_eq!(world.rib.interned(), 0);
    }
}
