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

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_cluster::record::Tunnel;
use twill_conf::NodeName;
use twill_conf::cluster::{ChecksumOffload, Vxlan, vxlan_overhead};
use twill_linux::state::{
    Address, FdbEntry, KernelState, Link, LinkKind, METRIC, Neighbour, PROTOCOL_CLUSTER, Route, RouteKey, Target,
};
use twill_linux::{IfName, MacAddr};

use crate::Local;
use crate::backend::{Backend, Part, Peer, Problems, Roll, Site, Way};
use crate::family::{Family, host_prefix};
use crate::mtu::mtu_within;

/// The device for the family that this node prefers; and the one for IPv6 beside an IPv4 one.
const DEVICES: [&str; 2] = ["vxlan.twill", "vxlan6.twill"];

/// The devices that this back end may make.
pub fn devices() -> [IfName; 2] {
    DEVICES.map(|name| IfName::new(name).expect("a valid interface name"))
}

/// Another node's end of the tunnel.
struct Vtep<'a> {
    peer: &'a Peer,
    mac: MacAddr,
    remote: IpAddr,
    device: IfName,
}

impl Vtep<'_> {
    /// By its tunnel address, and by its link-local address where pods have IPv6.
    fn neighbours(&self, with_ipv6: bool) -> impl Iterator<Item = Neighbour> + use<> {
        let Self { mac, device, .. } = *self;
        let link_local = with_ipv6.then(|| IpAddr::V6(mac.link_local()));
        let addresses = Family::V4.tunnel(&self.peer.tunnel).into_iter().chain(link_local);
        addresses.map(move |ip| Neighbour { device, ip, mac })
    }

    fn fdb_entry(&self) -> FdbEntry {
        let Self { mac, remote, device, .. } = *self;
        FdbEntry { device, mac, remote }
    }
}

impl Backend for Vxlan {
    fn stand(&self, site: &Site, local: &Local, outer: &BTreeSet<Family>, problems: &mut Problems) -> KernelState {
        let mut state = KernelState::default();
        let families: BTreeSet<Family> = preferred(site).into_iter().chain(outer.iter().copied()).collect();
        if families.is_empty() {
            problems.report("this node has no underlay address: it reaches no other".to_owned());
        }
        for family in families {
            make_device(self, site, &local.tunnel, family, &mut state);
        }
        state
    }

    fn receive(&self, site: &Site, roll: &Roll, peer: &Peer, part: &mut Part) {
        let Some(vtep) = vtep(self, site, roll, peer, &mut part.problems) else { return };
        part.outer = Some(Family::of(vtep.remote));
        part.neighbours.extend(vtep.neighbours(site.uses(Family::V6)));
        part.fdb.push(vtep.fdb_entry());
    }

    fn send(&self, site: &Site, roll: &Roll, peer: &Peer, part: &mut Part) {
        let Some(Vtep { mac, device, .. }) = vtep(self, site, roll, peer, &mut part.problems) else { return };
        for block in &peer.blocks {
            let family = Family::of_prefix(block.cidr());
            if !site.uses(family) || site.way(peer, family) != Some(Way::Tunnel) {
                continue;
            }
            let gateway = match family {
                Family::V4 => Family::V4.tunnel(&peer.tunnel),
                Family::V6 => Some(IpAddr::V6(mac.link_local())),
            };
            let Some(gateway) = gateway else {
                if !peer.is_new() {
                    part.problems.report(format!(
                        "node {} has the block {block} and no IPv4 tunnel address: the block is unreachable",
                        peer.name
                    ));
                }
                continue;
            };
            part.routes.push(Route {
                key: RouteKey { destination: block.cidr(), metric: METRIC },
                protocol: PROTOCOL_CLUSTER,
                target: Target::Gateway { gateway, device, onlink: gateway.is_ipv4() },
                source: None,
            });
        }
    }

    fn judge(&self, peers: &[&Peer], _: &BTreeSet<Family>, problems: &mut Problems) {
        let mut owners = HashMap::new();
        for peer in peers.iter().filter(|peer| peer.record().vxlan.is_some()) {
            match vtep_mac(peer) {
                Err(fault) => problems.report(unreachable(peer, &fault)),
                Ok(mac) => match owners.entry(mac) {
                    Entry::Vacant(free) => _ = free.insert(&peer.name),
                    Entry::Occupied(owner) => problems.report(anothers(peer, mac, owner.get())),
                },
            }
        }
    }

    fn overhead(&self, family: Family) -> u32 {
        vxlan_overhead(family == Family::V6)
    }
}

/// The family of this node's first device.
fn preferred(site: &Site) -> Option<Family> {
    let ends = &site.ends;
    Family::common(ends, ends)
}

fn device(site: &Site, family: Family) -> IfName {
    let [first, second] = devices();
    if preferred(site) == Some(family) { first } else { second }
}

/// A peer's end, if it can be reached. Of two with one MAC, that of the node which registered first is believed; but for this node,
/// which always is.
fn vtep<'a>(conf: &Vxlan, site: &Site, roll: &Roll, peer: &'a Peer, problems: &mut Problems) -> Option<Vtep<'a>> {
    if !is_awaited(peer) {
        return None;
    }
    let mac = match vtep_mac(peer) {
        Ok(mac) => mac,
        Err(_) if peer.is_new() && peer.record().vxlan.is_none() => return None,
        Err(fault) => {
            problems.report(unreachable(peer, &fault));
            return None;
        }
    };
    if mac == site.vtep_mac {
        problems.report(anothers(peer, mac, &site.name));
        return None;
    }
    let older = roll.with_mac(mac).take_while(|other| other.name != peer.name);
    if let Some(owner) = older.into_iter().find(|other| reached(conf, site, other).is_ok()) {
        problems.report(anothers(peer, mac, &owner.name));
        return None;
    }
    match reached(conf, site, peer) {
        Ok((remote, device)) => Some(Vtep { peer, mac, remote, device }),
        Err(fault) => {
            problems.report(fault);
            None
        }
    }
}

/// Where a peer's end is, and behind which device; if it has one, and whatever its MAC.
fn reached(conf: &Vxlan, site: &Site, peer: &Peer) -> Result<(IpAddr, IfName), String> {
    if let Some(other) = differs(conf, peer) {
        return Err(unreachable(peer, &other));
    }
    let ends = &peer.record().underlay;
    let family = Family::common(&site.ends, ends);
    let remote = family.and_then(|family| Some((family.underlay(ends)?, device(site, family))));
    remote.ok_or_else(|| format!("node {} cannot be reached: it has no underlay address of our family", peer.name))
}

fn unreachable(peer: &Peer, fault: &str) -> String {
    format!("node {} cannot be reached by VXLAN: {fault}", peer.name)
}

fn anothers(peer: &Peer, mac: MacAddr, owner: &NodeName) -> String {
    format!("node {} is left out: its VTEP's MAC {mac} is node {owner}'s", peer.name)
}

/// Whether a peer's end is to be had: one that knows other back ends, and says that it does not receive by this one, is let be.
fn is_awaited(peer: &Peer) -> bool {
    peer.record().vxlan.is_some() || peer.record().path.is_none()
}

/// How a peer's tunnel is another than ours, if it is.
fn differs(conf: &Vxlan, peer: &Peer) -> Option<String> {
    let end = peer.record().vxlan.as_ref()?;
    let (vni, port) = (end.vni.unwrap_or(conf.vni), end.port.unwrap_or(conf.port));
    ((vni, port) != (conf.vni, conf.port)).then(|| {
        format!("it has the identifier {vni} and the port {port}, and here they are {} and {}", conf.vni, conf.port)
    })
}

fn vtep_mac(peer: &Peer) -> Result<MacAddr, String> {
    let end = peer.record().vxlan.as_ref().ok_or("its record names no VTEP")?;
    let mac: MacAddr = end.mac.parse().map_err(|error: twill_linux::name::InvalidMac| error.to_string())?;
    let unicast = mac.0[0] & 1 == 0 && mac.0 != [0; 6];
    unicast.then_some(mac).ok_or_else(|| format!("its VTEP's MAC {mac} is not a unicast address"))
}

/// One device with its addresses and sysctls. The tunnel addresses stand on each, for the kernel's choice of source.
fn make_device(conf: &Vxlan, site: &Site, tunnel: &Tunnel, family: Family, state: &mut KernelState) {
    let Some(side) = site.underlay.side(family) else { return };
    let name = device(site, family);
    let kind = LinkKind::Vxlan { vni: conf.vni, port: conf.port, local: side.cidr.ip() };
    let mtu = mtu_within(&site.conf, side.mtu, conf.overhead(family));
    state.links.insert(name, Link { name, kind, mac: site.vtep_mac, mtu });
    let offload = match conf.checksum_offload {
        ChecksumOffload::Auto => None,
        ChecksumOffload::On => Some(true),
        ChecksumOffload::Off => Some(false),
    };
    state.offloads.extend(offload.map(|on| (name, on)));

    let used = Family::ALL.into_iter().filter(|family| site.uses(*family));
    let own = used.filter_map(|family| family.tunnel(tunnel)).map(host_prefix);
    state.addresses.extend(own.map(|cidr| Address { device: name, cidr }));

    let mut sysctl = |path: String, value: &str| state.sysctls.insert(path, value.to_owned());
    sysctl(format!("net/ipv4/conf/{name}/forwarding"), "1");
    // Loose where filtering is in force: while nodes are switched one by one, packets come by the device that the peer
    // sends by, which need not be the one that we send by.
    let filtered = site.underlay.sides().any(|side| side.rp_filter);
    sysctl(format!("net/ipv4/conf/{name}/rp_filter"), if filtered { "2" } else { "0" });
    if site.uses(Family::V6) {
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
        let link_local = IpAddr::V6(site.vtep_mac.link_local());
        let cidr = IpNetwork::new(link_local, 64).expect("64 is a prefix length of IPv6");
        state.addresses.insert(Address { device: name, cidr });
    }
}
