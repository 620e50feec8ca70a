//! What the path probe finds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use twill_conf::NodeName;

use super::board::Board;
use crate::probe::{FINDINGS, GOOD};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Found {
    found: &'static str,
}

/// The probe's handle.
#[derive(Debug, Clone)]
pub struct Probes {
    probes: Family<Found, Counter>,
    targets: Gauge,
    faulty: Board<Found>,
    /// Those nodes.
    nodes: Arc<Mutex<BTreeMap<NodeName, &'static str>>>,
}

impl Probes {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let probes = Family::<Found, Counter>::default();
        for found in FINDINGS {
            drop(probes.get_or_create(&Found { found }));
        }
        registry.register("probes", "Looks of the path probe at another node, by what was found", probes.clone());
        let targets = Gauge::default();
        registry.register("probe_targets", "Other nodes that the path probe asks in turn", targets.clone());
        let help = "Other nodes to which the way is not good by two looks in a row, by what was found";
        let faulty = Board::register(registry, "probe_faulty_nodes", help);
        Self { probes, targets, faulty, nodes: Arc::default() }
    }

    /// A node was looked at.
    pub fn found(&self, found: &'static str) {
        self.probes.get_or_create(&Found { found }).inc();
    }

    /// How it stands: how many nodes are asked, and what is known for certain of each that is not good.
    pub fn stand(&self, targets: usize, faulty: BTreeMap<NodeName, &'static str>) {
        self.targets.set(i64::try_from(targets).unwrap_or(i64::MAX));
        let none = FINDINGS.into_iter().filter(|found| *found != GOOD).map(|found| (Found { found }, 0));
        self.faulty.replace(none.chain(faulty.values().map(|found| (Found { found }, 1))));
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = faulty;
    }

    /// The nodes to which the way is not good, with the word for it.
    pub fn faulty(&self) -> BTreeMap<NodeName, &'static str> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
