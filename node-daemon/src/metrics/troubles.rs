//! How many problems the tasks have told of: those that `twillctl status` shows in words.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::trials::FINDER;
use crate::troubles::{Board, Troubles};

/// Those who look for problems.
const FINDERS: [&str; 4] = ["bgp", "forward", "probe", FINDER];

#[derive(Debug)]
struct Told(watch::Receiver<Board>);

pub(super) fn register(registry: &mut Registry, troubles: &Troubles) {
    let help = "Problems that twillctl status shows of this node, by the task that found them";
    registry.register("problems", help, Told(troubles.subscribe()));
}

impl EncodeMetric for Told {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let board = self.0.borrow();
        FINDERS.into_iter().try_for_each(|finder| {
            let count = board.get(finder).map_or(0, Vec::len);
            encoder.encode_family(&[("finder", finder)])?.encode_gauge(&i64::try_from(count).unwrap_or(i64::MAX))
        })
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
