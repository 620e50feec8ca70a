//! What the daemon tells of itself in numbers, and whether it is well: for Prometheus and for whoever supervises it.
//!
//! The registry is here, and nowhere else; no state is global. Each task is given a small handle of its own type, on which it
//! notes what happens. That costs it an atomic operation, or a lock that nobody holds for long, whether anybody asks or not. What is
//! asked for is served by [`serve`] on a thread of its own, so that neither many who ask nor a slow one keep the daemon from its
//! work, and that a daemon whose tasks hang can still be told to be ill ([`health`]).
//!
//! Labels come from fixed lists of words; the one that an operator chooses is the pool's name, of which there are as many as
//! pools in the configuration. `docs/metrics.md` has all of them; a test holds it to the registry.

mod addresses;
mod bgp;
mod board;
mod etcd;
pub mod health;
mod kernel;
mod memory;
mod plugin;
mod probes;
mod process;
pub mod serve;
#[cfg(test)]
mod tests;
mod troubles;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::troubles::Troubles;

pub use addresses::{Addresses, open};
pub use bgp::Peers;
pub use etcd::{Cluster, Measured, Requests};
pub use kernel::{Convergence, Events, FILTERS, Pass, Passes};
pub use memory::Memory;
pub use plugin::{Plugin, Ring};
pub use probes::Probes;

use health::Ready;

/// What the names of our metrics begin with.
const PREFIX: &str = "twill";

/// What the tasks note things on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handles {
    /// The doorbell's.
    pub plugin: Plugin,
    /// The block task's.
    pub addresses: Addresses,
    /// Of all who ask etcd something.
    pub requests: Requests,
    /// The watch's.
    pub cluster: Cluster,
    /// The watch's and the reconciler's.
    pub convergence: Convergence,
    /// The reconciler's.
    pub passes: Passes,
    /// The monitor's.
    pub events: Events,
    /// BGP's.
    pub peers: Peers,
    /// The probe's.
    pub probes: Probes,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    ready: Ready,
}

/// In which form metrics are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Prometheus,
}

impl Metrics {
    /// The registry with all metrics, none of which has been noted yet, and the handles to them.
    pub fn new(troubles: &Troubles) -> (Self, Handles) {
        let mut registry = Registry::default();
        process::register(&mut registry);
        let ours = registry.sub_registry_with_prefix(PREFIX);
        ours.register("build", "The version of twilld", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let ready = Ready::register(ours);
        troubles::register(ours, troubles);
        let handles = Handles {
            plugin: Plugin::register(ours),
            addresses: Addresses::register(ours),
            requests: Requests::register(ours),
            cluster: Cluster::register(ours),
            convergence: Convergence::register(ours),
            passes: Passes::register(ours),
            events: Events::register(ours),
            peers: Peers::register(ours),
            probes: Probes::register(ours),
        };
        (Self { registry, ready }, handles)
    }

    /// Where it is noted whether the node can serve pods.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// All of them, as they are now.
    pub fn tell(&self, form: Form) -> String {
        let mut told = String::new();
        let written = match form {
            Form::OpenMetrics => text::encode(&mut told, &self.registry),
            Form::Prometheus => prometheus_text::encode(&mut told, &self.registry),
        };
        written.expect("numbers can be written to memory");
        told
    }
}

impl Form {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}
