//! A node at a street: a room whose node has a link to the outside, and one to a place beyond it. Servers say their name
//! and who asked them.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part of it")]

pub mod sctp;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twill_linux::NetNs;

use crate::room::{Room, address, room};

/// The node's addresses towards the outside, and beyond.
pub const NODE: [&str; 2] = ["203.0.113.1", "2001:db8:1::1"];
pub const OUTSIDE: [&str; 2] = ["203.0.113.2", "2001:db8:1::2"];
pub const BEYOND: [&str; 2] = ["198.51.100.2", "2001:db8:2::2"];

const PATIENCE: Duration = Duration::from_secs(5);

/// `None` where it cannot be had, after saying so.
pub fn street() -> Option<Room> {
    let room = room()?;
    if !twill_testkit::has_program("nft") {
        return None;
    }
    for (place, net) in [("outside", 1), ("beyond", 2)] {
        room.pod(place);
        let (v4, v6) = if net == 1 { ("203.0.113", "2001:db8:1:") } else { ("198.51.100", "2001:db8:2:") };
        room.ip("node", &format!("link add {place} type veth peer name eth0 netns {}", room.name(place)));
        for (namespace, device, end) in [("node", place, 1), (place, "eth0", 2)] {
            room.ip(namespace, &format!("addr add {v4}.{end}/24 dev {device}"));
            room.ip(namespace, &format!("addr add {v6}:{end}/64 dev {device} nodad"));
            room.ip(namespace, &format!("link set {device} up"));
        }
        for gateway in [format!("{v4}.1"), format!("{v6}:1")] {
            room.ip(place, &format!("route add default via {gateway}"));
        }
    }
    Some(room)
}

/// A configuration with ports.
pub fn with_ports(conf: &Value, ports: Value) -> Value {
    let mut conf = conf.clone();
    conf["runtimeConfig"] = json!({"portMappings": ports});
    conf
}

pub fn socket(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

impl Room {
    pub fn inside<T: Send>(&self, namespace: &str, work: impl FnOnce() -> T + Send) -> T {
        NetNs::open(Path::new(&self.path(namespace))).unwrap().run(work).unwrap()
    }

    /// Answers "<name> <who asked>" to whoever connects, or sends a datagram, as long as the program runs.
    pub fn serve(&self, namespace: &str, udp: bool, at: SocketAddr, name: &'static str) {
        if udp {
            let socket = self.inside(namespace, || UdpSocket::bind(at)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from).ok();
                }
            });
        } else {
            let listener = self.inside(namespace, || TcpListener::bind(at)).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let from = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
                    (&stream).write_all(format!("{name} {from}").as_bytes()).ok();
                }
            });
        }
    }

    /// What a server says; `None` where nobody answers.
    pub fn ask(&self, namespace: &str, udp: bool, to: SocketAddr) -> Option<String> {
        self.inside(namespace, || if udp { ask_udp(to) } else { ask_tcp(to) })
    }

    /// A program that runs as long as this is held.
    pub fn start(&self, namespace: &str, program: &str, arguments: &[&str]) -> Running {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(namespace), program]).args(arguments);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

fn ask_tcp(to: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn ask_udp(to: SocketAddr) -> Option<String> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.send(b"?").ok()?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits for what comes to be true.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A web server on 80/tcp and a name server on 53/udp of a pod.
pub fn serve(room: &Room, pod: &str, result: &Value) {
    for ip in [address(result, false), address(result, true)] {
        room.serve(pod, false, socket(&ip, 80), "web");
        room.serve(pod, true, socket(&ip, 53), "names");
    }
}
