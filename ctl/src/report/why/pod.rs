//! Why a pod is as it is: where it is attached, with which addresses, and what failed for it.

use serde::Serialize;
use twill_cluster::inquiry::attempts::{AttachmentRecord, AttemptRecord, History, remedy};
use twill_cluster::inquiry::client::{Answers, Silence};
use twill_conf::NodeName;

use crate::report::addresses::{AddressRow, Addresses, Sources};
use crate::report::problems::{self, Problem};
use crate::report::silences::Silences;
use crate::report::untold::Untold;

/// So many failures are told.
const MOST: usize = 10;
/// An ADD or a DEL is done sooner than that, in seconds: what is half done for longer was given up.
const LONG: u64 = 60;

/// The finding.
#[derive(Debug, Serialize)]
pub(crate) struct WhyPod {
    /// `namespace/name`.
    pub(crate) pod: String,
    /// What the nodes' stores have of it.
    pub(crate) attachments: Vec<Attached>,
    /// What etcd has of its addresses: a node tells within seconds.
    pub(crate) addresses: Vec<AddressRow>,
    /// What failed for it, newest first: the first ones.
    pub(crate) attempts: Vec<Failed>,
    /// How many there are in all.
    pub(crate) failures: usize,
    pub(crate) problems: Vec<Problem>,
    /// What could not be looked at, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// An attachment, and where.
#[derive(Debug, Serialize)]
pub(crate) struct Attached {
    pub(crate) node: NodeName,
    #[serde(flatten)]
    pub(crate) attachment: AttachmentRecord,
}

/// A failure, where, and what to do.
#[derive(Debug, Serialize)]
pub(crate) struct Failed {
    pub(crate) node: NodeName,
    #[serde(flatten)]
    pub(crate) attempt: AttemptRecord,
    pub(crate) fix: String,
}

impl WhyPod {
    /// By what etcd has and what the nodes say. `all`: every node was asked that there is.
    pub(crate) fn new(pod: &str, sources: &Sources, answers: Answers<History>, all: bool) -> Self {
        let Addresses { addresses, mut unknown, .. } = sources.of_pod(pod, Vec::new());
        let addresses = addresses.unwrap_or_default();
        let complete = all && answers.values().all(Result::is_ok);
        // What a node's own store says leaves no question open that its mirror may.
        if complete {
            unknown.clear();
        }
        unknown.extend(silences(&answers));
        let (mut attachments, mut attempts, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        for (node, answer) in answers {
            match answer {
                Ok(mut history) => {
                    history.attempts.iter_mut().for_each(without_step);
                    let attached = history.attachments.into_iter();
                    attachments.extend(attached.map(|attachment| Attached { node: node.clone(), attachment }));
                    let failed = history.attempts.into_iter();
                    attempts.extend(failed.map(|attempt| Failed {
                        fix: remedy(&node, attempt.code, &attempt.cause),
                        node: node.clone(),
                        attempt,
                    }));
                }
                Err(Silence::Dead) => dead.push(node),
                Err(_) => {}
            }
        }
        attempts.sort_by_key(|failed| failed.attempt.age_seconds);
        let mut why = Self {
            pod: pod.to_owned(),
            attachments,
            addresses,
            failures: attempts.len(),
            attempts,
            problems: Vec::new(),
            unknown,
        };
        why.judge(sources, complete);
        if !why.is_found() {
            // It may be there.
            why.problems.extend(
                dead.iter().map(problems::unheard).filter(|dead| !why.problems.contains(dead)).collect::<Vec<_>>(),
            );
        }
        why.attempts.truncate(MOST);
        why
    }

    /// Whether a node says that it is attached there; what others have not told does not matter then.
    pub(crate) fn is_found(&self) -> bool {
        self.attachments.iter().any(|one| one.attachment.state == "attached")
    }

    /// Whether it is attached, as far as is known; where it is not, the last failure is its problem.
    pub(crate) fn is_attached(&self) -> bool {
        self.is_found() || self.addresses.iter().any(|row| row.state == "attached")
    }

    /// What is wrong. `complete`: all that the nodes have is known.
    fn judge(&mut self, sources: &Sources, complete: bool) {
        let subject = format!("pod {}", self.pod);
        let newest = self.attempts.first();
        if !self.is_attached()
            && let Some(Failed { node, attempt, fix }) = newest
        {
            let AttemptRecord { verb, step, cause, code, age_seconds, .. } = attempt;
            let not = if verb == "ADD" { "it is not attached: " } else { "" };
            let what =
                format!("{not}its last {verb}, {age_seconds} s ago on {node}, failed at {step} (code {code}): {cause}");
            self.problems.push(Problem::new(&subject, what, fix));
        }
        for Attached { node, attachment } in &self.attachments {
            if attachment.state != "attached" && attachment.age_seconds > LONG {
                let what = format!("on {node} it is half made: {} for longer than any call lasts", attachment.state);
                let fix =
                    format!("nothing for a while, twilld on {node} frees it; if it stays, 'twillctl ipam check --fix'");
                self.problems.push(Problem::new(&subject, what, fix));
            }
        }
        let mut nodes: Vec<String> = self.attachments.iter().map(|one| one.node.to_string()).collect();
        nodes.extend(self.addresses.iter().filter_map(|row| Some(row.node.as_ref()?.to_string())));
        nodes.sort();
        nodes.dedup();
        if nodes.len() > 1 {
            let what = format!("nodes {} have something of it", nodes.join(", "));
            let fix = "if it was moved, nothing: the node that it left frees it; else 'twillctl ipam check'";
            self.problems.push(Problem::new(&subject, what, fix));
        }
        for name in &nodes {
            self.problems.extend(of_node(sources, name));
        }
        if nodes.is_empty() && self.attempts.is_empty() && complete && self.unknown.is_empty() {
            let what = "no node has heard of it: the plugin was not called for it since its node booted, or the last failures of that node \
                        were others";
            let fix = "look whether it is placed on a node at all, whether its runtime uses Twill's network list, and at the log of the \
                       runtime ('kubectl describe pod' shows both); a pod of the host's network needs none";
            self.problems.push(Problem::new(&subject, what, fix));
        }
    }
}

/// The runtime is told the step before the cause; here it stands by itself.
fn without_step(attempt: &mut AttemptRecord) {
    let cause = attempt.cause.strip_prefix(&attempt.step).and_then(|rest| rest.strip_prefix(": "));
    if let Some(cause) = cause {
        attempt.cause = cause.to_owned();
    }
}

/// What is wrong with the node of a pod.
fn of_node(sources: &Sources, name: &str) -> Vec<Problem> {
    let census = sources.census.as_ref();
    let found = census.and_then(|census| {
        let name: NodeName = name.parse().ok()?;
        let record = census.view.nodes.get(&name)?;
        Some(problems::node(&census.view, &name, record, census.alive.contains(&name)))
    });
    found.unwrap_or_default()
}

/// What is not known for want of answers. An older version is no excuse: the pod may be there.
fn silences(answers: &Answers<History>) -> Vec<Untold> {
    let about = |nodes: &str, several| format!("what {nodes} {} of it", if several { "have" } else { "has" });
    let Silences { notes, unknown } = Silences::of(answers, "tell what it has of a pod", about);
    unknown.into_iter().chain(notes.into_iter().map(Untold::from)).collect()
}
