//! Each step of the decision process: two routes that differ in it alone, and in all later ones the other way round.

use super::*;

/// A route's attributes, who sent it, and how far its next hop is.
type Side = (Attributes, Learned, u32, u8);

fn contest(sides: &[Side], multipath: Multipath) -> Vec<Outcome> {
    let contender = |(at, (attributes, learned, metric, n)): (usize, &'static Side)| Contender {
        source: Source::Peer(PeerId(u32::try_from(at).unwrap())),
        path: PathId(u32::try_from(at).unwrap()),
        attributes,
        learned: *learned,
        metric: *metric,
        router_id: Ipv4Addr::new(10, 255, 0, *n),
        address: Some(end(*n).address),
        next_hop: Some(end(*n).address),
    };
    let sides: &'static [Side] = Box::leak(sides.to_vec().into_boxed_slice());
    decide(&sides.iter().enumerate().map(contender).collect::<Vec<_>>(), multipath)
}

const ALONE: Multipath = Multipath { maximum: 1, across: Across::Systems };

#[test]
fn each_step_decides_before_all_later_ones() {
    let plain = through(&[1, 2]);
    let (external, internal) = (Learned::External, Learned::Internal);
    let med = |med| Attributes { med: Some(med), ..plain.clone() };
    let with = |change: fn(&mut Attributes)| {
        let mut attributes = plain.clone();
        change(&mut attributes);
        attributes
    };
    let table: Vec<(Step, Side, Side)> = vec![
        (Step::LocalPref, (with(|a| a.local_pref = Some(101)), internal, 9, 9), (through(&[]), Learned::Local, 0, 1)),
        (Step::Local, (plain.clone(), Learned::Local, 0, 9), (through(&[]), external, 0, 1)),
        (
            Step::PathLength,
            (with(|a| a.origin = Origin::Incomplete), internal, 9, 9),
            (through(&[1, 2, 3]), external, 0, 1),
        ),
        (Step::Origin, (med(9), internal, 9, 9), (with(|a| a.origin = Origin::Egp), external, 0, 1)),
        (Step::Med, (plain.clone(), internal, 9, 9), (med(1), external, 0, 1)),
        (Step::External, (plain.clone(), external, 9, 9), (plain.clone(), internal, 0, 1)),
        (Step::Metric, (plain.clone(), internal, 1, 9), (plain.clone(), internal, 2, 1)),
        (
            Step::Identifier,
            (
                with(|a| (a.originator, a.clusters) = (Some(Ipv4Addr::new(1, 1, 1, 1)), vec![Ipv4Addr::LOCALHOST])),
                internal,
                1,
                9,
            ),
            (plain.clone(), internal, 1, 1),
        ),
        (
            Step::ClusterList,
            (with(|a| a.originator = Some(Ipv4Addr::new(1, 1, 1, 1))), internal, 1, 9),
            (
                with(|a| (a.originator, a.clusters) = (Some(Ipv4Addr::new(1, 1, 1, 1)), vec![Ipv4Addr::LOCALHOST])),
                internal,
                1,
                1,
            ),
        ),
        (
            Step::Address,
            (with(|a| a.originator = Some(Ipv4Addr::new(1, 1, 1, 1))), internal, 1, 1),
            (with(|a| a.originator = Some(Ipv4Addr::new(1, 1, 1, 1))), internal, 1, 9),
        ),
    ];
    for (step, better, worse) in table {
        let outcomes = contest(&[better.clone(), worse.clone()], ALONE);
        assert_eq!(outcomes, [Outcome::Used(0), Outcome::Lost { step, to: 0 }]);
        let outcomes = contest(&[worse, better], ALONE);
        assert_eq!(outcomes, [Outcome::Lost { step, to: 1 }, Outcome::Used(0)]);
    }
    let twin = (plain, internal, 1, 1);
    let outcomes = contest(&[twin.clone(), twin], ALONE);
    assert_eq!(outcomes[1], Outcome::Lost { step: Step::PathId, to: 0 });
}

#[test]
fn med_counts_within_a_neighbouring_as_only() {
    let med = |system, med| Attributes { med: Some(med), ..through(&[system, 9]) };
    // The classic: compared in pairs, each order has another winner.
    let sides = [
        (med(1, 5), Learned::Internal, 1, 3),
        (med(2, 9), Learned::Internal, 2, 2),
        (med(1, 4), Learned::Internal, 3, 1),
    ];
    let outcomes = contest(&sides, ALONE);
    let lost = |step, to| Outcome::Lost { step, to };
    assert_eq!(outcomes, [lost(Step::Med, 2), Outcome::Used(0), lost(Step::Metric, 1)]);
}

#[test]
fn equal_routes_are_used_together_up_to_the_maximum() {
    let side = |system, n| (through(&[system, 9]), Learned::External, 0, n);
    let lost = |step, to| Outcome::Lost { step, to };
    let sides = [side(1, 1), side(2, 2), side(1, 3), side(1, 3)];
    let table = [
        (8, Across::Systems, [Outcome::Used(0), Outcome::Used(1), Outcome::Used(2), lost(Step::SameNextHop, 2)]),
        (2, Across::Systems, [Outcome::Used(0), Outcome::Used(1), lost(Step::Maximum, 0), lost(Step::Maximum, 0)]),
        (
            8,
            Across::NeighbourAs,
            [Outcome::Used(0), lost(Step::NeighbourAs, 0), Outcome::Used(1), lost(Step::SameNextHop, 2)],
        ),
        (
            0,
            Across::Systems,
            [Outcome::Used(0), lost(Step::Identifier, 0), lost(Step::Identifier, 0), lost(Step::Identifier, 0)],
        ),
    ];
    for (maximum, across, expected) in table {
        assert_eq!(contest(&sides, Multipath { maximum, across }), expected, "{maximum} {across:?}");
    }
}
