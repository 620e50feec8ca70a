//! The cgroups that container runtimes make on a lab's machines: they outlive their processes, and are found by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::deadline;
use crate::{LabError, Result};

/// Where they are mounted: one tree (version 2), or one for each controller below it (version 1).
const ROOT: &str = "/sys/fs/cgroup";
/// A process that was killed may take a moment to be counted out.
const EMPTIED: Duration = Duration::from_secs(5);

/// What the names of a lab's cgroups begin with.
pub fn prefix(lab: &str) -> String {
    format!("twill-lab-{lab}-")
}

/// Removes those of a lab.
pub fn remove(lab: &str) -> Result<()> {
    let prefix = prefix(lab);
    let trees = [PathBuf::from(ROOT)].into_iter().chain(below(Path::new(ROOT)));
    let ours = trees.flat_map(|tree| below(&tree));
    let ours = ours.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
    LabError::join(ours.map(|cgroup| remove_tree(&cgroup)))
}

/// Its directories. One that has just gone has none.
fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect()
}

fn remove_tree(cgroup: &Path) -> Result<()> {
    LabError::join(below(cgroup).iter().map(|inner| remove_tree(inner)))?;
    deadline::until_some(&format!("{} is removed", cgroup.display()), EMPTIED, || {
        Ok(match fs::remove_dir(cgroup) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(cause),
            _ => Ok(()),
        })
    })
}
