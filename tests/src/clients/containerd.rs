//! containerd and its own client, `ctr`.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::clients::machine::{BIN, Machine, NET_D, REFERENCE};
use crate::deadline::{self, PATIENCE};
use crate::process::Process;
use crate::{LabError, Result};

/// A containerd that runs on a machine.
#[derive(Debug)]
pub struct Containerd<'a> {
    machine: &'a Machine<'a>,
    process: Process,
    socket: PathBuf,
}

/// The image of the container that holds a pod's namespaces.
pub const PAUSE: &str = "twill.test/pause:1";

impl<'a> Containerd<'a> {
    /// Starts it, with its own root, state and socket, and waits until it answers.
    pub fn start(machine: &'a Machine<'a>) -> Result<Self> {
        let own = |name: &str| machine.directory().join(name);
        let socket = own("containerd.sock");
        let (root, state) = (own("containerd"), own("containerd-state"));
        // Roots on an overlay could hold no overlay. The rest is as a package has it.
        let text = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n[grpc]\naddress = {socket:?}\n[debug]\nlevel = \"debug\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{PAUSE}\"\n\
             restrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{BIN}\"\nconf_dir = \"{NET_D}\"\n"
        );
        let file = own("containerd.toml");
        std::fs::write(&file, text).map_err(LabError::io(format!("writing {}", file.display())))?;
        // Its CRI part calls this for every sandbox, before the network's own plugins.
        machine.run(&["install", "-D", "-t", BIN, &format!("{REFERENCE}/loopback")])?;
        let process = machine.start("containerd", &["containerd", "--config", &file.to_string_lossy()])?;
        let mut containerd = Self { machine, process, socket };
        let answered = deadline::until_some("containerd answers", PATIENCE, || {
            if let Some(status) = containerd.process.ended()? {
                return Err(LabError::wrong(format!("containerd ended: {status}")));
            }
            containerd.ctr(&["version"]).map(Ok::<_, String>)
        });
        answered.map_err(|error| LabError::wrong(format!("{error}\n{}", containerd.last_words())))?;
        Ok(containerd)
    }

    /// Where it answers, under the same path on and off the machine.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs `ctr` with these words.
    pub fn ctr(&self, words: &[&str]) -> Result<String> {
        self.machine.run(&[&["ctr", "--address", &self.socket.to_string_lossy()], words].concat())
    }

    /// `ctr run`: options, a root file system, an ID, a command.
    pub fn run(&self, options: &[&str], root: &Path, id: &str, command: &[&str]) -> Result<String> {
        let (cgroup, root) = (format!("{}/{id}", self.machine.cgroup()), root.to_string_lossy());
        // Without an image there is no environment either.
        let begin = ["run", "--cni", "--cgroup", &cgroup, "--env", "PATH=/bin", "--rootfs"];
        self.ctr(&[&begin, options, &[&*root, id], command].concat())
    }

    /// Imports an image for the CRI part.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let archive = archive.to_string_lossy();
        self.ctr(&["--namespace", "k8s.io", "images", "import", "--snapshotter", "overlayfs", &archive]).map(drop)
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let log = self.process.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Stops it as a service manager does. Its containers run on.
    pub fn stop(mut self) -> Result<()> {
        self.process.end(Signal::SIGTERM).map(drop)
    }
}
