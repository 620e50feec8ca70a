//! The firewall's rules against packets, in network namespaces: a node with two pods, and the wire that it hangs on.
//!
//! A packet that must be dropped is followed by one that must pass, on the same socket; what arrives first decides. So no
//! test waits for something not to happen.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use nftables::schema::NfListObject;
use twill_fabric::{Local, Pod, Side, Underlay, desired};
use twill_linux::nft::Ruleset;
use twill_testkit::{Namespaces, has_program};

#[path = "../src/tests/sample.rs"]
#[allow(dead_code)]
mod sample;
use sample::Sample;

const VNI: u32 = 7777;
const PORT: u16 = 4789;

/// Namespaces of one test; they end with it, also by a panic.
struct Lab {
    namespaces: Namespaces,
    local: Local,
}

const POD: [&str; 2] = ["pod1", "pod2"];
const HOST_END: [&str; 2] = ["tw0000000000001", "tw0000000000002"];

/// What differs between the families.
struct Ends {
    pod: [IpAddr; 2],
    spoofed: IpAddr,
    node: IpAddr,
    /// A node that is in the records, and a machine that is not; both are addresses of the wire's namespace.
    peer: IpAddr,
    stranger: IpAddr,
}

fn both_families() -> [Ends; 2] {
    let ip = |text: &str| text.parse().unwrap();
    [
        Ends {
            pod: [ip("10.42.1.1"), ip("10.42.1.2")],
            spoofed: ip("10.42.1.9"),
            node: ip("192.168.9.1"),
            peer: ip("192.168.9.2"),
            stranger: ip("192.168.9.66"),
        },
        Ends {
            pod: [ip("fd42::101"), ip("fd42::102")],
            spoofed: ip("fd42::109"),
            node: ip("fd09::1"),
            peer: ip("fd09::2"),
            stranger: ip("fd09::66"),
        },
    ]
}

impl Lab {
    fn new() -> Option<Self> {
        Self::with(&[], false)
    }

    /// With nodes that are reached without a tunnel.
    fn with_native(native: &[IpAddr]) -> Option<Self> {
        Self::with(native, false)
    }

    /// The first pod is of a network without `spoofCheck`, or is not.
    fn with(native: &[IpAddr], unchecked: bool) -> Option<Self> {
        let namespaces = Namespaces::claim()?;
        if !has_program("nft") {
            return None;
        }
        let sample = Sample::new(&["10.42.0.0/16", "fd42::/64"])
            .node(1, &["192.168.9.1/24", "fd09::1/64"])
            .node(2, &["192.168.9.2/24", "fd09::2/64"])
            .block(1, "10.42.1.0/26")
            .block(1, "fd42::100/122");
        let mut local = sample.local(1, &["10.42.1.1,fd42::101", "10.42.1.2,fd42::102"]);
        local.pods[0].unchecked = unchecked;
        let lab = Self { namespaces, local };
        lab.build();
        let mut ruleset = desired(&sample.view, &lab.local).state.firewall.expect("there is a configuration");
        for address in native {
            let set = if address.is_ipv6() { "native6" } else { "native4" };
            ruleset.members.get_mut(set).expect("a set of the table").insert(*address);
        }
        lab.load(&ruleset);
        Some(lab)
    }

    fn name(&self, namespace: &str) -> String {
        self.namespaces.name(namespace)
    }

    fn ip(&self, namespace: &str, arguments: &str) {
        run(Command::new("ip").arg("-n").arg(self.name(namespace)).args(arguments.split(' ')));
    }

    fn sysctl(&self, namespace: &str, setting: &str) {
        let name = self.name(namespace);
        run(Command::new("ip").args(["netns", "exec", &name, "sysctl", "-qw", setting]));
    }

    fn build(&self) {
        for namespace in ["node", "wire", POD[0], POD[1]] {
            self.namespaces.add(namespace);
            self.sysctl(namespace, "net.ipv6.conf.default.accept_dad=0");
        }
        self.ip("node", &format!("link add eth0 index 2 type veth peer name eth0 netns {}", self.name("wire")));
        for (namespace, host) in [("node", "1"), ("wire", "2"), ("wire", "66")] {
            self.ip(namespace, &format!("address add 192.168.9.{host}/24 dev eth0"));
            self.ip(namespace, &format!("address add fd09::{host}/64 dev eth0 nodad"));
        }
        for namespace in ["node", "wire"] {
            self.ip(namespace, "link set eth0 up");
        }
        for forwarding in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            self.sysctl("node", forwarding);
        }
        for (pod, (namespace, host)) in self.local.pods.iter().zip(POD.into_iter().zip(HOST_END)) {
            self.attach(pod, namespace, host);
        }
    }

    fn attach(&self, pod: &Pod, namespace: &str, host: &str) {
        let (mac, name) = (pod.mac, self.name(namespace));
        self.ip("node", &format!("link add {host} type veth peer name eth0 address {mac} netns {name}"));
        self.ip("node", &format!("link set {host} address 02:00:00:00:ff:ff up"));
        self.ip(namespace, "link set eth0 up");
        for (address, gateway, length) in [(pod.addresses[0], "169.254.1.1", 32), (pod.addresses[1], "fe80::1", 128)] {
            self.ip("node", &format!("route add {address}/{length} dev {host} metric 7777 protocol 117"));
            self.ip("node", &format!("neighbour add {address} lladdr {mac} dev {host}"));
            self.ip(namespace, &format!("address add {address}/{length} dev eth0"));
            self.ip(namespace, &format!("neighbour add {gateway} lladdr 02:00:00:00:ff:ff dev eth0"));
            self.ip(namespace, &format!("route add {gateway} dev eth0"));
            self.ip(namespace, &format!("route add default via {gateway} dev eth0"));
        }
        self.ip(namespace, "address add 10.42.1.9/32 dev eth0");
        self.ip(namespace, "address add fd42::109/128 dev eth0 nodad");
    }

    fn load(&self, ruleset: &Ruleset) {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.name("node"), "nft", "-j", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(ruleset.transaction().as_bytes()).unwrap();
        let output = nft.wait_with_output().unwrap();
        assert!(output.status.success(), "nft: {}{}", text(&output.stdout), text(&output.stderr));
    }

    /// A UDP socket in a namespace; a port of 0 is any.
    fn socket(&self, namespace: &str, address: IpAddr, port: u16) -> UdpSocket {
        let path = self.namespaces.path(namespace);
        let open = move || {
            let file = std::fs::File::open(&path).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            UdpSocket::bind(SocketAddr::new(address, port)).unwrap()
        };
        let socket = std::thread::spawn(open).join().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    /// Whether the node tracks packets from this address to the tunnel's port; `None` where the kernel does not tell.
    fn tracks(&self, source: IpAddr) -> Option<bool> {
        let command = ["netns", "exec", &self.name("node"), "cat", "/proc/net/nf_conntrack"];
        let output = Command::new("ip").args(command).output().unwrap();
        let has = |line: &str| {
            let mut words = line.split_whitespace();
            let from = words.find_map(|word| word.strip_prefix("src=")).and_then(|from| from.parse::<IpAddr>().ok());
            from == Some(source) && words.any(|word| word == format!("dport={PORT}"))
        };
        output.status.success().then(|| text(&output.stdout).lines().any(has))
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A VXLAN packet's header with a word behind it.
fn vxlan(vni: u32, word: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0], &(vni << 8).to_be_bytes()[..], word].concat()
}

/// Receives one packet and says from where.
fn receive(socket: &UdpSocket, expected: &[u8]) -> IpAddr {
    let mut buffer = [0; 2048];
    let (length, from) = loop {
        match socket.recv_from(&mut buffer) {
            // A socket with a timeout is not resumed by the kernel when the machine pauses the thread.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            received => break received.expect("the packet that must pass did not come"),
        }
    };
    assert_eq!(text(&buffer[..length]), text(expected));
    from.ip()
}

#[test]
fn a_pod_sends_by_its_own_address_only() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let target = lab.socket("wire", ends.peer, 7);
        let to = SocketAddr::new(ends.peer, 7);
        lab.socket(POD[0], ends.spoofed, 0).send_to(b"spoofed", to).unwrap();
        lab.socket(POD[0], ends.pod[0], 0).send_to(b"honest", to).unwrap();
        receive(&target, b"honest");
        let neighbour = lab.socket(POD[1], ends.pod[1], 7);
        let to = SocketAddr::new(ends.pod[1], 7);
        lab.socket(POD[0], ends.spoofed, 0).send_to(b"spoofed", to).unwrap();
        lab.socket(POD[0], ends.pod[0], 0).send_to(b"honest", to).unwrap();
        receive(&neighbour, b"honest");
    }
}

#[test]
fn a_pod_without_spoof_check_sends_by_other_addresses_and_its_neighbour_does_not() {
    let Some(lab) = Lab::with(&[], true) else { return };
    lab.ip(POD[1], "address add 10.42.1.8/32 dev eth0");
    lab.ip(POD[1], "address add fd42::108/128 dev eth0 nodad");
    for (ends, spoofed) in both_families().into_iter().zip(["10.42.1.8", "fd42::108"]) {
        let service = lab.socket("node", ends.node, 7);
        let to = SocketAddr::new(ends.node, 7);
        lab.socket(POD[1], spoofed.parse().unwrap(), 0).send_to(b"its neighbour's", to).unwrap();
        lab.socket(POD[0], ends.spoofed, 0).send_to(b"unchecked", to).unwrap();
        assert_eq!(receive(&service, b"unchecked"), ends.spoofed);
    }
}

#[test]
fn a_pod_without_spoof_check_forges_no_tunnel_packet_by_the_address_of_a_node() {
    let Some(lab) = Lab::with(&[], true) else { return };
    for ends in both_families() {
        let length = if ends.peer.is_ipv6() { "128" } else { "32" };
        lab.ip(POD[0], &format!("address add {}/{length} dev eth0", ends.peer));
        let vtep = lab.socket("node", ends.node, PORT);
        let to = SocketAddr::new(ends.node, PORT);
        lab.socket(POD[0], ends.peer, 0).send_to(&vxlan(VNI, b"forged"), to).unwrap();
        lab.socket("wire", ends.peer, 0).send_to(&vxlan(VNI, b"peer"), to).unwrap();
        receive(&vtep, &vxlan(VNI, b"peer"));
        lab.ip(POD[0], &format!("address del {}/{length} dev eth0", ends.peer));
        let beyond = lab.socket("wire", ends.peer, PORT);
        let to = SocketAddr::new(ends.peer, PORT);
        let pod = lab.socket(POD[0], ends.spoofed, 0);
        pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
        pod.send_to(&vxlan(VNI + 1, b"its own overlay"), to).unwrap();
        receive(&beyond, &vxlan(VNI + 1, b"its own overlay"));
        // Another node's tunnel address, to which packets go as they are.
        let tunnel: IpAddr = if ends.peer.is_ipv6() { "fd42::200" } else { "10.42.2.0" }.parse().unwrap();
        lab.ip("wire", &format!("address add {tunnel}/{length} dev eth0"));
        lab.ip("node", &format!("route add {tunnel}/{length} via {}", ends.peer));
        let inside = lab.socket("wire", tunnel, PORT);
        let to = SocketAddr::new(tunnel, PORT);
        pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
        pod.send_to(&vxlan(VNI + 1, b"its own overlay"), to).unwrap();
        receive(&inside, &vxlan(VNI + 1, b"its own overlay"));
    }
}

#[test]
fn a_link_local_source_reaches_only_the_link() {
    [false, true].into_iter().filter_map(|unchecked| Lab::with(&[], unchecked)).for_each(link_local_stays_on_the_link);
}

fn link_local_stays_on_the_link(lab: Lab) {
    let pod_end = "fe80::70ff:fe00:1".parse().unwrap();
    lab.ip(POD[0], "address replace fe80::70ff:fe00:1/64 dev eth0 nodad");
    lab.ip("node", &format!("address add fe80::1/64 dev {} nodad", HOST_END[0]));
    let service = lab.socket("node", "::".parse().unwrap(), 7);
    let link_local = |port| {
        let scope = lab.index(POD[0], "eth0");
        let path = lab.namespaces.path(POD[0]);
        let open = move || {
            let file = std::fs::File::open(&path).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            UdpSocket::bind(std::net::SocketAddrV6::new(pod_end, port, 0, scope)).unwrap()
        };
        (std::thread::spawn(open).join().unwrap(), scope)
    };
    let (socket, scope) = link_local(0);
    socket.send_to(b"to a global address", "[fd09::1]:7").unwrap();
    socket.send_to(b"to the link", std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, scope)).unwrap();
    assert_eq!(receive(&service, b"to the link"), IpAddr::V6(pod_end));
}

impl Lab {
    /// An interface's number.
    fn index(&self, namespace: &str, device: &str) -> u32 {
        let path = format!("/sys/class/net/{device}/ifindex");
        let output = Command::new("ip").args(["netns", "exec", &self.name(namespace), "cat", &path]).output().unwrap();
        text(&output.stdout).trim().parse().unwrap()
    }
}

#[test]
fn outside_a_pod_has_the_nodes_address_and_inside_its_own() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        let outside = lab.socket("wire", ends.stranger, 7);
        pod.send_to(b"out", SocketAddr::new(ends.stranger, 7)).unwrap();
        assert_eq!(receive(&outside, b"out"), ends.node);
        let neighbour = lab.socket(POD[1], ends.pod[1], 7);
        pod.send_to(b"in", SocketAddr::new(ends.pod[1], 7)).unwrap();
        assert_eq!(receive(&neighbour, b"in"), ends.pod[0]);
        let node = lab.socket("node", ends.node, 7);
        pod.send_to(b"node", SocketAddr::new(ends.node, 7)).unwrap();
        assert_eq!(receive(&node, b"node"), ends.pod[0]);
    }
}

#[test]
fn only_known_nodes_speak_our_vxlan_to_us_and_another_overlay_lives() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let vtep = lab.socket("node", ends.node, PORT);
        let to = SocketAddr::new(ends.node, PORT);
        let [stranger, peer] = [ends.stranger, ends.peer].map(|address| lab.socket("wire", address, 0));
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        stranger.send_to(&vxlan(VNI, b"stranger"), to).unwrap();
        pod.send_to(&vxlan(VNI, b"pod"), to).unwrap();
        peer.send_to(&vxlan(VNI, b"peer"), to).unwrap();
        assert_eq!(receive(&vtep, &vxlan(VNI, b"peer")), ends.peer);
        assert_ne!(lab.tracks(ends.peer), Some(true));
        stranger.send_to(&vxlan(VNI + 1, b"other overlay"), to).unwrap();
        receive(&vtep, &vxlan(VNI + 1, b"other overlay"));
    }
}

#[test]
fn a_large_vxlan_packet_in_fragments_does_not_pass_the_guard() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let vtep = lab.socket("node", ends.node, PORT);
        let to = SocketAddr::new(ends.node, PORT);
        let [stranger, peer] = [ends.stranger, ends.peer].map(|address| lab.socket("wire", address, 0));
        stranger.send_to(&vxlan(VNI, &[b's'; 1900]), to).unwrap();
        peer.send_to(&vxlan(VNI, &[b'p'; 1900]), to).unwrap();
        receive(&vtep, &vxlan(VNI, &[b'p'; 1900]));
    }
}

#[test]
fn a_pods_vxlan_leaves_only_towards_pods() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        for beyond in [ends.peer, ends.stranger] {
            let vtep = lab.socket("wire", beyond, PORT);
            let to = SocketAddr::new(beyond, PORT);
            pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
            pod.send_to(&vxlan(VNI + 1, b"its own overlay"), to).unwrap();
            receive(&vtep, &vxlan(VNI + 1, b"its own overlay"));
        }
        let neighbour = lab.socket(POD[1], ends.pod[1], PORT);
        pod.send_to(&vxlan(VNI, b"nested"), SocketAddr::new(ends.pod[1], PORT)).unwrap();
        receive(&neighbour, &vxlan(VNI, b"nested"));
    }
}

#[test]
fn a_node_that_is_reached_natively_sees_pods_addresses_and_none_of_their_vxlan() {
    let peers = both_families().map(|ends| ends.peer);
    let Some(lab) = Lab::with_native(&peers) else { return };
    lab.ip("wire", "route add 10.42.1.0/26 via 192.168.9.1");
    lab.ip("wire", "route add fd42::100/122 via fd09::1");
    for ends in both_families() {
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        let node = lab.socket("wire", ends.peer, PORT);
        let to = SocketAddr::new(ends.peer, PORT);
        pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
        pod.send_to(b"anything else", to).unwrap();
        assert_eq!(receive(&node, b"anything else"), ends.pod[0]);
    }
}

#[test]
fn our_own_vxlan_is_not_tracked() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let peer = lab.socket("wire", ends.peer, PORT);
        let node = lab.socket("node", ends.node, 0);
        node.send_to(&vxlan(VNI, b"ours"), SocketAddr::new(ends.peer, PORT)).unwrap();
        receive(&peer, &vxlan(VNI, b"ours"));
        assert_ne!(lab.tracks(ends.node), Some(true));
        node.send_to(&vxlan(VNI + 1, b"another's"), SocketAddr::new(ends.peer, PORT)).unwrap();
        receive(&peer, &vxlan(VNI + 1, b"another's"));
        assert_ne!(lab.tracks(ends.node), Some(false), "what is not ours is tracked");
    }
}

#[test]
fn the_rules_use_only_names_that_they_define() {
    let sample = Sample::new(&["10.42.0.0/16"]).node(1, &["192.168.9.1/24"]);
    let ruleset = desired(&sample.view, &sample.local(1, &[])).state.firewall.unwrap();
    let mut chains = BTreeSet::new();
    let mut targets = BTreeSet::new();
    for object in &ruleset.objects {
        match object {
            NfListObject::Chain(chain) => _ = chains.insert(chain.name.to_string()),
            NfListObject::Rule(rule) => {
                targets.insert(rule.chain.to_string());
                for step in rule.expr.iter() {
                    if let nftables::stmt::Statement::Jump(to) | nftables::stmt::Statement::Goto(to) = step {
                        targets.insert(to.target.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    assert_eq!(chains, targets);
}
