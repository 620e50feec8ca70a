//! The reference: two nodes with a pod each on the wire of a lab, and the path between them, all built with `ip` and `bridge`.
//!
//! Every object has the shape that it has with Twill: a veth without a bridge, a /32 in the pod, permanent neighbours, a
//! route for each block; by a tunnel also the neighbour and the FDB entry of the other node. The tunnel is not bound to the
//! interface between the nodes, as Twill's is not.

use std::net::{IpAddr, Ipv4Addr};

use super::Ends;
use crate::namespace::Namespace;
use crate::pod::IFNAME;
use crate::wire::{INTERFACE, SEAT_NODES};
use crate::{Lab, LabError, Result};

/// The host end of a pod's veth.
pub const HOST_END: &str = "hand";
/// The tunnel's device.
pub const TUNNEL: &str = "vxlan.hand";

/// Not a node's of a lab, which has few.
const FIRST_SEAT: u8 = SEAT_NODES + 100;
/// The address that pods take for their gateway, as with Twill.
const GATEWAY: &str = "169.254.1.1";
const MAC_OF_HOST_END: &str = "02:00:00:00:00:01";
const MAC_OF_POD: &str = "02:00:00:00:00:02";

/// What the blocks of the nodes lie in.
const POOL: &str = "10.43.0.0/16";

/// The least that masquerades for the pods of a range: one rule of nftables.
pub fn masquerading(range: &str) -> String {
    format!(
        "table ip hand {{
            chain postrouting {{
                type nat hook postrouting priority srcnat
                ip saddr {range} ip daddr != {range} masquerade
            }}
        }}"
    )
}

/// How the path is built.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Through a VXLAN tunnel, or by plain routes between the nodes.
    pub tunnel: bool,
    /// The MTU of pods and tunnel, in bytes.
    pub mtu: u64,
    /// The nodes masquerade what pods send to the world outside, with one rule: the kernel then tracks all connections.
    pub masquerade: bool,
}

/// Two nodes with a pod each.
#[derive(Debug)]
pub struct Pair([Node; 2]);

#[derive(Debug)]
struct Node {
    number: u8,
    namespace: Namespace,
    address: IpAddr,
    pod: Namespace,
}

impl Pair {
    /// Builds all of it on the lab's wire. It is removed with the lab.
    pub fn build(lab: &Lab, shape: Shape) -> Result<Self> {
        let (one, two) = (Node::create(lab, 1)?, Node::create(lab, 2)?);
        for (node, other) in [(&one, &two), (&two, &one)] {
            node.attach(shape.mtu)?;
            if shape.masquerade {
                node.masquerade()?;
            }
            if shape.tunnel { node.tunnel_to(other, shape.mtu) } else { node.route_to(other) }?;
        }
        Ok(Self([one, two]))
    }

    /// From the first pod to the second.
    pub fn pods(&self) -> Ends<'_> {
        let [one, two] = &self.0;
        Ends { from: &one.pod, to: &two.pod, target: two.pod_address().into(), interface: IFNAME }
    }

    /// From the first node to the second.
    pub fn nodes(&self) -> Ends<'_> {
        let [one, two] = &self.0;
        Ends { from: &one.namespace, to: &two.namespace, target: two.address, interface: INTERFACE }
    }

    /// The first pod's namespace, and its node's.
    pub fn first(&self) -> (&Namespace, &Namespace) {
        (&self.0[0].pod, &self.0[0].namespace)
    }
}

impl Node {
    fn create(lab: &Lab, number: u8) -> Result<Self> {
        let name = format!("h{number}");
        let namespace = Namespace::create(format!("{}-{name}", lab.prefix()))?;
        let addresses = lab.wire().connect(&name, &namespace, FIRST_SEAT + number)?;
        let address = addresses.first().copied().ok_or_else(|| LabError::wrong("the wire has no addresses"))?;
        let pod = Namespace::create(format!("{}-p-{name}", lab.prefix()))?;
        Ok(Self { number, namespace, address, pod })
    }

    /// The first address of the node's block is the tunnel's, the second the pod's.
    fn block(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 43, self.number, 0)
    }

    fn tunnel_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 43, self.number, 1)
    }

    fn tunnel_mac(&self) -> String {
        format!("02:00:00:00:01:{:02x}", self.number)
    }

    fn pod_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 43, self.number, 2)
    }

    fn attach(&self, mtu: u64) -> Result<()> {
        let (pod, address) = (self.pod.name(), self.pod_address());
        self.namespace.set_sysctl("net/ipv4/ip_forward", "1")?;
        self.namespace.ip_batch(&format!(
            "link add {HOST_END} address {MAC_OF_HOST_END} mtu {mtu} type veth \
             peer name {IFNAME} address {MAC_OF_POD} mtu {mtu} netns {pod}\n\
             link set {HOST_END} up\n\
             route add {address}/32 dev {HOST_END}\n\
             neigh add {address} lladdr {MAC_OF_POD} dev {HOST_END} nud permanent\n"
        ))?;
        self.pod.ip_batch(&format!(
            "link set {IFNAME} up\n\
             addr add {address}/32 dev {IFNAME}\n\
             route add {GATEWAY} dev {IFNAME} scope link\n\
             neigh add {GATEWAY} lladdr {MAC_OF_HOST_END} dev {IFNAME} nud permanent\n\
             route add 0.0.0.0/0 via {GATEWAY} dev {IFNAME}\n"
        ))
    }

    fn masquerade(&self) -> Result<()> {
        self.namespace.run(&["nft", &masquerading(POOL)]).map(drop)
    }

    fn route_to(&self, other: &Self) -> Result<()> {
        self.namespace.ip_batch(&format!("route add {}/26 via {} dev {INTERFACE}\n", other.block(), other.address))
    }

    fn tunnel_to(&self, other: &Self, mtu: u64) -> Result<()> {
        let (far_mac, far, block) = (other.tunnel_mac(), other.tunnel_address(), other.block());
        self.namespace.ip_batch(&format!(
            "link add {TUNNEL} address {} mtu {mtu} type vxlan id 7777 dstport 4789 local {} nolearning\n\
             link set {TUNNEL} up\n\
             addr add {}/32 dev {TUNNEL}\n\
             neigh add {far} lladdr {far_mac} dev {TUNNEL} nud permanent\n\
             route add {block}/26 via {far} dev {TUNNEL} onlink\n",
            self.tunnel_mac(),
            self.address,
            self.tunnel_address(),
        ))?;
        let destination = other.address.to_string();
        self.namespace.run(&["bridge", "fdb", "add", &far_mac, "dev", TUNNEL, "dst", &destination]).map(drop)
    }
}
