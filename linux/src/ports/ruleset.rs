//! The table of published ports as the text that nft reads. Pure.
//!
//! - **prerouting** (after kube-proxy's, dstnat + 5) and **output** lead packets to a local address by a map of
//!   (address . port) to (address . port), one for each protocol and family. Whatever passes through the node to elsewhere
//!   keeps its port. 127.0.0.0/8 never comes from outside; ::1 cannot be led anywhere, since IPv6 has no `route_localnet`.
//! - **postrouting** (before everybody else's, srcnat - 5) gives the node's address to a pod that reaches itself, whose
//!   answers would not pass the node otherwise, and to what was sent to 127.0.0.1, a source that nobody outside can answer.
//! - **guard** drops what claims to be 127.0.0.0/8 and does not come from lo: `route_localnet`, which the host ends of pods
//!   with published ports need for the latter, would let pods reach whatever listens on the node's loopback.
//!
//! It is nft's own language (nft(8)) and not JSON, as the firewall is: from JSON, nft 1.0.6 makes a set of a map to
//! concatenated values, and then crashes on the rule that uses it. All that is put into the text are numbers, addresses and
//! owners ([`Port::owner`](super::Port)).

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Hairpin, Port, Protocol, Standing, TABLE, hairpins};

const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const POSTROUTING: &str = "postrouting";
const GUARD: &str = "guard";

/// Each chain with its place. The numbers: NF_IP_PRI_NAT_DST (-100, kube-proxy's) and 5; NF_IP_PRI_NAT_SRC (100) less 5;
/// NF_IP_PRI_RAW, before connection tracking.
const CHAINS: [(&str, &str); 4] = [
    (PREROUTING, "type nat hook prerouting priority -95"),
    (OUTPUT, "type nat hook output priority -95"),
    (POSTROUTING, "type nat hook postrouting priority 95"),
    (GUARD, "type filter hook prerouting priority -300"),
];

/// What differs between the families.
#[derive(Debug, Clone, Copy)]
struct Family {
    ipv6: bool,
    digit: char,
    header: &'static str,
    address: &'static str,
    /// Every address.
    all: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family { ipv6: false, digit: '4', header: "ip", address: "ipv4_addr", all: "0.0.0.0/0" },
    Family { ipv6: true, digit: '6', header: "ip6", address: "ipv6_addr", all: "::/0" },
];

impl Family {
    fn of(ip: IpAddr) -> Self {
        FAMILIES[usize::from(ip.is_ipv6())]
    }

    fn map(self, protocol: Protocol) -> String {
        format!("{protocol}{}", self.digit)
    }

    fn hairpin(self) -> String {
        format!("hairpin{}", self.digit)
    }
}

/// The maps, by protocol and family.
fn maps() -> impl Iterator<Item = (Protocol, Family)> {
    FAMILIES.into_iter().flat_map(|family| Protocol::ALL.map(|protocol| (protocol, family)))
}

/// The protocol of the map of that name, and whether it is of IPv6.
pub(super) fn map_named(name: &str) -> Option<(Protocol, bool)> {
    maps().find(|(protocol, family)| family.map(*protocol) == name).map(|(protocol, family)| (protocol, family.ipv6))
}

/// Whether a set of that name holds hairpins.
pub(super) fn is_hairpin(name: &str) -> bool {
    FAMILIES.iter().any(|family| family.hairpin() == name)
}

/// How many rules, chains, maps and sets there are.
pub(super) fn objects() -> usize {
    rules().len() + CHAINS.len() + maps().count() + FAMILIES.len()
}

/// Makes what is missing of the table, its rules anew, and `ports`.
pub(super) fn publication(ports: &[Port]) -> String {
    structure() + &created(ports)
}

/// Takes elements away.
pub(super) fn withdrawal(elements: &Standing) -> String {
    deleted(elements)
}

/// Makes the structure, takes `wrong` away and creates `missing`.
pub(super) fn repair(wrong: &Standing, missing: &[Port]) -> String {
    structure() + &deleted(wrong) + &created(missing)
}

fn structure() -> String {
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
    }
    for (chain, place) in CHAINS {
        line(format!("add chain inet {TABLE} {chain} {{ {place}; policy accept; }}"));
        line(format!("flush chain inet {TABLE} {chain}"));
    }
    for (chain, rule) in rules() {
        line(format!("add rule inet {TABLE} {chain} {rule}"));
    }
    text
}

fn rules() -> Vec<(&'static str, String)> {
    // `accept` ends a chain of ours only; the other chains of the hook go on.
    let mut rules = vec![
        (PREROUTING, "ip daddr 127.0.0.0/8 accept".to_owned()),
        (PREROUTING, "ip6 daddr ::1 accept".to_owned()),
        (PREROUTING, "fib daddr type != local accept".to_owned()),
        (OUTPUT, "ip6 daddr ::1 accept".to_owned()),
        (OUTPUT, "fib daddr type != local accept".to_owned()),
    ];
    for chain in [PREROUTING, OUTPUT] {
        // Where a map says nothing, the next rule comes.
        rules.extend(maps().map(|(protocol, family)| {
            let (header, map) = (family.header, family.map(protocol));
            (chain, format!("dnat {header} to {header} daddr . {protocol} dport map @{map}"))
        }));
    }
    rules.extend(FAMILIES.map(|family| {
        let (header, set) = (family.header, family.hairpin());
        (POSTROUTING, format!("{header} saddr . {header} daddr @{set} masquerade"))
    }));
    // All host ends, and nothing else, match tw*.
    rules.push((POSTROUTING, "ip saddr 127.0.0.0/8 oifname \"tw*\" masquerade".to_owned()));
    rules.extend(["saddr", "daddr"].map(|end| (GUARD, format!("iifname != \"lo\" ip {end} 127.0.0.0/8 drop"))));
    rules
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
    Family::of(port.pod.ip()).map(port.protocol)
}

fn key(port: &Port) -> String {
    let host = port.host.map_or_else(|| Family::of(port.pod.ip()).all.to_owned(), |ip| ip.to_string());
    format!("{host} . {}", port.host_port)
}
