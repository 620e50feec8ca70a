//! A pod's attachment: what it is in the kernel, and in which order it comes and goes.
//!
//! [`course`] has the order: of ADD, DEL and GC, which the plugin runs, and of the sweep and of a store that was lost, which
//! the daemon sees to. Each goes between the node's store, whose rules it asks, and the [`kernel`], a trait. What stands for
//! an attachment is a [`plan`]; [`linux`] and [`building`] are the hands that make and remove it over netlink and nft,
//! [`observe`] reads it back for CHECK, [`serving`] says whether another one could come. So the same courses are played by a model test (`tests/model`), whose kernel is a
//! map and whose processes can be killed anywhere.
//!
//! Of CNI it reads and writes no document: what it takes from one, as ports, limits and routes, comes parsed, in the types of
//! [`twill_conf::network`], and its errors name the keys that were given there. It knows nothing of the cluster and of other
//! nodes.

pub mod building;
pub mod course;
mod error;
mod further;
pub mod kernel;
pub mod limit;
pub mod linux;
mod message;
pub mod observe;
pub mod plan;
pub mod ports;
pub mod publish;
pub mod serving;
mod standing;
pub mod sysctl;

pub use building::Building;
pub use error::{Error, MORE_SUBNETS};
pub use kernel::{Builder, Kernel};
pub use linux::Linux;
pub use plan::Plan;
