//! The liveness lock: who holds it is working on the attachment right now.
//!
//! A plugin takes it before its first transaction and keeps it to its end. A row in state `reserved` whose lock is free
//! belongs to an ADD that was killed; the kernel frees the lock with the process, also across PID and mount namespaces,
//! so no timer has to guess. Called by the plugin, and by the daemon's sweep.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::error::io;
use crate::guard::{Guard, stands};
use crate::{Error, KeyHash, store, wait::Wait};

/// Behind the byte of the greatest hash, which has 52 bits.
const END: i64 = 1 << 52;

/// An open-file-description lock on one byte of `ops.lock`; freed with the process, however that ends.
#[derive(Debug)]
pub struct Liveness {
    file: File,
    key: KeyHash,
}

impl Liveness {
    /// Takes the lock of `key`, waiting up to `patience`. [`Error::Busy`] when somebody else keeps it.
    pub fn acquire(run_dir: &Path, key: KeyHash, patience: Duration) -> Result<Self, Error> {
        let mut wait = Wait::new(patience);
        loop {
            if let Some(held) = Self::try_acquire(run_dir, key)? {
                return Ok(held);
            }
            if !wait.again() {
                return Err(Error::Busy);
            }
        }
    }

    /// Takes the lock of `key` only if nobody has it. Another [`Liveness`] of the same process counts as somebody.
    pub fn try_acquire(run_dir: &Path, key: KeyHash) -> Result<Option<Self>, Error> {
        let path = run_dir.join("ops.lock");
        loop {
            let file = open(run_dir, &path)?;
            if !lock_byte(&file, key).map_err(io("locking", &path))? && stands(Guard::LivenessLock) {
                return Ok(None);
            }
            // A lock on a file that was removed meanwhile excludes nobody.
            if same_file(&file, &path).map_err(io("examining", &path))? {
                return Ok(Some(Self { file, key }));
            }
        }
    }

    /// Lets programs that this process starts from now on keep the lock too, to their end. One that changes the kernel for
    /// the attachment may outlive the process, if that is killed: nobody else is to work on it until then.
    pub fn lend(&self) -> Result<(), Error> {
        let lend = fcntl(self.file.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()));
        lend.map(drop).map_err(|errno| io("lending the lock", Path::new("ops.lock"))(errno.into()))
    }

    /// The keys that somebody works on at this moment. Nobody does where there is no file to lock.
    pub fn held(run_dir: &Path) -> Result<BTreeSet<KeyHash>, Error> {
        let path = run_dir.join("ops.lock");
        let file = match File::open(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            other => other.map_err(io("opening", &path))?,
        };
        let mut keys = BTreeSet::new();
        // The kernel tells one lock of a range at a time; what is before and behind it is asked for in turn.
        let mut ranges = vec![(0, END)];
        while let Some((first, end)) = ranges.pop() {
            if let Some(at) = locked_within(&file, first, end).map_err(io("asking for the locks of", &path))? {
                keys.extend(u64::try_from(at).ok().map(KeyHash));
                ranges.extend([(first, at), (at + 1, end)]);
            }
        }
        Ok(keys)
    }

    /// Whose lock it is.
    pub fn key(&self) -> KeyHash {
        self.key
    }
}

fn open(run_dir: &Path, path: &PathBuf) -> Result<File, Error> {
    // The standard library opens close-on-exec: a program that the plugin runs must not keep the lock unless it is lent.
    let attempt = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match attempt() {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            store::make_run_dir(run_dir)?;
            attempt().map_err(io("opening", path))
        }
        other => other.map_err(io("opening", path)),
    }
}

/// Locks the byte whose offset is the hash itself: 52 bits fit, and a lock may lie beyond the end of the file.
fn lock_byte(file: &File, key: KeyHash) -> std::io::Result<bool> {
    let byte = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: i64::try_from(key.0).map_err(std::io::Error::other)?,
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&byte)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The offset of some locked byte from `first` up to `end`, which is not asked for.
fn locked_within(file: &File, first: i64, end: i64) -> std::io::Result<Option<i64>> {
    if first >= end {
        return Ok(None);
    }
    let mut range = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: first,
        l_len: end - first,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut range))?;
    Ok((range.l_type != libc::F_UNLCK as i16).then_some(range.l_start))
}

fn same_file(file: &File, path: &Path) -> std::io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a lock to be free that was dropped: a process that another test forks has a copy of its descriptor until it becomes its
    /// program.
    const A_FORK: Duration = Duration::from_secs(10);

    #[test]
    fn a_lock_excludes_others_of_the_same_key_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let held = Liveness::try_acquire(dir.path(), KeyHash(7)).unwrap().unwrap();
        assert!(Liveness::try_acquire(dir.path(), KeyHash(7)).unwrap().is_none());
        assert!(Liveness::try_acquire(dir.path(), KeyHash(8)).unwrap().is_some());
        assert!(matches!(Liveness::acquire(dir.path(), KeyHash(7), Duration::from_millis(5)), Err(Error::Busy)));
        drop(held);
        assert!(Liveness::acquire(dir.path(), KeyHash(7), A_FORK).is_ok());
    }

    #[test]
    fn a_program_keeps_a_lock_that_was_lent_to_it_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        for lent in [false, true] {
            let held = Liveness::try_acquire(dir.path(), KeyHash(7)).unwrap().unwrap();
            if lent {
                held.lend().unwrap();
            }
            let mut program = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            drop(held);
            let free = Liveness::acquire(dir.path(), KeyHash(7), if lent { Duration::ZERO } else { A_FORK }).is_ok();
            program.kill().unwrap();
            program.wait().unwrap();
            assert_eq!(free, !lent);
            assert!(Liveness::acquire(dir.path(), KeyHash(7), A_FORK).is_ok());
        }
    }

    #[test]
    fn the_greatest_hash_has_a_byte() {
        let dir = tempfile::tempdir().unwrap();
        let held = Liveness::try_acquire(dir.path(), KeyHash((1 << 52) - 1)).unwrap().unwrap();
        assert!(Liveness::try_acquire(dir.path(), held.key()).unwrap().is_none());
    }

    #[test]
    fn all_that_are_held_are_told_and_none_that_was_freed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Liveness::held(dir.path()).unwrap().is_empty());
        let keys = [0, 1, 77, (1 << 52) - 1].map(KeyHash);
        let held = keys.map(|key| Liveness::try_acquire(dir.path(), key).unwrap().unwrap());
        drop(Liveness::try_acquire(dir.path(), KeyHash(5)).unwrap());
        let until_held = |expected: &BTreeSet<KeyHash>| {
            let mut wait = Wait::new(A_FORK);
            while Liveness::held(dir.path()).unwrap() != *expected {
                assert!(wait.again(), "{:?} are told, {expected:?} are held", Liveness::held(dir.path()));
            }
        };
        until_held(&BTreeSet::from(keys));
        drop(held);
        until_held(&BTreeSet::new());
    }

    #[test]
    fn a_lock_makes_its_directory_and_a_removed_file_anew() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run/twill");
        drop(Liveness::acquire(&run, KeyHash(1), Duration::ZERO).unwrap());
        std::fs::remove_file(run.join("ops.lock")).unwrap();
        let _held = Liveness::acquire(&run, KeyHash(1), Duration::ZERO).unwrap();
        assert!(Liveness::try_acquire(&run, KeyHash(1)).unwrap().is_none());
    }
}
