//! The table of policy rules: which routing table answers for what comes from an address. Requests, and what a dump shows.
//!
//! The plugin makes them in pods that have a further interface; the node itself has none of ours.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};
use nix::errno::Errno;

use crate::netlink::Request;
use crate::state::{PRIORITY_POD, PROTOCOL_POD};
use crate::table::family;
use crate::{Error, NetNs, Netlink};

/// What `from` sends is routed by `table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The one address.
    pub from: IpAddr,
    /// The routing table.
    pub table: u32,
    /// Its place among the rules; the smaller goes first, and the main table's is at 32766.
    pub priority: u32,
    /// Whose it is, as with routes (FRA_PROTOCOL).
    pub protocol: u8,
}

/// A rule as it stands, as far as ours go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRule {
    /// Whose packets it is for; absent for a rule for all.
    pub from: Option<IpNetwork>,
    /// The routing table; 0 where it leads to none.
    pub table: u32,
    /// Its place.
    pub priority: u32,
    /// FRA_PROTOCOL.
    pub protocol: u8,
}

impl SeenRule {
    /// Whether it is `rule`.
    pub fn is(&self, rule: &Rule) -> bool {
        self.from == Some(rule.from.into())
            && (self.table, self.priority, self.protocol) == (rule.table, rule.priority, rule.protocol)
    }
}

/// Makes a rule, exclusively: EEXIST if it stands.
pub fn add(rule: &Rule) -> Request {
    let mut message = message(rule.from, rule.priority, rule.protocol);
    message.header.action = RuleAction::ToTable;
    // RT_TABLE_UNSPEC in the header, since it has room for 8 bits.
    message.attributes.push(RuleAttribute::Table(rule.table));
    let rule = *rule;
    Request::new(
        RouteNetlinkMessage::NewRule(message),
        NLM_F_CREATE | NLM_F_EXCL,
        fmt::from_fn(move |f| write!(f, "add rule {rule}")),
    )
}

/// Removes one rule of this address, priority and protocol, to whatever table. ENOENT if there is none.
pub fn remove(from: IpAddr, priority: u32, protocol: u8) -> Request {
    Request::new(
        RouteNetlinkMessage::DelRule(message(from, priority, protocol)),
        0,
        fmt::from_fn(move |f| write!(f, "delete rule {priority} from {from} proto {protocol}")),
    )
}

fn message(from: IpAddr, priority: u32, protocol: u8) -> RuleMessage {
    let mut message = RuleMessage::default();
    let from = IpNetwork::from(from);
    message.header = RuleHeader { family: family(from.ip()), src_len: from.prefix(), ..RuleHeader::default() };
    message.attributes = vec![
        RuleAttribute::Source(from.ip()),
        RuleAttribute::Priority(priority),
        RuleAttribute::Protocol(RouteProtocol::from(protocol)),
    ];
    message
}

/// How often a rule is looked for to be removed, at most: killed ADDs may have left several.
const REMOVALS: usize = 16;

/// Removes the rules of these addresses of a pod, of [`PRIORITY_POD`] and [`PROTOCOL_POD`], in each of the namespaces that
/// can be opened. Nothing here is worth a failure: a rule that stays leads to an empty table.
pub fn forget<'a>(namespaces: impl IntoIterator<Item = &'a Path>, addresses: &[IpAddr]) {
    if addresses.is_empty() {
        return;
    }
    for path in namespaces {
        let Ok(mut pod) = NetNs::open(path).and_then(|namespace| Netlink::open_in(&namespace)) else { continue };
        for ip in addresses {
            let one = [remove(*ip, PRIORITY_POD, PROTOCOL_POD)];
            for _ in 0..REMOVALS {
                if pod.apply(&one).is_err() {
                    break;
                }
            }
        }
    }
}

/// The rules of one family.
pub fn dump(netlink: &mut Netlink, ipv6: bool) -> Result<Vec<SeenRule>, Error> {
    let mut request = RuleMessage::default();
    request.header.family = family(if ipv6 { [0; 16].into() } else { [0; 4].into() });
    let found = match netlink.dump(RouteNetlinkMessage::GetRule(request)) {
        // A kernel without policy rules, or without IPv6.
        Err(error) if matches!(error.errno(), Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)) => return Ok(Vec::new()),
        found => found?,
    };
    let rules = found.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRule(message) => Some(seen(&message)),
        _ => None,
    });
    Ok(rules.collect())
}

fn seen(message: &RuleMessage) -> SeenRule {
    let mut seen = SeenRule { from: None, table: message.header.table.into(), priority: 0, protocol: 0 };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(ip) => seen.from = IpNetwork::new(*ip, message.header.src_len).ok(),
            RuleAttribute::Table(table) => seen.table = *table,
            RuleAttribute::Priority(priority) => seen.priority = *priority,
            RuleAttribute::Protocol(protocol) => seen.protocol = u8::from(*protocol),
            _ => {}
        }
    }
    seen
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: from {} lookup {} proto {}", self.priority, self.from, self.table, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;

    fn bytes(request: &Request) -> Vec<u8> {
        let mut bytes = vec![0; request.message.buffer_len()];
        request.message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_rule_is_exclusive_and_names_its_owner() {
        let rule = Rule { from: [10, 42, 0, 5].into(), table: 117_000_003, priority: 7777, protocol: 117 };
        let request = add(&rule);
        // AF_INET, source /32, table in an attribute, FR_ACT_TO_TBL; FRA_SRC, FRA_PRIORITY, FRA_PROTOCOL, FRA_TABLE
        let mut expected = vec![2, 0, 32, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 2, 0, 10, 42, 0, 5, 8, 0, 6, 0];
        expected.extend(7777_u32.to_ne_bytes());
        expected.extend([5, 0, 21, 0, 117, 0, 0, 0, 8, 0, 15, 0]);
        expected.extend(117_000_003_u32.to_ne_bytes());
        assert_eq!(bytes(&request), expected);
        assert_eq!(request.flags, NLM_F_CREATE | NLM_F_EXCL);
    }

    #[test]
    fn a_removal_names_address_place_and_owner_and_no_table() {
        let mut expected = vec![10, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 2, 0, 0xfd];
        expected.extend([0; 15]);
        expected.extend([8, 0, 6, 0]);
        expected.extend(7777_u32.to_ne_bytes());
        expected.extend([5, 0, 21, 0, 117, 0, 0, 0]);
        assert_eq!(bytes(&remove("fd00::".parse().expect("an address"), 7777, 117)), expected);
    }
}
