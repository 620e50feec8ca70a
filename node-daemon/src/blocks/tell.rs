//! What the log says of blocks: a claim, a problem, the end of a problem; each once. Who asks the daemon how it is, is told the
//! problems too.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use twill_cluster::keeper::Problem;
use twill_cluster::record::Told;

/// The keeper's problems, for whoever wants to know.
#[derive(Debug, Clone, Default)]
pub struct Complaints(Arc<Mutex<Vec<Told>>>);

impl Complaints {
    /// As they are now.
    pub fn now(&self) -> Vec<Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn are(&self, told: Vec<Told>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

/// Remembers what was said.
#[derive(Debug, Default)]
pub(super) struct Teller {
    problems: BTreeSet<String>,
    complaints: Complaints,
    store: Option<String>,
}

impl Teller {
    /// One that tells these too.
    pub(super) fn new(complaints: Complaints) -> Self {
        Self { complaints, ..Self::default() }
    }

    /// The keeper's problems have changed.
    pub(super) fn problems(&mut self, now: &[Problem]) {
        self.complaints.are(now.iter().filter_map(told).collect());
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

/// A problem and what to do, which stands behind the last semicolon of most. What anybody sees in etcd is left out.
fn told(problem: &Problem) -> Option<Told> {
    let text = problem.to_string();
    let without = |fix: &str| Some(Told { what: text.clone(), fix: fix.to_owned() });
    match problem {
        Problem::NoConfiguration { .. } | Problem::NoPool(_) => None,
        Problem::SteppedBack { .. } => without("if it was not restored on purpose, look at etcd: it may have old data"),
        Problem::BlockLost { owner: None, .. } => without("if it stays so, look at the log of its twilld"),
        Problem::BlockOutsidePools { .. } => {
            without("add a pool that it lies in, or restart the pods that have addresses of it")
        }
        _ => match text.rsplit_once("; ") {
            Some((what, fix)) => Some(Told { what: what.to_owned(), fix: fix.to_owned() }),
            None => without("look at the log of its twilld"),
        },
    }
}

/// The node is in the cluster.
pub(super) fn registered(name: &str, epoch: i64, returned: bool) {
    let how = if returned { "is back" } else { "is registered" };
    tracing::info!("{name} {how}, epoch {epoch}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_told_problem_and_fix_apart_and_not_what_stands_in_etcd_anyway() {
        let (block, node) = ("10.42.0.0/26".parse().unwrap(), "n1".parse().unwrap());
        let complaints = Complaints::default();
        let mut teller = Teller::new(complaints.clone());
        let changed = Problem::RecordChanged { node };
        let owner = Some("n2".parse().unwrap());
        teller.problems(&[changed, Problem::NoConfiguration { cause: None }, Problem::BlockLost { block, owner }]);
        let told = complaints.now();
        assert_eq!(told.len(), 2);
        assert!(
            told[0].fix.starts_with("look for a second machine with this node's name and machine ID, then"),
            "{told:?}"
        );
        assert_eq!(told[1].fix, "pods that have addresses in it may be unreachable, restart them");
        teller.problems(&[]);
        assert_eq!(complaints.now(), []);
    }
}
