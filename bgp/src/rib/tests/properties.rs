//! What holds of every history: only what was last said counts, not when.

use proptest::prelude::*;

use super::*;

const KINDS: [Kind; 5] = [SINGLE, SINGLE, Kind::Internal, Kind::Client, Kind::Client];

/// What a peer last said of a prefix: a choice of attributes.
type Said = BTreeMap<(u8, u8), u16>;

#[derive(Debug, Clone)]
enum Event {
    /// Peer, prefix, attributes.
    Learn(u8, u8, u16),
    Forget(u8, u8),
    /// A few prefixes of what a peer is to be told go out.
    Drain(u8),
    /// The next hop of a peer is lost, or is there.
    Reach(u8, bool),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let (peer, prefix) = (1..=5u8, 0..4u8);
    prop::collection::vec(
        prop_oneof![
            6 => (peer.clone(), prefix.clone(), any::<u16>()).prop_map(|(n, prefix, choice)| Event::Learn(n, prefix, choice)),
            2 => (peer.clone(), prefix).prop_map(|(n, prefix)| Event::Forget(n, prefix)),
            2 => peer.clone().prop_map(Event::Drain),
            1 => (peer, any::<bool>()).prop_map(|(n, there)| Event::Reach(n, there)),
        ],
        0..60,
    )
}

/// Few choices of each attribute, so that many are equal.
fn attributes(n: u8, choice: u16) -> Attributes {
    let bit = |at: u16, count: u16| u32::from(choice >> at) % u32::from(count);
    let external = KINDS[usize::from(n) - 1].is_external();
    let mut systems = if external { vec![65000 + u32::from(n)] } else { vec![1 + bit(0, 2)] };
    systems.extend([7, 8].into_iter().take(bit(1, 3) as usize));
    Attributes {
        med: (bit(3, 2) == 1).then_some(bit(4, 3)),
        local_pref: (bit(6, 4) == 1).then_some(200),
        origin: if bit(8, 4) == 1 { Origin::Incomplete } else { Origin::Igp },
        communities: if bit(10, 8) == 1 { vec![Community::NO_EXPORT] } else { vec![] },
        ..through(&systems)
    }
}

fn prefix(number: u8) -> String {
    format!("10.{number}.0.0/16")
}

fn with_reach(rib: &mut Rib, lost: &BTreeSet<u8>) {
    let lost = lost.iter().map(|n| (IpNetwork::from(end(*n).address), None));
    rib.set_reach(lost.chain([(net("192.0.2.0/24"), Some(0))]).collect());
}

fn all_peers() -> Rib {
    let peers: Vec<_> = (1..=5).zip(KINDS).collect();
    rib(&peers)
}

type View = Vec<(IpNetwork, Vec<Selected>)>;

/// What is used, without prefixes of which nothing is.
fn used(rib: &Rib) -> View {
    rib.routes().filter(|(_, routes)| !routes.is_empty()).collect()
}

/// A peer's end of the session: what it makes of what it is sent.
#[derive(Default)]
struct Mirror(BTreeMap<(IpNetwork, PathId), (Arc<Attributes>, NextHop)>);

impl Mirror {
    fn take(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            match batch {
                Batch::Withdraw { routes } => {
                    routes.iter().for_each(|route| assert!(self.0.remove(route).is_some(), "it was announced before"));
                }
                Batch::Advertise { attributes, next_hop, routes } => {
                    self.0.extend(routes.into_iter().map(|route| (route, (Arc::clone(&attributes), next_hop))));
                }
                Batch::EndOfRib(_) => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn only_what_was_last_said_counts_and_not_in_which_order(
        events in events(),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let mut rib = all_peers();
        let (mut said, mut lost) = (Said::new(), BTreeSet::new());
        let mut mirrors: BTreeMap<u8, Mirror> = (1..=5).map(|n| (n, Mirror::default())).collect();
        let mut kernel = BTreeMap::new();
        for event in events {
            match event {
                Event::Learn(n, number, choice) => {
                    learn(&mut rib, n, &prefix(number), &attributes(n, choice));
                    said.insert((n, number), choice);
                }
                Event::Forget(n, number) => {
                    rib.forget(id(n), &[(net(&prefix(number)), PathId(0))]);
                    said.remove(&(n, number));
                }
                Event::Drain(n) => {
                    let batches = rib.drain(id(n), 2);
                    mirrors.get_mut(&n).unwrap().take(batches);
                    kernel.extend(rib.changes().into_iter().map(|change| (change.prefix, change.routes)));
                }
                Event::Reach(n, there) => {
                    if there { lost.remove(&n) } else { lost.insert(n) };
                    with_reach(&mut rib, &lost);
                }
            }
        }
        // Another one hears only the outcome, in another order.
        let mut fresh = all_peers();
        with_reach(&mut fresh, &lost);
        let mut last: Vec<_> = said.iter().collect();
        if !last.is_empty() {
            let at = shuffle.index(last.len());
            last.rotate_left(at);
            if at % 2 == 0 { last.reverse() }
        }
        for ((n, number), choice) in last {
            learn(&mut fresh, *n, &prefix(*number), &attributes(*n, *choice));
        }
        prop_assert_eq!(used(&rib), used(&fresh));
        for number in 0..4 {
            prop_assert_eq!(rib.explain(net(&prefix(number))), fresh.explain(net(&prefix(number))));
        }
        kernel.extend(rib.changes().into_iter().map(|change| (change.prefix, change.routes)));
        kernel.retain(|_, routes| !routes.is_empty());
        prop_assert_eq!(kernel.into_iter().collect::<Vec<_>>(), used(&rib));
        for n in 1..=5 {
            let mirror = mirrors.get_mut(&n).unwrap();
            while rib.is_dirty(id(n)) {
                mirror.take(rib.drain(id(n), 2));
            }
            while fresh.is_dirty(id(n)) {
                fresh.drain(id(n), 1);
            }
            let told: Vec<_> = fresh.told(id(n)).collect();
            prop_assert_eq!(rib.told(id(n)).collect::<Vec<_>>(), told.clone());
            let flat = |((net, path), (attributes, next_hop)): (&(IpNetwork, PathId), &(Arc<Attributes>, NextHop))| {
                (*net, *path, Arc::clone(attributes), *next_hop)
            };
            prop_assert_eq!(mirror.0.iter().map(flat).collect::<Vec<_>>(), told);
        }
        // All go, and nothing is left of them.
        for n in 1..=5 {
            rib.down(id(n), Down::Closed, NOW);
        }
        rib.changes();
        mirrors.clear();
        drop(fresh);
        prop_assert_eq!((rib.interned(), rib.routes().count(), rib.deadline()), (0, 0, None));
        for n in 1..=5 {
            prop_assert_eq!(rib.summary(id(n), Family::Ipv4), Some(Summary::default()));
        }
    }
}
