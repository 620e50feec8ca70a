//! The rules for what is a packet of a tunnel or looks like one: what comes to us, what we send, and what pods send; and for what
//! is meant for the node's speaker of BGP.
//!
//! Whoever tracks no connections sees fragments, and in the first one, of 8 bytes at least, there may be a port and no
//! identifier. What the kernel then makes of all of them would be a packet that no rule has seen. So what does not tell its
//! identifier is taken for ours, and a first fragment of IPv6 whose headers end in the next one, so that not even a port can be told, is
//! dropped, as RFC 7112 (section 5) has it.

use nftables::expr::{Expression, FibFlag, FibResult, MetaKey, Range};
use twill_linux::state::{KernelState, LinkKind};

use super::syntax::{
    ACCEPT, DROP, NOTRACK, Object, RETURN, Step, Term, any_of, chain_of, fib, field, fragment, header, is, is_not,
    jump, meta, rule, text, transport_bits,
};
use super::{
    FORWARD, HEADS, INPUT, INSIDE, NODES, OUTPUT, PREROUTING, VXLAN_FROM_POD, VXLAN_IN, from_host_end, from_unchecked,
    in_set, masquerades,
};
use crate::Side;
use crate::backend::Site;
use crate::family::Family;

/// Where packets of BFD to a neighbour on the link go (RFC 5881 section 4).
pub(super) const BFD: u16 = 3784;

/// A tunnel, as its packets tell (RFC 7348, section 5).
#[derive(Debug, Clone, Copy)]
struct Tunnel {
    vni: u32,
    port: u16,
}

/// For a node that receives by `receive`. `unchecked`: whether there are pods that may send by the addresses of others.
///
/// What pods send is looked at for as long as anybody receives by a tunnel, also where this node does not any more.
pub(super) fn rules(site: &Site, receive: &KernelState, unchecked: bool) -> Vec<Object> {
    let ours = Tunnel::of(receive);
    let tunnel = ours.unwrap_or_else(|| {
        let (vni, port) = site.tunnel_or_default();
        Tunnel { vni, port }
    });
    let mut incoming = Vec::new();
    if ours.is_some() {
        // Nearly all of them come to this address, which then need not be looked up.
        incoming.extend(sides(site).map(|(family, side)| {
            let to_us = is(field(header(family), "daddr"), text(side.cidr.ip().to_string()));
            [&[to_us][..], &from_a_node(family, side)].concat()
        }));
    }
    if unchecked {
        // By a node's address these could pass the guard of any other, and not only towards an underlay address: a tunnel
        // address lies in a pool, and is the node's all the same.
        incoming.push(vec![from_unchecked(), DROP]);
    }
    if ours.is_some() {
        incoming.push(vec![is_not(destination_type(), ours_to_receive()), RETURN]);
        incoming.extend(sides(site).map(|(family, side)| from_a_node(family, side).to_vec()));
        incoming.push(vec![DROP]);
    }
    let mut rules = Vec::new();
    if !incoming.is_empty() {
        rules.push(rule(PREROUTING, [tunnel.port(), jump(VXLAN_IN)]));
        rules.push(rule(VXLAN_IN, tunnel.others_return()));
        rules.extend(incoming.into_iter().map(|steps| rule(VXLAN_IN, steps)));
    }
    if ours.is_some() {
        rules.push(rule(OUTPUT, [tunnel.port(), is(identifier(), tunnel.vni()), NOTRACK]));
    }
    if ours.is_some() || site.others.is_some() {
        rules.push(rule(FORWARD, [tunnel.port(), from_host_end(), jump(VXLAN_FROM_POD)]));
        rules.push(rule(VXLAN_FROM_POD, tunnel.others_return()));
        for family in Family::ALL {
            let destination = || field(header(family), "daddr");
            rules.push(rule(VXLAN_FROM_POD, [is(destination(), in_set(NODES, family)), DROP]));
            rules.push(rule(VXLAN_FROM_POD, [is_not(destination(), in_set(INSIDE, family)), DROP]));
        }
    }
    rules
}

/// No pod is a peer of its node's: what one sends to the node's port of BGP or of BFD is dropped, so that it can neither speak for
/// a peer nor fill the queue in which the peers' packets wait. A pod's own daemon may speak with others, and with other pods.
pub(super) fn speaker(site: &Site) -> impl Iterator<Item = Object> {
    let ports = site.conf.bgp.as_ref().map(|bgp| [("udp", BFD), ("tcp", bgp.port)]);
    // Where what is for this node comes by, and what only passes through does not.
    ports.into_iter().flatten().map(|(protocol, port)| {
        let to_port = is(field(protocol, "dport"), Expression::Number(port.into()));
        rule(INPUT, [to_port, from_host_end(), DROP])
    })
}

/// What comes before the rules of this module: drops first fragments that do not tell where they go, at the first hook that has some. Where
/// something is masqueraded, and so connections are tracked, the kernel has put fragments together before.
pub(super) fn whole_heads(site: &Site, rules: &[Object]) -> Vec<Object> {
    let first = [PREROUTING, INPUT].into_iter().find(|chain| rules.iter().any(|rule| chain_of(rule) == Some(chain)));
    let tracked = Family::ALL.into_iter().any(|family| masquerades(site, family));
    let Some(first) = first.filter(|_| !tracked) else { return Vec::new() };
    vec![
        rule(
            first,
            [
                is(fragment(None), Expression::Boolean(true)),
                is(fragment(Some("frag-off")), Expression::Number(0)),
                jump(HEADS),
            ],
        ),
        // Whatever the first bytes behind its headers are, they have to be there.
        rule(HEADS, [is(transport_bits(0, 16), anything()), RETURN]),
        rule(HEADS, [DROP]),
    ]
}

/// Of 16 bits.
fn anything() -> Term {
    Expression::Range(Box::new(Range { range: [0, u16::MAX.into()].map(Expression::Number) }))
}

fn destination_type() -> Term {
    fib(FibResult::Type, [FibFlag::Daddr])
}

/// The types of destinations that a socket of the node may receive at.
fn ours_to_receive() -> Term {
    any_of(["local", "broadcast", "multicast"].map(text))
}

impl Tunnel {
    /// The one that ends here, which the devices of both families share.
    fn of(receive: &KernelState) -> Option<Self> {
        receive.links.values().next().map(|link| match link.kind {
            LinkKind::Vxlan { vni, port, .. } => Self { vni, port },
        })
    }

    fn port(self) -> Step {
        is(field("udp", "dport"), Expression::Number(self.port.into()))
    }

    fn vni(self) -> Term {
        Expression::Number(self.vni)
    }

    /// Lets be what tells another identifier. A packet that is too short to tell one matches nothing, and goes on.
    fn others_return(self) -> [Step; 2] {
        [is_not(identifier(), self.vni()), RETURN]
    }
}

/// The bits that identify a network: they follow the UDP header's 8 bytes and 4 of flags.
fn identifier() -> Term {
    transport_bits(8 * (8 + 4), 24)
}

/// Where this node is reached.
fn sides(site: &Site) -> impl Iterator<Item = (Family, &Side)> {
    Family::ALL.into_iter().filter_map(|family| Some((family, site.underlay.side(family)?)))
}

/// Accepts what a known node sends on the underlay. By the interface's number, so that one that is renamed goes on receiving.
fn from_a_node(family: Family, side: &Side) -> [Step; 4] {
    [
        is(meta(MetaKey::Iif), Expression::Number(side.index)),
        is(field(header(family), "saddr"), in_set(NODES, family)),
        NOTRACK,
        ACCEPT,
    ]
}
