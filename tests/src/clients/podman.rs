//! podman with its CNI back end.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::clients::machine::{BIN, Machine, NET_D};
use crate::{LabError, Result};

/// podman on a machine.
#[derive(Debug)]
pub struct Podman<'a> {
    machine: &'a Machine<'a>,
    configuration: PathBuf,
}

impl<'a> Podman<'a> {
    /// Configures it as an operator does, by `containers.conf`.
    pub fn on(machine: &'a Machine<'a>) -> Result<Self> {
        let configuration = machine.directory().join("containers.conf");
        let text = format!(
            "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\
             [containers]\nlog_driver = \"k8s-file\"\n\
             [network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{BIN}\"]\nnetwork_config_dir = \"{NET_D}\"\n"
        );
        std::fs::write(&configuration, text).map_err(LabError::io(format!("writing {}", configuration.display())))?;
        Ok(Self { machine, configuration })
    }

    /// Runs podman with these words.
    pub fn podman(&self, words: &[&str]) -> Result<String> {
        let own = |name: &str| self.machine.directory().join(name).to_string_lossy().into_owned();
        let configuration = format!("CONTAINERS_CONF={}", self.configuration.display());
        let (root, run_root) = (own("podman"), own("podman-run"));
        // The image cache, and what it makes for a moment, must not lie on an overlay.
        let temporary = format!("TMPDIR={}", self.machine.directory().display());
        let begin = ["env", &configuration, &temporary, "podman", "--root", &root, "--runroot", &run_root];
        self.machine.run(&[&begin, words].concat())
    }

    /// `podman run`: options, a root file system, a command. (These machines refuse the limits that podman would set.)
    pub fn run(&self, options: &[&str], root: &Path, command: &[&str]) -> Result<String> {
        let root = root.to_string_lossy();
        let cgroup = format!("--cgroup-parent={}", self.machine.cgroup());
        let begin = ["run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", &cgroup];
        self.podman(&[&begin, options, &["--rootfs", &root], command].concat())
    }

    /// What `podman inspect` knows of a container.
    pub fn inspect(&self, container: &str) -> Result<Value> {
        let text = self.podman(&["inspect", container])?;
        let all: Value = serde_json::from_str(&text).map_err(|e| LabError::Unreadable {
            what: format!("podman inspect {container}"),
            cause: e.to_string(),
            text,
        })?;
        Ok(all[0].clone())
    }
    /// Makes an image of a root file system and a command, as an archive that other runtimes import.
    pub fn image(&self, name: &str, root: &Path, command: &[&str]) -> Result<PathBuf> {
        let own = |file: &str| self.machine.directory().join(file);
        let (layer, archive) = (own("layer.tar"), own("image.tar"));
        let (layer, to) = (layer.to_string_lossy(), archive.to_string_lossy());
        self.machine.run(&["tar", "--create", "--file", &*layer, "--directory", &*root.to_string_lossy(), "."])?;
        let command = format!("CMD {}", Value::from(command));
        self.podman(&["import", "--quiet", "--change", &command, "--change", "ENV PATH=/bin", &layer, name])?;
        self.podman(&["save", "--quiet", "--format", "oci-archive", "--output", &to, name])?;
        Ok(archive)
    }
}
