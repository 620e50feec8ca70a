//! Ports of the nodes of a cluster that lead to pods: from other nodes and their pods, beside firewall and masquerading.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::json;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::namespace::Namespace;
use twill_tests::{Lab, LabError, Node, Pod, PoolSpec, Result, with_lab};

const PORT: u16 = 8080;
const PORT_UDP: u16 = 8053;

/// A pod behind ports of its node, which answers there with the address of who asked.
fn published(node: &Node, name: &str) -> Result<Pod> {
    let pod = node.create_pod(name)?;
    let ports = json!({"portMappings": [
        {"hostPort": PORT, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": PORT_UDP, "containerPort": 53, "protocol": "udp"},
    ]});
    pod.add_asking(Some(&ports))?;
    for ipv6 in [false, true] {
        let ip = pod.address(ipv6)?;
        let failed = |error| LabError::io(format!("serving on {ip}"))(error);
        let listener = pod.namespace().enter(|| TcpListener::bind((ip, 80)))?.map_err(failed)?;
        let socket = pod.namespace().enter(|| UdpSocket::bind((ip, 53)))?.map_err(failed)?;
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(std::result::Result::ok) {
                let from = stream.peer_addr().map(|from| from.ip().to_string()).unwrap_or_default();
                stream.write_all(from.as_bytes()).ok();
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(from.ip().to_string().as_bytes(), from).ok();
            }
        });
    }
    Ok(pod)
}

/// Who the pod behind a port takes us for.
fn ask(from: &Namespace, to: SocketAddr) -> Result<IpAddr> {
    let asked = from.enter(|| if to.port() == PORT_UDP { ask_udp(to) } else { ask_tcp(to) })?;
    let answer = asked.map_err(LabError::io(format!("asking {to} from {}", from.name())))?;
    answer.parse().map_err(|_| LabError::wrong(format!("{to} answers {answer:?}")))
}

const WAIT: Duration = Duration::from_secs(3);

fn ask_tcp(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map(|_| text)
}

fn ask_udp(to: SocketAddr) -> std::io::Result<String> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// The address of a node by which others reach it.
fn address(node: &Node, ipv6: bool) -> Result<IpAddr> {
    let found = node.addresses().iter().copied().find(|ip| ip.is_ipv6() == ipv6);
    found.ok_or_else(|| LabError::wrong(format!("{} has no such address", node.name())))
}

/// Everybody who may reach the pod's ports does: from outside and from the other node with his own address.
fn all_reach(lab: &Lab, pod: &Pod, here: &Pod, there: &Pod) -> Result<()> {
    for (ipv6, port) in [(false, PORT), (true, PORT), (false, PORT_UDP), (true, PORT_UDP)] {
        let to = SocketAddr::new(address(lab.node(1), ipv6)?, port);
        let other_node = address(lab.node(2), ipv6)?;
        assert_eq!(ask(lab.node(2).namespace(), to)?, other_node, "from the other node");
        assert_eq!(ask(here.namespace(), to)?, here.address(ipv6)?, "from a pod of the same node");
        // Masqueraded, since its own node reaches the node by the underlay, and the answer shall come back that way.
        assert_eq!(ask(there.namespace(), to)?, other_node, "from a pod of the other node");
        assert_eq!(ask(lab.node(1).namespace(), to)?, to.ip(), "from the node itself");
        // Whichever address the node has for it, the pod must not see its own.
        assert_ne!(ask(pod.namespace(), to)?, pod.address(ipv6)?, "from the pod itself");
        let outside = ask(lab.outside(), to)?;
        assert!(!lab.node(1).addresses().contains(&outside), "from outside, unmasqueraded: {outside}");
    }
    ask(lab.node(1).namespace(), SocketAddr::new([127, 0, 0, 1].into(), PORT)).map(drop)
}

#[test]
fn ports_of_a_node_are_reached_across_the_cluster_and_come_back_when_somebody_flushes_all_rules() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let pod = published(lab.node(1), "p")?;
        let (here, there) = (lab.node(1).add_pod("here")?, lab.node(2).add_pod("there")?);
        all_reach(lab, &pod, &here, &there)?;
        lab.node(1).run(&["nft", "flush", "ruleset"])?;
        deadline::until_some("the ports are published again", PATIENCE, || {
            lab.node(1).expect_daemon()?;
            let listing = lab.node(1).run(&["nft", "list", "table", "inet", "twill_ports"]);
            let stands = listing.is_ok_and(|text| elements(&text) == 6);
            Ok(if stands { Ok(()) } else { Err("they are not".to_owned()) })
        })?;
        deadline::until_some("everybody reaches them again", PATIENCE, || {
            Ok(all_reach(lab, &pod, &here, &there).map_err(|error| error.to_string()))
        })?;
        pod.check()?;
        pod.del()?;
        let left = lab.node(1).run(&["nft", "list", "table", "inet", "twill_ports"])?;
        assert_eq!(elements(&left), 0, "{left}");
        Ok(())
    });
}

/// How many there are in a listing of the table. Rules bear comments too.
fn elements(listing: &str) -> usize {
    listing.matches("comment").count() - listing.matches("comment \"twill ").count()
}

#[test]
fn ports_lead_to_pods_also_where_no_pool_is_masqueraded() {
    let pools = [PoolSpec::v4(), PoolSpec::v6()].map(|pool| pool.masqueraded(false));
    with_lab(Lab::builder().nodes(2).pools(pools), |lab| {
        let (pod, here) = (published(lab.node(1), "p")?, lab.node(1).add_pod("here")?);
        for (ipv6, port) in [(false, PORT), (true, PORT), (false, PORT_UDP), (true, PORT_UDP)] {
            let to = SocketAddr::new(address(lab.node(1), ipv6)?, port);
            assert_eq!(ask(lab.node(2).namespace(), to)?, address(lab.node(2), ipv6)?, "from the other node");
            assert_eq!(ask(here.namespace(), to)?, here.address(ipv6)?, "from a pod of the same node");
            assert_ne!(ask(pod.namespace(), to)?, pod.address(ipv6)?, "from the pod itself");
        }
        Ok(())
    });
}
