//! The table of published ports as the text that nft reads. Pure.
//!
//! - **prerouting** (after kube-proxy's, dstnat + 5) and **output** lead packets to a local address by a map of
//!   (address . port) to (address . port), one for each protocol and family. Whatever passes through the node to elsewhere
//!   keeps its port. What is local is more than the node: 127.0.0.0/8 never comes from outside, and from the node it is
//!   127.0.0.1 alone that "all addresses" means, since others have servers of their own there (systemd-resolved at
//!   127.0.0.53); a port of one of these by name stands in maps apart. ::1 and fe80::/10 cannot be led anywhere: IPv6 has
//!   no `route_localnet`, and a link-local source cannot be forwarded. The addresses of services under IPVS are left out by
//!   sets that whoever publishes fills (`services`), and the daemon keeps.
//! - **postrouting** (before everybody else's, srcnat - 5) gives the node's address to a pod that reaches itself, whose
//!   answers would not pass the node otherwise, and to what was sent to 127.0.0.1, a source that nobody outside can answer.
//! - **guard** drops what claims to be 127.0.0.0/8 and comes from a pod: `route_localnet`, which the host ends of pods with
//!   published ports need for the latter, would let pods reach whatever listens on the node's loopback. What others do
//!   with it on their devices is theirs.
//!
//! It is nft's own language (nft(8)) and not JSON, as the firewall is: from JSON, nft 1.0.6 makes a set of a map to
//! concatenated values, and then crashes on the rule that uses it. All that is put into the text are numbers, addresses and
//! owners ([`Port::owner`](super::Port)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::Value;

use super::{Hairpin, Port, Protocol, Standing, TABLE, hairpins};
use crate::nft;

const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const POSTROUTING: &str = "postrouting";
const GUARD: &str = "guard";

/// Each chain with its type, hook and priority. The numbers: NF_IP_PRI_NAT_DST (-100, kube-proxy's) and 5; NF_IP_PRI_NAT_SRC (100) less 5;
/// NF_IP_PRI_RAW, before connection tracking.
const CHAINS: [(&str, &str, &str, i32); 4] = [
    (PREROUTING, "nat", "prerouting", -95),
    (OUTPUT, "nat", "output", -95),
    (POSTROUTING, "nat", "postrouting", 95),
    (GUARD, "filter", "prerouting", -300),
];

/// What differs between the families.
#[derive(Debug, Clone, Copy)]
struct Family {
    ipv6: bool,
    suffix: &'static str,
    header: &'static str,
    address: &'static str,
    /// Every address.
    all: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family { ipv6: false, suffix: "4", header: "ip", address: "ipv4_addr", all: "0.0.0.0/0" },
    Family { ipv6: true, suffix: "6", header: "ip6", address: "ipv6_addr", all: "::/0" },
];

/// Of the addresses in 127.0.0.0/8 that ports name, but 127.0.0.1, which is an address like others.
const LOOPBACK: Family = Family { suffix: "4lo", ..FAMILIES[0] };

impl Family {
    fn of(ip: IpAddr) -> Self {
        FAMILIES[usize::from(ip.is_ipv6())]
    }

    fn map(self, protocol: Protocol) -> String {
        format!("{protocol}{}", self.suffix)
    }

    fn services(self) -> String {
        format!("services{}", self.suffix)
    }

    fn hairpin(self) -> String {
        format!("hairpin{}", self.suffix)
    }
}

/// The maps, by protocol and family.
fn maps() -> impl Iterator<Item = (Protocol, Family)> {
    FAMILIES.into_iter().chain([LOOPBACK]).flat_map(|family| Protocol::ALL.map(|protocol| (protocol, family)))
}

/// The protocol of the map of that name, and whether it is of IPv6.
pub(super) fn map_named(name: &str) -> Option<(Protocol, bool)> {
    maps().find(|(protocol, family)| family.map(*protocol) == name).map(|(protocol, family)| (protocol, family.ipv6))
}

/// The names of the maps and sets whose elements name an owner.
pub(super) fn sets() -> impl Iterator<Item = String> {
    let of_ports = maps().map(|(protocol, family)| family.map(protocol));
    of_ports.chain(FAMILIES.map(Family::hairpin))
}

/// Whether a set of that name holds addresses of services.
pub(super) fn is_services(name: &str) -> bool {
    FAMILIES.iter().any(|family| family.services() == name)
}

/// Whether a set of that name holds hairpins.
pub(super) fn is_hairpin(name: &str) -> bool {
    FAMILIES.iter().any(|family| family.hairpin() == name)
}

/// What there is of chains, rules, maps and sets, a line each, as [`seen`] makes them of a listing.
pub(super) fn objects() -> Vec<String> {
    let chain = |(name, kind, hook, priority)| format!("chain {name} {kind} {hook} {priority} accept");
    let mut objects: Vec<String> = CHAINS.into_iter().map(chain).collect();
    objects.extend(maps().map(|(protocol, family)| format!("map {}", family.map(protocol))));
    objects.extend(FAMILIES.map(|family| format!("set {}", family.hairpin())));
    objects.extend(FAMILIES.map(|family| format!("set {}", family.services())));
    objects.extend(numbered(rules().into_iter().map(|(chain, rule)| (chain.to_owned(), mark(&rule)))));
    objects.sort_unstable();
    objects
}

/// Of what nft shows, by kind and fields, what [`objects`] makes of ours. A rule is known by its comment: what nft shows of
/// the rest differs between its versions, and nobody changes a rule of the kernel but by another in its place.
pub(super) fn seen<'a>(shown: impl Iterator<Item = (&'a str, &'a Value)>) -> Vec<String> {
    let (mut objects, mut rules) = (Vec::new(), Vec::new());
    for (kind, fields) in shown {
        let text = |name| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let priority = || fields.get("prio").and_then(Value::as_i64).unwrap_or_default();
        match kind {
            "rule" => rules.push((text("chain").to_owned(), text("comment").to_owned())),
            "chain" => {
                let (name, place, policy) = (text("name"), [text("type"), text("hook")].join(" "), text("policy"));
                objects.push(format!("chain {name} {place} {} {policy}", priority()));
            }
            "map" | "set" => objects.push(format!("{kind} {}", text("name"))),
            _ => {}
        }
    }
    objects.extend(numbered(rules.into_iter()));
    objects.sort_unstable();
    objects
}

/// Whether a line of [`seen`] is a rule in a chain of ours.
pub(super) fn is_rule_of_ours(object: &str) -> bool {
    let chain = object.strip_prefix("rule ").and_then(|rule| rule.split(' ').next());
    chain.is_some_and(|chain| CHAINS.iter().any(|(ours, ..)| *ours == chain))
}

/// Rules by their chain and their place in it.
fn numbered(rules: impl Iterator<Item = (String, String)>) -> impl Iterator<Item = String> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    rules.map(move |(chain, mark)| {
        let place = places.entry(chain.clone()).or_default();
        *place += 1;
        format!("rule {chain} {place} {mark}")
    })
}

/// The comment by which a rule is known.
fn mark(rule: &str) -> String {
    format!("twill {}", &nft::fingerprint(rule.as_bytes())[..12])
}

/// Makes what is missing of the table, its rules anew, and `ports`.
pub(super) fn publication(services: &BTreeSet<IpAddr>, ports: &[Port]) -> String {
    structure(services) + &created(ports)
}

/// Takes elements away.
pub(super) fn withdrawal(elements: &Standing) -> String {
    deleted(elements)
}

/// Makes the structure, takes `wrong` away and creates `missing`.
pub(super) fn repair(services: &BTreeSet<IpAddr>, wrong: &Standing, missing: &[Port]) -> String {
    structure(services) + &deleted(wrong) + &created(missing)
}

fn structure(services: &BTreeSet<IpAddr>) -> String {
    let mut text = format!("add table inet {TABLE}\n");
    let mut line = |line: String| text.extend([line.as_str(), "\n"]);
    for (protocol, family) in maps() {
        let (name, address) = (family.map(protocol), family.address);
        let socket = format!("{address} . inet_service");
        line(format!("add map inet {TABLE} {name} {{ type {socket} : {socket}; flags interval; }}"));
    }
    for family in FAMILIES {
        let (name, address) = (family.hairpin(), family.address);
        line(format!("add set inet {TABLE} {name} {{ type {address} . {address}; }}"));
        let name = family.services();
        line(format!("add set inet {TABLE} {name} {{ type {address}; }}"));
        line(format!("flush set inet {TABLE} {name}"));
        let its: Vec<String> =
            services.iter().filter(|ip| ip.is_ipv6() == family.ipv6).map(ToString::to_string).collect();
        if !its.is_empty() {
            line(format!("add element inet {TABLE} {name} {{ {} }}", its.join(", ")));
        }
    }
    for (chain, kind, hook, priority) in CHAINS {
        let place = format!("type {kind} hook {hook} priority {priority}");
        line(format!("add chain inet {TABLE} {chain} {{ {place}; policy accept; }}"));
        line(format!("flush chain inet {TABLE} {chain}"));
    }
    for (chain, rule) in rules() {
        line(format!("add rule inet {TABLE} {chain} {rule} comment \"{}\"", mark(&rule)));
    }
    text
}

fn rules() -> Vec<(&'static str, String)> {
    // `accept` ends a chain of ours only; the other chains of the hook go on.
    let mut rules = vec![(PREROUTING, "ip daddr 127.0.0.0/8 accept".to_owned())];
    for chain in [PREROUTING, OUTPUT] {
        let accepted = ["ip6 daddr ::1", "ip6 daddr fe80::/10", "fib daddr type != local"];
        rules.extend(accepted.map(|what| (chain, format!("{what} accept"))));
        let service = |family: Family| format!("{} daddr @{} accept", family.header, family.services());
        rules.extend(FAMILIES.map(|family| (chain, service(family))));
        if chain == OUTPUT {
            rules.extend(led(LOOPBACK).map(|rule| (chain, rule)));
            rules.push((chain, "ip daddr 127.0.0.0/8 ip daddr != 127.0.0.1 accept".to_owned()));
        }
        rules.extend(FAMILIES.into_iter().flat_map(led).map(|rule| (chain, rule)));
    }
    rules.extend(FAMILIES.map(|family| {
        let (header, set) = (family.header, family.hairpin());
        (POSTROUTING, format!("{header} saddr . {header} daddr @{set} masquerade"))
    }));
    // All host ends, and nothing else, match tw*.
    rules.push((POSTROUTING, "ip saddr 127.0.0.0/8 oifname \"tw*\" masquerade".to_owned()));
    rules.extend(["saddr", "daddr"].map(|end| (GUARD, format!("iifname \"tw*\" ip {end} 127.0.0.0/8 drop"))));
    rules
}

/// By the maps of a family. Where a map says nothing, the next rule comes.
fn led(family: Family) -> impl Iterator<Item = String> {
    Protocol::ALL.into_iter().map(move |protocol| {
        let (header, map) = (family.header, family.map(protocol));
        format!("dnat {header} to {header} daddr . {protocol} dport map @{map}")
    })
}

/// `create` and not `add`: an element that is there already is refused, also where it leads to the same.
fn created(ports: &[Port]) -> String {
    let mut text = String::new();
    for port in ports {
        let (map, key, owner) = (map_of(port), key(port), &port.owner);
        let (pod, pod_port) = (port.pod.ip(), port.pod.port());
        writeln!(text, "create element inet {TABLE} {map} {{ {key} comment \"{owner}\" : {pod} . {pod_port} }}")
            .expect(NEVER);
    }
    for Hairpin { pod, owner } in hairpins(ports) {
        let set = Family::of(pod).hairpin();
        writeln!(text, "create element inet {TABLE} {set} {{ {pod} . {pod} comment \"{owner}\" }}").expect(NEVER);
    }
    text
}

fn deleted(elements: &Standing) -> String {
    let mut text = String::new();
    for port in &elements.ports {
        writeln!(text, "delete element inet {TABLE} {} {{ {} }}", map_of(port), key(port)).expect(NEVER);
    }
    for Hairpin { pod, .. } in &elements.hairpins {
        let set = Family::of(*pod).hairpin();
        writeln!(text, "delete element inet {TABLE} {set} {{ {pod} . {pod} }}").expect(NEVER);
    }
    text
}

const NEVER: &str = "writing to a string never fails";

fn map_of(port: &Port) -> String {
    let family = if port.is_apart() { LOOPBACK } else { Family::of(port.pod.ip()) };
    family.map(port.protocol)
}

fn key(port: &Port) -> String {
    let host = port.host.map_or_else(|| Family::of(port.pod.ip()).all.to_owned(), |ip| ip.to_string());
    format!("{host} . {}", port.host_port)
}
