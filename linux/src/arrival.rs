//! What the tables of others do to packets for this node itself: chains that are sure to drop what comes to a UDP port of it.
//!
//! Only what is certain is told. A rule counts where all of its conditions are known to hold for every such packet, and an `accept`
//! that may hold for one of them ends the look at its chain, as does whatever is not understood: a jump, a map, what nft shows and
//! cannot read (`xt`). What a named set holds is not read. So a chain that is not told may drop the packet all the same, and one that
//! is told does.
//!
//! The packet begins a connection, and goes on to do so for the kernel's tracking: those of a tunnel come back from another port than
//! they went to. All of this works in the namespace of the calling thread; it takes one run of nft, and one for each chain of others
//! at the hooks.

use std::fmt;

use serde_json::Value;

use crate::chains::Place;
use crate::{Error, chains};

/// Hooks that such a packet passes.
const HOOKS: [&str; 2] = ["prerouting", "input"];
/// What nft calls protocols that are not UDP, by getprotobynumber(3).
const OTHER_TRANSPORTS: [&str; 15] = [
    "tcp",
    "icmp",
    "ipv6-icmp",
    "icmpv6",
    "igmp",
    "sctp",
    "dccp",
    "udplite",
    "ah",
    "esp",
    "gre",
    "ipcomp",
    "ospf",
    "pim",
    "vrrp",
];

/// A packet of UDP for this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Whether it is of IPv6.
    pub ipv6: bool,
    /// Its port here.
    pub port: u16,
}

/// A chain that drops all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shut {
    /// Which.
    pub place: Place,
    /// By what.
    pub how: How,
}

/// By what a chain drops a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By a rule, which has this handle.
    Rule(u64),
    /// By its policy, since no rule accepts it.
    Policy,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(handle) => write!(f, "its rule with handle {handle}"),
            Self::Policy => f.write_str("its policy is drop, and no rule of it accepts them"),
        }
    }
}

/// The chains that are sure to drop one or more of `arrivals`, each told once for each way in which it does. `own`: the table in inet
/// that is not looked at.
pub fn look(own: &str, arrivals: &[Arrival]) -> Result<Vec<Shut>, Error> {
    let mut shut = Vec::new();
    for chain in chains::of_others(own)?.into_iter().filter(|chain| chain.filters_at(&HOOKS)) {
        let passing: Vec<_> = arrivals.iter().filter(|arrival| arrival.passes(&chain.place)).collect();
        if passing.is_empty() {
            continue;
        }
        let Some(rules) = chains::list(&chain.place)? else { continue };
        for how in passing.into_iter().filter_map(|arrival| judge(&rules, chain.drops_by_policy, *arrival)) {
            let one = Shut { place: chain.place.clone(), how };
            if !shut.contains(&one) {
                shut.push(one);
            }
        }
    }
    Ok(shut)
}

impl Arrival {
    /// Whether a chain's family is asked of it.
    fn passes(self, place: &Place) -> bool {
        ["inet", if self.ipv6 { "ip6" } else { "ip" }].contains(&place.family.as_str())
    }
}

/// How the rules of a chain, or its policy, drop the packet; `None` where it may pass.
fn judge(listing: &Value, drops_by_policy: bool, arrival: Arrival) -> Option<How> {
    for rule in chains::objects(listing, "rule") {
        let steps = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut holds = Some(true);
        for step in steps {
            let has = |names: &[&str]| names.iter().any(|name| step.get(name).is_some());
            if let Some(condition) = step.get("match") {
                holds = both(holds, self::holds(condition, arrival));
            } else if holds == Some(false) {
                break;
            } else if chains::refuses(step) {
                if holds == Some(true) {
                    return Some(How::Rule(rule["handle"].as_u64().unwrap_or_default()));
                }
            } else if has(&["limit", "quota", "connlimit", "ct count"]) {
                holds = None;
            } else if !has(&["counter", "log", "comment"]) {
                // It accepts, or leads elsewhere, or nobody knows.
                return None;
            }
        }
    }
    drops_by_policy.then_some(How::Policy)
}

/// Whether two conditions hold that are known, or not known, to.
fn both(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// Whether a condition holds for every such packet; `None` where that depends.
fn holds(condition: &Value, arrival: Arrival) -> Option<bool> {
    let (left, right) = (&condition["left"], &condition["right"]);
    let is_equal = match condition["op"].as_str() {
        Some("==" | "in") => true,
        Some("!=") => false,
        _ => return None,
    };
    let transport = |value: &Value| value.as_str().and_then(|text| one_of(text, "udp", &OTHER_TRANSPORTS));
    let family = |value: &Value| {
        let (its, other) = if arrival.ipv6 { ("ipv6", "ipv4") } else { ("ipv4", "ipv6") };
        value.as_str().and_then(|text| one_of(text, its, &[other]))
    };
    let equal = match (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str()) {
        (Some("udp" | "th"), Some("dport")) => among(right, |value| number(value, arrival.port)),
        (Some("udp" | "th"), _) => None,
        (Some("ip"), _) if arrival.ipv6 => return Some(false),
        (Some("ip6"), _) if !arrival.ipv6 => return Some(false),
        (Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")) => among(right, transport),
        (Some("ip" | "ip6"), _) => None,
        // Of another transport.
        (Some("tcp" | "icmp" | "icmpv6" | "sctp" | "dccp" | "udplite" | "ah" | "esp" | "igmp"), _) => {
            return Some(false);
        }
        (Some(_), _) => return None,
        (None, _) => match (left["meta"]["key"].as_str(), left["ct"]["key"].as_str()) {
            (Some("l4proto"), _) => among(right, transport),
            (Some("nfproto"), _) => among(right, family),
            // Other interfaces may be those between nodes.
            (Some("iifname" | "iif"), _) => among(right, |value| (value == "lo").then_some(false)),
            (_, Some("state")) => among(right, |value| {
                ["established", "related", "invalid"].iter().any(|it| value == it).then_some(false)
            }),
            _ => None,
        },
    };
    equal.map(|equal| equal == is_equal)
}

/// Whether a value is among those that stand on the right of a condition.
fn among(right: &Value, is: impl Fn(&Value) -> Option<bool>) -> Option<bool> {
    let several = right.get("set").unwrap_or(right).as_array();
    let Some(several) = several else { return is(right) };
    let each: Vec<_> = several.iter().map(is).collect();
    if each.contains(&Some(true)) {
        return Some(true);
    }
    each.iter().all(|one| *one == Some(false)).then_some(false)
}

/// Whether a word is this one; `None` where it is neither that nor one of those that are known to mean something else: it may be a
/// named set (`@name`), or another spelling.
fn one_of(text: &str, this: &str, others: &[&str]) -> Option<bool> {
    if text == this { Some(true) } else { others.contains(&text).then_some(false) }
}

/// Whether a number, or a range of them, has this one.
fn number(value: &Value, wanted: u16) -> Option<bool> {
    let wanted = u64::from(wanted);
    match value.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        Some([low, high]) => Some((low.as_u64()?..=high.as_u64()?).contains(&wanted)),
        _ => value.as_u64().map(|number| number == wanted),
    }
}

#[cfg(test)]
mod tests;
