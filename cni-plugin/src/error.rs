//! The one error of the plugin, the CNI code of each, and the document that the runtime reads.
//!
//! Codes below 100 are the specification's, those from 100 are ours; [`Error::code`] is the only place that gives them.
//! An error's text is one line: the step, on what, why. Causes below it go into `details`.

use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use twill_conf::NetworkName;
use twill_ipam::attachment::Pod;
use twill_ipam::{Attachment, Key, KeyHash};
use twill_linux::IfName;

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
    /// CNI_NETNS cannot be opened or entered.
    #[error("CNI_NETNS names no network namespace that can be entered")]
    Namespace(#[source] twill_linux::Error),
    /// CNI_NETNS is the namespace that the plugin runs in.
    #[error("CNI_NETNS={0:?} is the plugin's own network namespace; CNI_NETNS_OVERRIDE=1 allows that")]
    OwnNamespace(String),
    /// The interface is there already.
    #[error("interface {ifname} exists in {netns}: {why}")]
    InterfaceExists {
        /// CNI_IFNAME.
        ifname: String,
        /// CNI_NETNS.
        netns: String,
        /// Whose it is.
        why: String,
    },
    /// The node store or the liveness lock refused a step.
    #[error("{step}: {source}")]
    Store {
        /// Which step of the verb.
        step: &'static str,
        /// The store's own words.
        source: twill_ipam::Error,
    },
    /// The kernel refused a step.
    #[error("{step}: {source}")]
    Kernel {
        /// Which step of the verb.
        step: &'static str,
        /// What was attempted on what, and the kernel's own words.
        source: twill_linux::Error,
    },
    /// The kernel has a route to the address that the store gave.
    #[error(
        "leading the node to the pod: {address} has an owner already: this node has a route to it that is not this pod's"
    )]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The kernel's own words.
        source: twill_linux::Error,
    },
    /// A port of the node is published already, as the kernel has it.
    #[error("publishing ports of the node: the port {port} is published for {holder} already")]
    PortTaken {
        /// Port and protocol.
        port: String,
        /// Who has it.
        holder: String,
    },
    /// The pod reaches a destination of the configuration already, by another interface.
    #[error(
        "routes[{place}].dst: \"{destination}\" is not valid: a destination that no other interface of the pod has with \
         that priority; give it another \"priority\" or \"table\""
    )]
    RouteExists {
        /// Its place among the routes of the configuration.
        place: usize,
        /// The destination.
        destination: IpNetwork,
        /// The kernel's own words.
        source: twill_linux::Error,
    },
    /// The device that bears the name of our host end is none that the plugin makes.
    #[error("{step}: the device {name} on the node is not ours: {why}")]
    ForeignDevice {
        /// Which step of the verb.
        step: &'static str,
        /// The device.
        name: IfName,
        /// What tells.
        why: String,
    },
    /// A device that was just made is gone: somebody deleted it, or the pod's namespace went away.
    #[error("{step}: the device {name} has vanished")]
    LinkVanished {
        /// Which step of the verb.
        step: &'static str,
        /// The device.
        name: IfName,
    },
    /// No address is left, and no block is to be had.
    #[error("reserving an address: {source}")]
    Exhausted {
        /// The store's own words.
        source: twill_ipam::Error,
        /// What an operator can do.
        remedy: &'static str,
    },
    /// An ADD that took longer than an ADD may.
    #[error("{0}: an ADD may take 10 seconds, and they are over")]
    TooLate(&'static str),
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
    /// A failed ADD whose undoing failed too.
    #[error("{source}")]
    NotUndone {
        /// Why the ADD failed.
        source: Box<Error>,
        /// What could not be undone, and why.
        left: Vec<Error>,
    },
}

/// Why a network is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What is wrong.
    pub(crate) what: String,
    /// What an operator can do, where that is not the same thing said again.
    pub(crate) remedy: Option<&'static str>,
}

fn said(troubles: &[Trouble]) -> String {
    troubles.iter().map(|trouble| trouble.what.as_str()).collect::<Vec<_>>().join("; ")
}

/// An attachment that a GC could not remove.
#[derive(Debug)]
pub(crate) struct Left {
    /// Whose it is.
    pub(crate) key: Option<Key>,
    /// The pod, where the runtime told.
    pub(crate) pod: Option<Pod>,
    /// The host end of its veth.
    ifname: String,
    /// Why it is left.
    pub(crate) why: Error,
}

impl Left {
    /// The attachment of `row` is left.
    pub(crate) fn new(row: &Attachment, why: Error) -> Self {
        Self { key: row.key.clone(), pod: row.pod.clone(), ifname: row.hash.host_ifname(), why }
    }

    /// What an attachment without a row left behind is left.
    pub(crate) fn behind(hash: KeyHash, why: Error) -> Self {
        Self { key: None, pod: None, ifname: hash.host_ifname(), why }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, ifname, why, .. } = self;
        match key {
            Some(key) => write!(f, "{} of container {} ({ifname}): {}", key.ifname, key.container, why.full_text()),
            None => write!(f, "{ifname}: {}", why.full_text()),
        }
    }
}

impl Error {
    /// For `map_err`: the store failed at `step`.
    pub(crate) fn store(step: &'static str) -> impl FnOnce(twill_ipam::Error) -> Self {
        move |source| Self::Store { step, source }
    }

    /// For `map_err`: the kernel refused `step`.
    pub(crate) fn kernel(step: &'static str) -> impl FnOnce(twill_linux::Error) -> Self {
        move |source| Self::Kernel { step, source }
    }

    /// The CNI code.
    pub(crate) fn code(&self) -> u32 {
        use twill_ipam::Error as Ipam;
        match self {
            Self::UnsupportedVersion(_) | Self::VerbNeedsVersion { .. } => 1,
            Self::MissingVariables(_) | Self::Variable { .. } => 4,
            Self::Input(_) => 5,
            Self::Configuration(twill_conf::Error::Unsupported { .. }) => 2,
            Self::Configuration(twill_conf::Error::Syntax { .. }) => 6,
            Self::Configuration(_) | Self::Previous(_) | Self::RouteExists { .. } => 7,
            Self::Store { source, .. } => match source {
                Ipam::Exists { .. } => 101,
                Ipam::Overlap { .. } => 7,
                Ipam::PortTaken { .. } => 107,
                Ipam::Requested { .. } => 103,
                temporary if temporary.is_temporary() => 11,
                _ => 5,
            },
            Self::Exhausted { .. } => 100,
            Self::TooLate(_) => 11,
            Self::Unavailable { limited, .. } => {
                if *limited {
                    51
                } else {
                    50
                }
            }
            Self::Incomplete { .. } => 106,
            Self::InterfaceExists { .. } => 101,
            Self::Namespace(_) | Self::OwnNamespace(_) => 102,
            Self::Differences(_) => 104,
            Self::PortTaken { .. } => 107,
            Self::Kernel { .. } | Self::AddressTaken { .. } => 105,
            Self::ForeignDevice { .. } | Self::LinkVanished { .. } => 105,
            Self::NotUndone { source, .. } => source.code(),
        }
    }

    /// The step that failed, for the record of attempts.
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::Store { step, .. } | Self::Kernel { step, .. } => step,
            Self::ForeignDevice { step, .. } | Self::LinkVanished { step, .. } | Self::TooLate(step) => step,
            Self::Exhausted { .. } => "reserving an address",
            Self::Namespace(_) | Self::OwnNamespace(_) => "opening the namespace",
            Self::InterfaceExists { .. } => "making the veth pair",
            Self::PortTaken { .. } => "publishing ports of the node",
            Self::AddressTaken { .. } => "leading the node to the pod",
            Self::RouteExists { .. } => "configuring the pod's interface",
            Self::Differences(_) => "comparing",
            Self::Incomplete { .. } => "removing what is not valid any more",
            Self::Unavailable { .. } => "looking for what an ADD needs",
            Self::NotUndone { source, .. } => source.step(),
            _ => "reading the request",
        }
    }

    /// Message and causes in one line.
    pub(crate) fn full_text(&self) -> String {
        let details = self.details();
        if details.is_empty() { self.to_string() } else { format!("{self}; {details}") }
    }

    /// What stands below the message: its causes, and what could not be undone.
    fn details(&self) -> String {
        let mut parts = Vec::new();
        match self {
            // The texts of these hold their cause.
            Self::Store { .. } | Self::Kernel { .. } => {}
            Self::Exhausted { remedy, .. } => parts.push((*remedy).to_owned()),
            Self::Unavailable { wrong, .. } => {
                parts.extend(wrong.iter().filter_map(|trouble| trouble.remedy).map(str::to_owned));
                parts.dedup();
            }
            Self::Incomplete { left, .. } => parts.extend(left.iter().map(ToString::to_string)),
            Self::NotUndone { source, left } => {
                parts.extend(Some(source.details()).filter(|details| !details.is_empty()));
                parts.extend(left.iter().map(|error| format!("undoing failed: {error}")));
            }
            _ => {
                let mut cause = self.source();
                while let Some(error) = cause {
                    parts.push(error.to_string());
                    cause = error.source();
                }
            }
        }
        parts.join("; ")
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

#[cfg(test)]
mod tests;
