//! What is to be said of what was seen. Pure: the same sight and the same wishes make the same findings, in the same order, and
//! each check says something, also where all is good.

mod cni;
mod kernel;
mod machine;
mod network;
mod time;

pub use cni::install_where;

use crate::finding::{Check, Finding, State};
use crate::observe::{Observations, Seen};
use crate::scope::Scope;

/// Judges everything.
pub fn judge(scope: &Scope, seen: &Observations) -> Vec<Finding> {
    let checks: [fn(&Scope, &Observations, &mut Findings); 15] = [
        kernel::kernel,
        kernel::nft,
        kernel::sysctl,
        kernel::conntrack,
        network::firewall,
        network::managers,
        network::mtu,
        network::tunnel,
        network::overlap,
        time::clock,
        time::certificates,
        cni::cni,
        machine::permissions,
        machine::directories,
        machine::identity,
    ];
    let mut findings = Findings::default();
    for check in checks {
        check(scope, seen, &mut findings);
    }
    findings.0
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: Check, what: impl Into<String>) {
        self.0.push(Finding::ok(check, "", what));
    }

    fn note(&mut self, check: Check, subject: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding::note(check, subject, what, fix));
    }

    fn problem(&mut self, check: Check, subject: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding::problem(check, subject, what, fix));
    }

    /// What could not be told, and what would let it be. One cause is told once, whatever of a check it hides.
    fn unknown(&mut self, check: Check, subject: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) {
        let finding = Finding::unknown(check, subject, what, fix);
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// What was seen, or `None` after saying that it was not.
    fn seen<'a, T>(&mut self, check: Check, seen: &'a Seen<T>) -> Option<&'a T> {
        seen.as_ref().map_err(|unseen| self.unknown(check, "", &unseen.why, unseen.remedy())).ok()
    }

    /// Says that a check is good, if it has said nothing else.
    fn else_ok(&mut self, check: Check, what: impl Into<String>) {
        if !self.0.iter().any(|finding| finding.check == check && finding.state != State::Ok) {
            self.ok(check, what);
        }
    }
}

/// A few names of many.
fn some_of(names: &[&str]) -> String {
    match names.len().checked_sub(3) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..3].join(", ")),
    }
}

#[cfg(test)]
mod tests;
