//! Programs of an older version, from which nodes are upgraded: those of the commit in `tests/upgrade-from`, which `hack/previous`
//! builds. And programs as a node has them installed, each of which is replaced by itself while others run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{LabError, Node, Result, needs, process};

/// By this status `hack/previous` says that the clone does not have the commit.
const NOT_IN_THE_CLONE: i32 = 3;

/// The directory of the older programs, which are built where they are not there yet; or why they cannot be had here.
pub fn programs() -> Result<std::result::Result<PathBuf, String>> {
    let mut command = Command::new(needs::workspace().join("hack/previous"));
    process::without_this_package(&mut command);
    let output = command.stdin(Stdio::null()).output().map_err(LabError::io("running hack/previous"))?;
    if output.status.code() == Some(NOT_IN_THE_CLONE) {
        return Ok(Err(String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("previous: ").to_owned()));
    }
    process::expect_success(&command, "the workspace", output).map(|path| Ok(PathBuf::from(path)))
}

/// Where a node has its programs.
pub fn installed(node: &Node, program: &str) -> PathBuf {
    node.bin().join(program)
}

/// Installs one program of a node from a directory, as `twilld install` does: beside its place, and then by a rename.
pub fn install(node: &Node, program: &str, from: &Path) -> Result<()> {
    let place = installed(node, program);
    let new = place.with_extension("new");
    let what = || format!("installing {} on {}", from.join(program).display(), node.name());
    let io = |result: std::io::Result<()>| result.map_err(LabError::io(what()));
    io(fs::create_dir_all(place.parent().unwrap_or(Path::new("/"))))?;
    io(fs::copy(from.join(program), &new).map(drop))?;
    io(fs::rename(&new, &place))
}
