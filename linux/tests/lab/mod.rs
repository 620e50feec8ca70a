//! Network namespaces for the tests of this crate: named uniquely, removed when the test ends, also by a panic.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

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

    /// Waits until an address is delivered here: IPv6 takes a moment to that, also without duplicate address detection.
    pub fn has(&self, cidr: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let address = net(cidr).ip();
        while !self.ip(&format!("route get {address}")).starts_with("local ") {
            assert!(Instant::now() < deadline, "{address} stays unusable");
        }
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

/// Two machines with a link between them, eth0 at both: 192.0.2.1, 2001:db8::1 and fe80::1 at the first; .2 and .22, ::2 and ::22
/// and fe80::2 at the second.
pub fn pair() -> Option<(Namespace, Namespace)> {
    let (first, second) = (Namespace::new()?, Namespace::new()?);
    first.ip(&format!("link add eth0 type veth peer name eth0 netns {}", second.name));
    let ends: [(&Namespace, &[&str]); 2] = [
        (&first, &["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"]),
        (&second, &["192.0.2.2/24", "192.0.2.22/24", "2001:db8::2/64", "2001:db8::22/64", "fe80::2/64"]),
    ];
    for (end, addresses) in ends {
        end.ip("link set eth0 addrgenmode none up");
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            end.ip(&format!("addr add {address} dev eth0 {nodad}"));
        }
        addresses.iter().for_each(|address| end.has(address));
    }
    Some((first, second))
}
