//! The courses: in which order an attachment comes and goes, between store, liveness lock and kernel.
//!
//! Who takes an attachment away holds its lock, takes everything out of the kernel first, and frees the row after it, so
//! that an address cools from the moment on when nothing has it. Whoever is killed in between leaves what the next one
//! finds by the key.
//!
//! The model test (`attach/tests/model`) plays these files as they are, and crashes at every step: [`add`] with `reserving` and,
//! of `waiting`, the waiting for any block; [`del`], [`gc`], [`removal`], [`sweep`] with `leftover` for limits, and
//! [`rebuild`]. Not played are published ports (`ports`, and `leftover` of them), the want of the block of an address, and
//! [`adopt`]. Those are tested one by one and without crashes, in `cni-plugin/tests` (`ports.rs`, `wants.rs`), and for the last
//! in `ipam/tests/inventory.rs` and `tests/tests/addresses.rs`.

pub mod add;
pub mod adopt;
pub mod del;
pub mod gc;
mod leftover;
mod ports;
pub mod rebuild;
pub mod removal;
mod reserving;
pub mod sweep;
mod waiting;

use twill_ipam::Store;
use twill_ipam::guard::{Guard, stands};

use crate::kernel::{Kernel, Remains};

/// The node's store, as a plugin's process has it and as the daemon's tasks share it.
pub trait Rows {
    /// Works on it. No course does anything else meanwhile.
    fn with<T>(&mut self, work: impl FnOnce(&mut Store) -> T) -> T;
}

impl Rows for Store {
    fn with<T>(&mut self, work: impl FnOnce(&mut Store) -> T) -> T {
        work(self)
    }
}

/// Takes an attachment out of the kernel. Its row may be freed only after this succeeded.
fn take_out(kernel: &mut impl Kernel, remains: &Remains<'_>) -> Result<(), twill_linux::Error> {
    let cleared = kernel.clear(remains);
    if stands(Guard::LinkGoneBeforeCooling) { cleared } else { Ok(()) }
}
