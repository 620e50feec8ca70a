//! An etcd of the test's own, on free ports of the loopback, in a directory that goes with it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use twill_cluster::EtcdStore;
use twill_cluster::store::{Range, Store};
use twill_conf::node::{EtcdConf, TlsFiles};

pub(crate) struct Server {
    data: TempDir,
    name: String,
    client: String,
    peer: String,
    /// Of the whole cluster, as `--initial-cluster` has them.
    peers: String,
    /// More words for its command line.
    words: Vec<String>,
    /// How the test itself reaches it; by its URL alone where absent.
    conf: Option<EtcdConf>,
    child: Option<Child>,
}

impl Server {
    /// `None` where there is no etcd to be started.
    pub(crate) async fn start() -> Option<Self> {
        if !twill_testkit::has_program("etcd") {
            return None;
        }
        let mut server = Self::new("default");
        server.run().await;
        Some(server)
    }

    fn new(name: &str) -> Self {
        let (data, client, peer) = (tempfile::tempdir().unwrap(), free_url(), free_url());
        let peers = format!("{name}={peer}");
        Self { data, name: name.into(), client, peer, peers, words: Vec::new(), conf: None, child: None }
    }

    /// As [`start`](Self::start), with more words on its command line.
    pub(crate) async fn start_with(words: &[&str]) -> Option<Self> {
        if !twill_testkit::has_program("etcd") {
            return None;
        }
        let mut server = Self::new("default");
        server.words = words.iter().map(|word| (*word).to_owned()).collect();
        server.run().await;
        Some(server)
    }

    /// One that has TLS, as the test says by `words` and reaches it itself with `files`.
    pub(crate) async fn start_secure(words: &[&str], files: TlsFiles) -> Option<Self> {
        if !twill_testkit::has_program("etcd") {
            return None;
        }
        let mut server = Self::new("default");
        server.client = server.client.replace("http://", "https://");
        server.words = words.iter().map(|word| (*word).to_owned()).collect();
        server.conf = Some(EtcdConf { endpoints: vec![server.client.clone()], tls: Some(files), login: None });
        server.run().await;
        Some(server)
    }

    /// A cluster of three.
    pub(crate) async fn start_three() -> Option<[Self; 3]> {
        if !twill_testkit::has_program("etcd") {
            return None;
        }
        let mut servers = ["a", "b", "c"].map(Self::new);
        let peers = servers.iter().map(|server| server.peers.clone()).collect::<Vec<_>>().join(",");
        for server in &mut servers {
            server.peers.clone_from(&peers);
            // So that an election does not take longer than a test wants to wait.
            server.words = ["--heartbeat-interval=50", "--election-timeout=500"].map(str::to_owned).into();
            server.spawn();
        }
        for server in &servers {
            server.answers().await;
        }
        Some(servers)
    }

    /// Starts it again on the same ports and data, and waits until it answers.
    pub(crate) async fn run(&mut self) {
        self.spawn();
        self.answers().await;
    }

    /// Starts it, and waits for nothing.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = std::fs::File::create(self.data.path().join("log")).unwrap();
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.data.path().join("data"))
            .args(["--listen-client-urls", &self.client, "--advertise-client-urls", &self.client])
            .args(["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer])
            .args(["--initial-cluster", &self.peers, "--name", &self.name, "--unsafe-no-fsync"])
            .args(&self.words)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    async fn answers(&self) {
        let (store, deadline) = (self.store(), Instant::now() + Duration::from_secs(30));
        while let Err(error) = store.read(&Range::key("nothing")).await {
            let log = || std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "etcd does not come up: {error}\n{}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The next start is on another port; returns the present one.
    pub(crate) fn move_away(&mut self) -> String {
        std::mem::replace(&mut self.client, free_url())
    }

    /// The next start is on this port.
    pub(crate) fn move_to(&mut self, url: String) {
        self.client = url;
    }

    /// Kills it, as a power failure would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn store(&self) -> EtcdStore {
        if let Some(conf) = &self.conf {
            return EtcdStore::open(conf, "/twill/v1/").unwrap();
        }
        EtcdStore::connect(std::slice::from_ref(&self.client), "/twill/v1/").unwrap()
    }

    /// For its next starts: the data in this directory, and the token of the cluster that they are of.
    pub(crate) fn restored(&mut self, data: &Path, token: &str) {
        self.words.extend(["--data-dir".into(), data.display().to_string()]);
        self.words.extend(["--initial-cluster-token".into(), token.into()]);
    }

    /// Its name, its URL for peers, and those of the whole cluster.
    pub(crate) fn identity(&self) -> [&str; 3] {
        [&self.name, &self.peer, &self.peers]
    }

    /// Runs the commands of the document for `what`, in `directory`, with these variables.
    pub(crate) fn run_document(&self, what: &str, directory: &Path, variables: &[(&str, &str)]) {
        self.run_shell(what, &twill_testkit::commands_of("etcd.md", what), directory, variables);
    }

    /// Runs commands, told in failures as `what`.
    pub(crate) fn run_shell(&self, what: &str, commands: &str, directory: &Path, variables: &[(&str, &str)]) {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", commands]);
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", &self.client).current_dir(directory);
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Stops it (`STOP`) or lets it go on (`CONT`), without closing a connection. When this returns it has stopped: a thread
    /// that runs on another processor would otherwise answer one request more.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(10);
        while name == "STOP" && !has_stopped(&pid) {
            assert!(Instant::now() < deadline, "etcd does not stop");
            std::thread::yield_now();
        }
    }

    /// A client past the store.
    pub(crate) async fn raw(&self) -> etcd_client::Client {
        etcd_client::Client::connect([&self.client], None).await.unwrap()
    }

    /// How the test itself reaches it.
    pub(crate) fn conf(&mut self) -> &mut Option<EtcdConf> {
        &mut self.conf
    }

    /// Runs etcdctl against it.
    pub(crate) fn etcdctl(&self, words: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.client)).args(words);
        if let Some(tls) = self.conf.as_ref().and_then(|conf| conf.tls.as_ref()) {
            command.arg("--cacert").arg(&tls.ca);
            if let Some(identity) = &tls.identity {
                command.arg("--cert").arg(&identity.cert).arg("--key").arg(&identity.key);
            }
        }
        let output = command.output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "etcdctl {words:?}: {}{}", said(&output.stdout), said(&output.stderr));
        said(&output.stdout)
    }

    /// Where its data lies.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.data.path().join("data")
    }

    pub(crate) fn url(&self) -> &str {
        &self.client
    }
}

/// Whether each thread is in state T (proc_pid_stat(5)).
fn has_stopped(pid: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

/// A port below those that the kernel gives to outgoing connections: a client that tries a dead server's port would
/// otherwise get it as its own one day, and be connected to itself.
fn free_url() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 1000).expect("less than 1000") * 10;
    loop {
        let port = 20_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("http://127.0.0.1:{port}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
