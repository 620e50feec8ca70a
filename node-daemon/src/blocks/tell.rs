//! What the log says of blocks: a claim, a problem, the end of a problem; each once.

use std::collections::BTreeSet;

use twill_cluster::keeper::Problem;

/// Remembers what was said.
#[derive(Debug, Default)]
pub(super) struct Teller {
    problems: BTreeSet<String>,
    store: Option<String>,
}

impl Teller {
    /// The keeper's problems have changed.
    pub(super) fn problems(&mut self, now: &[Problem]) {
        let now: BTreeSet<String> = now.iter().map(ToString::to_string).collect();
        for text in now.difference(&self.problems) {
            tracing::warn!("{text}");
        }
        for text in self.problems.difference(&now) {
            tracing::info!("over: {text}");
        }
        self.problems = now;
    }

    /// The node store was written, or was not.
    pub(super) fn store(&mut self, done: Result<(), twill_ipam::Error>) {
        match done {
            Ok(()) => self.store = None,
            Err(error) => {
                let text = error.to_string();
                if self.store.as_ref() != Some(&text) {
                    tracing::error!("{text}");
                    self.store = Some(text);
                }
            }
        }
    }
}

/// The node is in the cluster.
pub(super) fn registered(name: &str, epoch: i64, returned: bool) {
    let how = if returned { "is back" } else { "is registered" };
    tracing::info!("{name} {how}, epoch {epoch}");
}
