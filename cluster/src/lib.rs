//! What nodes know of each other, and how they come to own blocks.
//!
//! [`record`] has the values that stand in etcd and [`key`] their places; [`view`] is one node's picture of them, fed by
//! snapshots and deltas, which cannot be confused; [`txn`] is the vocabulary of transactions; [`keeper`] holds the rules of
//! registering and claiming as steps without I/O or clock, and [`request`] what it asks of etcd. [`store`] is the seam where
//! I/O begins: [`etcd`] implements it on the network, [`simulated`] in memory, for tests of the rules. [`reconfigure`] and
//! [`removal`] plan what an operator asks for. [`mirror`] tells what a node gave out, for reports, [`inquiry`] asks it, and
//! a [`census`] is all that etcd knows at one revision. [`saved`] keeps the last view on disk for a start without etcd.
//! [`continuity`] tells a history that goes on from one that was restored from a backup, and [`former`] keeps what that one
//! has lost. [`ability`] is what not every version can.

pub mod ability;
pub mod census;
pub mod continuity;
pub mod etcd;
pub mod former;
pub mod inquiry;
pub mod keeper;
pub mod key;
pub mod mirror;
#[cfg(test)]
mod model;
pub mod plain;
pub mod reconfigure;
pub mod record;
pub mod removal;
pub mod request;
pub mod saved;
pub mod simulated;
pub mod store;
pub mod txn;
pub mod view;

pub use census::Census;
pub use etcd::EtcdStore;
pub use keeper::Keeper;
pub use record::{BlockRecord, NodeRecord, Versioned};
pub use store::Store;
pub use view::View;
