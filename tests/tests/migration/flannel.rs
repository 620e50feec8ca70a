//! A Flannel made by hand: what flanneld and its CNI list leave on a node, with `ip`, `bridge`, `iptables` and the reference
//! plugins `bridge` and `host-local`.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use serde_json::{Value, json};
use twill_tests::cleanup;
use twill_tests::clients::machine::REFERENCE;
use twill_tests::namespace::Namespace;
use twill_tests::{Lab, LabError, Node, Pod, Result};

/// The network of all its pods, of which each node has a /24.
pub const NETWORK: &str = "10.244.0.0/16";
/// What its pods have, and Twill's over the same underlay.
pub const MTU: u64 = 1450;

/// The tunnel's identifier and port.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel {
    pub vni: u32,
    pub port: u16,
}

/// Flannel on a node.
#[derive(Debug)]
pub struct Flannel<'a> {
    lab: &'a Lab,
    node: &'a Node,
    number: usize,
    tunnel: Tunnel,
}

/// A pod that Flannel has attached.
#[derive(Debug)]
pub struct OldPod {
    pub namespace: Namespace,
    pub address: IpAddr,
}

impl<'a> Flannel<'a> {
    /// Makes it on a node, by its number. The kernel filters by reverse paths strictly, and forwards only what is allowed, as
    /// on many machines.
    pub fn install(lab: &'a Lab, number: usize, tunnel: Tunnel) -> Result<Self> {
        let flannel = Self { lab, node: lab.node(number), number, tunnel };
        let (device, own, address) = (flannel.device(), subnet(number), flannel.node.addresses()[0]);
        let Tunnel { vni, port } = tunnel;
        let mut script = format!(
            "cd /proc/sys/net/ipv4
             for scope in default eth0; do echo 1 >conf/$scope/rp_filter; done
             echo 1 >ip_forward
             ip link add {device} address {} mtu {MTU} type vxlan id {vni} dstport {port} local {address} dev eth0 nolearning
             ip addr add {own}.0/32 dev {device}
             ip link set {device} up
             iptables -P FORWARD DROP
             iptables -N FLANNEL-FWD
             iptables -A FORWARD -j FLANNEL-FWD
             iptables -A FLANNEL-FWD -s {NETWORK} -j ACCEPT
             iptables -A FLANNEL-FWD -d {NETWORK} -j ACCEPT
             iptables -t nat -N FLANNEL-POSTRTG
             iptables -t nat -A POSTROUTING -j FLANNEL-POSTRTG
             iptables -t nat -A FLANNEL-POSTRTG -s {own}.0/24 -d {NETWORK} -j RETURN
             iptables -t nat -A FLANNEL-POSTRTG -s {NETWORK} -d {own}.0/24 -j RETURN
             iptables -t nat -A FLANNEL-POSTRTG ! -s {NETWORK} -d {own}.0/24 -j RETURN
             iptables -t nat -A FLANNEL-POSTRTG -s {NETWORK} ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
             iptables -t nat -A FLANNEL-POSTRTG ! -s {NETWORK} -d {NETWORK} -j MASQUERADE --random-fully
            ",
            mac(number)
        );
        for (other, at) in lab.nodes().iter().zip(1..).filter(|(_, at)| *at != number) {
            let (far, mac) = (subnet(at), mac(at));
            script += &format!(
                "ip neigh add {far}.0 lladdr {mac} dev {device} nud permanent
                 bridge fdb append {mac} dev {device} dst {}
                 ip route add {far}.0/24 via {far}.0 dev {device} onlink
                ",
                other.addresses()[0]
            );
        }
        flannel.run(&script)?;
        let list = serde_json::to_vec_pretty(&flannel.list()).expect("JSON of strings can be written");
        let file = flannel.node.net_d().join("10-flannel.conflist");
        fs::write(&file, list).map_err(LabError::io(format!("writing {}", file.display())))?;
        Ok(flannel)
    }

    /// Takes all of it from the node, as `docs/migration.md` does.
    pub fn remove(&self) -> Result<()> {
        let data = self.data_dir();
        self.run(&format!(
            "ip link del {}
             ip link del cni0
             iptables -t nat -D POSTROUTING -j FLANNEL-POSTRTG
             iptables -t nat -F FLANNEL-POSTRTG
             iptables -t nat -X FLANNEL-POSTRTG
             iptables -D FORWARD -j FLANNEL-FWD
             iptables -F FLANNEL-FWD
             iptables -X FLANNEL-FWD
             rm -r {data:?} {:?}
            ",
            self.device(),
            self.node.net_d().join("10-flannel.conflist"),
        ))
    }

    /// Runs lines of a shell on the node.
    pub fn run(&self, script: &str) -> Result<()> {
        self.node.run(&["sh", "-euc", script]).map(drop)
    }

    /// Its tunnel's device, as Flannel names it.
    pub fn device(&self) -> String {
        format!("flannel.{}", self.tunnel.vni)
    }

    /// The tunnel's address, which the node's own packets to pods of others have.
    pub fn address(&self) -> IpAddr {
        format!("{}.0", subnet(self.number)).parse().expect("three numbers and one more")
    }

    /// All of Flannel's in the kernel, as it is shown, but for what packets count, and for the two rules by which Twill lets its own
    /// pods through.
    pub fn shown(&self) -> Result<String> {
        let script = format!(
            "ip -d link show dev {0}; ip addr show dev {0}; ip route show dev {0}; ip neigh show dev {0} nud permanent
             bridge fdb show dev {0}
             ip -o -4 addr show dev cni0; ip route show dev cni0
             cat /proc/sys/net/ipv4/conf/{0}/rp_filter /proc/sys/net/ipv4/conf/cni0/rp_filter
             iptables-save | sed -e '/^#/d' -e 's/ \\[.*//' -e '/-A FORWARD -[io] tw+ /d'",
            self.device()
        );
        self.node.run(&["sh", "-euc", &script])
    }

    /// Attaches a pod by cnitool.
    pub fn attach(&self, name: &str) -> Result<OldPod> {
        let namespace = Namespace::create(format!("{}-p-{name}", self.lab.prefix()))?;
        let told = self.cnitool("add", &namespace)?;
        let unreadable = |cause: String| LabError::Unreadable { what: "cnitool add".into(), cause, text: told.clone() };
        let result: Value = serde_json::from_str(&told).map_err(|error| unreadable(error.to_string()))?;
        let address = result["ips"][0]["address"].as_str().and_then(|network| network.split('/').next());
        let address = address.and_then(|address| address.parse().ok());
        Ok(OldPod { namespace, address: address.ok_or_else(|| unreadable("it names no address".into()))? })
    }

    /// Detaches a pod, and ends it.
    pub fn detach(&self, pod: &OldPod) -> Result<()> {
        self.cnitool("del", &pod.namespace)?;
        pod.namespace.remove()
    }

    /// Ends a pod and attaches one of Twill's in its place.
    pub fn replace(&self, pod: &OldPod, name: &str) -> Result<Pod> {
        self.detach(pod)?;
        self.node.attach(name)
    }

    fn cnitool(&self, verb: &str, pod: &Namespace) -> Result<String> {
        let mut command = Command::new(self.lab.binaries().cnitool());
        command.args([verb, &self.network()]).arg(pod.path());
        command.env("CNI_PATH", REFERENCE).env("NETCONFPATH", self.node.net_d());
        self.node.namespace().execute(command)
    }

    /// What Flannel's plugin delegates to the reference plugins.
    fn list(&self) -> Value {
        let range = format!("{}.0/24", subnet(self.number));
        let ipam = json!({
            "type": "host-local", "dataDir": self.data_dir(), "ranges": [[{ "subnet": range }]],
            "routes": [{ "dst": NETWORK }],
        });
        json!({ "cniVersion": "1.0.0", "name": self.network(), "plugins": [{
            "type": "bridge", "bridge": "cni0", "mtu": MTU, "isGateway": true, "isDefaultGateway": true,
            "hairpinMode": true, "ipMasq": false, "ipam": ipam,
        }]})
    }

    /// Begins as the lab's own network, by which what libcni keeps of it is found and removed.
    fn network(&self) -> String {
        format!("{}-flannel", cleanup::network(self.lab.prefix()))
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.node.directory().join("host-local")
    }
}

fn subnet(number: usize) -> String {
    format!("10.244.{number}")
}

fn mac(number: usize) -> String {
    format!("02:00:00:00:f1:{number:02x}")
}
