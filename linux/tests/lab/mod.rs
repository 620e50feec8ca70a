//! Network namespaces for the tests of this crate: named uniquely, removed when the test ends, also by a panic.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use ipnetwork::IpNetwork;
use twill_linux::{IfName, MacAddr, NetNs, Netlink};
use twill_testkit::Namespaces;

/// A network namespace with lo up.
pub struct Namespace {
    pub name: String,
    pub path: PathBuf,
    _owner: Namespaces,
}

impl Namespace {
    /// `None`, and a line on stderr, where the test cannot run.
    pub fn new() -> Option<Self> {
        let owner = Namespaces::claim()?;
        owner.add("ns");
        Some(Self { name: owner.name("ns"), path: owner.path("ns"), _owner: owner })
    }

    pub fn open(&self) -> NetNs {
        NetNs::open(&self.path).unwrap()
    }

    pub fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.open()).unwrap()
    }

    /// Runs `ip ARGS` inside, and gives what it prints.
    pub fn ip(&self, args: &str) -> String {
        self.must(&format!("ip {args}"))
    }

    /// Runs a command inside, split at white space.
    pub fn run(&self, command: &str) -> Output {
        let mut words = command.split_whitespace();
        Command::new("ip").args(["netns", "exec", &self.name]).args(&mut words).output().unwrap()
    }

    pub fn must(&self, command: &str) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn pings(&self, destination: &str) -> bool {
        self.run(&format!("ping -c1 -W3 -n {destination}")).status.success()
    }
}

pub fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

pub fn mac(text: &str) -> MacAddr {
    text.parse().unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}
