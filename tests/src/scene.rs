//! One pod of Twill in a [room](crate::conformance::room), with one address of each family to be had, so that a leaked
//! one fails the next ADD: the scene of what happens to a plugin at a system call of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::binaries::Binaries;
use crate::conformance::Candidate;
use crate::conformance::room::{Answer, Input, NODE, Room, merge};
use crate::conformance::snapshot::Snapshot;
use crate::conformance::subject::Subject;
use crate::conformance::words::{Words, addresses};
use crate::kill::{self, Trace, Victim};
use crate::needs;
use crate::{LabError, Result};

/// What an ADD is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What the test calls it.
    pub name: &'static str,
    /// What is laid over the configuration of a plain dual-stack pod.
    pub extra: fn() -> Value,
    /// Whether the pod has an interface of another network already.
    pub further: bool,
}

/// A pod with an address of each family.
pub const PLAIN: Kind = Kind { name: "dual-stack", extra: || json!({}), further: false };

/// A further interface of a pod.
pub const FURTHER: Kind = Kind { name: "further interface", extra: || json!({}), further: true };

/// A pod with ports of the node that lead to it, and limits of what it receives and sends.
pub const PUBLISHED: Kind = Kind {
    name: "ports and limits",
    extra: || {
        json!({"runtimeConfig": {
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
            ],
            "bandwidth": {"ingressRate": 8_000_000, "egressRate": 8_000_000},
        }})
    },
    further: false,
};

/// What the one address of each family is.
const ADDRESSES: [&str; 2] = ["10.77.0.9/32", "fd77::9/128"];

/// A node with one pod.
#[derive(Debug)]
pub struct Scene<'a> {
    room: Room<'a>,
    words: Words,
    ifname: &'static str,
    conf: Value,
    /// What stands while the pod is not attached.
    bare: Snapshot,
}

/// The built plugin. `None` where no namespaces can be made, after saying so.
pub fn twill() -> Option<Result<Candidate>> {
    if let Some(why) = needs::unmet() {
        needs::say_skipped(&why);
        return None;
    }
    Some(Binaries::ready().and_then(|binaries| Candidate::new(Subject::read("twill")?, binaries.plugin())))
}

impl<'a> Scene<'a> {
    /// Sets it, with an ADD and a DEL that went before: what the making of the store leaves is no leak.
    pub fn set(candidate: &'a Candidate, kind: Kind) -> Result<Self> {
        let room = Room::make(candidate).ok_or_else(|| LabError::wrong("it needs root"))??;
        let words = room.words()?;
        room.place("a")?;
        let run_dir = words.fill("{state}/run");
        let mut conf =
            json!({"cniVersion": "1.1.0", "name": "scene", "type": "twill", "runDir": run_dir, "subnets": ADDRESSES});
        let mut scene = Self { room, words, ifname: "eth0", conf: conf.clone(), bare: Snapshot::default() };
        if kind.further {
            merge(&mut scene.conf, &json!({"name": "first", "subnets": ["10.78.0.9/32", "fd78::9/128"]}));
            scene.succeeds("ADD")?;
            scene.ifname = "net1";
        }
        merge(&mut conf, &(kind.extra)());
        scene.conf = conf;
        let result = scene.succeeds("ADD")?;
        let given = addresses(&result);
        if given != ADDRESSES {
            return Err(LabError::wrong(format!("it was given {given:?} of {ADDRESSES:?}")));
        }
        scene.succeeds("DEL")?;
        scene.bare = scene.room.snapshot(&scene.words)?;
        Ok(scene)
    }

    fn input(&self, verb: &str, more: &Value) -> Result<Input> {
        let netns = self.room.place("a")?.path().to_string_lossy().into_owned();
        let environment = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "pod-a"),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", self.ifname),
            ("CNI_PATH", "/opt/cni/bin"),
            ("PATH", &std::env::var("PATH").unwrap_or_default()),
        ];
        let environment: BTreeMap<_, _> = environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let mut conf = self.conf.clone();
        merge(&mut conf, more);
        Ok(Input { environment, stdin: conf.to_string().into_bytes(), stays_open: false })
    }

    /// Calls the plugin, with `more` laid over the configuration.
    pub fn call_with(&self, verb: &str, more: &Value) -> Result<Answer> {
        self.room.call(&self.room.candidate().program, &self.input(verb, more)?)
    }

    /// Calls the plugin.
    pub fn call(&self, verb: &str) -> Result<Answer> {
        self.call_with(verb, &json!({}))
    }

    /// Calls the plugin, which is to succeed, and yields what it printed.
    pub fn succeeds(&self, verb: &str) -> Result<Value> {
        let answer = self.call(verb)?;
        if !answer.is_success() {
            let text = String::from_utf8_lossy(&answer.stdout);
            return Err(LabError::wrong(format!("{verb} fails: {}", text.trim())));
        }
        Ok(document(&answer))
    }

    fn prepared(&self, verb: &str) -> Result<Command> {
        let input = self.input(verb, &json!({}))?;
        let stdin = self.room.state().join("stdin");
        let io = |cause| LabError::io(format!("the input of {verb}"))(cause);
        fs::write(&stdin, &input.stdin).map_err(io)?;
        let stdout = File::create(self.room.state().join("stdout")).map_err(io)?;
        let mut command = Command::new(&self.room.candidate().program);
        command.env_clear().envs(&input.environment).stdin(File::open(stdin).map_err(io)?);
        command.stdout(stdout).stderr(Stdio::null());
        Ok(command)
    }

    /// Runs the plugin and kills it at one of its system calls; at none where it is 0.
    pub fn killed(&self, verb: &str, at: usize, victim: Victim) -> Result<Trace> {
        let mut command = self.prepared(verb)?;
        let trace = self.room.place(NODE)?.enter(|| kill::run(&mut command, at, victim))?;
        trace.map_err(LabError::io(format!("tracing {verb}")))
    }

    /// Runs the plugin, for which one of its system calls fails. What it printed, too.
    #[cfg(target_arch = "x86_64")]
    pub fn failing(&self, verb: &str, at: usize, errno: nix::errno::Errno) -> Result<(Trace, Value)> {
        let mut command = self.prepared(verb)?;
        let trace = self.room.place(NODE)?.enter(|| kill::run_failing(&mut command, at, errno))?;
        Ok((trace.map_err(LabError::io(format!("tracing {verb}")))?, self.printed()?))
    }

    /// How many system calls an ADD or a DEL makes at most: how often it polls depends on the kernel's pace. It leaves
    /// the pod as bare as it found it.
    pub fn count_calls(&self, verb: &str) -> Result<usize> {
        let mut most = 0;
        for _ in 0..5 {
            if verb == "DEL" {
                self.succeeds("ADD")?;
            }
            let trace = self.killed(verb, 0, Victim::Caller)?;
            if trace.status != Some(0) {
                let said = fs::read_to_string(self.room.state().join("stdout")).unwrap_or_default();
                return Err(LabError::wrong(format!("{verb}, only traced, ends with {:?}: {said}", trace.status)));
            }
            most = most.max(trace.calls);
            self.succeeds("DEL")?;
        }
        Ok(most)
    }

    /// Runs the plugin, which waits at one of its system calls while `meanwhile` runs. What it printed, too.
    pub fn held(&self, verb: &str, at: usize, meanwhile: &mut (dyn FnMut() + Send)) -> Result<(Trace, Value)> {
        let mut command = self.prepared(verb)?;
        let trace = self.room.place(NODE)?.enter(|| kill::run_while(&mut command, at, meanwhile))?;
        Ok((trace.map_err(LabError::io(format!("tracing {verb}")))?, self.printed()?))
    }

    fn printed(&self) -> Result<Value> {
        let printed = fs::read(self.room.state().join("stdout")).map_err(LabError::io("what it printed"))?;
        Ok(serde_json::from_slice(&printed).unwrap_or_default())
    }

    /// Whether the store says that the pod is attached: that an ADD was done but for telling so.
    pub fn is_attached(&self) -> Result<bool> {
        let rows = self.room.run(NODE, &self.words.fill(&self.room.candidate().subject.rows))?;
        Ok(rows.lines().any(|row| row == format!("scene|pod-a|{}|attached", self.ifname)))
    }

    /// That kernel and store are as if the pod had never been attached. The kernel is given a moment.
    pub fn nothing_is_left(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let now = self.room.snapshot(&self.words)?;
            if now == self.bare {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(LabError::wrong(format!("it is not as before:\n{}", self.bare.difference(&now))));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The document on a standard output; `null` where there is none.
pub fn document(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.stdout).unwrap_or_default()
}
