//! The lab: clusters made of network namespaces, with a real etcd, a `twilld` in each node's namespace and pods attached
//! by the real `cnitool`.
//!
//! The end-to-end tests, `hack/lab`, `hack/demo` and the benchmarks stand on it. It promises that labs live side by side,
//! since every name carries the lab's own prefix, and that nothing of a lab is left when its owner ends, in whatever way:
//! see [`cleanup`]. It treats the programs as an operator does, from outside: by their flags, their files, etcd and `ip`. Only
//! the benchmarks of the address manager, [`bench::ipam`], and of BGP, [`bench::bgp`], use our other crates.

pub mod bench;
pub mod binaries;
pub mod cleanup;
pub mod clients;
pub mod cni;
pub mod confinement;
pub mod conformance;
pub mod conversation;
pub mod deadline;
pub mod demo;
pub mod error;
pub mod etcd;
pub mod golden;
pub mod iperf;
pub mod kill;
pub mod lab;
pub mod links;
pub mod load;
pub mod namespace;
pub mod needs;
pub mod node;
pub mod overrun;
pub mod pod;
pub mod previous;
pub mod probe;
pub mod process;
pub mod routers;
pub mod scenario;
pub mod scene;
pub mod security;
pub mod wire;
pub mod witness;

pub use error::{LabError, Result};
pub use lab::{Lab, LabBuilder, PoolSpec};
pub use node::Node;
pub use pod::Pod;
pub use scenario::with_lab;
pub use wire::Underlay;
