//! Why something of a machine could not be seen, and what would let it be.

use std::fmt::Display;
use std::io::{self, ErrorKind};

/// Why something could not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// In words.
    pub why: String,
    /// What kind of failure it is: what helps goes by that.
    pub kind: ErrorKind,
}

impl Unseen {
    /// By the error of the system, and of what it is.
    pub(crate) fn of_io(what: impl Display, cause: &io::Error) -> Self {
        Self { why: format!("{what}: {cause}"), kind: cause.kind() }
    }

    /// What can be understood by nobody.
    pub(crate) fn garbage(why: impl Into<String>) -> Self {
        Self { why: why.into(), kind: ErrorKind::InvalidData }
    }

    /// What would let it be seen.
    pub fn remedy(&self) -> &'static str {
        match self.kind {
            ErrorKind::PermissionDenied => AS_ROOT,
            ErrorKind::TimedOut => {
                "look at the load of the machine and for a process there that hangs (uptime, ps), and look again"
            }
            ErrorKind::Interrupted => {
                "look again; if it stays so, look for the program that goes on changing it ('ip monitor', 'nft monitor')"
            }
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                "look at it by hand ('nft -j list ruleset' shows what nft says): another version of nft or of the kernel may tell \
                 it otherwise; if nothing is wrong with it, report it with 'twillctl bundle'"
            }
            ErrorKind::NotFound => {
                "look why it is not there, and look again; a program that is missing is to be installed"
            }
            _ => "look again; if it stays so, look at the kernel's log (dmesg), and report it with 'twillctl bundle'",
        }
    }
}

/// What lets somebody see who may not.
pub(crate) const AS_ROOT: &str = "run it as root; in a container, privileged";

impl From<twill_linux::Error> for Unseen {
    fn from(error: twill_linux::Error) -> Self {
        Self { why: error.to_string(), kind: error.kind() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_may_not_look_is_told_to_become_root() {
        let remedy = |kind: ErrorKind| Unseen::of_io("nft", &kind.into()).remedy();
        assert!(remedy(ErrorKind::PermissionDenied).contains("as root"));
        for errno in [nix::errno::Errno::EPERM, nix::errno::Errno::EACCES] {
            assert!(Unseen::of_io("nft", &errno.into()).remedy().contains("as root"), "{errno}");
        }
        let others = [
            ErrorKind::TimedOut,
            ErrorKind::Interrupted,
            ErrorKind::InvalidData,
            ErrorKind::NotFound,
            ErrorKind::OutOfMemory,
        ];
        for (number, kind) in others.into_iter().enumerate() {
            assert!(!remedy(kind).contains("root"), "{kind}");
            assert!(others[..number].iter().all(|other| remedy(*other) != remedy(kind)), "{kind}: one of its own");
        }
    }
}
