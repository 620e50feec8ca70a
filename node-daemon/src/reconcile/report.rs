//! What the log says of the reconciler: a line for each repair, and for what stands in the way, once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use twill_linux::IfName;
use twill_linux::ports::Port;
use twill_linux::table::{Outcome, Repair};

use super::feud::{Feuds, RESPITE};

/// Repairs of one pass that get a line each; of more, the number is told.
const LINES: usize = 8;

/// Remembers what was said, so that a state that lasts is told when it begins and when it ends.
#[derive(Debug, Default)]
pub(super) struct Report {
    obstacle: Option<String>,
    problems: BTreeSet<String>,
    /// What is not as the configuration of the underlay has it.
    underlay: BTreeSet<String>,
    /// Host ends that have lost their filter.
    unfiltered: BTreeSet<String>,
    /// The MTU that fits, where pods have a greater one.
    fits: Option<u32>,
    feuds: Feuds,
    /// What the kernel refused in the last pass.
    suspected: BTreeSet<String>,
    /// What it refused in two passes, and was told.
    refusals: BTreeSet<String>,
    /// Why ports could not be published again.
    unpublished: BTreeSet<String>,
}

impl Report {
    /// A pass could not be made.
    pub(super) fn obstacle(&mut self, text: &str) {
        if self.obstacle.as_deref() != Some(text) {
            tracing::error!("cannot reconcile, trying again every few seconds: {text}");
            self.obstacle = Some(text.to_owned());
        }
    }

    /// A pass was made.
    pub(super) fn clear(&mut self) {
        if self.obstacle.take().is_some() {
            tracing::info!("reconciling again");
        }
    }

    /// What `fabric` could not make of the view.
    pub(super) fn problems(&mut self, now: &[String]) {
        tell_new(&mut self.problems, now.iter().cloned().collect());
    }

    /// What of the underlay is not as it was said to be.
    pub(super) fn underlay(&mut self, now: &[String]) {
        tell_new(&mut self.underlay, now.iter().cloned().collect());
    }

    /// The pods with a greater MTU than fits. They go one by one, so that they are named once.
    pub(super) fn oversize(&mut self, fits: u32, pods: Vec<String>) {
        let now = (!pods.is_empty()).then_some(fits);
        if now == self.fits {
            return;
        }
        self.fits = now;
        if pods.is_empty() {
            tracing::info!("over: no pod has a greater MTU than fits, which is {fits}");
            return;
        }
        tracing::warn!(
            "the MTU that fits is {fits}, and pods have a greater one until they are attached anew: {}",
            some_of(pods.into_iter())
        );
    }

    /// The host ends that have lost the filter of what their pods send.
    pub(super) fn unfiltered(&mut self, lost: &[IfName]) {
        let told = |end: &IfName| {
            format!("the filter of {end} cannot be put back: rules of nftables look at the sources of what pods send")
        };
        tell_new(&mut self.unfiltered, lost.iter().map(told).collect());
    }

    /// What a pass did, its repairs of the firewall among it. `drifted`: nothing else was wanted than before, so every change is a
    /// repair. How long the next pass is to wait, since somebody undoes what this one did.
    pub(super) fn outcome(&mut self, outcome: Outcome, drifted: bool) -> Duration {
        let respite = if drifted { self.repairs(&outcome.repairs) } else { Duration::ZERO };
        if !drifted {
            for repair in &outcome.repairs {
                tracing::debug!("{repair}");
            }
        }
        // A pod that goes between the look at the store and the look at the kernel makes a refusal once; what is true is
        // refused again.
        let refused: BTreeSet<String> = outcome.errors.iter().map(|error| format!("refused: {error}")).collect();
        let again = refused.intersection(&self.suspected).cloned().collect();
        self.suspected = refused;
        tell_new(&mut self.refusals, again);
        respite
    }

    /// How many objects somebody else has another opinion of.
    pub(super) fn contested(&self) -> usize {
        self.feuds.contested()
    }

    fn repairs(&mut self, repairs: &[Repair]) -> Duration {
        let news = self.feuds.note(repairs, Instant::now());
        if let Some(first) = news.begun.first() {
            let names = some_of(news.begun.iter());
            let suspects = first.suspects();
            tracing::warn!(
                "repaired again and again, since somebody undoes it, and from now on in silence: {names}; {suspects}"
            );
        }
        if !news.over.is_empty() {
            tracing::info!("over: left in peace for a minute: {}", some_of(news.over.iter()));
        }
        let (mut told, mut more) = (0, 0);
        for repair in repairs.iter().filter(|repair| !self.feuds.is_contested(repair)) {
            if told < LINES {
                tracing::info!("repaired {repair}; repairs of this kind so far: {}", self.feuds.count(repair.table));
                told += 1;
            } else {
                tracing::debug!("repaired {repair}");
                more += 1;
            }
        }
        if more > 0 {
            tracing::info!("repaired {more} more objects");
        }
        if news.goes_on { RESPITE } else { Duration::ZERO }
    }

    /// What was repaired of published ports, and whether their rules were, or why that failed.
    pub(super) fn ports<E: std::fmt::Display>(&mut self, outcome: Result<(Vec<Port>, bool), E>) {
        let failed = match outcome {
            Ok((ports, rules)) => {
                if rules {
                    tracing::info!("repaired published ports: someone had changed or flushed their table");
                }
                for port in ports.iter().take(LINES) {
                    tracing::info!("repaired published port {port}");
                }
                None
            }
            Err(error) => Some(format!("published ports cannot be kept, trying again: {error}")),
        };
        tell_new(&mut self.unpublished, failed.into_iter().collect());
    }
}

/// The first of many, and how many more there are.
fn some_of<T: std::fmt::Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(LINES);
    let named = items.take(LINES).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named}, and {more} more") }
}

/// Tells what is new and what is over, so many lines of each at most: an interface that is down may be in the way of thousands of
/// routes.
fn tell_new(known: &mut BTreeSet<String>, now: BTreeSet<String>) {
    let new: Vec<_> = now.difference(known).collect();
    for text in new.iter().take(LINES) {
        tracing::warn!("{text}");
    }
    if new.len() > LINES {
        tracing::warn!("and {} more of that kind", new.len() - LINES);
    }
    let over: Vec<_> = known.difference(&now).collect();
    for text in over.iter().take(LINES) {
        tracing::info!("over: {text}");
    }
    if over.len() > LINES {
        tracing::info!("over: {} more of that kind", over.len() - LINES);
    }
    *known = now;
}
