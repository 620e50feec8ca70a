//! What the rules are tried on: a node with two pods, and the wire that it hangs on with a peer and a stranger.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use twill_conf::cluster::ClusterConf;
use twill_fabric::{Local, Pod, desired};
use twill_linux::nft::Ruleset;
use twill_linux::table::Device;
use twill_linux::table::source::{self, Sources};
use twill_linux::{NetNs, Netlink};
use twill_testkit::{Namespaces, has_program};

use crate::PORT;
use crate::sample::Sample;

/// Namespaces of one test; they end with it, also by a panic.
pub struct Lab {
    namespaces: Namespaces,
    local: Local,
}

pub const POD: [&str; 2] = ["pod1", "pod2"];
pub const HOST_END: [&str; 2] = ["tw0000000000001", "tw0000000000002"];

/// What differs between the families.
pub struct Ends {
    pub pod: [IpAddr; 2],
    pub spoofed: IpAddr,
    pub node: IpAddr,
    /// A node that is in the records, and a machine that is not; both are addresses of the wire's namespace.
    pub peer: IpAddr,
    pub stranger: IpAddr,
}

pub fn both_families() -> [Ends; 2] {
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
    pub fn new() -> Option<Self> {
        Self::with(&[], |_, _| ())
    }

    /// With nodes that are reached without a tunnel.
    pub fn with_native(native: &[IpAddr]) -> Option<Self> {
        Self::with(native, |_, _| ())
    }

    /// With another configuration, or other pods.
    pub fn with(native: &[IpAddr], change: impl FnOnce(&mut ClusterConf, &mut Local)) -> Option<Self> {
        let namespaces = Namespaces::claim()?;
        if !has_program("nft") {
            return None;
        }
        let mut sample = Sample::new(&["10.42.0.0/16", "fd42::/64"])
            .node(1, &["192.168.9.1/24", "fd09::1/64"])
            .node(2, &["192.168.9.2/24", "fd09::2/64"])
            .block(1, "10.42.1.0/26")
            .block(1, "fd42::100/122");
        let mut local = sample.local(1, &["10.42.1.1,fd42::101", "10.42.1.2,fd42::102"]);
        change(&mut sample.view.config.as_mut().unwrap().value, &mut local);
        let mut ruleset = desired(&sample.view, &local).state.firewall.expect("there is a configuration");
        for address in native {
            let set = if address.is_ipv6() { "native6" } else { "native4" };
            ruleset.members.get_mut(set).expect("a set of the table").insert(*address);
        }
        let lab = Self { namespaces, local };
        lab.build();
        lab.load(&ruleset);
        Some(lab)
    }

    fn name(&self, namespace: &str) -> String {
        self.namespaces.name(namespace)
    }

    pub fn ip(&self, namespace: &str, arguments: &str) {
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
        self.ip("node", &format!("link set {host} address 02:00:00:00:ff:ff"));
        if pod.filtered {
            self.filter(pod, host);
        }
        self.ip("node", &format!("link set {host} up"));
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

    /// As the plugin does.
    fn filter(&self, pod: &Pod, host: &str) {
        let mut netlink = Netlink::open_in(&NetNs::open(&self.namespaces.path("node")).unwrap()).unwrap();
        let device = Device { index: self.index("node", host), name: pod.host };
        let sources = Sources(pod.addresses.iter().copied().collect());
        netlink.apply(&source::limit(device, &sources)).unwrap();
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

    /// Opens something in a namespace.
    pub fn open<T: Send + 'static>(&self, namespace: &str, open: impl FnOnce() -> T + Send + 'static) -> T {
        let path = self.namespaces.path(namespace);
        let inside = move || {
            let file = std::fs::File::open(&path).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            open()
        };
        std::thread::spawn(inside).join().unwrap()
    }

    /// A UDP socket in a namespace; a port of 0 is any.
    pub fn socket(&self, namespace: &str, address: IpAddr, port: u16) -> UdpSocket {
        let socket = self.open(namespace, move || when_free(|| UdpSocket::bind(SocketAddr::new(address, port))));
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    /// A TCP listener in a namespace.
    pub fn listener(&self, namespace: &str, at: SocketAddr) -> TcpListener {
        let listener = self.open(namespace, move || when_free(|| TcpListener::bind(at)));
        setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::seconds(10)).unwrap();
        listener
    }

    /// Begins to connect by TCP from an address in a namespace.
    pub fn dial(&self, namespace: &str, from: IpAddr, to: SocketAddr) -> TcpStream {
        self.open(namespace, move || twill_linux::tcp::dial(to, Some(from), None, None).unwrap())
    }

    /// Sends fragments as they are.
    pub fn send_fragments(&self, namespace: &str, (from, to): (IpAddr, IpAddr), packets: [Vec<u8>; 2]) {
        let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let raw = self.open(namespace, move || {
            socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).expect("a raw socket, of root")
        });
        let to_host = SockaddrStorage::from(SocketAddr::new(to, 0));
        for packet in packets {
            sendto(raw.as_raw_fd(), &packet, &to_host, MsgFlags::empty()).unwrap();
        }
    }

    /// Whether the node tracks packets from this address to the tunnel's port; `None` where the kernel does not tell.
    pub fn tracks(&self, source: IpAddr) -> Option<bool> {
        let command = ["netns", "exec", &self.name("node"), "cat", "/proc/net/nf_conntrack"];
        let output = Command::new("ip").args(command).output().unwrap();
        let has = |line: &str| {
            let mut words = line.split_whitespace();
            let from = words.find_map(|word| word.strip_prefix("src=")).and_then(|from| from.parse::<IpAddr>().ok());
            from == Some(source) && words.any(|word| word == format!("dport={PORT}"))
        };
        output.status.success().then(|| text(&output.stdout).lines().any(has))
    }

    /// An interface's number.
    pub fn index(&self, namespace: &str, device: &str) -> u32 {
        let path = format!("/sys/class/net/{device}/ifindex");
        let output = Command::new("ip").args(["netns", "exec", &self.name(namespace), "cat", &path]).output().unwrap();
        text(&output.stdout).trim().parse().unwrap()
    }
}

/// Binds as soon as nobody has the port any more: a socket that is closed stands for as long as a process that another test has just forked has
/// not begun its program.
fn when_free<T>(bind: impl Fn() -> io::Result<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            bound => return bound.expect("an address of the namespace"),
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
