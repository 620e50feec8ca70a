//! The root file system of containers: busybox and its links.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::Machine;
use crate::process;
use crate::{LabError, Result};

/// What a runtime mounts something on.
const MOUNTED_ON: [&str; 7] = ["dev", "etc", "proc", "run", "sys", "tmp", "var"];
/// Where containers serve files from.
pub const PAGES: &str = "/www";

/// Makes it in a directory of the machine. A server in it that serves [`PAGES`] answers `/` with `name`.
pub fn make(machine: &Machine<'_>, name: &str) -> Result<PathBuf> {
    let root = machine.directory().join(format!("root-{name}"));
    let io = |path: &Path| LabError::io(format!("making {}", path.display()));
    for directory in MOUNTED_ON.iter().chain(&["bin", PAGES.trim_start_matches('/')]) {
        let directory = root.join(directory);
        fs::create_dir_all(&directory).map_err(io(&directory))?;
    }
    let busybox = twill_testkit::finds("busybox").ok_or_else(|| LabError::wrong("busybox is not installed"))?;
    fs::copy(&busybox, root.join("bin/busybox")).map_err(io(&root))?;
    let mut list = Command::new(busybox);
    list.arg("--list");
    for applet in process::run_on_host(list)?.lines().filter(|applet| *applet != "busybox") {
        let link = root.join("bin").join(applet);
        symlink("busybox", &link).map_err(io(&link))?;
    }
    let page = root.join(PAGES.trim_start_matches('/')).join("index.html");
    fs::write(&page, name).map_err(io(&page))?;
    Ok(root)
}
