//! Histories that once failed. What they found is mended.

use crate::action::{ALL, Action::*};
use crate::play;

#[test]
fn a_living_pod_of_a_lost_store_is_not_taken_for_a_dead_one_by_an_add_elsewhere() {
    let (_, failure) = play(&[Alone, Add(4, false, ALL), Lose, Add(4, true, ALL)]);
    assert_eq!(failure, None);
}

#[test]
fn an_add_that_waited_while_its_namespace_was_replaced_spares_the_pod_in_the_new_one() {
    let (_, failure) = play(&[Add(2, true, ALL), Look(ALL), Add(2, false, ALL), Forget(2), Add(2, false, ALL)]);
    assert_eq!(failure, None);
}
