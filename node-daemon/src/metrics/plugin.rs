//! The plugin's calls, as their rings tell of them.
//!
//! CHECK and STATUS ring no bell, since they change nothing, and are not counted. A ring that finds the doorbell's queue full is
//! lost, and its call with it.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::Deserialize;

use super::board::{Histograms, durations};

/// The plugin's code for "try again later".
const LATER: u32 = 11;
/// Its code for an address that is not to be had.
const EXHAUSTED: u32 = 100;

const VERBS: [&str; 3] = ["ADD", "DEL", "GC"];
const OUTCOMES: [&str; 4] = ["success", "later", "exhausted", "failure"];

/// What a plugin's datagram tells. An older plugin may say less.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ring {
    /// The verb, as CNI writes it.
    pub verb: String,
    /// The CNI code; 0 for success.
    pub code: u32,
    /// How long the call has taken, in microseconds.
    pub micros: u64,
    /// The call goes on: it waits for a block.
    #[serde(default)]
    pub waiting: bool,
}

impl Ring {
    /// What a datagram tells, if it is one of a plugin's that tells something.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        serde_json::from_slice(datagram).ok()
    }

    /// Whether somebody waits for a block. An older plugin says so only by its code.
    pub fn wants_block(&self) -> bool {
        self.waiting || self.code == LATER
    }

    fn outcome(&self) -> &'static str {
        match self.code {
            0 => "success",
            LATER => "later",
            EXHAUSTED => "exhausted",
            _ => "failure",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verb: &'static str,
    outcome: &'static str,
}

/// The doorbell's handle.
#[derive(Debug, Clone)]
pub struct Plugin {
    calls: Histograms<Labels>,
    waits: Counter,
}

impl Plugin {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let make = || Histogram::new([0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]);
        let all = VERBS.into_iter().flat_map(|verb| OUTCOMES.map(|outcome| Labels { verb, outcome }));
        let help = "How long calls of the CNI plugin took that have ended, from the process's start to its answer";
        let calls = durations(registry, ("plugin_call_duration", help), make, all);
        let waits = Counter::default();
        registry.register(
            "plugin_block_waits",
            "Times that an ADD had to wait for a block of addresses",
            waits.clone(),
        );
        Self { calls, waits }
    }

    /// A plugin has rung.
    pub fn rung(&self, ring: &Ring) {
        if ring.waiting {
            self.waits.inc();
        } else if let Some(verb) = VERBS.into_iter().find(|verb| *verb == ring.verb) {
            let labels = Labels { verb, outcome: ring.outcome() };
            self.calls.get_or_create(&labels).observe(Duration::from_micros(ring.micros).as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(datagram: &str) -> Option<Ring> {
        Ring::read(datagram.as_bytes())
    }

    #[test]
    fn a_call_is_counted_when_it_has_ended_and_its_waits_by_themselves() {
        let plugin = Plugin::register(&mut Registry::default());
        for datagram in [
            r#"{"code":0,"micros":20000,"verb":"ADD"}"#,
            r#"{"code":11,"micros":1000,"verb":"ADD","waiting":true}"#,
            r#"{"code":11,"micros":5000000,"verb":"ADD","more":"of a newer plugin"}"#,
            r#"{"code":105,"micros":7,"verb":"DEL"}"#,
            r#"{"code":0,"micros":7,"verb":"FLY"}"#,
        ] {
            plugin.rung(&read(datagram).unwrap());
        }
        let histogram = |verb, outcome| {
            let histogram = plugin.calls.get_or_create(&Labels { verb, outcome });
            (histogram.count(), histogram.sum())
        };
        assert_eq!(histogram("ADD", "success"), (1, 0.02));
        assert_eq!(histogram("ADD", "later"), (1, 5.0));
        assert_eq!(histogram("DEL", "failure").0, 1);
        assert_eq!(plugin.waits.get(), 1);
        assert_eq!(plugin.calls.len(), VERBS.len() * OUTCOMES.len(), "no label comes from a datagram");
    }

    #[test]
    fn a_ring_without_words_or_with_others_tells_nothing() {
        assert!(["", "ring", "{}", "[1]", r#"{"verb":"ADD"}"#].into_iter().all(|datagram| read(datagram).is_none()));
        assert!(read(r#"{"code":11,"micros":7,"verb":"ADD"}"#).unwrap().wants_block(), "as older plugins say it");
        assert!(!read(r#"{"code":0,"micros":7,"verb":"ADD"}"#).unwrap().wants_block());
    }
}
