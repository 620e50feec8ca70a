//! Pools, blocks and addresses: the rules, and the node's own store.
//!
//! etcd owns blocks, nodes own addresses. This crate is the node's half: inside the blocks that a node holds it gives
//! addresses out, one local transaction each, and it never gives an address twice. The rules ([`block`], [`address`],
//! [`attachment`], [`sweep`]) are pure; [`store`] keeps them in a SQLite file in the run directory that the plugin's
//! processes and the daemon open side by side; [`liveness`] tells a running ADD from a killed one.
//!
//! It knows nothing of netlink or etcd: what the kernel holds is told to it by the binaries.

pub mod address;
pub mod alias;
pub mod attachment;
pub mod block;
pub mod clock;
mod error;
pub mod extras;
mod family;
pub mod guard;
pub mod liveness;
pub mod pool;
pub mod store;
pub mod strings;
pub mod sweep;
mod wait;
pub mod want;

#[cfg(all(feature = "model", not(debug_assertions)))]
compile_error!(
    "the feature `model` takes the guards of addresses out: it is for tests, and what is shipped is built without it"
);

pub use alias::Alias;
pub use attachment::{Attachment, AttachmentId, HOST_MAC, Key, KeyHash, State};
pub use block::Block;
pub use clock::BootTime;
pub use error::{Error, Unavailable};
pub use extras::Extras;
pub use family::Family;
pub use liveness::Liveness;
pub use pool::NodePool;
pub use store::Store;
pub use want::Want;
