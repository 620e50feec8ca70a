//! Files that are put in place whole, while others read and run them.
//!
//! A new file is written beside its place, under a name that no runtime reads, and renamed. So a runtime sees the old one
//! or the new one; a plugin that runs goes on in the old one, where writing into it would fail (ETXTBSY); and the watch
//! of containerd, which heeds a rename only inside of the directory, sees it.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use twill_conf::network::list::{is_plugin, is_plugin_in};

use super::InstallError;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// There was none, and now there is.
    Made,
    /// There was another.
    Replaced,
    /// It was there already.
    Unchanged,
    /// It was there, and is no more.
    Removed,
    /// There was none to remove.
    Absent,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Made => "installed",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
            Self::Absent => "already absent:",
        })
    }
}

/// The bytes of Twill's plugin.
pub fn read_program(path: &Path) -> Result<Vec<u8>, InstallError> {
    let no_program = |why| InstallError::NoProgram { path: path.to_owned(), why };
    let meta = match fs::metadata(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Err(no_program("there is no such file")),
        other => other.map_err(InstallError::io("examining", path))?,
    };
    if !meta.is_file() {
        return Err(no_program("it is no file"));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(no_program("it is not executable"));
    }
    let bytes = fs::read(path).map_err(InstallError::io("reading", path))?;
    if is_plugin(&bytes) { Ok(bytes) } else { Err(no_program("it is not Twill's plugin")) }
}

/// Whether what stands there is anything but Twill's plugin. A link is judged by what it leads to.
pub fn is_foreign(path: &Path) -> Result<bool, InstallError> {
    match fs::symlink_metadata(path) {
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
        other => other.map_err(InstallError::io("examining", path))?,
    };
    // Neither a directory nor a link to nowhere is a program.
    if !path.is_file() {
        return Ok(true);
    }
    let is_ours = File::open(path).and_then(is_plugin_in).map_err(InstallError::io("reading", path))?;
    Ok(!is_ours)
}

/// Puts a file in place, where it is not there with this content and mode already. Its directory is made as needed.
pub fn put(path: &Path, content: &[u8], mode: u32) -> Result<Done, InstallError> {
    let directory = path.parent().expect("the file lies in a directory");
    let make = DirBuilder::new().recursive(true).mode(0o755).create(directory);
    make.map_err(InstallError::io("making", directory))?;
    let lock = lock(directory)?;
    let before = fs::symlink_metadata(path);
    if let Ok(meta) = &before {
        let same_mode = meta.is_file() && meta.permissions().mode() & 0o7777 == mode;
        if same_mode && fs::read(path).is_ok_and(|there| there == content) {
            return Ok(Done::Unchanged);
        }
    }
    let new = beside(path);
    let renamed = write(&new, content, mode).and_then(|()| {
        fs::rename(&new, path).map_err(InstallError::io("putting in place", path))?;
        lock.sync_all().map_err(InstallError::io("writing to disk", directory))
    });
    if renamed.is_err() {
        // The error says what went wrong; a file that stays is no harm, and the next installation takes it away.
        fs::remove_file(&new).ok();
    }
    renamed.map(|()| if before.is_ok() { Done::Replaced } else { Done::Made })
}

/// Removes a file, for good.
pub fn remove(path: &Path) -> Result<Done, InstallError> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Done::Absent),
        Err(cause) => return Err(InstallError::io("removing", path)(cause)),
    }
    let directory = path.parent().expect("the file lies in a directory");
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(InstallError::io("writing to disk", directory))?;
    Ok(Done::Removed)
}

/// Of two installations at once, one waits for the other.
fn lock(directory: &Path) -> Result<Flock<File>, InstallError> {
    let open = File::open(directory).map_err(InstallError::io("opening", directory))?;
    let locked = Flock::lock(open, FlockArg::LockExclusive);
    locked.map_err(|(_, errno)| InstallError::io("locking", directory)(errno.into()))
}

/// Where a file stands until it is whole: in the same directory, with an ending that is neither .conf nor .conflist nor
/// .json.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Writes a file to disk, in the place of what a killed installation left.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), InstallError> {
    let write = || -> io::Result<()> {
        match fs::remove_file(path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        // The process's own mask may have taken something from the mode.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(InstallError::io("writing", path))
}
