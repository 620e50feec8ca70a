//! Our nftables table: what pods may not forge, who may speak VXLAN to us, and who is masqueraded.
//!
//! - **A pod sends by its own addresses only.** What comes from a host end must have a route back by that very host end;
//!   this one rule covers both families and every pod, needs no set that could lag behind an ADD, and lets duplicate address
//!   detection, multicast listener reports and neighbour discovery pass. A link-local source would pass too, and is
//!   refused when it speaks to anything but the link: the node's services would take it for a neighbour of their own. Pods of
//!   a network with `spoofCheck` off send by whatever address they like, but for link-local ones, and for what follows: no
//!   router needs either, and both would make a pod a node.
//! - **The tunnel's port is guarded.** A VXLAN packet carries no proof of who sent it, and whoever gets one in is inside the
//!   cluster, past every rule for pods. So packets for our network identifier are taken from known nodes on the
//!   underlay, and from nobody else. Another overlay on the same port has another identifier, and is let be.
//! - **A pod cannot borrow the node's name for that.** Masquerading would give a pod's own VXLAN packet the node's address,
//!   which the other side's guard believes; so it is dropped on its way out, towards known nodes and towards everything
//!   that we would masquerade, which are nodes that we do not know yet. Between pods it is traffic like any other.
//! - **Our own tunnel packets are not tracked.** They would fill the connection table, one entry for each flow of pods.
//! - **Pods take the node's address towards the outside**, where nobody knows a way back to theirs; never inside, where
//!   they are to be seen by their own. Ports are chosen fully at random, or concurrent connections collide. It comes
//!   after kube-proxy's rules, and touches no marks. Networks that the operator names (`no_masquerade`) are inside.
//! - **Segments are clamped where that is asked for** (`clamp_mss`), of what pods send and of what is sent to them, before anything
//!   is accepted.
//!
//! An `accept` ends our own chain only: another table's `drop` still holds. What is to be done about that says [`passage`].

mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use imbl::OrdSet;
use ipnetwork::IpNetwork;
use nftables::expr::{Expression, FibFlag, FibResult, MetaKey};
use nftables::types::{NfChainType, NfHook};
use twill_linux::forward::Passage;
use twill_linux::nft::Ruleset;
use twill_linux::state::{KernelState, LinkKind};

use self::syntax::{
    ACCEPT, DROP, NOTRACK, Object, Step, any_of, base_chain, chain, clamp_mss, fib, field, goto, header, interfaces,
    is, is_not, jump, masquerade, meta, prefix, rule, set, tcp_begins, text, transport_bits,
};
use crate::Pod;
use crate::backend::{Peer, Site};
use crate::family::Family;
use crate::tally::Tally;

/// The table's name; its family is inet.
pub const TABLE: &str = "twill";

/// All host ends, and nothing else, match this.
const HOST_ENDS: &str = "tw*";
/// NF_IP_PRI_RAW: before connection tracking, after the reassembly of fragments.
const RAW: i32 = -300;
/// NF_IP_PRI_FILTER.
const FILTER: i32 = 0;
/// After NF_IP_PRI_NAT_SRC, where kube-proxy is.
const AFTER_SRCNAT: i32 = 101;

/// Underlay addresses of the other nodes.
const NODES: &str = "nodes";
/// Those of them that are reached without a tunnel.
const NATIVE: &str = "native";
/// Prefixes that pods' own addresses are known in.
const INSIDE: &str = "inside";
/// The pools whose pods take the node's address elsewhere.
const MASQUERADED: &str = "masqueraded";

const PREROUTING: &str = "prerouting";
const FROM_POD: &str = "from-pod";
const VXLAN_IN: &str = "vxlan-in";
const VXLAN_FROM_POD: &str = "vxlan-from-pod";
const OUTPUT: &str = "output";
const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";

/// The set of host ends whose pods may send by the addresses of others.
const UNCHECKED: &str = "unchecked";

/// The table for a node with these pods, which receives by `receive`.
pub fn ruleset(site: &Site, pods: &[Pod], receive: &KernelState, nodes: &Nodes) -> Ruleset {
    let mut objects = sets(site);
    objects.extend([
        base_chain(PREROUTING, NfChainType::Filter, NfHook::Prerouting, RAW),
        base_chain(OUTPUT, NfChainType::Filter, NfHook::Output, RAW),
        base_chain(FORWARD, NfChainType::Filter, NfHook::Forward, FILTER),
        base_chain(POSTROUTING, NfChainType::NAT, NfHook::Postrouting, AFTER_SRCNAT),
        chain(FROM_POD),
        chain(VXLAN_IN),
        chain(VXLAN_FROM_POD),
    ]);
    objects.extend(anti_spoofing(site, pods, receive));
    for (vni, port) in tunnels(receive) {
        objects.extend(guarded_tunnel(vni, port));
    }
    objects.extend(guard(site));
    let ends = [from_host_end(), is(meta(MetaKey::Oifname), text(HOST_ENDS))];
    if site.conf.firewall.clamp_mss {
        objects.extend(ends.clone().map(|pod| rule(FORWARD, [pod, tcp_begins(), clamp_mss()])));
    }
    objects.extend(ends.map(|pod| rule(FORWARD, [pod, ACCEPT])));
    objects.extend(Family::ALL.map(masquerading));
    Ruleset { table: TABLE.to_owned(), objects, members: nodes.members() }
}

/// What the tables of others are to let through: an `accept` of ours does not reach so far.
pub fn passage(site: &Site) -> Passage {
    let [ipv4, ipv6] = Family::ALL.map(|family| site.uses(family));
    Passage { interfaces: HOST_ENDS, own: TABLE, ipv4, ipv6, open: site.conf.firewall.open_forward }
}

/// The VXLAN tunnels that end here: network identifier and port.
fn tunnels(receive: &KernelState) -> BTreeSet<(u32, u16)> {
    let kinds = receive.links.values().map(|link| &link.kind);
    kinds.map(|LinkKind::Vxlan { vni, port, .. }| (*vni, *port)).collect()
}

fn sets(site: &Site) -> Vec<Object> {
    let pools = &site.conf.pools;
    let mut sets = Vec::new();
    for family in Family::ALL {
        let inside = pools.iter().map(|pool| pool.cidr).chain(site.conf.firewall.no_masquerade.iter().copied());
        let masqueraded = pools.iter().filter(|pool| pool.masquerade).map(|pool| pool.cidr);
        sets.extend([NODES, NATIVE].map(|set_name| set(name(set_name, family), family, None)));
        sets.push(set(name(INSIDE, family), family, Some(elements(family, inside))));
        sets.push(set(name(MASQUERADED, family), family, Some(elements(family, masqueraded))));
    }
    sets
}

/// The addresses of the other nodes, and those of them that are reached without a tunnel: the members of [`NODES`] and [`NATIVE`].
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    all: [Tally<IpAddr>; 2],
    native: [Tally<IpAddr>; 2],
}

impl Nodes {
    pub(crate) fn add(&mut self, peer: &Peer, native: &BTreeSet<IpAddr>) {
        peer.addresses().for_each(|address| self.all[place(address)].add(address));
        native.iter().for_each(|address| self.native[place(*address)].add(*address));
    }

    pub(crate) fn take(&mut self, peer: &Peer, native: &BTreeSet<IpAddr>) {
        peer.addresses().for_each(|address| self.all[place(address)].take(&address));
        native.iter().for_each(|address| self.native[place(*address)].take(address));
    }

    fn members(&self) -> BTreeMap<String, OrdSet<IpAddr>> {
        let sets = [(NODES, &self.all), (NATIVE, &self.native)].into_iter();
        let of_families = |(set, tallies): (&'static str, &[Tally<IpAddr>; 2])| {
            Family::ALL.map(|family| (name(set, family), tallies[family as usize].there().clone()))
        };
        sets.flat_map(of_families).collect()
    }
}

fn place(address: IpAddr) -> usize {
    Family::of(address) as usize
}

/// One family's prefixes without those that others contain: nft refuses intervals that overlap.
fn elements(family: Family, prefixes: impl Iterator<Item = IpNetwork>) -> Vec<Expression<'static>> {
    // Ordered by address and then by length, so that what contains a prefix comes before it.
    let ordered: BTreeSet<IpNetwork> = prefixes.filter(|prefix| Family::of_prefix(*prefix) == family).collect();
    let mut outermost: Vec<IpNetwork> = Vec::new();
    for candidate in ordered {
        if !outermost.last().is_some_and(|last| last.contains(candidate.ip())) {
            outermost.push(candidate);
        }
    }
    outermost.into_iter().map(prefix).collect()
}

fn name(set: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{set}4"),
        Family::V6 => format!("{set}6"),
    }
}

/// A reference to a set of [`sets`].
fn in_set(set: &str, family: Family) -> Expression<'static> {
    text(format!("@{}", name(set, family)))
}

fn from_host_end() -> Step {
    is(meta(MetaKey::Iifname), text(HOST_ENDS))
}

fn anti_spoofing(site: &Site, pods: &[Pod], receive: &KernelState) -> Vec<Object> {
    let link_local = || prefix("fe80::/10".parse().expect("a prefix"));
    let multicast = prefix("ff00::/8".parse().expect("a prefix"));
    let route_back = fib(FibResult::Oif, [FibFlag::Saddr, FibFlag::Iif]);
    let without_route_back = is(route_back, Expression::Boolean(false));
    let unchecked: BTreeSet<_> = pods.iter().filter(|pod| pod.unchecked).map(|pod| pod.host.as_str()).collect();
    let mut objects = Vec::new();
    let mut spoofed = vec![without_route_back, DROP];
    // Where there is no such pod, neither set nor match: the table changes with these pods alone.
    if !unchecked.is_empty() {
        let member = || [meta(MetaKey::Iifname), text(format!("@{UNCHECKED}"))];
        objects.push(interfaces(UNCHECKED, unchecked.into_iter().map(text)));
        // By a node's address these could pass the guard of any other, and not only towards an underlay address: a tunnel
        // address lies in a pool, and is the node's all the same.
        let mut all = tunnels(receive);
        all.insert(site.tunnel_or_default());
        for (vni, port) in all {
            let [left, right] = member();
            objects.push(rule(FROM_POD, [&[is(left, right)], &is_vxlan(vni, port)[..], &[DROP]].concat()));
        }
        let [left, right] = member();
        spoofed.insert(0, is_not(left, right));
    }
    objects.extend([
        rule(PREROUTING, [from_host_end(), jump(FROM_POD)]),
        rule(FROM_POD, spoofed),
        rule(
            FROM_POD,
            [
                is(field("ip6", "saddr"), link_local()),
                is_not(field("ip6", "daddr"), any_of([link_local(), multicast])),
                DROP,
            ],
        ),
    ]);
    objects
}

/// Matches a VXLAN packet (RFC 7348, section 5): the identifier follows the UDP header's 8 bytes and 4 of flags.
fn is_vxlan(vni: u32, port: u16) -> [Step; 2] {
    [
        is(field("udp", "dport"), Expression::Number(port.into())),
        is(transport_bits(8 * (8 + 4), 24), Expression::Number(vni)),
    ]
}

/// The rules that name a tunnel: in, out, and what pods must not make look like it.
fn guarded_tunnel(vni: u32, port: u16) -> [Object; 3] {
    let to_us = is(fib(FibResult::Type, [FibFlag::Daddr]), any_of(["local", "broadcast", "multicast"].map(text)));
    let with = |before: &[Step], after: &[Step]| [before, &is_vxlan(vni, port)[..], after].concat();
    [
        rule(PREROUTING, with(&[], &[to_us, goto(VXLAN_IN)])),
        rule(OUTPUT, with(&[], &[NOTRACK])),
        rule(FORWARD, with(&[from_host_end()], &[jump(VXLAN_FROM_POD)])),
    ]
}

fn guard(site: &Site) -> Vec<Object> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        let source = || field(header(family), "saddr");
        let destination = || field(header(family), "daddr");
        if let Some(side) = site.underlay.side(family) {
            // By its number, so that an interface that is renamed goes on receiving.
            let underlay = is(meta(MetaKey::Iif), Expression::Number(side.index));
            rules.push(rule(VXLAN_IN, [underlay, is(source(), in_set(NODES, family)), NOTRACK, ACCEPT]));
        }
        rules.push(rule(VXLAN_FROM_POD, [is(destination(), in_set(NODES, family)), DROP]));
        rules.push(rule(VXLAN_FROM_POD, [is_not(destination(), in_set(INSIDE, family)), DROP]));
    }
    rules.push(rule(VXLAN_IN, [DROP]));
    rules
}

fn masquerading(family: Family) -> Object {
    let multicast = match family {
        Family::V4 => "224.0.0.0/4",
        Family::V6 => "ff00::/8",
    };
    let destination = || field(header(family), "daddr");
    rule(
        POSTROUTING,
        [
            is(field(header(family), "saddr"), in_set(MASQUERADED, family)),
            is_not(destination(), in_set(INSIDE, family)),
            is_not(destination(), in_set(NATIVE, family)),
            is_not(destination(), prefix(multicast.parse().expect("a prefix"))),
            is_not(meta(MetaKey::Oifname), text(HOST_ENDS)),
            masquerade(),
        ],
    )
}
