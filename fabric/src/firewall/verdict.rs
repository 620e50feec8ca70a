//! What the rules of our table do to one packet, said beside the rules: for whoever asks for the way of a packet.
//!
//! Each answer follows a rule of this module's siblings, by the same sets: [`masquerading`](super::masquerading), the guard of the tunnel
//! and that of the speaker of BGP ([`guard`]).

use std::net::IpAddr;

use twill_cluster::inquiry::trace::{Port, Transport};
use twill_linux::state::KernelState;

use super::{NATIVE, NODES, guard, masqueraded, name};
use crate::backend::Site;
use crate::family::Family;

/// The rules as they are for a node that shall have this state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdicts<'a> {
    pub(crate) site: &'a Site,
    pub(crate) state: &'a KernelState,
}

impl Verdicts<'_> {
    /// Why what `source` sends to `destination` takes no other address on its way out of the node; `None` where it takes the node's.
    pub(crate) fn unmasqueraded(&self, source: IpAddr, destination: IpAddr) -> Option<String> {
        let (family, conf) = (Family::of(destination), &self.site.conf);
        if !masqueraded(self.site, family).any(|pool| pool.contains(source)) {
            let pool = conf.pools.iter().find(|pool| pool.cidr.contains(source));
            return Some(match pool {
                Some(pool) => format!("pool {} has masquerade = false", pool.name),
                None => format!("{source} is in no pool"),
            });
        }
        if let Some(pool) = conf.pools.iter().find(|pool| pool.cidr.contains(destination)) {
            return Some(format!("{destination} is in pool {}, inside the cluster", pool.name));
        }
        if let Some(range) = conf.firewall.no_masquerade.iter().find(|range| range.contains(destination)) {
            return Some(format!("{destination} is in {range} of no_masquerade"));
        }
        if self.has(NATIVE, destination) {
            return Some(format!("{destination} is a node that is reached without a tunnel, and knows a way back"));
        }
        destination.is_multicast().then(|| format!("{destination} is a group"))
    }

    /// Whether an address is that of another node, as the guard of the tunnel knows them.
    pub(crate) fn knows(&self, node: IpAddr) -> bool {
        self.has(NODES, node)
    }

    /// Why a pod's packet to this port is dropped. `local`: it is for an address of this node.
    pub(crate) fn forbidden(&self, destination: IpAddr, local: bool, port: Port) -> Option<String> {
        let (vni, tunnel) = self.site.tunnel_or_default();
        if port.protocol == Transport::Udp && port.number == tunnel && self.guards_tunnel(local) {
            if local || self.knows(destination) {
                return Some(format!("{port} is the tunnel's: pods may not speak VXLAN to nodes"));
            }
            if !self.is_inside(destination) {
                return Some(format!(
                    "{port} is the tunnel's: pods may not speak VXLAN of its identifier, {vni}, to what is outside of the cluster, \
                     where a node may be that is not known yet"
                ));
            }
        }
        let bgp = self.site.conf.bgp.as_ref().filter(|_| local)?;
        let speaks = match port.protocol {
            Transport::Tcp => port.number == bgp.port,
            Transport::Udp => port.number == guard::BFD,
            Transport::Sctp => false,
        };
        speaks.then(|| format!("{port} is that of the node's BGP speaker, which no pod may speak with"))
    }

    /// Whether there is a rule for what a pod sends to the tunnel's port: to this node, or to others.
    fn guards_tunnel(&self, local: bool) -> bool {
        !self.state.links.is_empty() || (!local && self.site.others.is_some())
    }

    /// Whether pods are seen there by their own addresses.
    fn is_inside(&self, destination: IpAddr) -> bool {
        let conf = &self.site.conf;
        let mut inside = conf.pools.iter().map(|pool| pool.cidr).chain(conf.firewall.no_masquerade.iter().copied());
        inside.any(|range| range.contains(destination))
    }

    fn has(&self, set: &str, address: IpAddr) -> bool {
        let members = self.state.firewall.as_ref().map(|ruleset| &ruleset.members);
        let members = members.and_then(|members| members.get(&name(set, Family::of(address))));
        members.is_some_and(|members| members.contains(&address))
    }
}
