//! What failed is kept in the node's store, for `twillctl`: the last 256 failures with their step and cause.
//!
//! Best effort, after the answer was printed. Makes no store where there is none. CHECK and STATUS write nothing, so their
//! failures are not kept.

use std::path::Path;
use std::time::{Duration, Instant};

use twill_attach::course::gc::Left;
use twill_conf::network::NetworkConf;
use twill_ipam::attachment::Pod;
use twill_ipam::store::{Attempt, Environment, Role};
use twill_ipam::{BootTime, Key, Store};

use crate::environment::{Glimpse, Verb};
use crate::error::{Error, text};
use crate::request::Request;
use crate::request::network::Gc;

/// How long it may take: the runtime has its answer, but waits for the process to end.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many of what one GC left are kept one by one: those of others are of use too.
const MOST: usize = 16;

/// Keeps `error` of an ADD or DEL that began at `begin`. The verb has closed its own store: a second one in one process
/// would drop the first one's locks.
pub(crate) fn record(request: &Request, verb: Verb, error: &Error, begin: Instant) {
    let (key, pod) = (Some(request.key.clone()), request.target.arguments.pod.clone());
    write(request.run_dir(), [attempt(verb.as_str(), key, pod, error.into(), begin)]);
}

/// Keeps what a GC left, each with its pod, or why it could not begin.
pub(crate) fn record_gc(request: &Gc, error: &Error, begin: Instant) {
    let verb = Verb::Gc.as_str();
    match error {
        Error::Incomplete { left, .. } => {
            let each = |left: &Left| {
                let Left { key, pod, why, .. } = left;
                let (step, cause) = (why.step(), text(why));
                attempt(verb, key.clone(), pod.clone(), Failed { step, cause, code: error.code() }, begin)
            };
            write(request.run_dir(), left.iter().take(MOST).map(each));
        }
        other => write(request.run_dir(), [attempt(verb, None, None, other.into(), begin)]),
    }
}

/// Keeps the refusal of a request that was never begun, as far as `text`, its standard input, tells where.
pub(crate) fn record_refused(glimpse: Glimpse, text: &[u8], error: &Error, begin: Instant) {
    if matches!(glimpse.verb, Some(Verb::Check | Verb::Status | Verb::Version)) {
        return;
    }
    let Ok(conf) = NetworkConf::for_delete(text) else { return };
    let Glimpse { command, container, ifname, pod, .. } = glimpse;
    let key = container.zip(ifname).map(|(container, ifname)| Key { network: conf.name, container, ifname });
    write(&conf.run_dir, [attempt(&command, key, pod, error.into(), begin)]);
}

/// What is told of a failure.
struct Failed {
    step: &'static str,
    cause: String,
    code: u32,
}

impl From<&Error> for Failed {
    fn from(error: &Error) -> Self {
        Self { step: error.step(), cause: error.full_text(), code: error.code() }
    }
}

fn attempt(verb: &str, key: Option<Key>, pod: Option<Pod>, failed: Failed, begin: Instant) -> Attempt {
    let Failed { step, cause, code } = failed;
    let (verb, step, took) = (verb.to_owned(), step.to_owned(), begin.elapsed());
    Attempt { at: BootTime::now(), verb, key, pod, step, cause, code, took }
}

fn write(run_dir: &Path, attempts: impl IntoIterator<Item = Attempt>) {
    let quick = Environment { patience: PATIENCE, ..Environment::default() };
    let Ok(mut store) = Store::open_in(run_dir, Role::Guest, &quick) else { return };
    for attempt in attempts {
        drop(store.record_attempt(&attempt));
    }
}
