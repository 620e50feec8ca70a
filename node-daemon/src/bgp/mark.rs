//! A mark in the run directory that says that BGP spoke here since the machine started: who finds it begins where another one has
//! stopped, and asks its peers to go on meanwhile (RFC 4724). The kernel's routes outlive a daemon, so nothing more is to be said.

use std::path::{Path, PathBuf};

use twill_bgp::path::PerFamily;
use twill_bgp::speaker::Begin;

/// The mark's file.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    /// The boot of which it is good.
    boot: String,
}

impl Mark {
    /// In this directory.
    pub fn new(run_dir: &Path) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { path: run_dir.join("bgp"), boot: boot.trim().to_owned() }
    }

    /// How to begin.
    pub fn read(&self) -> Begin {
        match std::fs::read_to_string(&self.path) {
            Ok(boot) if !self.boot.is_empty() && boot == self.boot => Begin::Restarted { kept: PerFamily::both(true) },
            _ => Begin::Cold,
        }
    }

    /// BGP speaks here, or does not.
    pub fn set(&self, speaks: bool) {
        let done = if speaks { std::fs::write(&self.path, &self.boot) } else { remove(&self.path) };
        if let Err(error) = done {
            tracing::warn!("BGP: a restart of twilld may cost packets: {}: {error}", self.path.display());
        }
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
