//! What users write: the CNI network configuration, the node configuration and the cluster configuration.
//!
//! Everything that comes from outside is parsed here, once, into types that cannot hold a wrong value: [`id`] has the
//! names, [`network`] what a runtime hands to the plugin, [`node`] what an operator tells one daemon, [`cluster`] what
//! holds for all nodes. A value that is refused is refused with its key, what was found and what would be right
//! ([`Error`]); nothing here does I/O, but for reading a file whose path was given.
//!
//! This crate is the leaf that all others but `linux` and `bgp` stand on: it knows nothing of them.

pub mod cluster;
pub mod digest;
mod error;
pub mod id;
#[cfg(feature = "schema")]
mod kind;
mod label;
pub mod network;
pub mod node;
mod prefix;
#[cfg(feature = "schema")]
pub mod reference;
mod section;
mod spelling;

pub use error::Error;
pub use id::{ContainerId, IfName, NetworkName, NodeName, PeerName, PoolName};
