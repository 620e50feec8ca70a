//! A runtime's directory of network configurations: whose the files in it are, and which of them the runtime takes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use twill_checkup::net_d;
use twill_conf::network::list::{self, Author};

use super::InstallError;

/// Whose the file is; `None` where there is none.
pub fn author(path: &Path) -> Result<Option<Author>, InstallError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(list::author(&text))),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(InstallError::io("reading", path)(cause)),
    }
}

/// The files that a runtime takes before `path`.
pub fn sorting_before(path: &Path) -> Result<Vec<PathBuf>, InstallError> {
    Ok(read_by_runtimes(path)?.into_iter().filter(|other| other.file_name() < path.file_name()).collect())
}

/// The files beside `path` that have Twill among their plugins.
pub fn others_of_twill(path: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let mut found = Vec::new();
    for other in read_by_runtimes(path)?.into_iter().filter(|other| other != path) {
        if matches!(author(&other)?, Some(Author::Install | Author::Edited { .. })) {
            found.push(other);
        }
    }
    Ok(found)
}

/// All that a runtime reads in the directory of `path`, in its order.
fn read_by_runtimes(path: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let directory = path.parent().expect("the list lies in a directory");
    net_d::read_by_runtimes(directory).map_err(InstallError::io("listing", directory))
}
