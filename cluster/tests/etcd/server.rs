//! An etcd of the test's own, on free ports of the loopback, in a directory that goes with it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use twill_cluster::EtcdStore;
use twill_cluster::store::{Range, Store};

pub(crate) struct Server {
    data: TempDir,
    client: String,
    peer: String,
    child: Option<Child>,
}

impl Server {
    /// `None` where there is no etcd to be started.
    pub(crate) async fn start() -> Option<Self> {
        if !twill_testkit::has_program("etcd") {
            return None;
        }
        let data = tempfile::tempdir().unwrap();
        let mut server = Self { data, client: free_url(), peer: free_url(), child: None };
        server.run().await;
        Some(server)
    }

    /// Starts it again on the same ports and data, and waits until it answers.
    pub(crate) async fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let peers = format!("default={}", self.peer);
        let log = std::fs::File::create(self.data.path().join("log")).unwrap();
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.data.path().join("data"))
            .args(["--listen-client-urls", &self.client, "--advertise-client-urls", &self.client])
            .args(["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer])
            .args(["--initial-cluster", &peers, "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
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
        EtcdStore::connect(std::slice::from_ref(&self.client), "/twill/v1/").unwrap()
    }

    /// Stops it (`STOP`) or lets it go on (`CONT`), without closing a connection.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// A client past the store.
    pub(crate) async fn raw(&self) -> etcd_client::Client {
        etcd_client::Client::connect([&self.client], None).await.unwrap()
    }

    pub(crate) fn url(&self) -> &str {
        &self.client
    }
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
