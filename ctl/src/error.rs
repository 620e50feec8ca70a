//! Why a command gave no report.

use std::path::{Path, PathBuf};

use twill_cluster::etcd::InvalidEndpoint;
use twill_cluster::inquiry::client::Silence;
use twill_cluster::reconfigure::Refusal;
use twill_cluster::store::StoreError;
use twill_conf::NodeName;

use crate::report::Verdict;
use crate::report::config::Peril;
use crate::report::silences::remedy;
use crate::report::untold;

/// A command that failed, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A flag, a variable or the daemon's file.
    #[error(transparent)]
    Usage(twill_conf::Error),
    /// A cluster configuration that is not right.
    #[error("{document}: {error}")]
    Configuration {
        /// Which one: a file's name, "standard input" or the key in etcd.
        document: String,
        error: twill_conf::Error,
    },
    /// What stands in etcd cannot be shown.
    #[error("{key} cannot be read: {cause}; {remedy}")]
    Unreadable { key: String, cause: String, remedy: String },
    /// There is no configuration.
    #[error(
        "there is no cluster configuration at {key}: make one with 'twillctl config init', then 'twillctl config apply FILE'"
    )]
    NoConfiguration { key: String },
    /// The new configuration may not follow the old one.
    #[error("refused, nothing was changed: {}", .0.iter().map(refused).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refusal>),
    /// Pods would lose packets by the new configuration.
    #[error(
        "refused, nothing was changed: {}; with --force it is applied all the same",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Hazardous(Vec<Peril>),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// A node was asked to drain, or to end that, and did not say that it does.
    #[error("node {node}: {cause}; {remedy}", remedy = what_may_be(node, *on, cause))]
    NotDrained { node: NodeName, on: bool, cause: Silence },
    /// A node was asked about itself, and has not told.
    #[error("node {node}: {cause}; {remedy}", remedy = remedy(node.as_str(), cause))]
    NotTold { node: NodeName, cause: Silence },
    /// A node is not deleted.
    #[error("nothing was deleted: {0}")]
    NotDeleted(twill_cluster::removal::Refusal),
    /// A node is not what it was when it was looked at.
    #[error(
        "node {node} changed while it was being deleted, so nothing was deleted; it may be coming back: look at 'twillctl \
         status' and try again"
    )]
    NodeChanged { node: NodeName },
    /// Only the first of several transactions are known to be done.
    #[error(
        "node {node}: its record and {blocks} of its blocks are deleted, and something may be left: {cause}; 'twillctl ipam \
         check' shows what; if its machine is off, 'twillctl node delete {node} --machine-is-off' deletes the rest; if it \
         runs, twilld on {node} registers it anew"
    )]
    PartlyDeleted { node: NodeName, blocks: usize, cause: String },
    /// The answer to a deletion was lost.
    #[error("node {node}: {cause}; it may or may not have been deleted: run the same command again")]
    Unsure { node: NodeName, cause: StoreError },
    /// Somebody else wrote it in between.
    #[error(
        "somebody else changed the configuration at the same time (it was at revision {read}, now it is at {now}): nothing \
         was changed; look at 'twillctl config show' and apply again"
    )]
    Conflict { read: i64, now: i64 },
    /// It is not at the revision that was named.
    #[error(
        "refused, nothing was changed: the configuration {}, not at revision {expected}; see what is there now by 'twillctl config \
         show', and what a file would change of it by 'twillctl config diff FILE'",
        stands_at(*now)
    )]
    OtherRevision { expected: i64, now: i64 },
    /// There is nothing to edit it with.
    #[error(
        "there is no editor: {0}; set VISUAL or EDITOR to one, as in EDITOR=nano, or change a file and use 'twillctl config apply'"
    )]
    NoEditor(String),
    /// The editor did not do its work.
    #[error("the editor '{editor}' failed ({cause}): nothing was changed")]
    Editor { editor: String, cause: String },
    /// Nothing was left of the configuration.
    #[error("nothing was changed: the file was saved without a configuration in it")]
    Emptied,
    /// What was edited is not applied, and not lost.
    #[error("{cause}; {}", kept(cause, wrong.as_deref(), path))]
    Kept {
        cause: Box<Error>,
        /// What is wrong with the text itself, where the cause is another one.
        wrong: Option<Box<Error>>,
        path: PathBuf,
    },
    /// Blocks were claimed in a range that is to go, each time that it was tried.
    #[error("blocks are being claimed faster than the configuration can be written: nothing was changed; try again")]
    Busy,
    /// The answer was lost.
    #[error("{0}; it is not known whether the configuration was written: look with 'twillctl config show'")]
    Unclear(StoreError),
    /// etcd, before anything was asked of it that changes something.
    #[error("{0}; nothing was changed")]
    Unchanged(StoreError),
    /// etcd.
    #[error(transparent)]
    Etcd(StoreError),
    /// An address of etcd.
    #[error(transparent)]
    Endpoint(InvalidEndpoint),
    /// The store of this node.
    #[error("the store of this node, in {}, cannot be read: {cause}", run_dir.display())]
    NodeStore { run_dir: PathBuf, cause: twill_ipam::Error },
    /// The operator has ended it. The pods are taken down.
    #[error("interrupted: nothing was found out")]
    Interrupted,
    /// Signals could not be waited for.
    #[error("the kernel gives no handler of signals: {cause}")]
    Signals { cause: std::io::Error },
    /// A plot.
    #[error("the plot cannot be drawn: {0}")]
    Drawing(String),
    /// A file.
    #[error("cannot {what} {}: {cause}", path.display())]
    File { what: &'static str, path: PathBuf, cause: std::io::Error },
}

impl Error {
    /// What to do, where the words alone do not say it.
    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Unsure { cause, .. } | Self::Unclear(cause) | Self::Unchanged(cause) | Self::Etcd(cause) => {
                Some(untold::remedy(cause))
            }
            // Its own words say what to do with what was written, too.
            Self::Kept { cause, .. } => cause.fix(),
            Self::Drawing(_) => Some("report it with 'twillctl bundle'; what was measured stands above".to_owned()),
            _ => None,
        }
    }

    /// What it says about the cluster.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Configuration { .. }
            | Self::Unreadable { .. }
            | Self::NoConfiguration { .. }
            | Self::Refused(_)
            | Self::Hazardous(_)
            | Self::NotFound(_)
            | Self::NotDeleted(_)
            | Self::NodeChanged { .. }
            | Self::PartlyDeleted { .. }
            | Self::Conflict { .. }
            | Self::OtherRevision { .. }
            | Self::Emptied
            | Self::Busy => Verdict::Problems,
            Self::Kept { cause, .. } => cause.verdict(),
            Self::Usage(_)
            | Self::NoEditor(_)
            | Self::Editor { .. }
            | Self::Unclear(_)
            | Self::Unchanged(_)
            | Self::NotDrained { .. }
            | Self::NotTold { .. }
            | Self::Unsure { .. }
            | Self::Etcd(_)
            | Self::Endpoint(_)
            | Self::NodeStore { .. }
            | Self::Interrupted
            | Self::Signals { .. }
            | Self::Drawing(_)
            | Self::File { .. } => Verdict::Unknown,
        }
    }
}

/// Where what was edited is kept, and what can be done with it: a text that is wrong is wrong there too.
fn kept(cause: &Error, wrong: Option<&Error>, path: &Path) -> String {
    let file = path.display();
    let why = wrong.map(|wrong| format!(", since it is not right ({wrong})")).unwrap_or_default();
    let apply = format!("'twillctl config apply {file}'");
    let told_by_diff = format!("'twillctl config diff {file}' says whether it would be applied");
    let next = match wrong.unwrap_or(cause) {
        Error::Configuration { .. } | Error::File { .. } => format!("correct it there, then {apply}"),
        Error::Refused(refusals) if !refusals.iter().all(may_pass) => {
            format!("as it is, {apply} refuses it too; change it, and {told_by_diff}")
        }
        Error::Refused(_) => format!("when what is said above is done, apply it by {apply}; {told_by_diff}"),
        Error::Hazardous(_) => format!("when what is said above is done, apply it by {apply}, or at once with --force"),
        _ => {
            return format!(
                "what you wrote is kept in {file}: 'twillctl config diff {file}' compares it, {apply} applies it"
            );
        }
    };
    format!("what you wrote is kept in {file} and not applied{why}: {next}")
}

/// Whether the same configuration is taken once something is done in the cluster: a pool drained, a daemon updated.
fn may_pass(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Held(_) | Refusal::Unable { .. } => true,
        Refusal::Strays(_) | Refusal::Underlay { .. } | Refusal::TooLong { .. } | Refusal::TooMuch(_) => false,
    }
}

/// Why a configuration is refused, and what to do.
pub(crate) fn refused(refusal: &Refusal) -> String {
    format!("{refusal}{}", how_to_drain(refusal))
}

/// What to do where blocks stand in the way.
fn how_to_drain(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Held(_) => {
            "; to drain a pool, apply it with \"disabled = true\", restart its pods (they get addresses of other pools), and wait \
             until 'twillctl ipam show' has no block of it"
        }
        _ => "",
    }
}

/// Where the configuration stands.
fn stands_at(revision: i64) -> String {
    if revision == 0 { "is not there at all".to_owned() } else { format!("is at revision {revision}") }
}

/// What a node may be doing that did not say that it does what it was asked for. A request that is being done as the time
/// ends is done all the same.
fn what_may_be(node: &NodeName, drains: bool, silence: &Silence) -> String {
    match silence {
        Silence::Unsupported { .. } => format!("nothing was changed: update twilld on {node}"),
        Silence::Dead => {
            format!(
                "it was not asked, and nothing was changed: look at twilld on {node}: is it running, and does it reach etcd?"
            )
        }
        _ => {
            let (may, remedy) = match drains {
                true => ("be draining", "end that with --undo"),
                false => ("serve new pods", "try again"),
            };
            format!(
                "it may {may} already: look at 'twillctl node show {node}', or {remedy}; if it never answers, look at twilld on \
                 {node}, and at etcd's roles (docs/etcd.md)"
            )
        }
    }
}
