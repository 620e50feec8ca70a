//! The one error of the plugin, the CNI code of each, and the document that the runtime reads.
//!
//! Codes below 100 are the specification's, those from 100 are ours; [`Error::code`] is the only place that gives them.
//! An error's text is one line: the step, on what, why. Causes below it go into `details`.

use serde_json::{Value, json};
use twill_attach::course::gc::Left;
use twill_attach::serving::Trouble;
use twill_conf::NetworkName;
use twill_ipam::Unavailable;

use crate::environment::Verb;
use crate::version::Version;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Variables that the verb needs are absent or empty.
    #[error("missing in the environment: {}", .0.join(", "))]
    MissingVariables(Vec<&'static str>),
    /// A variable that breaks its rule.
    #[error("{variable}={value:?} is not valid: {rule}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// What would be right.
        rule: String,
    },
    /// Standard input cannot be read.
    #[error("reading the network configuration from standard input")]
    Input(#[source] std::io::Error),
    /// A version of the specification that is not spoken.
    #[error("cniVersion: {0:?} is not supported; supported are {list}", list = Version::list())]
    UnsupportedVersion(String),
    /// A verb that the configuration's version does not have.
    #[error("{verb} needs cniVersion {needed} or newer, the configuration says {found}")]
    VerbNeedsVersion {
        /// The verb.
        verb: Verb,
        /// Since when it is specified.
        needed: Version,
        /// What the configuration says.
        found: Version,
    },
    /// A configuration that is refused.
    #[error("network configuration: {0}")]
    Configuration(twill_conf::Error),
    /// A `prevResult` that is missing where it must be there, or is no result of ours.
    #[error("prevResult: {0}")]
    Previous(String),
    /// CNI_NETNS is the namespace that the plugin runs in.
    #[error("CNI_NETNS={0:?} is the plugin's own network namespace; CNI_NETNS_OVERRIDE=1 allows that")]
    OwnNamespace(String),
    /// The attachment did not come, or did not go.
    #[error(transparent)]
    Attachment(#[from] twill_attach::Error),
    /// CHECK found the attachment changed.
    #[error("the attachment is not as ADD left it: {}", .0.join("; "))]
    Differences(Vec<String>),
    /// STATUS: an ADD could not be served.
    #[error("network {network} is not ready on this node: {}", said(.wrong))]
    Unavailable {
        /// The network.
        network: NetworkName,
        /// Why, all of it.
        wrong: Vec<Trouble>,
        /// Whether pods that are attached suffer too.
        limited: bool,
    },
    /// A GC that could not remove all that is not valid.
    #[error("{} of {of} attachments of network {network} that are not valid any more are left", left.len())]
    Incomplete {
        /// The network.
        network: NetworkName,
        /// How many were to go.
        of: usize,
        /// What did not.
        left: Vec<Left>,
    },
}

fn said(troubles: &[Trouble]) -> String {
    troubles.iter().map(|trouble| trouble.what.as_str()).collect::<Vec<_>>().join("; ")
}

/// What a GC could not remove, in a line.
fn left_behind(left: &Left) -> String {
    let (ifname, why) = (left.hash.host_ifname(), text(&left.why));
    match &left.key {
        Some(key) => format!("{} of container {} ({ifname}): {why}", key.ifname, key.container),
        None => format!("{ifname}: {why}"),
    }
}

impl Error {
    /// For `map_err`: the store failed at `step`.
    pub(crate) fn store(step: &'static str) -> impl FnOnce(twill_ipam::Error) -> Self {
        move |source| twill_attach::Error::store(step)(source).into()
    }

    /// For `map_err`: the kernel refused `step`.
    pub(crate) fn kernel(step: &'static str) -> impl FnOnce(twill_linux::Error) -> Self {
        move |source| twill_attach::Error::kernel(step)(source).into()
    }

    /// For `map_err`: CNI_NETNS cannot be opened or entered.
    pub(crate) fn namespace(source: twill_linux::Error) -> Self {
        twill_attach::Error::Namespace(source).into()
    }

    /// The CNI code.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::UnsupportedVersion(_) | Self::VerbNeedsVersion { .. } => 1,
            Self::MissingVariables(_) | Self::Variable { .. } => 4,
            Self::Input(_) => 5,
            Self::Configuration(error) => code_of_configuration(error),
            Self::Previous(_) => 7,
            Self::Attachment(error) => code_of_attachment(error),
            Self::Unavailable { limited: false, .. } => 50,
            Self::Unavailable { limited: true, .. } => 51,
            Self::Incomplete { .. } => 106,
            Self::OwnNamespace(_) => 102,
            Self::Differences(_) => 104,
        }
    }

    /// The step that failed, for the record of attempts.
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::Attachment(error) => error.step(),
            Self::OwnNamespace(_) => "opening the namespace",
            Self::Differences(_) => "comparing",
            Self::Incomplete { .. } => "removing what is not valid any more",
            Self::Unavailable { .. } => "looking for what an ADD needs",
            _ => "reading the request",
        }
    }

    /// Message and causes in one line.
    pub(crate) fn full_text(&self) -> String {
        joined(self.to_string(), &self.details())
    }

    /// What stands below the message: its causes, and what could not be undone.
    fn details(&self) -> String {
        match self {
            Self::Attachment(error) => details(error),
            Self::Unavailable { wrong, .. } => {
                let mut remedies: Vec<_> = wrong.iter().filter_map(|trouble| trouble.remedy).collect();
                remedies.dedup();
                remedies.join("; ")
            }
            Self::Incomplete { left, .. } => left.iter().map(left_behind).collect::<Vec<_>>().join("; "),
            _ => causes(self),
        }
    }

    /// The document that goes to stdout instead of a result (CNI specification 1.1.0, "Error").
    pub(crate) fn document(&self, verb: Option<Verb>, version: Version) -> Value {
        let reword = |text: String| if verb == Some(Verb::Del) { never_absent(&text) } else { text };
        let mut document = json!({
            "cniVersion": version.as_str(),
            "code": self.code(),
            "msg": reword(self.to_string()),
        });
        let details = reword(self.details());
        if !details.is_empty() {
            document["details"] = details.into();
        }
        document
    }
}

/// Go clients take a DEL for done when its error says "not found" or "no such file or directory": a DEL that failed
/// says it in other words.
fn never_absent(text: &str) -> String {
    ["not found", "no such file or directory"].into_iter().fold(text.to_owned(), |text, phrase| {
        let mut rest = text.as_str();
        let mut reworded = String::new();
        while let Some(at) = rest.to_ascii_lowercase().find(phrase) {
            reworded.push_str(&rest[..at]);
            reworded.push_str("absent");
            rest = &rest[at + phrase.len()..];
        }
        reworded + rest
    })
}

fn code_of_configuration(error: &twill_conf::Error) -> u32 {
    match error {
        twill_conf::Error::Unsupported { .. } => 2,
        twill_conf::Error::Syntax { .. } => 6,
        _ => 7,
    }
}

fn code_of_attachment(error: &twill_attach::Error) -> u32 {
    use twill_attach::Error as Attach;
    use twill_ipam::Error as Ipam;
    match error {
        Attach::Configuration(error) => code_of_configuration(error),
        Attach::RouteExists { .. } => 7,
        Attach::Store { source, .. } => match source {
            Ipam::Exists { .. } => 101,
            Ipam::Overlap { .. } => 7,
            Ipam::PortTaken { .. } => 107,
            Ipam::Requested { why: Unavailable::Untold, .. } => 11,
            Ipam::Requested { .. } => 103,
            Ipam::Draining { .. } | Ipam::NoPool(_) | Ipam::Refused(_) => 100,
            temporary if temporary.is_temporary() => 11,
            _ => 5,
        },
        Attach::Exhausted { .. } => 100,
        Attach::TooLate(_) => 11,
        Attach::InterfaceExists { .. } => 101,
        Attach::Namespace(_) => 102,
        Attach::PortTaken { .. } => 107,
        Attach::Kernel { .. } | Attach::AddressTaken { .. } => 105,
        Attach::ForeignDevice { .. } | Attach::LinkVanished { .. } => 105,
        Attach::NotUndone { source, .. } => code_of_attachment(source),
    }
}

/// Message and causes of what did not come or go, in one line.
pub(crate) fn text(error: &twill_attach::Error) -> String {
    joined(error.to_string(), &details(error))
}

fn details(error: &twill_attach::Error) -> String {
    use twill_attach::Error as Attach;
    match error {
        // The texts of these hold their cause.
        Attach::Store { .. } | Attach::Kernel { .. } => String::new(),
        Attach::Exhausted { remedy, .. } => (*remedy).to_owned(),
        Attach::NotUndone { source, left } => {
            let undoing = format!("undoing failed: {left}");
            let above = Some(details(source)).filter(|details| !details.is_empty());
            above.into_iter().chain([undoing]).collect::<Vec<_>>().join("; ")
        }
        other => causes(other),
    }
}

fn joined(message: String, details: &str) -> String {
    if details.is_empty() { message } else { format!("{message}; {details}") }
}

/// The texts of what lies below an error.
fn causes(error: &dyn std::error::Error) -> String {
    let below = std::iter::successors(error.source(), |error| error.source());
    below.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
