//! The one error of this crate: which step, on what, and why. Texts are one line; causes are kept below them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_linux::IfName;

/// The steps of which some errors have a kind of their own.
pub(crate) const RESERVE: &str = "reserving an address";
pub(crate) const PAIR: &str = "making the veth pair";
pub(crate) const ROUTES: &str = "leading the node to the pod";
pub(crate) const POD: &str = "configuring the pod's interface";
pub(crate) const PUBLISH: &str = "publishing ports of the node";

/// What an operator can do about [`Error::Exhausted`] on a node that stands alone.
pub const MORE_SUBNETS: &str = "add a prefix to \"subnets\", or remove pods";

/// Why an attachment did not come, or did not go.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the attachment is to have is refused.
    #[error("network configuration: {0}")]
    Configuration(twill_conf::Error),
    /// The pod's namespace cannot be entered.
    #[error("CNI_NETNS names no network namespace that can be entered")]
    Namespace(#[source] twill_linux::Error),
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
        /// Which step.
        step: &'static str,
        /// The store's own words.
        source: twill_ipam::Error,
    },
    /// The kernel refused a step.
    #[error("{step}: {source}")]
    Kernel {
        /// Which step.
        step: &'static str,
        /// What was attempted on what, and the kernel's own words.
        source: twill_linux::Error,
    },
    /// The kernel has a route to the address that the store gave.
    #[error("{}: {address} has an owner already: this node has a route to it that is not this pod's", ROUTES)]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The kernel's own words.
        source: twill_linux::Error,
    },
    /// A port of the node is published already, as the kernel has it.
    #[error("{}: the port {port} is published for {holder} already", PUBLISH)]
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
    /// The device that bears a name of ours is none that we make.
    #[error("{step}: the device {name} on the node is not ours: {why}")]
    ForeignDevice {
        /// Which step.
        step: &'static str,
        /// The device.
        name: IfName,
        /// What tells.
        why: String,
    },
    /// A device that was just made is gone: somebody deleted it, or the pod's namespace went away.
    #[error("{step}: the device {name} has vanished")]
    LinkVanished {
        /// Which step.
        step: &'static str,
        /// The device.
        name: IfName,
    },
    /// No address is left, and no block is to be had.
    #[error("{}: {source}", RESERVE)]
    Exhausted {
        /// The store's own words.
        source: twill_ipam::Error,
        /// What an operator can do.
        remedy: &'static str,
    },
    /// An ADD that took longer than an ADD may.
    #[error("{0}: an ADD may take 10 seconds, and they are over")]
    TooLate(&'static str),
    /// A failed ADD whose undoing failed too.
    #[error("{source}")]
    NotUndone {
        /// Why the ADD failed.
        source: Box<Error>,
        /// What could not be undone, and why.
        left: Box<Error>,
    },
}

impl Error {
    /// For `map_err`: the store failed at `step`.
    pub fn store(step: &'static str) -> impl FnOnce(twill_ipam::Error) -> Self {
        move |source| Self::Store { step, source }
    }

    /// For `map_err`: the kernel refused `step`.
    pub fn kernel(step: &'static str) -> impl FnOnce(twill_linux::Error) -> Self {
        move |source| Self::Kernel { step, source }
    }

    /// The step that failed, for the record of attempts.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Store { step, .. } | Self::Kernel { step, .. } => step,
            Self::ForeignDevice { step, .. } | Self::LinkVanished { step, .. } | Self::TooLate(step) => step,
            Self::Configuration(_) => "reading the request",
            Self::Exhausted { .. } => RESERVE,
            Self::Namespace(_) => "opening the namespace",
            Self::InterfaceExists { .. } => PAIR,
            Self::PortTaken { .. } => PUBLISH,
            Self::AddressTaken { .. } => ROUTES,
            Self::RouteExists { .. } => POD,
            Self::NotUndone { source, .. } => source.step(),
        }
    }
}
