//! A directory, and the file system that it lies on.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::{Seen, Unseen};

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// There is none.
    Missing,
    /// It is a file.
    NoDirectory,
    /// It is one.
    There {
        /// Who may do what with it: the lower nine bits of st_mode.
        mode: u32,
        /// It lies on a tmpfs, which goes with a reboot.
        tmpfs: bool,
        /// Its file system is mounted read-only.
        read_only: bool,
        /// This process may make files in it.
        writable: bool,
        /// Free there, in bytes.
        free: u64,
    },
}

/// Whether two paths are one directory: /var/run is a link to /run. Of what is not there the paths tell.
pub fn is_same_directory(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    one == other || identity(one).is_some_and(|identity_of_one| Some(identity_of_one) == identity(other))
}

pub(super) fn look(path: &Path) -> Seen<Directory> {
    let failed = |cause: &io::Error| Unseen::of_io(path.display(), cause);
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Directory::Missing);
        }
        Err(cause) => return Err(failed(&cause)),
    };
    if !metadata.is_dir() {
        return Ok(Directory::NoDirectory);
    }
    let system = statvfs(path).map_err(|errno| failed(&errno.into()))?;
    Ok(Directory::There {
        mode: metadata.mode() & 0o777,
        tmpfs: statfs(path).map_err(|errno| failed(&errno.into()))?.filesystem_type() == TMPFS_MAGIC,
        read_only: system.flags().contains(FsFlags::ST_RDONLY),
        writable: access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        free: system.blocks_available().saturating_mul(system.fragment_size()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_the_same_by_each_of_its_paths() {
        let root = tempfile::tempdir().unwrap();
        let (run, link, other) = (root.path().join("run"), root.path().join("link"), root.path().join("other"));
        std::os::unix::fs::symlink(&run, &link).unwrap();
        assert!(is_same_directory(&run, &run) && !is_same_directory(&run, &link), "nothing is there yet");
        std::fs::create_dir(&run).unwrap();
        std::fs::create_dir(&other).unwrap();
        assert!(is_same_directory(&run, &link) && is_same_directory(&link.join("."), &run));
        assert!(!is_same_directory(&run, &other));
    }
}
