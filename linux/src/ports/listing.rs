//! What nft shows of the table of published ports, as values again.
//!
//! What is in it that we do not make (somebody added an element by hand, without an owner, or with a range of ports) is no
//! element of ours: it is left alone, and seen only as a difference of the structure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::{Hairpin, Port, TABLE, hairpins, ruleset};
use crate::{Error, nft};

/// What stands of published ports, or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The ports.
    pub ports: Vec<Port>,
    /// The pods that may reach themselves by them.
    pub(crate) hairpins: BTreeSet<Hairpin>,
    /// The addresses of services that are left out.
    pub services: BTreeSet<IpAddr>,
    /// Of everything but the elements: chains, rules, maps.
    structure: String,
    /// What there is of chains, rules, maps and sets, as [`ruleset::objects`] has them.
    objects: Vec<String>,
}

impl Standing {
    /// Whether nothing stands.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.hairpins.is_empty()
    }

    /// Who owns what stands.
    pub fn owners(&self) -> BTreeSet<&str> {
        let of_ports = self.ports.iter().map(|port| port.owner.as_str());
        of_ports.chain(self.hairpins.iter().map(|hairpin| hairpin.owner.as_str())).collect()
    }

    /// What stands when these are published.
    pub(super) fn by(ports: &[Port]) -> Self {
        Self { ports: ports.to_vec(), hairpins: hairpins(ports), ..Self::default() }
    }

    /// The part of one owner.
    pub fn of(&self, owner: &str) -> Self {
        let ports = self.ports.iter().filter(|port| port.owner == owner).cloned().collect();
        let hairpins = self.hairpins.iter().filter(|hairpin| hairpin.owner == owner).cloned().collect();
        Self { ports, hairpins, ..Self::default() }
    }

    /// Takes in another part.
    pub fn join(&mut self, other: Self) {
        self.ports.extend(other.ports);
        self.hairpins.extend(other.hairpins);
    }

    /// What of `owner`'s part differs from `wanted`, that owner's ports: what is to go, and what is to be made.
    pub fn compared(&self, owner: &str, wanted: &[Port]) -> (Self, Vec<Port>) {
        let its = self.of(owner);
        if its.ports.iter().collect::<BTreeSet<_>>() == wanted.iter().collect() && its.hairpins == hairpins(wanted) {
            return (Self::default(), Vec::new());
        }
        (its, wanted.to_vec())
    }

    /// The pods of `ports` that do not reach themselves by them.
    pub fn without_hairpin(&self, ports: &[Port]) -> Vec<IpAddr> {
        hairpins(ports).difference(&self.hairpins).map(|hairpin| hairpin.pod).collect()
    }

    /// The elements, of whatever owner, that keep `ports` from being created.
    pub fn in_the_way_of(&self, ports: &[Port]) -> Vec<Port> {
        let addresses: BTreeSet<IpAddr> = ports.iter().map(|port| port.pod.ip()).collect();
        let hairpin = |owner: &str| self.hairpins.iter().any(|h| h.owner == owner && addresses.contains(&h.pod));
        let hinders = |port: &&Port| {
            ports.iter().any(|wanted| wanted.overlaps(port))
                || (addresses.contains(&port.pod.ip()) && hairpin(&port.owner))
        };
        self.ports.iter().filter(hinders).cloned().collect()
    }

    /// By which a change of chains, rules or maps is known. It differs between versions of nft: it is compared with what
    /// was seen after the last change of ours.
    pub fn structure(&self) -> &str {
        &self.structure
    }

    /// Whether there are the chains, rules and maps that we make, in their order, and no other rule in a chain of ours. Chains and maps
    /// of others beside them are left alone.
    pub fn is_whole(&self) -> bool {
        let ours = ruleset::objects();
        let is_there = |object: &String| self.objects.binary_search(object).is_ok();
        let is_ours = |object: &String| ours.binary_search(object).is_ok();
        ours.iter().all(is_there) && self.objects.iter().all(|one| is_ours(one) || !ruleset::is_rule_of_ours(one))
    }
}

/// Lists the table; `None` where there is none.
pub(super) fn list() -> Result<Option<Standing>, Error> {
    Ok(nft::list(TABLE)?.map(read))
}

fn read(mut listing: Value) -> Standing {
    let mut standing = Standing::default();
    let objects = listing.get_mut("nftables").and_then(Value::as_array_mut);
    for object in objects.into_iter().flatten() {
        let Some((_, fields)) = object.as_object_mut().and_then(|object| object.iter_mut().next()) else { continue };
        let Some(Value::Array(elements)) = fields.as_object_mut().and_then(|fields| fields.remove("elem")) else {
            continue;
        };
        let Some(name) = fields.get("name").and_then(Value::as_str) else { continue };
        if let Some((protocol, ipv6)) = ruleset::map_named(name) {
            let read = |element: &Value| port(element, protocol).filter(|port| port.pod.is_ipv6() == ipv6);
            standing.ports.extend(elements.iter().filter_map(read));
        } else if ruleset::is_services(name) {
            standing.services.extend(elements.iter().filter_map(address));
        } else if ruleset::is_hairpin(name) {
            standing.hairpins.extend(elements.iter().filter_map(hairpin));
        }
    }
    let shown = listing.get("nftables").and_then(Value::as_array).into_iter().flatten();
    standing.objects =
        ruleset::seen(shown.filter_map(|one| one.as_object()?.iter().next()).map(|(k, v)| (k.as_str(), v)));
    nft::strip(&mut listing);
    standing.structure = nft::fingerprint(listing.to_string().as_bytes());
    standing
}

/// `[{"elem": {"val": {"concat": [address, port]}, "comment": owner}}, {"concat": [address, port]}]`
fn port(element: &Value, protocol: super::Protocol) -> Option<Port> {
    let (key, owner) = owned(element.get(0)?)?;
    let (host, host_port) = (key.get(0)?, number(key.get(1)?)?);
    let host = match host.get("prefix") {
        Some(prefix) => (prefix.get("len")?.as_u64()? == 0).then_some(None)?,
        None => Some(address(host)?),
    };
    let value = element.get(1)?.get("concat")?;
    let pod = SocketAddr::new(address(value.get(0)?)?, number(value.get(1)?)?);
    Some(Port { protocol, host, host_port, pod, owner })
}

/// `{"elem": {"val": {"concat": [address, address]}, "comment": owner}}`
fn hairpin(element: &Value) -> Option<Hairpin> {
    let (key, owner) = owned(element)?;
    Some(Hairpin { pod: address(key.get(0)?)?, owner })
}

fn owned(element: &Value) -> Option<(&Value, String)> {
    let element = element.get("elem")?;
    Some((element.get("val")?.get("concat")?, element.get("comment")?.as_str()?.to_owned()))
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

fn number(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}
