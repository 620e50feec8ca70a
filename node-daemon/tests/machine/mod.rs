//! A machine that Twill is installed on and taken from: directories of their own, and the built program.

#![allow(dead_code, reason = "no test needs all of it")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use twill_conf::network::list::INTRODUCTION;
use twill_ipam::store::{BlockState, Node, Reservation, Role};
use twill_ipam::{AttachmentId, BootTime, Key, Store};

/// A node's directories, and a plugin to install.
pub struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap() };
        machine.new_plugin(Path::new("/bin/true"));
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn plugin(&self) -> PathBuf {
        self.path("bin/twill")
    }

    pub fn list(&self) -> PathBuf {
        self.path("net.d/05-twill.conflist")
    }

    /// A program stands for the plugin that came with the daemon.
    pub fn new_plugin(&self, program: &Path) {
        let path = self.path("new-twill");
        fs::copy(program, &path).unwrap();
        // What stands behind a program does not matter to it.
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(INTRODUCTION.as_bytes()).unwrap();
    }

    pub fn command(&self, command: &str, more: &[&str]) -> Command {
        self.command_in(&self.path("run").to_string_lossy(), command, more)
    }

    /// The same, with another run directory, or none.
    pub fn command_in(&self, run_dir: &str, command: &str, more: &[&str]) -> Command {
        let mut twilld = Command::new(env!("CARGO_BIN_EXE_twilld"));
        twilld.arg(command).args(["--cni-bin-dir", &self.path("bin").to_string_lossy()]);
        twilld.args(["--cni-conf-dir", &self.path("net.d").to_string_lossy()]);
        if !run_dir.is_empty() {
            twilld.args(["--run-dir", run_dir]);
        }
        twilld.args(more);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TWILLD_")) {
            twilld.env_remove(name);
        }
        twilld.stdin(Stdio::null());
        twilld
    }

    pub fn installation(&self, more: &[&str]) -> Command {
        let mut command = self.command("install", more);
        command.arg("--plugin").arg(self.path("new-twill"));
        command
    }

    pub fn install(&self, more: &[&str]) -> Output {
        self.installation(more).output().unwrap()
    }

    pub fn uninstall(&self, more: &[&str]) -> Output {
        self.command("uninstall", more).output().unwrap()
    }

    /// What the daemon writes when it has its first block.
    pub fn serve(&self) -> Store {
        let mut store = Store::open(&self.path("run"), Role::Daemon).unwrap();
        store.put_block("10.42.7.0/26".parse().unwrap(), &"default".parse().unwrap(), BlockState::Open).unwrap();
        let node = Node { name: "n1".into(), mtu: 1450, ipv4: true, ipv6: false, ..Node::default() };
        store.set_node(&node).unwrap();
        store
    }

    /// A pod's row.
    pub fn attach(&self, store: &mut Store) -> AttachmentId {
        let (network, container, ifname) = ("twill".parse(), "c1".parse(), "eth0".parse());
        let key = Key { network: network.unwrap(), container: container.unwrap(), ifname: ifname.unwrap() };
        let netns = Path::new("/run/netns/c1");
        let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &[], requested: &[] };
        store.reserve(&wanted, BootTime::now()).unwrap().id
    }

    /// The names of all files in both directories.
    pub fn files(&self) -> Vec<String> {
        let entries = ["bin", "net.d"].iter().filter_map(|name| fs::read_dir(self.path(name)).ok()).flatten();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn read_list(&self) -> Value {
        serde_json::from_slice(&fs::read(self.list()).unwrap()).unwrap()
    }
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
pub fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[track_caller]
pub fn failed(output: Output) -> String {
    assert!(!output.status.success(), "it succeeded: {}", text(&output));
    text(&output)
}
