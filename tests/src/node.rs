//! A node: a network namespace on the wire, with its own run directory, identity, configuration and daemon.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnetwork::IpNetwork;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::binaries::Binaries;
use crate::cni::Network;
use crate::confinement::confined;
use crate::deadline::{self, PATIENCE};
use crate::namespace::Namespace;
use crate::pod::Pod;
use crate::process::Process;
use crate::security::{CA, Security};
use crate::{LabError, Result, cleanup};

/// What the daemons log: the tests count the claims that were refused.
const LOG: &str = "info,twilld::blocks=debug";

/// What all nodes of a lab have in common.
#[derive(Debug)]
pub struct Site {
    /// The lab's prefix.
    pub prefix: String,
    /// The programs.
    pub binaries: Binaries,
    /// etcd's URLs; `None` where the lab is stand-alone.
    pub etcd: Option<String>,
    /// The CA of an etcd with TLS.
    pub security: Option<Arc<Security>>,
    /// The subnets of a stand-alone network.
    pub subnets: Vec<IpNetwork>,
}

/// What a node's pods need of it.
#[derive(Debug)]
pub struct Seat {
    /// The lab.
    pub site: Arc<Site>,
    /// The node's name.
    pub name: String,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its CNI network.
    pub network: Network,
    directory: PathBuf,
}

impl Seat {
    /// The directory of network configurations: NETCONFPATH.
    pub fn net_d(&self) -> PathBuf {
        self.directory.join("net.d")
    }
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Told {
    /// Its exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    seat: Arc<Seat>,
    addresses: Vec<IpAddr>,
    daemon: Mutex<Option<Process>>,
}

impl Node {
    /// Writes what a node has on its disk: the identity, the daemon's configuration and the CNI network.
    pub(crate) fn install(site: Arc<Site>, name: &str, namespace: Namespace, addresses: Vec<IpAddr>) -> Result<Self> {
        let directory = cleanup::directory(&site.prefix).join(name);
        let network = Network::new(cleanup::network(&site.prefix), &directory.join("run"), &site.subnets);
        for part in ["run", "state", "net.d", "bin"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).map_err(LabError::io(format!("making {}", part.display())))?;
        }
        let list = serde_json::to_vec_pretty(&network.list()).expect("JSON of strings can be written");
        write(&directory.join("net.d/05-twill.conflist"), &list)?;
        let seat = Arc::new(Seat { site, name: name.into(), namespace, network, directory });
        let node = Self { seat, addresses, daemon: Mutex::new(None) };
        node.set_machine_id(&machine_id(&node.seat.site.prefix, name))?;
        let file = node.directory().join("machine-id");
        node.install_plugin()?;
        let mut toml = format!("machine_id_file = {file:?}\n");
        toml += &format!("cni_bin_dir = {:?}\ncni_conf_dir = {:?}\n", node.bin(), node.net_d());
        if node.seat.site.security.is_some() {
            let file = |name: &str| node.directory().join(name);
            let (cert, key) = (file(&format!("{name}.crt")), file(&format!("{name}.key")));
            toml += &format!("etcd_ca = {:?}\netcd_cert = {cert:?}\netcd_key = {key:?}\n", file(CA));
        }
        // A table ends what stands at the top.
        toml += &format!("[labels]\nnode = {name:?}\n");
        write(&node.directory().join("twilld.toml"), toml.as_bytes())?;
        Ok(node)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.seat.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.seat.namespace
    }

    /// Its addresses on the wire, IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its files.
    pub fn directory(&self) -> &Path {
        &self.seat.directory
    }

    /// The run directory.
    pub fn run_dir(&self) -> PathBuf {
        self.directory().join("run")
    }

    /// The network configurations: NETCONFPATH.
    pub fn net_d(&self) -> PathBuf {
        self.seat.net_d()
    }

    /// Where its runtime looks for plugins.
    pub fn bin(&self) -> PathBuf {
        self.directory().join("bin")
    }

    /// Twill's plugin is there, by a link to the lab's.
    pub fn install_plugin(&self) -> Result<()> {
        let place = self.bin().join("twill");
        symlink(self.binaries().plugin(), &place).map_err(LabError::io(format!("linking {}", place.display())))
    }

    /// Its CNI network.
    pub fn network(&self) -> &Network {
        &self.seat.network
    }

    /// Gives the node another identity, as a reinstalled machine has.
    pub fn set_machine_id(&self, id: &str) -> Result<()> {
        write(&self.directory().join("machine-id"), format!("{id}\n").as_bytes())
    }

    /// The identity that it was installed with.
    pub fn machine_id(&self) -> String {
        machine_id(&self.seat.site.prefix, self.name())
    }

    /// The programs that it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.seat.site.binaries
    }

    // ---- the daemon ------------------------------------------------------------------------------------------------

    /// Starts the daemon where it does not run. It does not wait for anything.
    pub fn start_daemon(&self) -> Result<()> {
        self.start_daemon_as(self.name(), |command| command)
    }

    /// The same with further flags.
    pub fn start_daemon_with(&self, flags: &[&str]) -> Result<()> {
        self.start_daemon_as(self.name(), |mut command| {
            command.args(flags);
            command
        })
    }

    /// The same by another program than the lab's: that of another version.
    pub fn start_daemon_of(&self, program: &Path) -> Result<()> {
        self.start_daemon_as(self.name(), |command| {
            let mut other = Command::new(program);
            other.args(command.get_args());
            other
        })
    }

    /// The same where the sweep frees after this grace period.
    pub fn start_sweeping_daemon(&self, grace: Duration) -> Result<()> {
        self.start_daemon_with(&["--sweep-grace-ms", &grace.as_millis().to_string()])
    }

    /// The same under the name of another node, as where a machine was copied, or its name mistaken.
    pub fn start_daemon_named(&self, name: &str) -> Result<()> {
        self.start_daemon_as(name, |command| command)
    }

    /// The same where programs are looked for in this directory alone.
    pub fn start_daemon_with_programs_in(&self, directory: &Path) -> Result<()> {
        self.start_daemon_as(self.name(), |mut command| {
            command.env("PATH", directory);
            command
        })
    }

    /// The same in a mount namespace where no pod's namespace has a path.
    pub fn start_blind_daemon(&self, grace: Duration) -> Result<()> {
        self.start_daemon_as(self.name(), |command| {
            let hidden = format!("mount -t tmpfs none {} && exec \"$0\" \"$@\"", crate::namespace::DIRECTORY);
            let mut blind = Command::new("unshare");
            blind.args(["--mount", "--propagation", "private", "sh", "-c", &hidden]);
            blind.arg(command.get_program()).args(command.get_args());
            blind.args(["--sweep-grace-ms", &grace.as_millis().to_string()]);
            blind
        })
    }

    /// The same with further flags, by a program that does something first and becomes the daemon then; its words are followed by
    /// the daemon's.
    pub fn start_daemon_by(&self, words: &[&str], flags: &[&str]) -> Result<()> {
        self.start_daemon_as(self.name(), |command| {
            let mut first = crate::process::command(words);
            first.arg(command.get_program()).args(command.get_args()).args(flags);
            first
        })
    }

    /// The same with further flags, in a mount namespace of its own that a script has changed before: what the daemon finds on
    /// its machine is otherwise.
    pub fn start_daemon_behind(&self, script: &str, flags: &[&str]) -> Result<()> {
        self.start_daemon_as(self.name(), |command| {
            let script = format!("{script}\nexec \"$0\" \"$@\"");
            let mut behind = Command::new("unshare");
            behind.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
            behind.arg(command.get_program()).args(command.get_args()).args(flags);
            behind
        })
    }

    fn start_daemon_as(&self, name: &str, change: impl FnOnce(Command) -> Command) -> Result<()> {
        let mut daemon = self.lock();
        if daemon.is_none() {
            let etcd = self.seat.site.etcd.as_ref();
            let etcd = etcd.ok_or_else(|| LabError::wrong("a stand-alone lab has no etcd for a daemon"))?;
            let mut command = Command::new(self.seat.site.binaries.daemon());
            command.args(["--node-name", name, "--etcd", etcd, "--log", LOG]);
            command.arg("--run-dir").arg(self.run_dir());
            command.arg("--state-dir").arg(self.directory().join("state"));
            command.arg("--config").arg(self.directory().join("twilld.toml"));
            *daemon = Some(self.namespace().start_process("twilld", change(command), &self.log_file())?);
        }
        Ok(())
    }

    /// Kills the daemon, as a crash does.
    pub fn kill_daemon(&self) -> Result<()> {
        self.end_daemon(Signal::SIGKILL).map(drop)
    }

    /// Stops the daemon, as a service manager does. Its exit status, or `None` where it did not run.
    pub fn stop_daemon(&self) -> Result<Option<ExitStatus>> {
        self.end_daemon(Signal::SIGTERM)
    }

    fn end_daemon(&self, signal: Signal) -> Result<Option<ExitStatus>> {
        self.lock().take().map(|mut process| process.end(signal)).transpose()
    }

    /// Fails where a daemon that was started has ended by itself, with what it said last.
    pub fn expect_daemon(&self) -> Result<()> {
        let ended = self.lock().as_mut().map(Process::ended).transpose()?.flatten();
        match ended {
            None => Ok(()),
            Some(status) => {
                Err(LabError::wrong(format!("twilld of {} ended: {status}\n{}", self.name(), self.last_words(20))))
            }
        }
    }

    /// The process ID of the daemon, where it was started.
    pub fn daemon_pid(&self) -> Option<u32> {
        self.lock().as_ref().map(Process::pid)
    }

    /// What the daemon logged in all its lives.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Waits until the daemon has logged these words.
    pub fn says(&self, words: &str) -> Result<()> {
        deadline::until_some(&format!("{} says {words:?}", self.name()), PATIENCE, || {
            Ok(if self.daemon_log().contains(words) { Ok(()) } else { Err(self.last_words(5)) })
        })
    }

    /// The last lines of the daemon's log.
    pub fn last_words(&self, lines: usize) -> String {
        let log = self.daemon_log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.directory().join("twilld.log")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- pods ------------------------------------------------------------------------------------------------------

    /// Makes a pod's namespace, not attached.
    pub fn create_pod(&self, name: &str) -> Result<Pod> {
        Pod::create(name, Arc::clone(&self.seat))
    }

    /// Makes a pod and attaches it.
    pub fn add_pod(&self, name: &str) -> Result<Pod> {
        let pod = self.create_pod(name)?;
        pod.add()?;
        Ok(pod)
    }

    /// Makes a pod and attaches it, again until that succeeds: the node may still be waiting for a block.
    pub fn attach(&self, name: &str) -> Result<Pod> {
        let pod = self.create_pod(name)?;
        deadline::until_some(&format!("{name} is attached to {}", self.name()), PATIENCE, || {
            Ok(pod.add().map(drop).map_err(|error| error.to_string()))
        })?;
        Ok(pod)
    }

    // ---- looking ---------------------------------------------------------------------------------------------------

    /// Runs words in its namespace.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.namespace().run(words)
    }

    /// Runs words in its namespace, with its own certificate for `etcdctl`.
    pub fn as_node(&self, words: &[&str]) -> Result<String> {
        let mut command = crate::process::command(words);
        command.env("ETCDCTL_API", "3");
        if let (Some(etcd), Some(_)) = (&self.seat.site.etcd, &self.seat.site.security) {
            let file = |ending: &str| self.directory().join(format!("{}.{ending}", self.name()));
            command.env("ETCDCTL_ENDPOINTS", etcd).env("ETCDCTL_CACERT", self.directory().join(CA));
            command.env("ETCDCTL_CERT", file("crt")).env("ETCDCTL_KEY", file("key"));
        }
        self.namespace().execute(command)
    }

    /// Runs `twillctl` against its run directory and the cluster's etcd, in a [place](crate::confinement) from which no other
    /// namespace can be entered.
    pub fn twillctl(&self, arguments: &[&str]) -> Result<String> {
        self.namespace().execute_confined(&self.twillctl_command(arguments))
    }

    /// The same, whatever its exit status.
    pub fn twillctl_told(&self, arguments: &[&str]) -> Result<Told> {
        let output = self.namespace().output(&mut confined(&self.twillctl_command(arguments)))?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(Told { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Runs a script of a document, as someone would whose environment names etcd and the run directory; where `twillctl` runs.
    pub fn run_script(&self, script: &str, variables: &[(&str, &str)]) -> Result<String> {
        let mut command = crate::process::command(&["sh", "-euc", script]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.seat.site.binaries.directory().display()));
        command.env("TWILL_RUN_DIR", self.run_dir()).envs(variables.iter().copied());
        if let Some(etcd) = &self.seat.site.etcd {
            command.env("TWILL_ETCD", etcd);
        }
        self.namespace().execute_confined(&command)
    }

    /// Starts `twillctl` there, which goes on beside the test; `log` takes what it says.
    pub fn start_twillctl(&self, arguments: &[&str], log: &Path) -> Result<Process> {
        self.namespace().start_process("twillctl", confined(&self.twillctl_command(arguments)), log)
    }

    fn twillctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.seat.site.binaries.ctl());
        command.args(arguments).arg("--run-dir").arg(self.run_dir());
        if let Some(etcd) = &self.seat.site.etcd {
            command.args(["--etcd", etcd]);
        }
        if let Some(security) = &self.seat.site.security {
            security.tell(&mut command, "TWILL_ETCD");
        }
        command
    }

    /// Its routes of one family and protocol, as `ip -j route` prints them.
    pub fn routes(&self, ipv6: bool, protocol: u8) -> Result<Vec<Value>> {
        let family = if ipv6 { "-6" } else { "-4" };
        let protocol = protocol.to_string();
        let routes = self.namespace().run_json(&["ip", "-j", "-N", family, "route", "show", "proto", &protocol])?;
        Ok(routes.as_array().cloned().unwrap_or_default())
    }

    /// The names of its interfaces.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        let links = self.namespace().run_json(&["ip", "-j", "link", "show"])?;
        let names = links.as_array().into_iter().flatten().filter_map(|l| l["ifname"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    /// All that an attachment leaves on a node: interfaces, routes to pods, neighbours, and rows of the store; in an order
    /// that tells nothing, since the kernel's is none.
    pub fn attachments(&self) -> Result<String> {
        let mut parts = vec![self.interfaces()?.join("\n")];
        for family in ["-4", "-6"] {
            parts.push(self.run(&["ip", "-N", family, "route", "show", "proto", "117"])?);
            parts.push(self.run(&["ip", family, "neigh", "show", "nud", "permanent"])?);
        }
        if self.run_dir().join("node.db").exists() {
            parts.push(self.query_store("SELECT hash, state FROM attachment ORDER BY hash")?);
            parts.push(self.query_store("SELECT text FROM address WHERE attachment IS NOT NULL ORDER BY text")?);
        }
        let mut lines: Vec<_> = parts.iter().flat_map(|part| part.lines()).map(str::trim).collect();
        lines.retain(|line| !line.is_empty());
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    /// The last address of the node's block of a family, which nobody gets by himself for a long time.
    pub fn last_address(&self, ipv6: bool) -> Result<IpAddr> {
        let blocks = self.query_store("SELECT cidr FROM block ORDER BY cidr")?;
        let mut blocks = blocks.lines().filter_map(|cidr| cidr.parse::<IpNetwork>().ok());
        let block = blocks.find(|block| block.is_ipv6() == ipv6).and_then(|block| block.iter().last());
        block.ok_or_else(|| LabError::wrong(format!("{} has no block of that family", self.name())))
    }

    /// The answer of the node store to a query, read by `sqlite3`.
    pub fn query_store(&self, sql: &str) -> Result<String> {
        let store = self.run_dir().join("node.db");
        self.run(&["sqlite3", "-readonly", "-cmd", ".timeout 5000", &store.to_string_lossy(), sql])
    }
}

fn write(file: &Path, content: &[u8]) -> Result<()> {
    fs::write(file, content).map_err(LabError::io(format!("writing {}", file.display())))
}

/// 32 hexadecimal digits that differ between nodes and labs (machine-id(5)): FNV-1a.
fn machine_id(prefix: &str, name: &str) -> String {
    let step = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    let bytes = prefix.bytes().chain([b'/']).chain(name.bytes());
    format!("{:032x}", bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step))
}
