//! Many speakers, joined by links that deliver in any order: all learn what they may, and it comes to an end.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Speakers 1, 2, …, each with a prefix of its own, and what every one is to those that it has a session with.
struct Mesh {
    ribs: BTreeMap<u8, Rib>,
    links: Vec<(u8, u8)>,
}

fn own(n: u8) -> String {
    format!("10.{n}.0.0/16")
}

impl Mesh {
    /// `kinds`: (a, b, what b is to a, what a is to b).
    fn new(systems: &[(u8, u32)], kinds: &[(u8, u8, Kind, Kind)]) -> Self {
        let system: BTreeMap<u8, Asn> = systems.iter().map(|(n, asn)| (*n, Asn(*asn))).collect();
        let mut ribs = BTreeMap::new();
        for (n, asn) in &system {
            let mut rib = Rib::new(Identity { asn: *asn, ..identity(*n) }, Multipath::default(), Start::Cold);
            rib.set_reach([(net("192.0.2.0/24"), Some(0))].into_iter().collect());
            rib.originate(net(&own(*n)), &through(&[]));
            ribs.insert(*n, rib);
        }
        let mut links = Vec::new();
        let both = kinds.iter().flat_map(|(a, b, of_b, of_a)| [(*a, *b, *of_b), (*b, *a, *of_a)]);
        for (here, there, kind) in both {
            let rib = ribs.get_mut(&here).unwrap();
            let peer = Peer { asn: system[&there], local_as: system[&here], ..peer(there, kind) };
            rib.configure(id(there), peer);
            rib.up(id(there), session(here, there), NOW);
            links.push((here, there));
        }
        Self { ribs, links }
    }

    /// What `from` has to say to `to`, a little of it. Whether there was anything to look at.
    fn deliver(&mut self, (from, to): (u8, u8)) -> bool {
        let teller = self.ribs.get_mut(&from).unwrap();
        let more = teller.is_dirty(id(to));
        let batches = teller.drain(id(to), 1);
        let hearer = self.ribs.get_mut(&to).unwrap();
        for batch in batches {
            match batch {
                Batch::Withdraw { routes } => hearer.forget(id(from), &routes),
                Batch::Advertise { attributes, next_hop, routes } => {
                    assert_eq!(hearer.learn(id(from), &attributes, next_hop, &routes), []);
                }
                Batch::EndOfRib(family) => hearer.end_of_rib(id(from), family),
            }
        }
        more
    }

    /// In this order first, then in turn until all is said.
    fn settle(&mut self, order: &[Index]) {
        for at in order {
            self.deliver(*at.get(&self.links));
        }
        let links = self.links.clone();
        let ended = (0..1000).any(|_| {
            let more: Vec<_> = links.iter().map(|link| self.deliver(*link)).collect();
            !more.contains(&true)
        });
        assert!(ended, "messages without end");
    }

    /// The speakers whose prefixes one uses, its own among them.
    fn known(&self, n: u8) -> Vec<u8> {
        let known = |of: &u8| !self.ribs[&n].selected(net(&own(*of))).is_empty();
        self.ribs.keys().copied().filter(known).collect()
    }

    /// Follows the next hops from each speaker to each prefix that it knows: they end where it is originated.
    fn follow(&self) {
        for from in self.ribs.keys() {
            for to in self.known(*from) {
                let mut at = *from;
                for _ in 0..=self.ribs.len() {
                    match self.ribs[&at].selected(net(&own(to)))[0].next_hop {
                        None => break,
                        Some(next_hop) => at = *self.ribs.keys().find(|n| end(**n) == next_hop).unwrap(),
                    }
                }
                assert_eq!(at, to, "the way from {from} to {to} goes round");
            }
        }
    }

    fn cut(&mut self, a: u8, b: u8) {
        self.ribs.get_mut(&a).unwrap().down(id(b), Down::Closed, NOW);
        self.ribs.get_mut(&b).unwrap().down(id(a), Down::Closed, NOW);
        self.links.retain(|link| ![(a, b), (b, a)].contains(link));
    }
}

fn ours(count: u8) -> Vec<(u8, u32)> {
    (1..=count).map(|n| (n, 64512)).collect()
}

/// What of other systems is each to its neighbours, in a ring of five systems.
fn ring() -> Mesh {
    let systems: Vec<_> = (1..=5).map(|n| (n, 65000 + u32::from(n))).collect();
    let links: Vec<_> = (1..=5).map(|n| (n, n % 5 + 1, SINGLE, SINGLE)).collect();
    Mesh::new(&systems, &links)
}

proptest! {
    #[test]
    fn in_a_full_mesh_all_know_all_and_nobody_passes_on(order in prop::collection::vec(any::<Index>(), 0..60)) {
        let pairs = (1..=4).flat_map(|a| (a + 1..=4).map(move |b| (a, b, Kind::Internal, Kind::Internal)));
        let mut mesh = Mesh::new(&ours(4), &pairs.collect::<Vec<_>>());
        mesh.settle(&order);
        for n in 1..=4 {
            prop_assert_eq!(mesh.known(n), [1, 2, 3, 4]);
            prop_assert_eq!(mesh.ribs[&n].routes().map(|(prefix, _)| mesh.ribs[&n].explain(prefix).len()).max(), Some(1));
        }
        mesh.follow();
    }

    #[test]
    fn two_reflectors_serve_their_clients_and_one_is_enough(order in prop::collection::vec(any::<Index>(), 0..60)) {
        let client = |reflector, n| (reflector, n, Kind::Client, Kind::Internal);
        let clients = (3..=5).flat_map(|n| [client(1, n), client(2, n)]);
        let links: Vec<_> = clients.chain([(1, 2, Kind::Internal, Kind::Internal)]).collect();
        let mut mesh = Mesh::new(&ours(5), &links);
        mesh.settle(&order);
        mesh.follow();
        for n in 1..=5 {
            prop_assert_eq!(mesh.known(n), [1, 2, 3, 4, 5]);
        }
        for n in 2..=5 {
            mesh.cut(1, n);
        }
        mesh.settle(&order);
        mesh.follow();
        prop_assert_eq!(mesh.known(1), [1]);
        for n in 2..=5 {
            prop_assert_eq!(mesh.known(n), [2, 3, 4, 5], "the first took nothing along but its own");
        }
    }

    #[test]
    fn a_ring_of_systems_goes_the_shorter_way_and_the_other_way_when_it_is_cut(order in prop::collection::vec(any::<Index>(), 0..80)) {
        let mut mesh = ring();
        mesh.settle(&order);
        mesh.follow();
        let paths = |mesh: &Mesh| -> Vec<String> {
            (2..=5).map(|of| mesh.ribs[&1].selected(net(&own(of)))[0].attributes.as_path.to_string()).collect()
        };
        prop_assert_eq!(paths(&mesh), ["65002", "65002 65003", "65005 65004", "65005"]);
        mesh.cut(1, 2);
        mesh.settle(&order);
        mesh.follow();
        let round = ["65005 65004 65003 65002", "65005 65004 65003", "65005 65004", "65005"];
        prop_assert_eq!(paths(&mesh), round);
    }
}
