//! Whatever order events come in, the same stands in the end: records of a cluster that arrive, are written again, and go, in
//! hundreds of orders.

use proptest::prelude::*;
use proptest::sample::SizeRange;
use twill_cluster::View;
use twill_cluster::view::{Change, Delta, Entry};
use twill_conf::cluster::{Kind, Vxlan};

use super::desired;
use super::print::print;
use super::sample::Sample;

/// Small clusters: of each back end and family, and one whose records contradict each other.
fn scenarios() -> Vec<Sample> {
    let both = || {
        (1..=4u16).fold(Sample::new(&["10.42.0.0/16", "fd42::/64"]), |sample, number| {
            let subnet = if number == 4 { 10 } else { 9 };
            sample
                .node(number, &[&format!("192.168.{subnet}.{number}/24"), &format!("fd{subnet:02}::{number}/64")])
                .block(number, &format!("10.42.{number}.0/26"))
                .block(number, &format!("fd42::{number}00/122"))
        })
    };
    let over_ipv6 = Sample::new(&["10.42.0.0/16"])
        .node(1, &["fd09::1/64"])
        .node(2, &["fd09::2/64"])
        .block(1, "10.42.1.0/26")
        .block(2, "10.42.2.0/26");
    let at_odds = both()
        .node(5, &["192.168.9.2/24"])
        .block(5, "10.42.2.0/24")
        .block(3, "192.0.2.0/26")
        .but(4, |record| record.value.tunnel.ipv4 = Some([10, 42, 1, 0].into()));
    let direct = Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() });
    vec![both(), both().backend(direct), both().backend(Kind::HostGw).without_tunnels(), over_ipv6, at_odds]
}

/// What happens to one key, one after the other; what happens to different keys comes in any order.
fn histories(view: &View) -> Vec<Vec<Change>> {
    let entries = view.snapshot().entries;
    let written = |(number, entry): (usize, &Entry)| {
        let earlier = &entries[(number + 1) % entries.len()];
        let before = Entry { value: earlier.value.clone(), modified: entry.created, ..entry.clone() };
        match number % 4 {
            0 => vec![Change::Put(entry.clone())],
            // Garbage, then what it is in the end.
            1 => vec![Change::Put(Entry { value: b"{".to_vec(), ..before }), Change::Put(entry.clone())],
            // What another key has, then what it is in the end.
            2 => vec![Change::Put(before), Change::Put(entry.clone())],
            _ => vec![Change::Put(before), Change::Delete(entry.key.clone()), Change::Put(entry.clone())],
        }
    };
    let mut histories: Vec<_> = entries.iter().enumerate().map(written).collect();
    // And a node that comes and goes.
    let guest = Sample::new(&[]).node(9, &["192.168.9.9/24"]).block(9, "10.42.9.0/26");
    let guest = guest.view.snapshot().entries.into_iter().filter(|entry| entry.key.contains('/'));
    histories.extend(guest.map(|entry| vec![Change::Put(entry.clone()), Change::Delete(entry.key)]));
    histories
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn the_order_of_events_makes_no_difference_in_the_end(
        choices in prop::collection::vec(any::<prop::sample::Index>(), SizeRange::from(80)),
    ) {
        for sample in scenarios() {
            let local = sample.local(1, &["10.42.1.1"]);
            let mut histories = histories(&sample.view);
            let mut view = View::default();
            let mut choices = choices.iter().cycle();
            while !histories.is_empty() {
                let at = choices.next().map_or(0, |choice| choice.index(histories.len()));
                let change = histories[at].remove(0);
                view.apply(&Delta { revision: view.revision + 1, changes: vec![change] });
                // What is wanted meanwhile must be something, whatever is missing.
                let _ = desired(&view, &local);
                histories.retain(|history| !history.is_empty());
            }
            prop_assert!(view.faults.is_empty(), "{:?}", view.faults);
            prop_assert_eq!(print(&desired(&view, &local)), print(&desired(&sample.view, &local)));
        }
    }
}
