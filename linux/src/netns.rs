//! Network namespaces by path.
//!
//! No thread of the caller ever changes its namespace: what must run inside one runs on a thread of its own, which ends
//! with the work. Used by the plugin for a pod's namespace, and by tests for a whole node.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};

use crate::Error;

/// NSFS_MAGIC (include/uapi/linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// An open network namespace. Clones share one descriptor, which closes with the last of them.
#[derive(Debug, Clone)]
pub struct NetNs {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl NetNs {
    /// Opens a namespace's file. [`Error::Namespace`] where it is missing or is no network namespace.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = || -> io::Result<OwnedFd> {
            // Someone else chose the path: O_NONBLOCK, or a FIFO there would hold us for ever.
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
            verify(&file)?;
            Ok(file.into())
        };
        open().map(|fd| Self { fd: Arc::new(fd), path: path.to_owned() }).map_err(failed(path))
    }

    /// A new one, which no path names: it ends with its last descriptor, be it that this process ends. Its [`path`](Self::path)
    /// is that of the descriptor, by which other processes reach it for as long as this value lives.
    pub fn create() -> Result<Self, Error> {
        let made = std::thread::scope(|scope| {
            let inside = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
                Ok(Self::current())
            })?;
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let mut new = made.map_err(failed(Path::new("a new namespace")))??;
        new.path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), new.fd.as_raw_fd()));
        Ok(new)
    }

    /// The calling thread's own.
    pub fn current() -> Result<Self, Error> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Its file.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether both are the same namespace (device and inode).
    pub fn is(&self, other: &NetNs) -> Result<bool, Error> {
        Ok(self.identity()? == other.identity()?)
    }

    fn identity(&self) -> Result<(u64, u64), Error> {
        let identify = || File::from(self.fd.try_clone()?).metadata();
        let metadata = identify().map_err(failed(&self.path))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Runs `work` on a thread of its own inside the namespace, so that no other thread ever changes namespace. A panic
    /// in `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let entered = std::thread::scope(|scope| {
            let inside = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
                setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
                Ok(work())
            })?;
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        entered.map_err(failed(&self.path))
    }
}

/// Runs `work` on a thread of its own inside a new, empty namespace, which goes with the thread: nothing that is done there is
/// ever seen by anybody. Needs CAP_SYS_ADMIN.
pub fn in_throw_away<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let entered = std::thread::scope(|scope| {
        let inside = std::thread::Builder::new().name("trial".to_owned()).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
            Ok(work())
        })?;
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    entered.map_err(failed(Path::new("(a new one)")))
}

impl NetNs {
    /// Does short, synchronous work inside the namespace on the caller's own thread, which is back before this returns, by
    /// whatever way `work` ends. For what is too short to be worth a thread, whose start costs more than all of it: in the
    /// way of an ADD that is a good part of a millisecond. A thread that could not go back must not go on, since it
    /// would change the wrong namespace: then the process is aborted.
    pub(crate) fn visit<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        let home = Home(NetNs::current()?);
        setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map_err(failed(&self.path))?;
        let outcome = work();
        drop(home);
        Ok(outcome)
    }
}

/// The way back, taken when it is dropped.
struct Home(NetNs);

impl Drop for Home {
    fn drop(&mut self) {
        if setns(self.0.fd.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::Namespace { path, cause }
}

/// That an open file is a network namespace, and not that of another kind or an ordinary file.
fn verify(file: &File) -> io::Result<()> {
    // Only on nsfs is the ioctl's number sure to mean what we mean.
    let on_nsfs = fstatfs(file)?.filesystem_type() == FsType(NSFS_MAGIC as _);
    // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory; the descriptor is open, since `file` is borrowed.
    if on_nsfs && unsafe { namespace_type(file.as_raw_fd()) }? == libc::CLONE_NEWNET {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a network namespace"))
}

nix::ioctl_none_bad!(
    /// NS_GET_NSTYPE (include/uapi/linux/nsfs.h): the CLONE_NEW* constant of the namespace's kind.
    namespace_type,
    nix::request_code_none!(0xb7, 0x3)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_is_reached_by_its_path_and_is_gone_with_its_value() {
        if !twill_testkit::is_root("a new namespace") {
            return;
        }
        let new = NetNs::create().unwrap();
        let path = new.path().to_owned();
        let again = NetNs::open(&path).unwrap();
        assert!(again.is(&new).unwrap() && !again.is(&NetNs::current().unwrap()).unwrap());
        let links = new.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
        assert_eq!(links.lines().count(), 3, "two lines of heading and the loopback: {links}");
        drop(new);
        let after = NetNs::open(&path).map(|other| other.is(&again).unwrap());
        assert_ne!(after.ok(), Some(true), "its descriptor is closed");
    }
}
