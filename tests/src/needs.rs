//! What a lab needs of the machine, found out before anything is made, so that a test can be skipped with the reason.

use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use twill_testkit::finds;
pub use twill_testkit::say_skipped;

/// The programs that a lab calls.
const PROGRAMS: [&str; 8] = ["ip", "bridge", "nft", "ping", "etcd", "etcdctl", "iperf3", "sqlite3"];

/// Why no lab can be made here; `None` where it can.
pub fn unmet() -> Option<String> {
    if !geteuid().is_root() {
        return Some("it makes network namespaces, which needs root".into());
    }
    let missing: Vec<_> = PROGRAMS.iter().copied().filter(|program| finds(program).is_none()).collect();
    if !missing.is_empty() {
        return Some(format!("{} is missing, hack/setup installs it", missing.join(", ")));
    }
    if cnitool().is_none() {
        return Some("cnitool is missing, hack/setup builds it".into());
    }
    None
}

/// The real cnitool: by `TWILL_CNITOOL`, where `hack/setup` puts it, or by the path.
pub fn cnitool() -> Option<PathBuf> {
    if let Some(path) = env::var_os("TWILL_CNITOOL") {
        return Some(path.into()).filter(|p: &PathBuf| p.exists());
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |t| workspace().join(t));
    Some(target.join("tools/cnitool")).filter(|p| p.exists()).or_else(|| finds("cnitool"))
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}
