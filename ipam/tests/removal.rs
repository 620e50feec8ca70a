//! What a rule has condemned is removed under its lock, and only while it is what was condemned.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::convert::Infallible;
use std::time::Duration;

use common::{at, attach, delete, key, store_with};
use twill_ipam::removal::{Failure, Removal, remove};
use twill_ipam::{Attachment, BootTime, Liveness, Store};

/// A whole ADD, and the row that it left.
fn attached(store: &mut Store, container: &str, now: BootTime) -> Attachment {
    attach(store, container, now);
    store.attachment(key(container).hash()).unwrap().unwrap()
}

type Outcome = Result<Removal, Failure<Infallible>>;

#[test]
fn a_condemned_attachment_goes_from_the_kernel_first_and_then_from_the_store() {
    let (dir, mut store) = store_with(&["10.42.0.0/30"]);
    let row = attached(&mut store, "a", at(0));
    let mut cleared = false;
    let outcome: Outcome = remove(dir.path(), &mut store, &row, || {
        cleared = true;
        Ok(true)
    });
    assert_eq!((outcome.unwrap(), cleared), (Removal::Done, true));
    assert_eq!(store.attachments().unwrap(), []);
}

#[test]
fn a_pod_that_took_the_place_of_a_condemned_row_is_spared() {
    let (dir, mut store) = store_with(&["10.42.0.0/30"]);
    let condemned = attached(&mut store, "a", at(0));
    delete(&mut store, "a", at(1));
    let alive = attached(&mut store, "a", at(2));
    let outcome: Outcome = remove(dir.path(), &mut store, &condemned, || panic!("a living pod's link was removed"));
    assert_eq!(outcome.unwrap(), Removal::Spared);
    assert_eq!(store.attachment(alive.hash).unwrap().unwrap().id, alive.id);
}

#[test]
fn what_somebody_works_on_and_what_must_stay_is_spared() {
    let (dir, mut store) = store_with(&["10.42.0.0/30"]);
    let row = attached(&mut store, "a", at(0));
    let held = Liveness::acquire(dir.path(), key("a").hash(), Duration::ZERO).unwrap();
    let outcome: Outcome = remove(dir.path(), &mut store, &row, || panic!("it was touched"));
    assert_eq!(outcome.unwrap(), Removal::Spared);
    drop(held);
    let outcome: Outcome = remove(dir.path(), &mut store, &row, || Ok(false));
    assert_eq!(outcome.unwrap(), Removal::Spared);
    assert_eq!(store.attachments().unwrap().len(), 1);
}

#[test]
fn what_the_kernel_refuses_keeps_its_row() {
    let (dir, mut store) = store_with(&["10.42.0.0/30"]);
    let row = attached(&mut store, "a", at(0));
    let outcome = remove(dir.path(), &mut store, &row, || Err("refused"));
    assert!(matches!(outcome, Err(Failure::Kernel("refused"))));
    assert_eq!(store.attachments().unwrap().len(), 1);
}
