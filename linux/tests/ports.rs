//! Published ports against a real nft and a real kernel: who may have which, and what becomes of flows.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use lab::{Namespace, ip};
use twill_linux::ports::{self, Port, Protocol};
use twill_linux::{Error, conntrack};

fn node() -> Option<Namespace> {
    let node = Namespace::new()?;
    twill_testkit::has_program("nft").then_some(node)
}

fn port(protocol: Protocol, host: Option<&str>, host_port: u16, pod: &str, owner: &str) -> Port {
    let pod: SocketAddr = pod.parse().unwrap();
    Port { protocol, host: host.map(ip), host_port, pod, owner: owner.to_owned() }
}

fn tcp(host: Option<&str>, host_port: u16, pod: &str, owner: &str) -> Port {
    port(Protocol::Tcp, host, host_port, pod, owner)
}

/// How often what nft had no time for is tried.
const CALLS: usize = 6;

fn had_no_time<T>(done: &Result<T, Error>) -> bool {
    matches!(done, Err(Error::Nft { detail, .. }) if detail.contains("did not end in time"))
}

impl Namespace {
    /// Again, as an ADD is called again, where a busy machine gave nft no time. It may have done its work before it was killed, so what is
    /// the owner's goes first.
    fn publish(&self, ports: &[Port]) -> Result<(), Error> {
        let mut left = CALLS;
        loop {
            let done = self.open().run(|| ports::publish(ports)).unwrap();
            let again = match &done {
                Err(Error::PortTaken { taken }) => taken.iter().all(|port| ports.contains(port)),
                other => had_no_time(other),
            };
            left -= 1;
            if !again || left == 0 {
                return done;
            }
            ports.iter().for_each(|port| drop(self.withdraw(&port.owner)));
        }
    }

    fn withdraw(&self, owner: &str) -> Vec<Port> {
        let mut calls = (0..CALLS).map(|_| self.open().run(|| ports::withdraw(owner)).unwrap());
        calls.find(|done| !had_no_time(done)).expect("nft has time in the end").unwrap()
    }

    fn standing(&self) -> Vec<Port> {
        let mut ports = self.open().run(ports::standing).unwrap().unwrap().map(|s| s.ports).unwrap_or_default();
        ports.sort();
        ports
    }
}

#[test]
fn ports_of_all_protocols_and_families_stand_and_go_with_their_owner() {
    let Some(node) = node() else { return };
    assert_eq!(node.withdraw("a"), [], "without a table there is nothing to do");
    let mut its: Vec<Port> = Protocol::ALL
        .into_iter()
        .flat_map(|protocol| {
            [
                port(protocol, None, 8080, "10.42.0.5:80", "a"),
                port(protocol, None, 8080, "[fd00::5]:80", "a"),
                port(protocol, Some("192.0.2.1"), 8081, "10.42.0.5:81", "a"),
                port(protocol, Some("2001:db8::1"), 8081, "[fd00::5]:81", "a"),
            ]
        })
        .collect();
    its.sort();
    let other = tcp(None, 9090, "10.42.0.6:90", "b");
    node.publish(&its).unwrap();
    node.publish(std::slice::from_ref(&other)).unwrap();
    let standing = node.open().run(ports::standing).unwrap().unwrap().unwrap();
    assert!(standing.is_whole(), "{}", node.must("nft list table inet twill_ports"));
    let mut all = its.clone();
    all.push(other.clone());
    all.sort();
    assert_eq!(node.standing(), all);
    let mut gone = node.withdraw("a");
    gone.sort();
    assert_eq!(gone, its);
    assert_eq!(node.standing(), [other]);
    assert_eq!(node.must("nft list set inet twill_ports hairpin4").matches("10.42.0.").count(), 2);
    assert_eq!(node.withdraw("a"), []);
}

#[test]
fn a_port_of_the_node_never_belongs_to_two_pods_and_the_refusal_names_the_owner() {
    let Some(node) = node() else { return };
    let first = tcp(None, 8080, "10.42.0.5:80", "first");
    node.publish(std::slice::from_ref(&first)).unwrap();
    let refused = |host, host_port, pod: &str| {
        let more = tcp(None, 7070, pod, "second");
        match node.publish(&[more, tcp(host, host_port, pod, "second")]) {
            Err(Error::PortTaken { taken }) => taken,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(None, 8080, "10.42.0.6:80"), std::slice::from_ref(&first));
    assert_eq!(refused(Some("192.0.2.1"), 8080, "10.42.0.6:80"), std::slice::from_ref(&first));
    assert_eq!(
        refused(None, 8080, "10.42.0.5:80"),
        std::slice::from_ref(&first),
        "not even where it leads to the same"
    );
    assert_eq!(node.standing(), std::slice::from_ref(&first), "all or none");
    let udp = port(Protocol::Udp, None, 8080, "10.42.0.6:80", "second");
    node.publish(&[udp, tcp(None, 8080, "[fd00::6]:80", "second")]).unwrap();
    assert_eq!(node.standing().len(), 3);
}

#[test]
fn a_port_on_all_addresses_is_refused_where_one_of_them_is_taken() {
    let Some(node) = node() else { return };
    let one = [
        tcp(Some("192.0.2.1"), 8080, "10.42.0.5:80", "first"),
        tcp(Some("2001:db8::1"), 8081, "[fd00::5]:80", "first"),
        tcp(Some("127.0.0.2"), 8082, "10.42.0.5:80", "first"),
    ];
    node.publish(&one).unwrap();
    for (host_port, pod, taken) in [(8080, "10.42.0.6:80", &one[0]), (8081, "[fd00::6]:80", &one[1])] {
        match node.publish(&[tcp(None, 7070, pod, "second"), tcp(None, host_port, pod, "second")]) {
            Err(Error::PortTaken { taken: found }) => assert_eq!(found, std::slice::from_ref(taken)),
            other => panic!("{other:?}"),
        }
        assert_eq!(node.standing().len(), 3, "all or none");
        assert!(!node.must("nft list table inet twill_ports").contains("second"), "nor a hairpin");
    }
    // On all addresses is none of the others in 127.0.0.0/8.
    node.publish(&[tcp(None, 8082, "10.42.0.6:80", "second")]).unwrap();
    assert_eq!(node.withdraw("first").len(), 3);
    node.publish(&[tcp(None, 8080, "10.42.0.7:80", "third")]).unwrap();
}

#[test]
fn what_somebody_changed_in_the_rules_is_made_again_with_the_next_port() {
    let Some(node) = node() else { return };
    node.publish(&[tcp(None, 1, "10.42.0.5:80", "a")]).unwrap();
    let before = node.open().run(ports::standing).unwrap().unwrap().unwrap();
    let table = "inet twill_ports";
    let damages = [
        format!("flush chain {table} prerouting"),
        format!("add rule {table} output drop"),
        // As many rules as before.
        format!("flush chain {table} guard ; add rule {table} guard accept ; add rule {table} guard accept"),
        format!("chain {table} output {{ policy drop ; }}"),
    ];
    for damage in damages {
        node.must(&format!("nft {damage}"));
        let damaged = node.open().run(ports::standing).unwrap().unwrap().unwrap();
        assert!(!damaged.is_whole() && damaged.structure() != before.structure(), "{damage}");
        node.publish(&[]).unwrap();
        let after = node.open().run(ports::standing).unwrap().unwrap().unwrap();
        assert_eq!(after, before);
    }
}

#[test]
fn two_hundred_that_publish_at_once_and_withdraw_at_once_lose_nothing() {
    let Some(node) = node() else { return };
    const MANY: u16 = 200;
    let all: Vec<Port> =
        (0..MANY).map(|n| tcp(None, 1000 + n, &format!("10.42.0.{n}:80"), &format!("{n:013x}"))).collect();
    let barrier = Barrier::new(all.len());
    std::thread::scope(|scope| {
        for port in &all {
            scope.spawn(|| {
                barrier.wait();
                node.publish(std::slice::from_ref(port)).unwrap();
            });
        }
    });
    assert_eq!(node.standing(), all);
    std::thread::scope(|scope| {
        for port in &all[1..] {
            scope.spawn(|| {
                // None where an nft that was killed had done it.
                let withdrawn = node.withdraw(&port.owner);
                assert!(withdrawn.is_empty() || withdrawn == std::slice::from_ref(port), "{withdrawn:?}");
            });
        }
    });
    assert_eq!(node.standing(), all[..1]);
}

/// A client that sends to one address without pause, and the answers that came in a while.
fn answers(client: &UdpSocket, to: &str, until: impl Fn(&str) -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut buffer = [0; 64];
    client.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    while Instant::now() < deadline {
        // Refusals by ICMP come here too.
        client.send_to(b"?", to).ok();
        if let Ok(length) = client.recv(&mut buffer)
            && until(std::str::from_utf8(&buffer[..length]).unwrap())
        {
            return true;
        }
    }
    false
}

/// A node between a client and two pods, which are two addresses of one namespace.
struct Street {
    node: Namespace,
    client: Namespace,
    pods: Namespace,
}

const NODE: &str = "192.0.2.1";

fn street() -> Option<Street> {
    let street = Street { node: node()?, client: Namespace::new()?, pods: Namespace::new()? };
    let Street { node, client, pods } = &street;
    node.ip(&format!("link add tw0 type veth peer name eth0 netns {}", pods.name));
    node.ip(&format!("link add out type veth peer name eth0 netns {}", client.name));
    node.ip("addr add 192.0.2.1/24 dev out");
    client.ip("addr add 192.0.2.2/24 dev eth0");
    for (place, device) in [(node, "tw0"), (node, "out"), (client, "eth0"), (pods, "eth0")] {
        place.ip(&format!("link set {device} up"));
    }
    for pod in ["10.42.0.5", "10.42.0.6"] {
        node.ip(&format!("route add {pod}/32 dev tw0"));
        pods.ip(&format!("addr add {pod}/32 dev eth0"));
    }
    pods.ip("route add 192.0.2.0/24 dev eth0");
    node.must("sysctl -q net.ipv4.ip_forward=1 net.ipv4.conf.all.proxy_arp=1");
    client.ip("route add 10.42.0.0/24 via 192.0.2.1");
    Some(street)
}

impl Namespace {
    fn udp(&self, address: &str) -> UdpSocket {
        self.open().run(|| UdpSocket::bind(address)).unwrap().unwrap()
    }

    /// Answers every datagram to that address with its name, as long as the program runs.
    fn serve(&self, address: &str, name: &'static str) {
        let socket = self.udp(address);
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(name.as_bytes(), from).ok();
            }
        });
    }
}

#[test]
fn a_udp_flow_that_never_pauses_follows_the_port_from_pod_to_pod() {
    let Some(Street { node, client, pods }) = street() else { return };
    pods.serve("10.42.0.5:53", "five");
    pods.serve("10.42.0.6:53", "six");
    pods.serve("10.42.0.6:8053", "elsewhere");
    // Nothing is tracked where nobody asks for it.
    node.publish(&[]).unwrap();
    let socket = client.udp("192.0.2.2:5000");
    let to = format!("{NODE}:8053");
    // The flow is tracked before anybody publishes the port, and one to the same port elsewhere.
    assert!(answers(&socket, "10.42.0.6:8053", |from| from == "elsewhere"));
    socket.send_to(b"?", &to).unwrap();
    let five = port(Protocol::Udp, None, 8053, "10.42.0.5:53", "five");
    let more = port(Protocol::Udp, None, 9053, "10.42.0.5:53", "five");
    node.publish(std::slice::from_ref(&five)).unwrap();
    socket.send_to(b"?", &to).unwrap();
    let none = node.open().run(|| conntrack::turn_to(std::slice::from_ref(&more))).unwrap().unwrap();
    assert_eq!(none, 0);
    let turned = node.open().run(|| conntrack::turn_to(&[more, five.clone()])).unwrap().unwrap();
    assert_eq!(turned, 1, "the flow to the node, and not that through it");
    assert!(answers(&socket, &to, |from| from == "five"));
    assert!(answers(&socket, "10.42.0.6:8053", |from| from == "elsewhere"));

    let withdrawn = node.withdraw("five");
    assert_eq!(node.open().run(|| conntrack::turn_from(&withdrawn)).unwrap().unwrap(), 1);
    socket.send_to(b"?", &to).ok();
    let six = port(Protocol::Udp, None, 8053, "10.42.0.6:53", "six");
    node.publish(std::slice::from_ref(&six)).unwrap();
    assert_eq!(node.open().run(|| conntrack::turn_to(&[six])).unwrap().unwrap(), 1);
    assert!(answers(&socket, &to, |from| from == "six"));
}
