//! A room for tests: a namespace that is the node, namespaces that are pods, a run directory, and the built plugin.
//!
//! Everything bears a prefix of its own and is gone with the room, also after a panic.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use twill_ipam::store::Role;
use twill_ipam::{Attachment, Store};
use twill_linux::NetNs;
use twill_testkit::Namespaces;

/// What one call of the plugin gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
}

impl Answer {
    /// The one document on stdout.
    #[track_caller]
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {:?}", self.stdout))
    }

    /// The document of a success.
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stdout);
        self.document()
    }

    /// The text of an error with that CNI code.
    #[track_caller]
    pub(crate) fn error(&self, code: u64) -> String {
        let document = self.document();
        assert_ne!(self.code, Some(0), "{}", self.stdout);
        assert_eq!(document["code"], code, "{document}");
        format!("{} {}", document["msg"].as_str().unwrap(), document["details"].as_str().unwrap_or_default())
    }

    /// A success that says nothing.
    #[track_caller]
    pub(crate) fn silent(&self) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(0), ""));
    }
}

/// One node with its pods.
pub(crate) struct Room {
    run: tempfile::TempDir,
    namespaces: Namespaces,
}

/// `None` without root, after saying so.
pub(crate) fn room() -> Option<Room> {
    let room = Room { namespaces: Namespaces::claim()?, run: tempfile::tempdir().unwrap() };
    room.namespaces.add("node");
    for command in ["addr add 192.0.2.1/32 dev lo", "addr add 2001:db8::1/128 dev lo"] {
        room.ip("node", command);
    }
    Some(room)
}

impl Room {
    pub(crate) fn name(&self, namespace: &str) -> String {
        self.namespaces.name(namespace)
    }

    /// Makes a pod's namespace and gives its path.
    pub(crate) fn pod(&self, pod: &str) -> String {
        self.namespaces.add(pod);
        self.path(pod)
    }

    pub(crate) fn path(&self, namespace: &str) -> String {
        self.namespaces.path(namespace).to_str().unwrap().to_owned()
    }

    pub(crate) fn remove_namespace(&self, namespace: &str) {
        self.namespaces.remove(namespace);
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.run.path().join("twill")
    }

    /// `ip` in a namespace; what it printed.
    #[track_caller]
    pub(crate) fn ip(&self, namespace: &str, command: &str) -> String {
        let output = self.try_ip(namespace, command);
        assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn try_ip(&self, namespace: &str, command: &str) -> Output {
        let name = self.name(namespace);
        Command::new("ip").args(["-n", &name]).args(command.split_whitespace()).output().unwrap()
    }

    /// A program in a namespace.
    pub(crate) fn exec(&self, namespace: &str, program: &str, arguments: &[&str]) -> Output {
        let namespace = NetNs::open(Path::new(&self.path(namespace))).unwrap();
        namespace.run(|| Command::new(program).args(arguments).output().unwrap()).unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_ping(&self, from: &str, to: &str) {
        let output = self.exec(from, "ping", &["-c", "1", "-W", "2", to]);
        assert!(output.status.success(), "ping from {from} to {to}: {}", String::from_utf8_lossy(&output.stdout));
    }

    /// A network configuration of this room.
    pub(crate) fn conf(&self, extra: Value) -> Value {
        let mut conf = json!({"cniVersion": "1.0.0", "name": "net", "type": "twill", "runDir": self.run_dir()});
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        conf
    }

    /// Stand-alone in both families.
    pub(crate) fn dual(&self) -> Value {
        self.conf(json!({"subnets": ["10.42.0.0/24", "fd00:42::/120"]}))
    }

    /// Calls the plugin on the node.
    pub(crate) fn call(&self, variables: &[(&str, &str)], stdin: &str) -> Answer {
        let mut child = self.spawn(variables);
        // A plugin that has refused its environment does not read.
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        Answer { code: output.status.code(), stdout: String::from_utf8(output.stdout).unwrap() }
    }

    /// Starts the plugin on the node; its standard input is open.
    pub(crate) fn spawn(&self, variables: &[(&str, &str)]) -> Child {
        let node = NetNs::open(Path::new(&self.path("node"))).unwrap();
        let spawn = || {
            Command::new(env!("CARGO_BIN_EXE_twill"))
                .env_clear()
                .envs(variables.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        node.run(spawn).unwrap()
    }

    /// A verb about `eth0` of a container whose namespace has the container's name.
    pub(crate) fn verb(&self, verb: &str, container: &str, conf: &Value) -> Answer {
        self.verb_in(verb, container, &self.path(container), conf)
    }

    pub(crate) fn verb_in(&self, verb: &str, container: &str, netns: &str, conf: &Value) -> Answer {
        let variables = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=till"),
        ];
        self.call(&variables, &conf.to_string())
    }

    pub(crate) fn add(&self, container: &str, conf: &Value) -> Answer {
        self.verb("ADD", container, conf)
    }

    pub(crate) fn del(&self, container: &str, conf: &Value) -> Answer {
        self.verb("DEL", container, conf)
    }

    /// CHECK with the result of the ADD.
    pub(crate) fn check(&self, container: &str, conf: &Value, result: &Value) -> Answer {
        let mut conf = conf.clone();
        conf["prevResult"] = result.clone();
        self.verb("CHECK", container, &conf)
    }

    /// A GC of 1.1.0 whose list has these containers, each with `eth0`.
    pub(crate) fn gc(&self, conf: &Value, valid: &[&str]) -> Answer {
        let valid: Vec<_> = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        self.gc_with(conf, &json!({"cni.dev/valid-attachments": valid}))
    }

    /// A GC of 1.1.0 with these further keys.
    pub(crate) fn gc_with(&self, conf: &Value, keys: &Value) -> Answer {
        let mut conf = conf.clone();
        conf["cniVersion"] = "1.1.0".into();
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        self.call(&[("CNI_COMMAND", "GC"), ("CNI_PATH", "/opt/cni/bin")], &conf.to_string())
    }

    /// A STATUS of 1.1.0.
    pub(crate) fn status(&self, conf: &Value) -> Answer {
        let mut conf = conf.clone();
        conf["cniVersion"] = "1.1.0".into();
        self.call(&[("CNI_COMMAND", "STATUS")], &conf.to_string())
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.run_dir(), Role::Reader).unwrap()
    }

    pub(crate) fn rows(&self) -> Vec<Attachment> {
        self.store().attachments().unwrap()
    }

    /// Host ends, limiting devices and pod routes on the node.
    pub(crate) fn kernel(&self) -> String {
        let ours = |line: &&str| line.contains(": tw") || line.contains(": bw");
        let links = self.ip("node", "-o link show");
        let links: String = links.lines().filter(ours).map(|line| format!("{line}\n")).collect();
        let routes = self.ip("node", "-4 route show proto 117") + &self.ip("node", "-6 route show proto 117");
        links + &routes
    }

    /// That no attachment stands: no row, no link, no route.
    #[track_caller]
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.kernel(), "");
        if self.run_dir().join("node.db").exists() {
            assert_eq!(self.rows(), []);
        }
    }
}

/// The address of a family in a result of 0.3.0 or newer, without its length.
pub(crate) fn address(result: &Value, ipv6: bool) -> String {
    let addresses = result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap());
    addresses.filter(|ip| ip.contains(':') == ipv6).map(|ip| ip.split('/').next().unwrap().to_owned()).next().unwrap()
}

/// The host end in a result of 0.3.0 or newer.
pub(crate) fn host_ifname(result: &Value) -> String {
    let mut names = result["interfaces"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap());
    names.find(|name| name.starts_with("tw")).unwrap().to_owned()
}
