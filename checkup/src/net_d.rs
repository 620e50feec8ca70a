//! A runtime's directory of network configurations: which files in it a runtime reads, and in which order.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The endings that libcni reads (`ConfFiles` in libcni/conf.go); of the files that have one, the first by name counts.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// All that a runtime reads there, in its order. Nothing where there is no such directory.
pub fn read_by_runtimes(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| ENDINGS.contains(&ending)) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
