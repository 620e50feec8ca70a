//! VXLAN (RFC 7348): packets between nodes travel in UDP, through any network that carries UDP.
//!
//! **Nothing is learned and nothing is flooded.** The records say who is where, so for every other node there stand a
//! permanent neighbour and an FDB entry, and no broadcast ever leaves a node. IPv4 goes by the other node's tunnel address,
//! which the kernel believes to be on the link; IPv6 by the link-local address that the other's MAC makes, since the kernel
//! refuses an on-link IPv6 gateway which another route (the very one to its block) covers. So each node must also own
//! its link-local address; the devices have `addrgenmode none`, which keeps the kernel's own choices out.
//!
//! **The family of the outer header is a matter of each pair of nodes**: IPv4 where both have it, else IPv6. A decision for
//! the whole cluster would turn over when the first node of another kind joins, and every node would make its device
//! anew, with another MTU, for one guest. Since a VXLAN device has one local address, a node with both families has
//! a second device as long as some node can be reached in IPv6 only; all other pairs are not touched by it. A pair
//! without a common family is reported.
//!
//! **The node's own packets** to remote pods take the tunnel address as their source, since the reply would come natively to
//! an underlay address. The kernel chooses it by itself, as it is the device's only address; a `src` in the route would
//! say no more, and would let the deletion of that address take all routes with it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_conf::NodeName;
use twill_conf::cluster::{ChecksumOffload, Vxlan};
use twill_linux::state::{
    Address, FdbEntry, KernelState, Link, LinkKind, METRIC, Neighbour, PROTOCOL_CLUSTER, Route, RouteKey, Target,
};
use twill_linux::{IfName, MacAddr};

use crate::backend::{Backend, Cluster, Peer, Problems, Sending, Way};
use crate::family::{Family, host_prefix};
use crate::{Local, mtu_within};

/// The device for the family that this node prefers; and the one for IPv6 beside an IPv4 one.
const DEVICES: [&str; 2] = ["vxlan.twill", "vxlan6.twill"];

/// The devices that this back end may make.
pub fn devices() -> [IfName; 2] {
    DEVICES.map(|name| IfName::new(name).expect("a valid interface name"))
}

/// Another node's end of the tunnel.
struct Vtep<'c, 'a> {
    peer: &'c Peer<'a>,
    mac: MacAddr,
    remote: IpAddr,
    device: IfName,
}

impl Vtep<'_, '_> {
    /// By its tunnel address, and by its link-local address where pods have IPv6.
    fn neighbours(&self, with_ipv6: bool) -> impl Iterator<Item = ((IfName, IpAddr), Neighbour)> + use<> {
        let Self { mac, device, .. } = *self;
        let link_local = with_ipv6.then(|| IpAddr::V6(mac.link_local()));
        let addresses = Family::V4.tunnel(&self.peer.tunnel).into_iter().chain(link_local);
        addresses.map(move |ip| ((device, ip), Neighbour { device, ip, mac }))
    }

    fn fdb_entry(&self) -> ((IfName, MacAddr), FdbEntry) {
        let Self { mac, remote, device, .. } = *self;
        ((device, mac), FdbEntry { device, mac, remote })
    }
}

impl Backend for Vxlan {
    fn receive(&self, cluster: &Cluster<'_>, problems: &mut Problems) -> KernelState {
        let mut state = KernelState::default();
        let vteps = vteps(self, cluster, problems);
        let peers = vteps.iter().map(|vtep| Family::of(vtep.remote));
        let families: BTreeSet<Family> = preferred(cluster.local).into_iter().chain(peers).collect();
        if families.is_empty() {
            problems.report("this node has no underlay address: it reaches no other".to_owned());
        }
        for family in families {
            make_device(self, cluster, family, &mut state);
        }
        let with_ipv6 = cluster.uses(Family::V6);
        // Collected at once: thousands of them are sorted faster than inserted.
        state.neighbours = vteps.iter().flat_map(|vtep| vtep.neighbours(with_ipv6)).collect();
        state.fdb = vteps.iter().map(Vtep::fdb_entry).collect();
        state
    }

    fn send(&self, cluster: &Cluster<'_>, problems: &mut Problems) -> Sending {
        let mut routes = Vec::new();
        for Vtep { peer, mac, device, .. } in vteps(self, cluster, problems) {
            for block in &peer.blocks {
                let family = Family::of_prefix(block.cidr());
                if cluster.way(peer, family) != Some(Way::Tunnel) {
                    continue;
                }
                let gateway = match family {
                    Family::V4 => Family::V4.tunnel(&peer.tunnel),
                    Family::V6 => Some(IpAddr::V6(mac.link_local())),
                };
                let Some(gateway) = gateway else {
                    if !peer.new {
                        problems.report(format!(
                            "node {} has the block {block} and no IPv4 tunnel address: the block is unreachable",
                            peer.name
                        ));
                    }
                    continue;
                };
                routes.push(Route {
                    key: RouteKey { destination: block.cidr(), metric: METRIC },
                    protocol: PROTOCOL_CLUSTER,
                    target: Target::Gateway { gateway, device, onlink: gateway.is_ipv4() },
                    source: None,
                });
            }
        }
        Sending { state: Route::all(routes), native: BTreeSet::new() }
    }

    fn judge(&self, peers: &[Peer<'_>], _: &BTreeSet<Family>, problems: &mut Problems) {
        let mut owners = HashMap::new();
        for peer in peers.iter().filter(|peer| peer.record.vxlan.is_some()) {
            if let Some(mac) = believed_mac(peer, &owners, problems) {
                owners.insert(mac, peer.name);
            }
        }
    }

    /// Ethernet 14, VXLAN 8, UDP 8, and an IP header of 20 or 40.
    fn overhead(&self, family: Family) -> u32 {
        match family {
            Family::V4 => 50,
            Family::V6 => 70,
        }
    }
}

/// The family of this node's first device.
fn preferred(local: &Local) -> Option<Family> {
    let ends = local.underlay.ends();
    Family::common(&ends, &ends)
}

fn device(local: &Local, family: Family) -> IfName {
    let [first, second] = devices();
    if preferred(local) == Some(family) { first } else { second }
}

/// The other ends that can be reached. Of two with one MAC, that of the node which registered first is believed.
fn vteps<'c, 'a>(conf: &Vxlan, cluster: &'c Cluster<'a>, problems: &mut Problems) -> Vec<Vtep<'c, 'a>> {
    let local = cluster.local;
    let mut owners = HashMap::from([(local.vtep_mac, &local.name)]);
    let mut vteps = Vec::new();
    for peer in cluster.peers() {
        if !is_awaited(peer) {
            continue;
        }
        let Some(mac) = believed_mac(peer, &owners, problems) else { continue };
        if let Some(other) = differs(conf, peer) {
            problems.report(format!("node {} cannot be reached by VXLAN: {other}", peer.name));
            continue;
        }
        let Some(family) = Family::common(&local.underlay.ends(), &peer.record.underlay) else {
            problems.report(format!("node {} cannot be reached: it has no underlay address of our family", peer.name));
            continue;
        };
        owners.insert(mac, peer.name);
        let remote = family.underlay(&peer.record.underlay).expect("the common family is one that the peer has");
        vteps.push(Vtep { peer, mac, remote, device: device(local, family) });
    }
    vteps
}

/// Whether a peer's end is to be had: one that knows other back ends, and says that it does not receive by this one, is let be.
fn is_awaited(peer: &Peer<'_>) -> bool {
    peer.record.vxlan.is_some() || peer.record.path.is_none()
}

/// How a peer's tunnel is another than ours, if it is.
fn differs(conf: &Vxlan, peer: &Peer<'_>) -> Option<String> {
    let end = peer.record.vxlan.as_ref()?;
    let (vni, port) = (end.vni.unwrap_or(conf.vni), end.port.unwrap_or(conf.port));
    ((vni, port) != (conf.vni, conf.port)).then(|| {
        format!("it has the identifier {vni} and the port {port}, and here they are {} and {}", conf.vni, conf.port)
    })
}

/// The MAC of a peer's end, unless it has none or it is the MAC of one of `owners`.
fn believed_mac(peer: &Peer<'_>, owners: &HashMap<MacAddr, &NodeName>, problems: &mut Problems) -> Option<MacAddr> {
    let mac = match vtep_mac(peer) {
        Ok(mac) => mac,
        Err(_) if peer.new && peer.record.vxlan.is_none() => return None,
        Err(fault) => {
            problems.report(format!("node {} cannot be reached by VXLAN: {fault}", peer.name));
            return None;
        }
    };
    if let Some(owner) = owners.get(&mac) {
        problems.report(format!("node {} is left out: its VTEP's MAC {mac} is node {owner}'s", peer.name));
        return None;
    }
    Some(mac)
}

fn vtep_mac(peer: &Peer<'_>) -> Result<MacAddr, String> {
    let end = peer.record.vxlan.as_ref().ok_or("its record names no VTEP")?;
    let mac: MacAddr = end.mac.parse().map_err(|error: twill_linux::name::InvalidMac| error.to_string())?;
    let unicast = mac.0[0] & 1 == 0 && mac.0 != [0; 6];
    unicast.then_some(mac).ok_or_else(|| format!("its VTEP's MAC {mac} is not a unicast address"))
}

/// One device with its addresses and sysctls. The tunnel addresses stand on each, for the kernel's choice of source.
fn make_device(conf: &Vxlan, cluster: &Cluster<'_>, family: Family, state: &mut KernelState) {
    let local = cluster.local;
    let Some(side) = local.underlay.side(family) else { return };
    let name = device(local, family);
    let kind = LinkKind::Vxlan { vni: conf.vni, port: conf.port, local: side.cidr.ip() };
    let mtu = mtu_within(cluster.conf, side.mtu, conf.overhead(family));
    state.links.insert(name, Link { name, kind, mac: local.vtep_mac, mtu });
    let offload = match conf.checksum_offload {
        ChecksumOffload::Auto => None,
        ChecksumOffload::On => Some(true),
        ChecksumOffload::Off => Some(false),
    };
    state.offloads.extend(offload.map(|on| (name, on)));

    let tunnel = Family::ALL.into_iter().filter(|family| cluster.uses(*family));
    let tunnel = tunnel.filter_map(|family| family.tunnel(&local.tunnel)).map(host_prefix);
    state.addresses.extend(tunnel.map(|cidr| Address { device: name, cidr }));

    let mut sysctl = |path: String, value: &str| state.sysctls.insert(path, value.to_owned());
    sysctl(format!("net/ipv4/conf/{name}/forwarding"), "1");
    // Loose where filtering is in force: while nodes are switched one by one, packets come by the device that the peer
    // sends by, which need not be the one that we send by.
    let filtered = local.underlay.sides().any(|side| side.rp_filter);
    sysctl(format!("net/ipv4/conf/{name}/rp_filter"), if filtered { "2" } else { "0" });
    if cluster.uses(Family::V6) {
        let settings = [
            ("disable_ipv6", "0"),
            ("forwarding", "1"),
            ("accept_ra", "0"),
            ("accept_dad", "0"),
            ("keep_addr_on_down", "1"),
        ];
        for (key, value) in settings {
            sysctl(format!("net/ipv6/conf/{name}/{key}"), value);
        }
        let link_local = IpAddr::V6(local.vtep_mac.link_local());
        let cidr = IpNetwork::new(link_local, 64).expect("64 is a prefix length of IPv6");
        state.addresses.insert(Address { device: name, cidr });
    }
}
