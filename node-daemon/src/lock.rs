//! `twilld.lock`: one daemon for one run directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// The lock's name in the run directory.
pub const NAME: &str = "twilld.lock";

/// The run directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Taken {
    /// By another daemon.
    #[error("another twilld (process {pid}) serves {}; one daemon for one run directory", dir.display())]
    Other {
        /// The directory.
        dir: PathBuf,
        /// What stands in the lock file.
        pid: String,
    },
    /// The directory or the file cannot be made.
    #[error("run directory {}: {cause}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Makes the run directory, for root only, and takes its lock until the process ends.
pub fn take(dir: &Path) -> Result<Flock<File>, Taken> {
    let io = |cause| Taken::Io { dir: dir.to_owned(), cause };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    let path = dir.join(NAME);
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0).map_err(io)?;
            write!(lock, "{}", std::process::id()).map_err(io)?;
            Ok(lock)
        }
        Err((mut file, _)) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io)?;
            Err(Taken::Other { dir: dir.to_owned(), pid })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_by_the_process_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let first = take(&run).unwrap();
        let text = take(&run).unwrap_err().to_string();
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        drop(first);
        take(&run).unwrap();
    }
}
