//! What failed is kept in the node's store, for `twillctl`: the last 256 failures with their step and cause.
//!
//! Best effort, after the answer was printed.

use std::time::{Duration, Instant};

use twill_ipam::store::{Attempt, Environment, Role};
use twill_ipam::{BootTime, Store};

use crate::environment::Verb;
use crate::error::Error;
use crate::request::Request;

/// How long it may take: the runtime has its answer, but waits for the process to end.
const PATIENCE: Duration = Duration::from_millis(50);

/// Keeps `error` of an ADD or DEL that began at `begin`. Makes no store where there is none. The verb has closed its
/// own store: a second one in one process would drop the first one's locks.
pub(crate) fn record(request: &Request, verb: Verb, error: &Error, begin: Instant) {
    let quick = Environment { patience: PATIENCE, ..Environment::default() };
    let Ok(mut store) = Store::open_in(request.run_dir(), Role::Guest, &quick) else { return };
    let attempt = Attempt {
        at: BootTime::now(),
        verb: verb.as_str().to_owned(),
        key: Some(request.key.clone()),
        pod: request.target.arguments.pod.clone(),
        step: error.step().to_owned(),
        cause: error.full_text(),
        code: error.code(),
        took: begin.elapsed(),
    };
    drop(store.record_attempt(&attempt));
}
