//! Metrics of which all samples are replaced together: what is not any more is not told any more.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// A gauge for each set of labels.
#[derive(Debug)]
pub(super) struct Board<L>(Arc<Mutex<BTreeMap<L, f64>>>);

impl<L> Clone for Board<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: EncodeLabelSet + Ord + Debug + Send + 'static> Board<L> {
    /// An empty one.
    pub(super) fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let board = Self(Arc::default());
        registry.register(name, help, board.clone());
        board
    }

    /// Puts these in the place of all that were there. Where a set of labels comes twice, the values are added.
    #[allow(clippy::cast_precision_loss, reason = "a count beyond 2^53 need not be exact")]
    pub(super) fn replace(&self, samples: impl IntoIterator<Item = (L, u64)>) {
        let mut sums = BTreeMap::new();
        for (labels, value) in samples {
            *sums.entry(labels).or_insert(0.0) += value as f64;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sums;
    }
}

impl<L: Clone> Board<L> {
    /// All samples.
    pub(super) fn samples(&self) -> BTreeMap<L, f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<L: EncodeLabelSet + Debug> EncodeMetric for Board<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().try_for_each(|(labels, value)| encoder.encode_family(labels)?.encode_gauge(value))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Histograms of one kind, by labels.
pub(super) type Histograms<L> = Family<L, Histogram>;

/// Durations by labels. There is a histogram of each of these from the beginning, so that a rate is zero and not unknown.
pub(super) fn durations<L>(
    registry: &mut Registry,
    (name, help): (&str, &str),
    make: fn() -> Histogram,
    all: impl IntoIterator<Item = L>,
) -> Histograms<L>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + Debug + Send + Sync + 'static,
{
    let family = Histograms::new_with_constructor(make);
    for labels in all {
        drop(family.get_or_create(&labels));
    }
    registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    family
}
