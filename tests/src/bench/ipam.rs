//! The address manager: what an assignment costs, a claim, a cluster of 5,000 nodes that join one etcd, and the view that
//! each of them keeps.
//!
//! The real node store, the real keeper and the real client of etcd; what is simulated are the nodes around them. Each
//! part has its reference in the same run: bare SQLite transactions and the reference plugin for assignments, bare puts
//! to the same etcd for claims and joins, the bytes of the records for the view.

pub mod assignments;
pub mod cluster;
pub mod node;
pub mod view;

use std::time::Duration;

/// So many a second.
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
