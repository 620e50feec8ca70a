//! Nodes that share no subnet, with a router between them: nothing but BGP knows a way.

use ipnetwork::IpNetwork;
use nix::sys::signal::Signal;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::namespace::Namespace;
use twill_tests::process::Process;
use twill_tests::routers::{Host, Neighbour, Settings};
use twill_tests::{Lab, LabBuilder, Node, Result};

use super::stage::{ASN, BGP, facing, open_lab};

/// A lab whose nodes have no daemon yet, so that they can be moved.
pub fn lab(nodes: u8) -> LabBuilder {
    open_lab().nodes(nodes).backend(BGP).asleep()
}

/// Makes each node's address the only one of its subnet, with this host as the router to all others.
pub fn separate(lab: &Lab, router: &Host) -> Result<()> {
    for scope in ["all", "default", "eth0"] {
        router.namespace().set_sysctl(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
    }
    for node in lab.nodes() {
        for address in node.addresses() {
            let hop = router.address(address.is_ipv6());
            let (before, after, all) =
                if address.is_ipv4() { ("/24", "/32", "0.0.0.0/0") } else { ("/64", "/128 nodad", "::/0") };
            let length = if address.is_ipv4() { 32 } else { 128 };
            node.namespace().ip_batch(&format!(
                "route del {all}\naddr del {address}{before} dev eth0\naddr add {address}{after} dev eth0\n\
                 route add {hop}/{length} dev eth0\nroute add {all} via {hop} dev eth0\n"
            ))?;
        }
    }
    Ok(())
}

/// The settings of a router of the nodes' AS, with all nodes as its clients.
pub fn reflecting(lab: &Lab, change: impl Fn(Neighbour) -> Neighbour) -> Settings {
    let settings = Settings { kernel: true, ..Settings::new(ASN, [10, 0, 0, 1].into()) };
    facing(lab, settings, |neighbour| change(Neighbour { client: true, ..neighbour }))
}

/// Starts all daemons.
pub fn wake(lab: &Lab) -> Result<()> {
    lab.nodes().iter().try_for_each(Node::start_daemon)?;
    lab.converged()
}

/// Writes down each change of a namespace's routes.
#[derive(Debug)]
pub struct Monitor {
    process: Process,
}

impl Monitor {
    /// Begins, and waits until it hears.
    pub fn on(lab: &Lab, namespace: &Namespace) -> Result<Self> {
        let file = lab.directory().join(format!("{}.routes", namespace.name()));
        let command = twill_tests::process::command(&["ip", "monitor", "route"]);
        let monitor = Self { process: namespace.start_process("ip monitor", command, &file)? };
        let mark = "192.0.2.255";
        deadline::until(&format!("the routes of {} are watched", namespace.name()), PATIENCE, || {
            namespace.ip_batch(&format!("route add blackhole {mark}/32\nroute del blackhole {mark}/32\n"))?;
            Ok(monitor.process.log().contains(mark))
        })?;
        Ok(monitor)
    }

    /// The changes so far of routes to these prefixes.
    pub fn changes(&self, of: &[IpNetwork]) -> Vec<String> {
        let text = self.process.log();
        let is_of =
            |line: &&str| line.split_whitespace().any(|word| of.iter().any(|prefix| word == prefix.to_string()));
        text.lines().filter(is_of).map(str::to_owned).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.process.end(Signal::SIGKILL).map(drop).unwrap_or_default();
    }
}
