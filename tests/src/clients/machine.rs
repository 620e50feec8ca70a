//! A node as a machine of its own: the lab's network namespace, and mounts and process IDs that are the machine's alone.
//!
//! Runtimes write to /etc, /var, /run and /dev/shm, and leave monitors and shims behind. Here they write to the lab's
//! directory, by overlays, and all processes are descendants of one, process 1 of their own namespace: when it is killed
//! the kernel ends them all and takes away the mounts. It runs in the node's network namespace, so whatever ends a lab
//! ends it too.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cleanup::cgroups;
use crate::deadline::{self, PATIENCE};
use crate::node::Node;
use crate::process::Process;
use crate::{LabError, Result};

/// Where a runtime looks for plugins, unless told otherwise.
pub const BIN: &str = "/opt/cni/bin";
/// Where a runtime looks for networks, unless told otherwise.
pub const NET_D: &str = "/etc/cni/net.d";
/// Where Debian puts the reference plugins (`containernetworking-plugins`).
pub const REFERENCE: &str = "/usr/lib/cni";
/// Longer than any command of a runtime takes, in seconds.
const LONGEST: &str = "60";

/// Run by a shell that becomes process 1. It goes on reaping what it inherits, as an init does: podman takes a monitor that
/// is a zombie for one that runs.
const BOOT: &str = r#"
    set -e
    own=$1 lab=$2
    mkdir -p "$own/run"
    mount -t tmpfs -o mode=0755 run "$own/run"
    mkdir -p "$own/run/${lab#/run/}" "$own/run/netns" "$own/run/lock"
    mount --bind "$lab" "$own/run/${lab#/run/}"
    mount --rbind "$own/run" /run
    for directory in etc opt var; do
        mkdir -p "$own/$directory.upper" "$own/$directory.work"
        mount -t overlay -o "lowerdir=/$directory,upperdir=$own/$directory.upper,workdir=$own/$directory.work" \
            overlay "/$directory"
    done
    rm -rf /etc/cni /opt/cni /var/lib/cni
    mkdir -p /etc/cni/net.d /opt/cni/bin
    mount -t tmpfs shm /dev/shm
    touch "$own/ready"
    while :; do sleep 3600; done
"#;

/// A machine. All that runs on it ends when it is dropped.
#[derive(Debug)]
pub struct Machine<'a> {
    node: &'a Node,
    directory: PathBuf,
    holder: Process,
    init: Pid,
}

impl<'a> Machine<'a> {
    /// Boots it.
    pub fn boot(node: &'a Node) -> Result<Self> {
        let directory = node.directory().join("machine");
        fs::create_dir_all(&directory).map_err(LabError::io(format!("making {}", directory.display())))?;
        let lab = node.directory().parent().expect("a node's directory lies in the lab's");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-c", BOOT, "boot"]).arg(&directory).arg(lab);
        let holder = node.namespace().start_process("machine", command, &directory.join("boot.log"))?;
        let ready = directory.join("ready");
        let init = deadline::until_some("the machine has booted", PATIENCE, || {
            let children = format!("/proc/{0}/task/{0}/children", holder.pid());
            let children = fs::read_to_string(&children).map_err(LabError::io(format!("reading {children}")))?;
            let init = children.trim().parse().ok().filter(|_| ready.exists());
            Ok(init.map(Pid::from_raw).ok_or_else(|| holder.log()))
        })?;
        Ok(Self { node, directory, holder, init })
    }

    /// The node.
    pub fn node(&self) -> &Node {
        self.node
    }

    /// A directory of the machine's own, on tmpfs, under the same path on both sides.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the paths of its runtimes' cgroups must begin with: cgroups outlive processes, and go with the lab.
    pub fn cgroup(&self) -> String {
        let lab = self.node.directory().parent().and_then(Path::file_name).unwrap_or_default();
        format!("/{}{}", cgroups::prefix(&lab.to_string_lossy()), self.node.name())
    }

    /// A program and its arguments, to be run on the machine.
    pub fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = self.enter();
        command.args(["timeout", "--kill-after=2", LONGEST]).args(words);
        command
    }

    /// What enters the machine; the network namespace is entered by whoever starts it.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--"]);
        command
    }

    /// Runs words to their end, whatever that is.
    pub fn output<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<Output> {
        self.node.namespace().output(&mut self.command(words))
    }

    /// Runs words and yields what they wrote; another status than 0 is an error.
    pub fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<String> {
        self.node.namespace().execute(self.command(words))
    }

    /// Starts a program that stays, its output in a log of that name.
    pub fn start(&self, name: &str, words: &[&str]) -> Result<Process> {
        let mut command = self.enter();
        command.args(words);
        self.node.namespace().start_process(name, command, &self.directory.join(format!("{name}.log")))
    }

    /// Writes a file of the machine, and makes its directory.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let staged = self.directory.join("staged");
        fs::write(&staged, text).map_err(LabError::io(format!("writing {}", staged.display())))?;
        self.run(&["install", "-D", "-m", "0644", &staged.to_string_lossy(), path]).map(drop)
    }

    /// Brings plugin and list to where runtimes look for them, by `twilld install`.
    pub fn install(&self, more: &[&str]) -> Result<String> {
        let (twilld, run) = (self.node.binaries().daemon(), self.node.run_dir());
        let (twilld, run) = (twilld.to_string_lossy(), run.to_string_lossy());
        self.run(&[&[&*twilld, "install", "--run-dir", &*run, "--timeout", "20"], more].concat())
    }

    /// Takes them back.
    pub fn uninstall(&self, more: &[&str]) -> Result<String> {
        let (twilld, run) = (self.node.binaries().daemon(), self.node.run_dir());
        let (twilld, run) = (twilld.to_string_lossy(), run.to_string_lossy());
        self.run(&[&[&*twilld, "uninstall", "--run-dir", &*run], more].concat())
    }

    /// The names of the network namespaces that runtimes made and did not remove.
    pub fn namespaces(&self) -> Result<Vec<String>> {
        Ok(self.run(&["ls", "/run/netns"])?.lines().map(str::to_owned).collect())
    }

    /// Ends all that runs on it.
    fn shut_down(&mut self) -> Result<()> {
        match kill(self.init, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(LabError::errno(format!("killing {}", self.init))(errno)),
        }
        // It ends only after its child, which ends only after all others of the namespace.
        self.holder.wait(PATIENCE).map(drop)
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            eprintln!("shutting down the machine {}: {error}", self.node.name());
        }
    }
}
