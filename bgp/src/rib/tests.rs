//! The RIB by tables, and what holds of every history.

use super::*;
use crate::path::{AsPath, Community, Origin, PeerAs, Segment};
use crate::policy::Policy;

mod exports;
mod imports;
mod mesh;
mod properties;
mod restarts;
mod steps;
mod systems;

pub(super) fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

pub(super) fn through(systems: &[u32]) -> Attributes {
    let segments =
        if systems.is_empty() { vec![] } else { vec![Segment::Sequence(systems.iter().copied().map(Asn).collect())] };
    Attributes { as_path: AsPath(segments), ..Attributes::new(Origin::Igp) }
}

/// The address of speaker n, on the link that all share.
pub(super) fn end(n: u8) -> NextHop {
    NextHop { address: Ipv4Addr::new(192, 0, 2, n).into(), link_local: None }
}

pub(super) fn id(n: u8) -> PeerId {
    PeerId(n.into())
}

/// The AS of speaker n, where it is external.
pub(super) fn system(n: u8) -> Asn {
    Asn(65000 + u32::from(n))
}

pub(super) fn peer(n: u8, kind: Kind) -> Peer {
    Peer {
        kind,
        asn: PeerAs::Is(if kind.is_external() { system(n) } else { Asn(64512) }),
        local_as: Asn(64512),
        address: end(n).address,
        policy: Some(Arc::new(Policy::open())),
        next_hop: NextHopRule::Unchanged,
        maximum: BTreeMap::new(),
        patience: Patience::default(),
    }
}

pub(super) fn terms(paths: Paths) -> Terms {
    Terms { send: paths, receive: paths, extended_next_hop: false }
}

/// A session of the external speaker n with the speaker `own`.
pub(super) fn session(own: u8, n: u8) -> Session {
    Session {
        asn: system(n),
        router_id: Ipv4Addr::new(10, 255, 0, n),
        families: [(Family::Ipv4, terms(Paths::One)), (Family::Ipv6, terms(Paths::One))].into(),
        own: Own { v4: Some(Ipv4Addr::new(192, 0, 2, own)), ..Own::default() },
        links: vec![net("192.0.2.0/24")],
        restart: None,
    }
}

pub(super) fn identity(n: u8) -> Identity {
    Identity { asn: Asn(64512), router_id: Ipv4Addr::new(10, 255, 0, n), cluster: None }
}

pub(super) const SINGLE: Kind = Kind::External(Hops::Single);
pub(super) const NOW: std::time::Duration = std::time::Duration::from_secs(1000);

/// Speaker 100, with these peers, all up.
pub(super) fn rib(peers: &[(u8, Kind)]) -> Rib {
    let mut rib = Rib::new(identity(100), Multipath::default(), Start::Cold);
    rib.set_reach([(net("192.0.2.0/24"), Some(0))].into_iter().collect());
    for (n, kind) in peers {
        assert_eq!(rib.configure(id(*n), peer(*n, *kind)), []);
        let asn = if kind.is_external() { system(*n) } else { Asn(64512) };
        rib.up(id(*n), Session { asn, ..session(100, *n) }, NOW);
    }
    rib
}

pub(super) fn learn(rib: &mut Rib, n: u8, prefix: &str, attributes: &Attributes) {
    assert_eq!(rib.learn(id(n), attributes, end(n), &[(net(prefix), PathId(0))]), []);
}

/// What each peer's route became.
pub(super) fn verdicts(rib: &Rib, prefix: &str) -> Vec<Verdict> {
    rib.explain(net(prefix)).into_iter().map(|explained| explained.verdict).collect()
}

/// A route as it was sent; without attributes it is a withdrawal.
type Sent = (IpNetwork, PathId, Option<(Arc<Attributes>, NextHop)>);

/// Everything that is to be sent, a route at a time. End-of-RIB markers are left out.
pub(super) fn drained(rib: &mut Rib, n: u8) -> Vec<Sent> {
    let mut routes = Vec::new();
    while rib.is_dirty(id(n)) {
        for batch in rib.drain(id(n), 3) {
            match batch {
                Batch::Withdraw { routes: gone } => {
                    routes.extend(gone.into_iter().map(|(net, path)| (net, path, None)))
                }
                Batch::Advertise { attributes, next_hop, routes: new } => {
                    routes.extend(
                        new.into_iter().map(|(net, path)| (net, path, Some((Arc::clone(&attributes), next_hop)))),
                    );
                }
                Batch::EndOfRib(_) => {}
            }
        }
    }
    routes
}

#[test]
fn a_hundred_thousand_routes_come_in_and_go_out_and_leave_nothing() {
    let mut rib = rib(&[(1, SINGLE), (2, Kind::Internal)]);
    let routes: Vec<_> = (0..100_000u32)
        .map(|n| (IpNetwork::new(Ipv4Addr::from(0x0B00_0000 + n * 256).into(), 24).unwrap(), PathId(0)))
        .collect();
    for (at, part) in routes.chunks(1000).enumerate() {
        let path = through(&[65001, 1 + u32::try_from(at % 50).unwrap()]);
        assert_eq!(rib.learn(id(1), &path, end(1), part), []);
    }
    assert_eq!(rib.changes().len(), 100_000);
    let batches = rib.drain(id(2), usize::MAX);
    assert_eq!(batches.len(), 50 + 2, "one for each set of attributes, and two End-of-RIB markers");
    let summary = |rib: &Rib, n| rib.summary(id(n), Family::Ipv4).unwrap();
    assert_eq!(summary(&rib, 1), Summary { received: 100_000, accepted: 100_000, sent: 0 });
    assert_eq!(summary(&rib, 2), Summary { received: 0, accepted: 0, sent: 100_000 });
    drop(batches);
    assert_eq!(rib.interned(), 100, "50 as received and 50 as told");
    rib.forget(id(1), &routes);
    assert_eq!(rib.changes().len(), 100_000);
    assert!(matches!(&rib.drain(id(2), usize::MAX)[..], [Batch::Withdraw { routes }] if routes.len() == 100_000));
    assert_eq!((rib.interned(), rib.routes().count()), (0, 0));
}

#[test]
fn what_was_announced_and_withdrawn_before_it_was_sent_costs_nothing() {
    let mut rib = rib(&[(1, SINGLE), (2, Kind::Internal)]);
    assert_eq!(rib.drain(id(2), 10), [Batch::EndOfRib(Family::Ipv4), Batch::EndOfRib(Family::Ipv6)]);
    learn(&mut rib, 1, "10.1.0.0/16", &through(&[65001]));
    rib.forget(id(1), &[(net("10.1.0.0/16"), PathId(0))]);
    assert!(rib.is_dirty(id(2)));
    assert_eq!((rib.drain(id(2), 10), rib.changes()), (Vec::new(), Vec::new()));
}

#[test]
fn a_refresh_repeats_all_of_its_family_and_nothing_else() {
    let mut rib = rib(&[(1, SINGLE), (2, Kind::Internal)]);
    learn(&mut rib, 1, "10.1.0.0/16", &through(&[65001]));
    assert_eq!(drained(&mut rib, 2).len(), 1);
    rib.refresh(id(2), Family::Ipv6);
    assert_eq!(drained(&mut rib, 2), []);
    rib.refresh(id(2), Family::Ipv4);
    assert_eq!(drained(&mut rib, 2).len(), 1);
    assert_eq!(drained(&mut rib, 2), []);
}

#[test]
fn a_maximum_warns_once_and_then_ends() {
    let mut rib = rib(&[]);
    let maximum = [(Family::Ipv4, Maximum::new(4, 75).unwrap())].into();
    rib.configure(id(1), Peer { maximum, ..peer(1, SINGLE) });
    rib.up(id(1), session(100, 1), NOW);
    let learn = |n: u8, rib: &mut Rib| {
        rib.learn(id(1), &through(&[65001]), end(1), &[(net(&format!("10.{n}.0.0/16")), PathId(0))])
    };
    let near = Limit::Near { family: Family::Ipv4, routes: 3, maximum: 4 };
    let outcomes: Vec<_> = [1, 2, 3, 3, 4, 4, 5].into_iter().map(|n| learn(n, &mut rib)).collect();
    let exceeded = Limit::Exceeded { family: Family::Ipv4, maximum: 4 };
    assert_eq!(outcomes, [vec![], vec![], vec![near], vec![], vec![], vec![], vec![exceeded]]);
    assert_eq!(rib.summary(id(1), Family::Ipv4).unwrap().received, 4);
    rib.forget(id(1), &[(net("10.3.0.0/16"), PathId(0)), (net("10.4.0.0/16"), PathId(0))]);
    assert_eq!(learn(3, &mut rib), [near], "it had been below");
    assert_eq!(
        Maximum::new(0, 75).unwrap_err().to_string(),
        "a maximum of 0 routes lets no session stand: use 1 or more, or none"
    );
    assert_eq!(Maximum::new(9, 0).unwrap_err().to_string(), "warning at 0 percent must be from 1 to 100");
}

#[test]
fn a_next_hop_that_goes_takes_its_routes_along_and_brings_them_back() {
    let mut rib = rib(&[(1, SINGLE), (2, SINGLE)]);
    learn(&mut rib, 1, "10.1.0.0/16", &through(&[65001]));
    learn(&mut rib, 2, "10.1.0.0/16", &through(&[65002]));
    assert_eq!(rib.changes()[0].routes.len(), 2, "two systems with paths of one length are used together");
    let lost = (IpNetwork::from(end(1).address), None);
    rib.set_reach([(net("192.0.2.0/24"), Some(0)), lost].into_iter().collect());
    assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Unreachable, Verdict::Best]);
    assert_eq!(rib.changes()[0].routes.len(), 1);
    rib.set_reach([(net("192.0.2.0/24"), Some(0))].into_iter().collect());
    assert_eq!(rib.changes()[0].routes.len(), 2);
}
