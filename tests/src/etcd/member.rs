//! One member of the lab's etcd: a process in a namespace of its own on the wire, with its own data.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;

use crate::namespace::Namespace;
use crate::process::{self, Process};
use crate::security::{CA, Security};
use crate::{LabError, Result};

/// The token of a cluster that nobody gave one (`etcd --help`).
pub const DEFAULT_TOKEN: &str = "etcd-cluster";

/// A member.
#[derive(Debug)]
pub struct Member {
    /// Its name, which is that of its port on the wire too.
    name: String,
    namespace: Namespace,
    clients: Vec<String>,
    peer: String,
    directory: PathBuf,
    /// More words for its command line.
    words: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Which cluster its data are of.
    token: String,
    process: Option<Process>,
}

/// What all members have in common.
#[derive(Debug)]
pub(super) struct Common<'a> {
    /// All of them with their peer URLs, as `--initial-cluster` has them.
    pub(super) cluster: &'a str,
    /// Where there is TLS.
    pub(super) security: Option<&'a Security>,
}

impl Member {
    /// A member at these addresses, with its data and its log in `directory`. It does not run yet.
    pub(super) fn new(
        (name, namespace): (&str, Namespace),
        addresses: &[IpAddr],
        scheme: &str,
        directory: &Path,
        words: &[String],
    ) -> Self {
        let url = |scheme: &str, address: &IpAddr, port: u16| {
            format!("{scheme}://{}", std::net::SocketAddr::new(*address, port))
        };
        Self {
            name: name.into(),
            namespace,
            clients: addresses.iter().map(|address| url(scheme, address, 2379)).collect(),
            peer: url("http", addresses.first().expect("a seat has an address"), 2380),
            directory: directory.into(),
            words: words.to_vec(),
            state: Mutex::new(State { token: DEFAULT_TOKEN.into(), process: None }),
        }
    }

    /// Its name, which is that of its port on the wire too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its client URLs.
    pub fn clients(&self) -> &[String] {
        &self.clients
    }

    /// What it wrote in all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name))
    }

    /// Its name and its peer URL, as `--initial-cluster` has them.
    pub(super) fn introduction(&self) -> String {
        format!("{}={}", self.name, self.peer)
    }

    /// Where its data lie.
    pub(super) fn data(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Its name, peer URL and data as the commands of `docs/etcd.md` want them.
    pub(super) fn variables(&self) -> [(&'static str, String); 3] {
        [("NAME", self.name.clone()), ("PEER", self.peer.clone()), ("DATA", self.data().display().to_string())]
    }

    /// From its next start on its data are those of the cluster with this token.
    pub(super) fn set_token(&self, token: &str) {
        self.lock().token = token.into();
    }

    /// Starts it where it does not run. It does not wait until it answers.
    pub(super) fn start(&self, common: &Common<'_>) -> Result<()> {
        let mut state = self.lock();
        if state.process.is_some() {
            return Ok(());
        }
        let urls = self.clients.join(",");
        let mut command = process::command(&["etcd"]);
        command.arg(format!("--name={}", self.name)).arg(format!("--data-dir={}", self.data().display()));
        command.arg(format!("--listen-client-urls={urls}")).arg(format!("--advertise-client-urls={urls}"));
        command.arg(format!("--listen-peer-urls={}", self.peer));
        command.arg(format!("--initial-advertise-peer-urls={}", self.peer));
        command.arg(format!("--initial-cluster={}", common.cluster));
        command.arg(format!("--initial-cluster-token={}", state.token)).args(&self.words);
        if let Some(security) = common.security {
            let file = |name: &str| security.directory().join(name);
            command.arg("--cert-file").arg(file("etcd.crt")).arg("--key-file").arg(file("etcd.key"));
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(file(CA));
        }
        state.process = Some(self.namespace.start_process(&self.name, command, &self.log_file())?);
        Ok(())
    }

    /// Stops it, as a service manager would.
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// Kills it.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    fn end(&self, signal: Signal) -> Result<()> {
        if let Some(mut process) = self.lock().process.take() {
            process.end(signal)?;
        }
        Ok(())
    }

    /// Freezes it: connections stand, and nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match &self.lock().process {
            Some(process) => process.signal(signal),
            None => Err(LabError::wrong(format!("{} does not run", self.name))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
