//! Whatever order events come in, the same stands in the end: records of a cluster that arrive, are written again, and go, in
//! hundreds of orders.

use proptest::prelude::*;
use proptest::sample::SizeRange;
use twill_cluster::View;
use twill_cluster::view::{Change, Delta, Entry};

use super::Reckoning;
use super::print::print;
use super::sample::Sample;
use super::scenarios::{self, Scenario};

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
        for scenario in scenarios::all() {
            let Scenario { name, sample, local, learned } = &scenario;
            let mut histories = histories(&sample.view);
            let (mut view, mut reckoning) = (View::default(), Reckoning::default());
            let mut choices = choices.iter().cycle();
            while !histories.is_empty() {
                let at = choices.next().map_or(0, |choice| choice.index(histories.len()));
                let change = histories[at].remove(0);
                view.apply(&Delta { revision: view.revision + 1, changes: vec![change] });
                // What is wanted meanwhile must be something, whatever is missing.
                let _ = reckoning.follow(&view, local, learned);
                histories.retain(|history| !history.is_empty());
            }
            prop_assert!(view.faults.is_empty(), "{name}: {:?}", view.faults);
            let wanted = print(&scenario.desired());
            for mut reckoning in [reckoning, Reckoning::default()] {
                prop_assert_eq!(&print(&reckoning.follow(&view, local, learned)), &wanted, "{}", name);
            }
        }
    }
}
