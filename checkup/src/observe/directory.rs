//! A directory, and the file system that it lies on.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::Seen;

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

pub(super) fn look(path: &Path) -> Seen<Directory> {
    let failed = |cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
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
    let system = statvfs(path).map_err(|cause| failed(&cause))?;
    Ok(Directory::There {
        mode: metadata.mode() & 0o777,
        tmpfs: statfs(path).map_err(|cause| failed(&cause))?.filesystem_type() == TMPFS_MAGIC,
        read_only: system.flags().contains(FsFlags::ST_RDONLY),
        writable: access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        free: system.blocks_available().saturating_mul(system.fragment_size()),
    })
}
