//! An etcd of the test's own, and twillctl run against it.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use twill_cluster::EtcdStore;
use twill_cluster::store::{Range, Store};
use twill_cluster::txn::{Op, Outcome, Txn};
use twill_cluster::view::Snapshot;

/// Under this all keys of the tests lie.
pub(crate) const PREFIX: &str = "/twillctl-test/";

/// One etcd on loopback, in a directory of its own; gone with the value.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) dir: TempDir,
    pub(crate) url: String,
    runtime: tokio::runtime::Runtime,
}

/// What a run of twillctl left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Etcd {
    /// `None`, with a word on stderr, where etcd is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !twill_testkit::has_program("etcd") {
            return None;
        }
        // A port that is free now may be taken in the next moment: then etcd ends at once, and other ports are tried.
        (0..5).find_map(|_| Self::start_on(free_port(), free_port())).or_else(|| panic!("etcd does not start"))
    }

    fn start_on(client: u16, peer: u16) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (url, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let child = Command::new("etcd")
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
            .args(["--unsafe-no-fsync", "--data-dir"])
            .arg(dir.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd was there a moment ago");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut etcd = Self { child, dir, url, runtime };
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if etcd.child.try_wait().expect("it is our child").is_some() {
                return None;
            }
            if etcd.read(&Range::watched()).is_some() {
                return Some(etcd);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn read(&self, range: &Range) -> Option<Snapshot> {
        self.runtime.block_on(async { self.store().read(range).await.ok() })
    }

    fn store(&self) -> EtcdStore {
        EtcdStore::connect(std::slice::from_ref(&self.url), PREFIX).expect("the URL is good")
    }

    /// Writes keys, each by itself, and says at which revision the last one stands.
    pub(crate) fn put(&self, entries: &[(&str, &str)]) -> i64 {
        let put = |(key, value): &(&str, &str)| {
            let op = Op::Put { key: (*key).to_owned(), value: value.as_bytes().to_vec(), lease: None };
            Txn { when: vec![], then: vec![op] }
        };
        let mut last = 0;
        for entry in entries {
            let outcome = self.runtime.block_on(async { self.store().commit(&put(entry)).await });
            let Ok(Outcome::Done(revision)) = outcome else { panic!("{entry:?}: {outcome:?}") };
            last = revision;
        }
        last
    }

    /// What stands under `config`, with its mod_revision.
    pub(crate) fn config(&self) -> Option<(String, i64)> {
        let snapshot = self.read(&Range { start: "config".into(), end: "config\0".into() }).expect("etcd answers");
        let entry = snapshot.entries.first()?;
        Some((String::from_utf8(entry.value.clone()).expect("JSON"), entry.modified))
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// A file in the test's directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("writable");
        path
    }

    /// twillctl, pointed at this etcd by its environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twillctl"));
        command.args(arguments).env("TWILL_ETCD", &self.url).env("TWILL_PREFIX", PREFIX);
        command.env("TWILL_RUN_DIR", self.run_dir()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().expect("twillctl runs"))
    }

    /// As [`run`](Self::run), with something on standard input.
    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("twillctl runs");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
        Ran::of(child.wait_with_output().expect("it ends"))
    }

    /// `config apply` of a file.
    pub(crate) fn apply(&self, file: &Path) -> Ran {
        self.run(&["config", "apply", file.to_str().expect("UTF-8")])
    }

    /// Ends etcd, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            status: output.status.code().expect("it ends by itself"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// The report as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|cause| panic!("{cause}: {self:?}"))
    }

    /// Fails the test unless it ended with this status.
    #[track_caller]
    pub(crate) fn ends_with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
