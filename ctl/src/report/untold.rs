//! What could not be told: each thing with the reason, and with what would let it be told.

use std::fmt;

use serde::{Serialize, Serializer};
use twill_cluster::store::StoreError;

use super::problems::Problem;
use crate::error::Error;

/// One thing. In JSON it is one text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Untold {
    /// What, and why not.
    pub(crate) what: String,
    /// What to do.
    pub(crate) fix: String,
}

impl Untold {
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }

    /// By the error because of which `about` is not known; of an error alone where that says it.
    pub(crate) fn of(about: &str, error: &Error) -> Self {
        let what = if about.is_empty() { error.to_string() } else { format!("{about}: {error}") };
        Self::new(what, error.fix().unwrap_or_else(|| "do what it says, and try again".to_owned()))
    }
}

/// A problem because of which something is not known.
impl From<Problem> for Untold {
    fn from(problem: Problem) -> Self {
        let Problem { subject, what, fix, .. } = problem;
        Self::new(format!("{subject}: {what}"), fix)
    }
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.fix)
    }
}

impl Serialize for Untold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What to do about etcd that did not do what it was asked for.
pub(crate) fn remedy(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable { .. } | StoreError::Unknown { .. } => ETCD.to_owned(),
        StoreError::Full { .. } => {
            "compact and defragment it, then 'etcdctl alarm disarm' (docs/etcd.md); 'twillctl doctor' asks each member"
                .to_owned()
        }
        StoreError::Compacted(_) => "try again".to_owned(),
    }
}

/// The same where its error is known as text alone.
pub(crate) const ETCD: &str = "look whether etcd runs there, a majority of its members, and whether a firewall or its roles (docs/etcd.md) keep \
                               this machine out, or wait longer, by --timeout; 'twillctl doctor' asks each member";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_told_is_one_text_to_programs_with_what_to_do() {
        let error = Error::Etcd(StoreError::Unavailable { endpoints: "http://a:1".into(), cause: "refused".into() });
        let untold = Untold::of("", &error);
        assert_eq!(untold.what, "etcd at http://a:1: refused");
        assert!(untold.fix.contains("whether etcd runs there") && untold.fix.contains("'twillctl doctor'"));
        assert_eq!(serde_json::to_value(&untold).unwrap(), format!("{}; {}", untold.what, untold.fix));
        let about = Untold::of("what node n1 has in use", &error);
        assert_eq!(about.what, "what node n1 has in use: etcd at http://a:1: refused");
    }
}
