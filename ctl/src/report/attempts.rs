//! What `twillctl ipam attempts` says.

use serde::Serialize;
use twill_ipam::BootTime;
use twill_ipam::store;

/// The failures that this node keeps.
#[derive(Debug, Serialize)]
pub(crate) struct Attempts {
    /// Newest first; absent where this machine has no node store, or had none since it booted.
    pub(crate) attempts: Option<Vec<Attempt>>,
}

/// A failed ADD, DEL or GC.
#[derive(Debug, Serialize)]
pub(crate) struct Attempt {
    pub(crate) age_seconds: u64,
    /// CNI_COMMAND as it was given.
    pub(crate) verb: String,
    /// `namespace/name` where the runtime told.
    pub(crate) pod: Option<String>,
    /// Absent, as the next two, where the request did not name an attachment.
    pub(crate) container: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) interface: Option<String>,
    /// Which step failed.
    pub(crate) step: String,
    /// Why, as the runtime was told.
    pub(crate) cause: String,
    /// The CNI code.
    pub(crate) code: u32,
    /// How long it took until then.
    pub(crate) milliseconds: f64,
}

impl Attempts {
    pub(crate) fn new(found: Option<Vec<store::Attempt>>, now: BootTime) -> Self {
        Self { attempts: found.map(|found| found.into_iter().map(|one| Attempt::new(one, now)).collect()) }
    }
}

impl Attempt {
    fn new(attempt: store::Attempt, now: BootTime) -> Self {
        let key = attempt.key.as_ref();
        Self {
            age_seconds: now.since(attempt.at).as_secs(),
            pod: attempt.pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            container: key.map(|key| key.container.to_string()),
            network: key.map(|key| key.network.to_string()),
            interface: key.map(|key| key.ifname.to_string()),
            verb: attempt.verb,
            step: attempt.step,
            cause: attempt.cause,
            code: attempt.code,
            milliseconds: (attempt.took.as_secs_f64() * 1e5).round() / 100.0,
        }
    }
}
