//! Where this node asks whether its packets reach another one: by the way that pods' packets take, and beside it.

pub mod verdict;

use std::net::IpAddr;

use twill_conf::NodeName;

use crate::Reckoning;
use crate::backend::{Backend as _, Peer, Site, Way};
use crate::family::Family;
use crate::native;

/// Another node, and by which addresses it can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which node.
    pub node: NodeName,
    /// Its underlay address.
    pub outer: IpAddr,
    /// Its tunnel address, where pods' packets travel encapsulated.
    pub inner: Option<Inner>,
}

/// The end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// The address that is reached through it.
    pub address: IpAddr,
    /// What is put around a packet, in bytes.
    pub overhead: u32,
    /// The UDP port.
    pub port: u16,
}

/// The nodes that this one sends to, of those whose records can be believed, by name. Without those that have no tunnel address
/// yet. One to which no route leads through the tunnel is asked beside it alone: why it is not reached is told already.
pub fn targets(reckoning: &Reckoning) -> Vec<Target> {
    let Some((site, roll)) = reckoning.known() else { return Vec::new() };
    roll.peers().filter_map(|peer| target(reckoning, site, peer)).collect()
}

fn target(reckoning: &Reckoning, site: &Site, peer: &Peer) -> Option<Target> {
    let used = Family::ALL.into_iter().filter(|family| site.uses(*family));
    let (family, way) = used.filter_map(|family| Some((family, site.way(peer, family)?))).next()?;
    let node = peer.name.clone();
    // IPv4 may go by IPv6.
    if way == Way::Native {
        return Some(Target { node, outer: native::gateway(site, peer, family)?, inner: None });
    }
    let common = Family::common(&site.ends, &peer.record().underlay)?;
    let outer = common.underlay(&peer.record().underlay)?;
    let inner = match (way, &site.tunnel) {
        (Way::Tunnel, Some(vxlan)) => {
            let (address, overhead, port) = (family.tunnel(&peer.tunnel)?, vxlan.overhead(common), vxlan.port);
            reckoning.tunnels_to(peer).then_some(Inner { address, overhead, port })
        }
        _ => None,
    };
    Some(Target { node, outer, inner })
}

#[cfg(test)]
mod tests {
    use twill_conf::cluster::{Kind, Vxlan};

    use super::*;
    use crate::Learned;
    use crate::tests::sample::Sample;

    fn two_nodes(underlay: [&str; 2]) -> Sample {
        Sample::new(&["10.42.0.0/16", "fd42::/64"])
            .node(1, &underlay[..1])
            .node(2, &underlay[1..])
            .block(1, "10.42.1.0/26")
            .block(2, "10.42.2.0/26")
            .block(2, "fd42::200/122")
    }

    const WIRE: [&str; 2] = ["192.168.9.1/24", "192.168.9.2/24"];

    fn asked(sample: &Sample) -> Vec<String> {
        let text = |target: &Target| match target.inner {
            Some(inner) => format!("{} {} {}+{}", target.node, target.outer, inner.address, inner.overhead),
            None => format!("{} {}", target.node, target.outer),
        };
        let mut reckoning = Reckoning::default();
        reckoning.follow(&sample.view, &sample.local(1, &[]), &Learned::default());
        targets(&reckoning).iter().map(text).collect()
    }

    #[test]
    fn a_node_behind_the_tunnel_is_asked_by_its_tunnel_address_too() {
        assert_eq!(asked(&two_nodes(WIRE)), ["n2 192.168.9.2 10.42.2.0+50"]);
        assert_eq!(asked(&two_nodes(["fd09::1/64", "fd09::2/64"])), ["n2 fd09::2 10.42.2.0+70"]);
        let without_an_end = two_nodes(WIRE).but(2, |record| record.value.tunnel = Default::default());
        assert!(asked(&without_an_end).is_empty(), "it has no tunnel address yet");
    }

    #[test]
    fn a_node_that_is_reached_without_a_tunnel_is_asked_by_its_underlay_address_alone() {
        let direct = Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() });
        assert_eq!(asked(&two_nodes(WIRE).backend(direct)), ["n2 192.168.9.2"]);
        assert_eq!(asked(&two_nodes(WIRE).backend(Kind::HostGw).without_tunnels()), ["n2 192.168.9.2"]);
    }

    #[test]
    fn a_node_to_which_no_route_leads_through_the_tunnel_is_asked_beside_it_alone() {
        let far = two_nodes([WIRE[0], "192.168.10.2/24"]);
        assert_eq!(asked(&far), ["n2 192.168.10.2 10.42.2.0+50"]);
        assert_eq!(asked(&far.but(2, |record| record.value.vxlan = None)), ["n2 192.168.10.2"]);
    }

    #[test]
    fn a_node_whose_ipv4_goes_by_ipv6_is_asked_by_that() {
        let sample = two_nodes(WIRE)
            .node(1, &[WIRE[0], "fd09::1/64"])
            .node(2, &["192.168.10.2/24", "fd09::2/64"])
            .backend(Kind::HostGw);
        assert_eq!(asked(&sample.without_tunnels()), ["n2 fd09::2"]);
    }

    #[test]
    fn nobody_is_asked_whose_record_cannot_be_believed_or_who_is_not_reached() {
        assert!(asked(&two_nodes([WIRE[0], "127.0.0.1/8"])).is_empty());
        assert!(asked(&two_nodes([WIRE[0], "fd09::2/64"])).is_empty());
    }
}
