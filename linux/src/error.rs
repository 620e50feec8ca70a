//! The errors of this crate: what was attempted, on what, and the kernel's own words.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// What the kernel, or a tool in front of it, refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel answered a request with an error.
    #[error("{attempt}: {errno}{}", message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Refused {
        /// What was attempted, as in "add route 10.42.1.0/26 via 10.42.1.0 dev vxlan.twill onlink".
        attempt: String,
        /// Its errno.
        errno: nix::errno::Errno,
        /// Its extended acknowledgement, where it sent one.
        message: Option<String>,
    },
    /// The netlink socket itself failed, or the kernel sent what cannot be understood.
    #[error("netlink: {what}: {cause}")]
    Transport {
        /// What was attempted.
        what: &'static str,
        /// The system's error.
        cause: io::Error,
    },
    /// A socket of TCP or UDP.
    #[error("{attempt}: {cause}")]
    Socket {
        /// What was attempted, as in "listen on TCP 0.0.0.0:179".
        attempt: String,
        /// The system's error.
        cause: io::Error,
    },
    /// A key that TCP-MD5 cannot have.
    #[error("a TCP-MD5 key of {length} bytes: it must have from 1 to {longest}")]
    Md5Key {
        /// Its length in bytes.
        length: usize,
        /// The longest that is possible, in bytes.
        longest: usize,
    },
    /// A namespace that cannot be entered.
    #[error("network namespace {}: {cause}", path.display())]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file under /proc/sys.
    #[error("sysctl {path} = {value:?}: {cause}")]
    Sysctl {
        /// The path below /proc/sys.
        path: String,
        /// What was to be written; empty for reading.
        value: String,
        /// The system's error.
        cause: io::Error,
    },
    /// A device's offload of checksums.
    #[error("ethtool -K {device} tx {value}: {cause}")]
    Offload {
        /// The device.
        device: String,
        /// "on" or "off".
        value: &'static str,
        /// The system's error.
        cause: io::Error,
    },
    /// `nft` failed, or is not installed.
    #[error("nft: {what}: {detail}")]
    Nft {
        /// What was attempted.
        what: &'static str,
        /// Its own words.
        detail: String,
        /// What kind of failure it is.
        kind: ErrorKind,
    },
    /// Ports of the node that are published already.
    #[error("published already: {}", taken.iter().map(|port| format!("{port} by {}", port.owner)).collect::<Vec<_>>().join(", "))]
    PortTaken {
        /// What stands in the way, with its owners.
        taken: Vec<crate::ports::Port>,
    },
    /// A device that a request names is not there.
    #[error("{attempt}: there is no device {device}")]
    NoDevice {
        /// What was attempted.
        attempt: String,
        /// The device.
        device: String,
    },
}

impl Error {
    /// The kernel's errno, where it was the kernel that refused.
    pub fn errno(&self) -> Option<nix::errno::Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket { cause, .. } => cause.raw_os_error().map(nix::errno::Errno::from_raw),
            _ => None,
        }
    }

    /// What kind of failure it is, in the standard library's words, for whoever says what to do about it. `TimedOut`: it was ended
    /// since it took too long. `Interrupted`: somebody changed what was looked at, each time. `InvalidData`: what was shown cannot
    /// be understood.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { errno, .. } => io::Error::from(*errno).kind(),
            Self::Transport { cause, .. }
            | Self::Socket { cause, .. }
            | Self::Namespace { cause, .. }
            | Self::Sysctl { cause, .. }
            | Self::Offload { cause, .. } => cause.kind(),
            Self::Nft { kind, .. } => *kind,
            Self::Md5Key { .. } => ErrorKind::InvalidInput,
            Self::PortTaken { .. } => ErrorKind::AddrInUse,
            Self::NoDevice { .. } => ErrorKind::NotFound,
        }
    }
}
