//! The room of one case: a namespace that is the node, namespaces that are pods, a directory, and calls of the plugin.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use twill_testkit::Namespaces;

use super::Candidate;
use super::snapshot::Snapshot;
use super::words::Words;
use crate::deadline::{self, PATIENCE};
use crate::namespace::Namespace;
use crate::{LabError, Result, process};

/// The namespace of the node.
pub const NODE: &str = "node";

/// A node has addresses of its own, from which it speaks to its pods.
const NODE_ADDRESSES: &str = "addr add 192.0.2.1/32 dev lo\naddr add 2001:db8::1/128 dev lo\n";

/// The longest that any call may take: an ADD of Twill lives for ten seconds, a DEL waits for it two more.
const LONGEST: Duration = Duration::from_secs(15);

/// What a call gave.
#[derive(Debug)]
pub struct Answer {
    /// How it ended; `None` where it did not, and was killed.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// The whole process.
    pub took: Duration,
}

impl Answer {
    /// Whether the plugin says that it did what it was asked.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// What a call gets.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Whether standard input stays open after that.
    pub stays_open: bool,
}

/// The room. All of it goes with it.
#[derive(Debug)]
pub struct Room<'a> {
    candidate: &'a Candidate,
    namespaces: Namespaces,
    state: tempfile::TempDir,
    pods: Mutex<Vec<String>>,
}

impl<'a> Room<'a> {
    /// Makes one with its node. `None` without root, after saying so.
    pub fn make(candidate: &'a Candidate) -> Option<Result<Self>> {
        let namespaces = Namespaces::claim()?;
        let state = match tempfile::Builder::new().prefix("twill-room").tempdir_in("/run") {
            Ok(state) => state,
            Err(cause) => return Some(Err(LabError::io("making the directory of a room")(cause))),
        };
        let room = Self { candidate, namespaces, state, pods: Mutex::default() };
        Some(room.make_node().map(|()| room))
    }

    fn make_node(&self) -> Result<()> {
        self.add(NODE)?;
        let node = self.namespace(NODE);
        node.ip_batch(NODE_ADDRESSES)?;
        // The kernel makes the route of an IPv6 address in its own time.
        let local = ["ip", "-6", "route", "show", "table", "local", "2001:db8::1"];
        deadline::until("the node has its addresses", PATIENCE, || Ok(!node.run(&local)?.is_empty()))
    }

    /// Makes a namespace, without duplicate address detection: a tentative address answers nobody for a second.
    fn add(&self, name: &str) -> Result<()> {
        self.namespaces.add(name);
        for scope in ["all", "default"] {
            self.namespace(name).set_sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        Ok(())
    }

    /// The plugin under examination.
    pub fn candidate(&self) -> &'a Candidate {
        self.candidate
    }

    /// A namespace of the room; a pod's is made when it is first asked for.
    pub fn place(&self, name: &str) -> Result<Namespace> {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if name != NODE && !pods.iter().any(|pod| pod == name) {
            pods.push(name.to_owned());
            self.add(name)?;
        }
        Ok(self.namespace(name))
    }

    fn namespace(&self, name: &str) -> Namespace {
        Namespace::named(self.namespaces.name(name))
    }

    /// The plugin's own files.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// The words that a room has before anything happened in it.
    pub fn words(&self) -> Result<Words> {
        let mut words = Words::default();
        for (word, meaning) in &self.candidate.subject.words {
            words.set(word, meaning);
        }
        words.set("state", self.state().to_string_lossy());
        words.set("prefix", &self.candidate.subject.prefix);
        words.set("node", self.namespace(NODE).path().to_string_lossy());
        for pod in ["a", "b"] {
            let suffix = if pod == "a" { "" } else { "_b" };
            words.set(&format!("netns{suffix}"), self.namespace(pod).path().to_string_lossy());
        }
        words.set("long", "c".repeat(300));
        Ok(words)
    }

    /// Takes a pod's namespace away.
    pub fn remove(&self, pod: &str) -> Result<()> {
        self.place(pod)?;
        self.namespaces.remove(pod);
        Ok(())
    }

    /// Runs a line of the shell in a place.
    pub fn run(&self, place: &str, line: &str) -> Result<String> {
        self.place(place)?.run(&["sh", "-c", line])
    }

    /// What stands.
    pub fn snapshot(&self, words: &Words) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        snapshot.add_namespace("node", &self.place(NODE)?)?;
        snapshot.add_namespace("pod", &self.place("a")?)?;
        snapshot.add_rows(&self.run(NODE, &words.fill(&self.candidate.subject.rows))?);
        Ok(snapshot)
    }

    /// Calls a program on the node, as a runtime calls the plugin.
    pub fn call(&self, program: &Path, input: &Input) -> Result<Answer> {
        let mut command = Command::new(program);
        command.env_clear().envs(&input.environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = process::words(&command);
        let started = Instant::now();
        let mut child = self.place(NODE)?.start(&mut command)?;
        let mut stdin = child.stdin.take().expect("it was piped");
        match stdin.write_all(&input.stdin) {
            // Whoever refuses its environment need not read.
            Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => return Err(LabError::io(what)(cause)),
            _ => {}
        }
        let held = input.stays_open.then_some(stdin);
        let answer = gather(&mut child, started).map_err(LabError::io(what));
        drop(held);
        answer
    }
}

/// Reads both outputs to their ends, and kills a program that does not end.
fn gather(child: &mut Child, started: Instant) -> std::io::Result<Answer> {
    let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    std::thread::scope(|scope| {
        let out = scope.spawn(move || read(&mut stdout));
        let err = scope.spawn(move || read(&mut stderr));
        let mut status = child.try_wait()?;
        while status.is_none() && started.elapsed() < LONGEST {
            std::thread::sleep(Duration::from_micros(500));
            status = child.try_wait()?;
        }
        let took = started.elapsed();
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let join = |thread: std::thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| {
            thread.join().expect("reading does not panic")
        };
        let (stdout, stderr) = (join(out)?, String::from_utf8_lossy(&join(err)?).into_owned());
        Ok(Answer { status, stdout, stderr, took })
    })
}

fn read(source: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map(|_| bytes)
}

/// Lays `patch` over `value`: objects are merged, all else replaced.
pub fn merge(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (Value::Object(fields), Value::Object(patches)) => {
            for (key, patch) in patches {
                merge(fields.entry(key.clone()).or_insert(Value::Null), patch);
            }
        }
        (value, patch) => *value = patch.clone(),
    }
}
