//! Our nftables table: what pods may not forge, who may speak VXLAN to us, and who is masqueraded.
//!
//! - **A pod sends by its own addresses only.** What comes from a host end must have a route back by that very host end;
//!   this one rule covers both families and every pod, needs no set that could lag behind an ADD, and lets duplicate address
//!   detection, multicast listener reports and neighbour discovery pass. A link-local source would pass too, and is
//!   refused when it speaks to anything but the link: the node's services would take it for a neighbour of their own. Pods of
//!   a network with `spoofCheck` off send by whatever address they like, but for link-local ones, and for what follows: no
//!   router needs either, and both would make a pod a node. Where every host end has a filter that asks the same
//!   ([`twill_linux::table::source`]), because its network is configured so, these rules are left out.
//! - **The tunnel's port is guarded.** A VXLAN packet carries no proof of who sent it, and whoever gets one in is inside the
//!   cluster, past every rule for pods. So packets for our network identifier are taken from known nodes on the
//!   underlay, and from nobody else. Another overlay on the same port has another identifier, and is let be; what does not tell
//!   its identifier, such as a first fragment of 8 bytes, is taken for ours.
//! - **A pod cannot borrow the node's name for that.** Masquerading would give a pod's own VXLAN packet the node's address,
//!   which the other side's guard believes; so it is dropped on its way out, towards known nodes and towards everything
//!   that we would masquerade, which are nodes that we do not know yet. Between pods it is traffic like any other.
//! - **A pod cannot speak to the node's speaker of BGP**, where there is one. Packets of pods reach their own node without passing a
//!   router, as only those of neighbours should: one could end the sessions of peers, or keep their packets out by a flood.
//! - **Our own tunnel packets are not tracked.** They would fill the connection table, one entry for each flow of pods.
//! - **Pods take the node's address towards the outside**, where nobody knows a way back to theirs; never inside, where
//!   they are to be seen by their own. Ports are chosen fully at random, or concurrent connections collide. It comes
//!   after kube-proxy's rules, and touches no marks. Networks that the operator names (`no_masquerade`) are inside.
//! - **Segments are clamped where that is asked for** (`clamp_mss`), of what pods send and of what is sent to them.
//!
//! An `accept` ends our own chain only: another table's `drop` still holds, and there is none here that would let pods through.
//! What is to be done about that says [`passage`].
//!
//! **Every packet of every pod passes these rules**, so they are as few as can be, and a chain stands only where it has some. What
//! most packets lack is asked first, and a number, such as a protocol or a port, before the name of an interface, which the
//! kernel copies before it compares.

mod guard;
mod syntax;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use imbl::OrdSet;
use ipnetwork::IpNetwork;
use nftables::expr::{Expression, FibFlag, FibResult, MetaKey};
use nftables::types::{NfChainType, NfHook};
use twill_linux::forward::Passage;
use twill_linux::nft::Ruleset;
use twill_linux::state::KernelState;

use self::syntax::{
    DROP, Object, Step, any_of, base_chain, chain, chain_of, clamp_mss, fib, field, header, interfaces, is, is_not,
    masquerade, meta, prefix, rule, set, tcp_begins, text,
};
use crate::Local;
use crate::backend::{Peer, Site};
use crate::family::Family;
use crate::tally::Tally;

pub(crate) use self::verdict::Verdicts;

/// The table's name; its family is inet.
pub const TABLE: &str = "twill";

/// All host ends, and nothing else, match this.
pub const HOST_ENDS: &str = "tw*";
/// NF_IP_PRI_RAW: before connection tracking, and after the reassembly of fragments, which is there only where that is.
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
const VXLAN_IN: &str = "vxlan-in";
const VXLAN_FROM_POD: &str = "vxlan-from-pod";
const INPUT: &str = "input";
const OUTPUT: &str = "output";
const HEADS: &str = "heads";
const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";

/// The set of host ends whose pods may send by the addresses of others.
const UNCHECKED: &str = "unchecked";

/// The table for a node with these pods, which receives by `receive`.
pub fn ruleset(site: &Site, local: &Local, receive: &KernelState, nodes: &Nodes) -> Ruleset {
    let unchecked = unchecked(local);
    // First, since a tunnel's packet needs no other rule. What a pod makes look like one is not accepted there.
    let guards: Vec<_> =
        guard::rules(site, receive, !unchecked.is_empty()).into_iter().chain(guard::speaker(site)).collect();
    let mut rules = guard::whole_heads(site, &guards);
    rules.extend(guards);
    if local.unfiltered {
        rules.extend(anti_spoofing(!unchecked.is_empty()));
    }
    if site.conf.firewall.clamp_mss {
        let ends = [from_host_end(), is(meta(MetaKey::Oifname), text(HOST_ENDS))];
        rules.extend(ends.map(|pod| rule(FORWARD, [tcp_begins(), pod, clamp_mss()])));
    }
    rules.extend(Family::ALL.into_iter().filter(|family| masquerades(site, *family)).map(masquerading));

    let mut objects = sets(site);
    // Where there is no such pod, neither set nor match: the table changes with these pods alone.
    if !unchecked.is_empty() {
        objects.push(interfaces(UNCHECKED, unchecked.into_iter().map(text)));
    }
    objects.extend(chains(&rules));
    objects.extend(rules);
    Ruleset { table: TABLE.to_owned(), objects, members: nodes.members() }
}

/// The chains that have rules. One at a hook costs every packet, also when it is empty; and one that translates addresses has
/// the kernel track every connection of the node.
fn chains(rules: &[Object]) -> impl Iterator<Item = Object> {
    let used: BTreeSet<&str> = rules.iter().filter_map(chain_of).collect();
    let all = [
        (PREROUTING, base_chain(PREROUTING, NfChainType::Filter, NfHook::Prerouting, RAW)),
        (INPUT, base_chain(INPUT, NfChainType::Filter, NfHook::Input, FILTER)),
        (OUTPUT, base_chain(OUTPUT, NfChainType::Filter, NfHook::Output, RAW)),
        (FORWARD, base_chain(FORWARD, NfChainType::Filter, NfHook::Forward, FILTER)),
        (POSTROUTING, base_chain(POSTROUTING, NfChainType::NAT, NfHook::Postrouting, AFTER_SRCNAT)),
        (HEADS, chain(HEADS)),
        (VXLAN_IN, chain(VXLAN_IN)),
        (VXLAN_FROM_POD, chain(VXLAN_FROM_POD)),
    ];
    all.into_iter().filter(move |(name, _)| used.contains(name)).map(|(_, chain)| chain)
}

/// What the tables of others are to let through: an `accept` of ours does not reach so far.
pub fn passage(site: &Site) -> Passage {
    let [ipv4, ipv6] = Family::ALL.map(|family| site.uses(family));
    Passage { interfaces: HOST_ENDS, own: TABLE, ipv4, ipv6, open: site.conf.firewall.open_forward }
}

/// The host ends of the pods that may send by the addresses of others.
fn unchecked(local: &Local) -> BTreeSet<&str> {
    local.pods.iter().filter(|pod| pod.unchecked).map(|pod| pod.host.as_str()).collect()
}

fn sets(site: &Site) -> Vec<Object> {
    let pools = &site.conf.pools;
    let mut sets = Vec::new();
    for family in Family::ALL {
        let inside = pools.iter().map(|pool| pool.cidr).chain(site.conf.firewall.no_masquerade.iter().copied());
        sets.extend([NODES, NATIVE].map(|set_name| set(name(set_name, family), family, None)));
        sets.push(set(name(INSIDE, family), family, Some(elements(family, inside))));
        sets.push(set(name(MASQUERADED, family), family, Some(elements(family, masqueraded(site, family)))));
    }
    sets
}

fn masquerades(site: &Site, family: Family) -> bool {
    masqueraded(site, family).next().is_some()
}

/// The ranges of one family whose pods take the node's address elsewhere.
fn masqueraded(site: &Site, family: Family) -> impl Iterator<Item = IpNetwork> {
    let pools = site.conf.pools.iter().filter(|pool| pool.masquerade).map(|pool| pool.cidr);
    pools.filter(move |cidr| Family::of_prefix(*cidr) == family)
}

/// The addresses of the other nodes, and those of them that are reached without a tunnel: members of sets of the table.
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

fn from_unchecked() -> Step {
    is(meta(MetaKey::Iifname), text(format!("@{UNCHECKED}")))
}

/// `unchecked`: whether there are pods that may send by the addresses of others.
fn anti_spoofing(unchecked: bool) -> [Object; 2] {
    let link_local = || prefix("fe80::/10".parse().expect("a prefix"));
    let multicast = prefix("ff00::/8".parse().expect("a prefix"));
    let route_back = fib(FibResult::Oif, [FibFlag::Saddr, FibFlag::Iif]);
    let mut spoofed = vec![from_host_end()];
    if unchecked {
        spoofed.push(is_not(meta(MetaKey::Iifname), text(format!("@{UNCHECKED}"))));
    }
    spoofed.extend([is(route_back, Expression::Boolean(false)), DROP]);
    let beyond_the_link = [
        is(field("ip6", "saddr"), link_local()),
        is_not(field("ip6", "daddr"), any_of([link_local(), multicast])),
        from_host_end(),
        DROP,
    ];
    [rule(PREROUTING, spoofed), rule(PREROUTING, beyond_the_link)]
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
