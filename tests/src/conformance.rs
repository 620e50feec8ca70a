//! What a CNI plugin must do, as data, and a machine that holds any plugin to it from outside.
//!
//! The rules are the TOML files in `tests/conformance/rules`: each has its text, where it is written, the verbs that it is
//! about, and cases. A case is a call of the plugin with what went before it and what is expected of answer, kernel and
//! store. What differs between plugins (the skeleton of a configuration, how their rows are seen) is a [`Subject`], a file
//! in `tests/conformance/subjects`. [`run`] plays all cases against one subject, each in a [`room`] of its own;
//! [`report`] makes the table of `docs/cni-conformance.md` of it.

pub mod expect;
pub mod play;
pub mod report;
pub mod room;
pub mod rule;
pub mod shape;
pub mod snapshot;
pub mod subject;
pub mod words;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{Result, needs};
use rule::Rule;
use subject::Subject;

/// A program and what describes it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The description.
    pub subject: Subject,
    /// The program.
    pub program: PathBuf,
    /// The versions that its answer to VERSION lists, oldest first.
    pub versions: Vec<String>,
    /// A program that is called in its place for the call that a case is about, to see that the case can fail.
    pub in_its_place: Option<PathBuf>,
}

/// What became of a rule for one verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All of its cases, in all of their versions.
    Pass,
    /// What was seen in the first case that went wrong.
    Fail(String),
    /// It does not apply, and why.
    Beside(String),
}

/// Where the data is.
pub fn directory() -> PathBuf {
    needs::workspace().join("tests/conformance")
}

/// How many cases are played at once: most of one is waiting for the kernel.
const AT_ONCE: usize = 3;

/// Plays all rules against a candidate: a verdict for each verb of each rule, in their order. `None` without root.
pub fn run(candidate: &Candidate, rules: &[Rule]) -> Option<Result<Vec<Verdict>>> {
    let jobs: Vec<(&Rule, &str)> = pairs(rules).collect();
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(vec![None; jobs.len()]));
    let work = || -> Option<Result<()>> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((rule, verb)) = jobs.get(number) else { return Some(Ok(())) };
            match play::verdict(candidate, rule, verb)? {
                Ok(verdict) => verdicts.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(verdict),
                Err(error) => return Some(Err(error)),
            }
        }
    };
    let ended: Option<Result<Vec<()>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a case does not panic")).collect()
    });
    let verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
    Some(ended?.map(|_| verdicts.into_iter().map(|verdict| verdict.expect("every job was done")).collect()))
}

/// The (verb, rule) pairs in the order of the table.
pub fn pairs(rules: &[Rule]) -> impl Iterator<Item = (&Rule, &str)> {
    rules.iter().flat_map(|rule| rule.verbs.iter().map(move |verb| (rule, verb.as_str())))
}

/// Where Debian puts the reference plugins.
pub const REFERENCE: &str = "/usr/lib/cni/ptp";

/// The reference plugin; `None` where it is not installed.
pub fn reference() -> Option<Result<Candidate>> {
    Path::new(REFERENCE).exists().then(|| Candidate::new(Subject::read("ptp")?, REFERENCE.into()))
}
