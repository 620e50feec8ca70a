//! What can stand in the way of an installation.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::pods::Pods;
use crate::lock::Taken;

/// Why plugin or list are not where they should be. It says whether something was changed, where that is not plain.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A value that was given.
    #[error(transparent)]
    Conf(#[from] twill_conf::Error),
    /// A value whose place in the list says nothing to who wrote a flag.
    #[error("{flag}: {source}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        source: twill_conf::Error,
    },
    /// A file or a directory.
    #[error("{what} {}: {cause}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// What is to be installed is no program.
    #[error("{}: {why}; name the plugin by --plugin", path.display())]
    NoProgram {
        /// What was named, or found beside this program.
        path: PathBuf,
        /// What is the matter with it.
        why: &'static str,
    },
    /// A file of somebody else's stands in the list's place.
    #[error("{} is not Twill's: remove it, take another --conflist-name, or say --force", .0.display())]
    Foreign(PathBuf),
    /// A program of somebody else's stands in the plugin's place.
    #[error(
        "{} is there and not Twill's plugin: move it away, name another cni_bin_dir in twilld's file, or say --force to replace it",
        .0.display()
    )]
    ForeignPlugin(PathBuf),
    /// The node did not come to serve.
    #[error("after {waited:?} the node could not serve a pod yet, and no list was written: {why}")]
    NotServed {
        /// How long.
        waited: Duration,
        /// What was missing last.
        why: String,
    },
    /// SIGTERM or SIGINT.
    #[error("stopped while waiting, and no list was written: {why}")]
    Stopped {
        /// What was missing last.
        why: String,
    },
    /// Pods that nobody could remove any more.
    #[error(
        "pods are still attached ({0}), and without the plugin they can never be removed: remove them first, or say --force"
    )]
    Attached(Pods),
    /// Pods that nobody could remove any more.
    #[error(
        "pods are still attached ({pods}) by {}, which says {before}: by a list that says {after} they could not be removed. \
         Remove them first, install with {before}, or say --force",
        list.display()
    )]
    Renamed {
        /// The list that stands.
        list: PathBuf,
        /// Its flag, as it is.
        before: String,
        /// As it would be.
        after: String,
        /// Whose.
        pods: Box<Pods>,
    },
    /// A daemon that would put back what is removed, or no run directory.
    #[error("nothing was removed: {0}; to purge, stop the daemon first")]
    Running(#[from] Taken),
    /// The plugin is needed, so what it works with is too.
    #[error("{} needs the plugin: remove it first, or leave out --purge; nothing was purged", .0.display())]
    Needed(PathBuf),
    /// Not everything could be removed.
    #[error("what could not be removed: {}; it may be repeated", .0.join("; "))]
    Purge(Vec<String>),
    /// The node store cannot be asked for attachments.
    #[error("whether pods are attached cannot be read ({0}); --force does not ask")]
    Store(#[from] twill_ipam::Error),
    /// The kernel cannot be asked for attachments.
    #[error("whether pods are attached cannot be seen ({0}); --force does not ask")]
    Kernel(#[from] twill_linux::Error),
}

impl InstallError {
    /// For `map_err`.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { what, path, cause }
    }
}
