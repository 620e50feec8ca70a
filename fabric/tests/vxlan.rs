//! What is desired, put into three namespaces by `ip` and `bridge`, and pinged: two nodes with both families and one whose
//! underlay is IPv6 alone. Pods of all of them reach each other in both families, and so do the nodes' own packets.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use twill_fabric::{Local, Pod, Side, Underlay, desired};
use twill_linux::state::{KernelState, LinkKind, Target};
use twill_testkit::Namespaces;

#[path = "../src/tests/sample.rs"]
#[allow(dead_code)]
mod sample;
use sample::Sample;

const NODES: [u16; 3] = [1, 2, 3];

/// Namespaces of one test; they end with it, also by a panic.
struct Lab {
    namespaces: Namespaces,
}

impl Lab {
    fn name(&self, namespace: &str) -> String {
        self.namespaces.name(namespace)
    }

    fn ip(&self, namespace: &str, arguments: &str) {
        run(Command::new("ip").arg("-n").arg(self.name(namespace)).args(arguments.split_whitespace()));
    }

    fn exec(&self, namespace: &str, command: &str) -> Command {
        let mut exec = Command::new("ip");
        exec.args(["netns", "exec", &self.name(namespace)]).args(command.split_whitespace());
        exec
    }

    fn namespaces() -> impl Iterator<Item = String> {
        let nodes = NODES.into_iter().flat_map(|node| [format!("n{node}"), format!("p{node}")]);
        std::iter::once("wire".to_owned()).chain(nodes)
    }

    fn build(&self) {
        for namespace in Self::namespaces() {
            self.namespaces.add(&namespace);
            run(&mut self.exec(&namespace, "sysctl -qw net.ipv6.conf.default.accept_dad=0"));
        }
        self.ip("wire", "link add br0 type bridge");
        self.ip("wire", "link set br0 up");
    }

    fn node(&self, number: u16, local: &Local) {
        let (node, pod) = (format!("n{number}"), format!("p{number}"));
        self.ip(&node, &format!("link add eth0 type veth peer name {node} netns {}", self.name("wire")));
        self.ip("wire", &format!("link set {node} master br0 up"));
        for address in local.underlay.sides().map(|side| side.cidr) {
            self.ip(&node, &format!("address add {address} dev eth0"));
        }
        self.ip(&node, "link set eth0 up");
        let Pod { host, mac, mtu, .. } = local.pods[0];
        let gate = twill_linux::MacAddr(twill_ipam::HOST_MAC);
        self.ip(&node, &format!("link add {host} type veth peer name eth0 address {mac} netns {}", self.name(&pod)));
        self.ip(&node, &format!("link set {host} address {gate} up"));
        self.ip(&pod, &format!("link set eth0 up mtu {mtu}"));
        self.ip(&node, &format!("link set {host} mtu {mtu}"));
        for (address, gateway) in local.pods[0].addresses.iter().zip(["169.254.1.1", "fe80::1"]) {
            self.ip(&pod, &format!("address add {address} dev eth0"));
            self.ip(&pod, &format!("neighbour add {gateway} lladdr {gate} dev eth0"));
            self.ip(&pod, &format!("route add {gateway} dev eth0"));
            self.ip(&pod, &format!("route add default via {gateway} dev eth0"));
        }
    }

    fn apply(&self, node: &str, state: &KernelState) {
        for link in state.links.values() {
            let LinkKind::Vxlan { vni, port, local } = link.kind;
            let kind = format!("type vxlan id {vni} dstport {port} local {local} nolearning");
            self.ip(node, &format!("link add {} address {} mtu {} {kind}", link.name, link.mac, link.mtu));
            // Apart, since the kernel looks at the flags first, and makes an address of its own when the device comes up.
            self.ip(node, &format!("link set {} addrgenmode none", link.name));
            self.ip(node, &format!("link set {} up", link.name));
        }
        for (path, value) in &state.sysctls {
            run(&mut self.exec(node, &format!("sysctl -qw {path}={value}")));
        }
        for address in &state.addresses {
            self.ip(node, &format!("address add {} dev {}", address.cidr, address.device));
        }
        for neighbour in state.neighbours.values() {
            let (ip, mac, device) = (neighbour.ip, neighbour.mac, neighbour.device);
            self.ip(node, &format!("neighbour add {ip} lladdr {mac} dev {device} nud permanent"));
        }
        for entry in state.fdb.values() {
            let entry = format!("{} dev {} dst {} self permanent", entry.mac, entry.device, entry.remote);
            run(&mut self.exec(node, &format!("bridge fdb add {entry}")));
        }
        for route in state.routes.values() {
            let (kind, target) = match &route.target {
                Target::Unreachable => ("unreachable", String::new()),
                Target::Device(device) => ("unicast", format!("dev {device} scope link")),
                Target::Gateway { gateway, device, onlink } => {
                    ("unicast", format!("via {gateway} dev {device} {}", if *onlink { "onlink" } else { "" }))
                }
                Target::Several(_) => panic!("{route} is no route of VXLAN"),
            };
            let (to, metric, protocol) = (route.key.destination, route.key.metric, route.protocol);
            // The family is told for the scope's sake, which IPv6 does not know.
            let (family, target) = match to.is_ipv6() {
                true => ("-6", target.replace("scope link", "")),
                false => ("-4", target),
            };
            let route = format!("{family} route add {kind} {to} {target} metric {metric} protocol {protocol}");
            self.ip(node, &route);
        }
    }

    fn assert_answers(&self, from: &str, to: std::net::IpAddr) {
        for size in [56, 1302] {
            let output = self.exec(from, &format!("ping -c 1 -W 5 -s {size} {to}")).output().unwrap();
            assert!(output.status.success(), "{from} to {to}, {size} bytes: {}", text(&output.stdout));
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn pods_of_nodes_with_one_and_with_two_families_reach_each_other() {
    let Some(namespaces) = Namespaces::claim() else { return };
    let mut sample = Sample::new(&["10.42.0.0/16", "fd42::/64"])
        .node(1, &["192.168.9.1/24", "fd09::1/64"])
        .node(2, &["192.168.9.2/24", "fd09::2/64"])
        .node(3, &["fd09::3/64"]);
    for node in NODES {
        sample = sample.block(node, &format!("10.42.{node}.0/26")).block(node, &format!("fd42::{node}00/122"));
    }
    let lab = Lab { namespaces };
    lab.build();
    let pods: Vec<Local> = NODES.map(|node| sample.local(node, &[&format!("10.42.{node}.1,fd42::{node}01")])).into();
    for (node, local) in NODES.into_iter().zip(&pods) {
        lab.node(node, local);
        let desired = desired(&sample.view, local);
        assert_eq!(desired.problems, [""; 0]);
        lab.apply(&format!("n{node}"), &desired.state);
    }
    for from in NODES {
        for to in pods.iter().flat_map(|local| &local.pods[0].addresses) {
            lab.assert_answers(&format!("p{from}"), *to);
            lab.assert_answers(&format!("n{from}"), *to);
        }
    }
}
