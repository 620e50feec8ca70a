//! The alias of a host interface: the trace of an attachment that outlives a lost store.
//!
//! The plugin writes it when it makes the interface; from it, whoever opens a store that was lost knows which addresses
//! are in use. Its form is `twill1:<hash of the key>:<addresses, comma-separated>`, 255 bytes at most (IFALIASZ). What few
//! attachments have follows, each after a semicolon: `rules=` with the addresses that have policy rules in the pod, so that
//! these can be taken back; `spoofcheck=off`; `filter=on`, where the interface has a filter of what its pod sends. A part of another
//! name is a newer version's, and passed over.
//!
//! Pure: plugin and daemon ask the kernel, and here is what the answers mean.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::KeyHash;
use crate::store::Observed;

/// What an alias says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Of which attachment.
    pub hash: KeyHash,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Those of them that have a policy rule in the pod.
    pub ruled: Vec<IpAddr>,
    /// The pod may send by addresses that are not its own.
    pub unchecked: bool,
    /// The interface has a filter of what the pod sends by the addresses of others.
    pub filtered: bool,
}

/// An alias that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the alias of a Twill interface: twill1:<13 hexadecimal digits>:<addresses>")]
pub struct ForeignAlias(pub String);

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "twill1:{}:", self.hash)?;
        list(f, &self.addresses)?;
        if !self.ruled.is_empty() {
            write!(f, ";{RULES}=")?;
            list(f, &self.ruled)?;
        }
        if self.unchecked {
            write!(f, ";{SPOOF_CHECK}={OFF}")?;
        }
        if self.filtered {
            write!(f, ";{FILTER}={ON}")?;
        }
        Ok(())
    }
}

/// What stands before the addresses that have rules.
const RULES: &str = "rules";
const SPOOF_CHECK: &str = "spoofcheck";
const OFF: &str = "off";
const FILTER: &str = "filter";
const ON: &str = "on";

fn list(f: &mut fmt::Formatter<'_>, addresses: &[IpAddr]) -> fmt::Result {
    for (place, ip) in addresses.iter().enumerate() {
        write!(f, "{}{ip}", if place == 0 { "" } else { "," })?;
    }
    Ok(())
}

impl FromStr for Alias {
    type Err = ForeignAlias;
    fn from_str(text: &str) -> Result<Self, ForeignAlias> {
        let parse = || {
            let (hash, rest) = text.strip_prefix("twill1:")?.split_once(':')?;
            let digits = hash.len() == 13 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            let hash = digits.then(|| u64::from_str_radix(hash, 16).ok()).flatten().map(KeyHash)?;
            let read = |text: &str| text.split(',').map(|ip| ip.parse().ok()).collect::<Option<Vec<IpAddr>>>();
            let mut parts = rest.split(';');
            let addresses = read(parts.next()?)?;
            let mut alias = Self { hash, addresses, ruled: Vec::new(), unchecked: false, filtered: false };
            for part in parts {
                match part.split_once('=')? {
                    (RULES, ruled) => alias.ruled = read(ruled)?,
                    (SPOOF_CHECK, word) => alias.unchecked = word == OFF,
                    (FILTER, word) => alias.filtered = word == ON,
                    _ => {}
                }
            }
            Some(alias)
        };
        parse().ok_or_else(|| ForeignAlias(text.to_owned()))
    }
}

/// The addresses of the attachment `hash` that have a policy rule in its pod, by the alias of its host end.
pub fn ruled(alias: Option<&str>, hash: KeyHash) -> Vec<IpAddr> {
    own(alias, hash).map(|alias| alias.ruled).unwrap_or_default()
}

/// The attachment whose host end has this name, if its alias says that its pod may send by addresses that are not its own.
pub fn unchecked(ifname: &str, alias: Option<&str>) -> Option<KeyHash> {
    let hash = KeyHash::of_host_ifname(ifname)?;
    own(alias, hash)?.unchecked.then_some(hash)
}

/// Whether the alias of the host end of `hash` says that it has a filter of what its pod sends.
pub fn filtered(alias: Option<&str>, hash: KeyHash) -> bool {
    own(alias, hash).is_some_and(|alias| alias.filtered)
}

/// An alias, if it is that of the attachment `hash`.
fn own(alias: Option<&str>, hash: KeyHash) -> Option<Alias> {
    alias?.parse::<Alias>().ok().filter(|alias| alias.hash == hash)
}

/// An interface as it stands in the kernel, which may be the host end of an attachment.
#[derive(Debug, Clone)]
pub struct HostEnd<'a> {
    /// Its name.
    pub ifname: &'a str,
    /// The kernel's kind of it.
    pub kind: Option<&'a str>,
    /// Its alias. An ADD that was killed may not have come so far.
    pub alias: Option<&'a str>,
    /// The addresses that pod routes lead to it.
    pub routes: Vec<IpAddr>,
}

/// What tells that a veth of a host end's name is the host end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The store has a row of it, or cannot be asked: its name is enough, whatever somebody made of its alias.
    Name,
    /// Its alias, or that it has none.
    Alias,
}

impl HostEnd<'_> {
    /// Why an interface that has the name of the host end of `hash` is not it; `None` where it is.
    pub fn foreign(&self, hash: KeyHash, proof: Proof) -> Option<String> {
        foreign("veth", self.kind, self.alias, hash, proof)
    }

    /// The attachment whose host end it is by kind and name.
    fn hash(&self) -> Option<KeyHash> {
        let hash = KeyHash::of_host_ifname(self.ifname)?;
        self.foreign(hash, Proof::Name).is_none().then_some(hash)
    }

    /// The addresses that its alias names, if that is its own.
    fn named(&self, hash: KeyHash) -> Vec<IpAddr> {
        own(self.alias, hash).map(|alias| alias.addresses).unwrap_or_default()
    }
}

/// Why an interface of that kind and alias, which has the name of the device that limits the attachment `hash`, is not it;
/// `None` where it is.
pub fn foreign_ifb(kind: Option<&str>, alias: Option<&str>, hash: KeyHash, proof: Proof) -> Option<String> {
    foreign("ifb", kind, alias, hash, proof)
}

fn foreign(wanted: &str, kind: Option<&str>, alias: Option<&str>, hash: KeyHash, proof: Proof) -> Option<String> {
    let kind = kind.unwrap_or("none");
    if kind != wanted {
        return Some(format!("its kind is {kind}, not {wanted}"));
    }
    let alias = alias.filter(|alias| proof == Proof::Alias && !alias.is_empty())?;
    if alias.parse::<Alias>().is_ok_and(|alias| alias.hash == hash) {
        return None;
    }
    Some(format!("its alias {alias:?} is not this attachment's"))
}

/// An address of the node itself, or of what else stands in its namespace.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddress<'a> {
    /// The address.
    pub ip: IpAddr,
    /// The interface that has it.
    pub ifname: &'a str,
}

/// The devices that carry the tunnel addresses.
const TUNNELS: [&str; 2] = ["vxlan.twill", "vxlan6.twill"];

impl Observed {
    /// What interfaces and addresses of a node tell about attachments. Interfaces that are no host ends are left out.
    ///
    /// An attachment has the addresses of its alias and of the pod routes to it. Where a route contradicts an alias it is
    /// right, since the kernel has but one to an address. What an attachment has is not the node's own too: its pod may
    /// live in the node's namespace (CNI_NETNS_OVERRIDE).
    pub fn from(ends: &[HostEnd<'_>], addresses: &[LocalAddress<'_>]) -> Self {
        let ends: Vec<_> = ends.iter().filter_map(|end| Some((end.hash()?, end))).collect();
        let routed: BTreeSet<IpAddr> = ends.iter().flat_map(|(_, end)| end.routes.iter().copied()).collect();
        let attachments: Vec<_> = ends
            .iter()
            .map(|(hash, end)| {
                let named = end.named(*hash).into_iter().filter(|ip| !routed.contains(ip));
                let addresses: BTreeSet<_> = named.chain(end.routes.iter().copied()).collect();
                (*hash, addresses.into_iter().collect::<Vec<_>>())
            })
            .collect();
        let pods: BTreeSet<IpAddr> = attachments.iter().flat_map(|(_, addresses)| addresses.iter().copied()).collect();
        let own = |address: &&LocalAddress<'_>| {
            !pods.contains(&address.ip) && ends.iter().all(|(_, end)| end.ifname != address.ifname)
        };
        let (tunnel, local): (Vec<_>, Vec<_>) =
            addresses.iter().filter(own).partition(|address| TUNNELS.contains(&address.ifname));
        let ips = |list: Vec<&LocalAddress<'_>>| list.into_iter().map(|address| address.ip).collect();
        Self { attachments, tunnel: ips(tunnel), local: ips(local), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn veth<'a>(ifname: &'a str, alias: Option<&'a str>, routes: &[&str]) -> HostEnd<'a> {
        HostEnd { ifname, kind: Some("veth"), alias, routes: ips(routes) }
    }

    fn local<'a>(ifname: &'a str, ip: &str) -> LocalAddress<'a> {
        LocalAddress { ip: ip.parse().unwrap(), ifname }
    }

    const ALIAS: Option<&str> = Some("twill1:0000000000001:10.42.0.1,fd00::1");

    #[test]
    fn an_attachment_is_known_by_alias_and_by_route_and_others_are_left_out() {
        let one = |end: HostEnd<'_>| Observed::from(&[end], &[]).attachments;
        let both = [(KeyHash(1), ips(&["10.42.0.1", "fd00::1"]))];
        assert_eq!(one(veth("tw0000000000001", ALIAS, &["10.42.0.1"])), both);
        let killed_before_its_alias = one(veth("tw0000000000002", None, &["10.42.0.2"]));
        assert_eq!(killed_before_its_alias, [(KeyHash(2), ips(&["10.42.0.2"]))]);
        let anothers = one(veth("tw0000000000002", ALIAS, &[]));
        assert_eq!(anothers, [(KeyHash(2), vec![])], "another's alias is not believed");
        assert_eq!(one(veth("two-different", None, &["10.42.0.3"])), []);
        assert_eq!(one(veth("tw00000000000zz", None, &[])), []);
        assert_eq!(one(HostEnd { kind: Some("bridge"), ..veth("tw0000000000001", ALIAS, &["10.42.0.1"]) }), []);
    }

    #[test]
    fn an_address_belongs_to_the_end_that_a_route_leads_to_whatever_another_alias_says() {
        let ends = [veth("tw0000000000001", ALIAS, &[]), veth("tw0000000000002", None, &["10.42.0.1"])];
        let seen = Observed::from(&ends, &[]);
        assert_eq!(seen.attachments, [(KeyHash(1), ips(&["fd00::1"])), (KeyHash(2), ips(&["10.42.0.1"]))]);
    }

    #[test]
    fn the_nodes_own_addresses_are_those_of_no_pod_and_of_no_host_end() {
        let ends = [veth("tw0000000000001", ALIAS, &[])];
        let addresses = [
            local("vxlan.twill", "10.42.0.9"),
            local("eth0", "192.0.2.1"),
            local("tw0000000000001", "10.42.0.8"),
            local("own0", "10.42.0.1"),
        ];
        let seen = Observed::from(&ends, &addresses);
        assert_eq!((seen.tunnel, seen.local), (ips(&["10.42.0.9"]), ips(&["192.0.2.1"])));
    }

    #[test]
    fn only_a_veth_with_our_alias_or_none_is_ours() {
        let by_alias = |kind, alias| HostEnd { kind, ..veth("", alias, &[]) }.foreign(KeyHash(1), Proof::Alias);
        assert_eq!(by_alias(Some("veth"), ALIAS), None);
        assert_eq!(by_alias(Some("veth"), None), None);
        assert!(by_alias(Some("veth"), Some("twill1:0000000000002:10.0.0.1")).is_some());
        assert!(by_alias(Some("veth"), Some("somebody's")).is_some());
        assert!(by_alias(Some("bridge"), ALIAS).is_some());
        assert!(by_alias(None, None).is_some());
    }

    #[test]
    fn with_a_row_the_name_of_a_veth_is_enough() {
        let by_name = |kind| HostEnd { kind, ..veth("", Some("somebody's"), &[]) }.foreign(KeyHash(1), Proof::Name);
        assert_eq!(by_name(Some("veth")), None);
        assert!(by_name(Some("bridge")).is_some());
    }

    #[test]
    fn an_alias_is_read_as_it_was_written() {
        let addresses = ips(&["10.42.0.5", "fd00::5"]);
        let alias = Alias { hash: KeyHash(0xabc), addresses, ruled: vec![], unchecked: false, filtered: false };
        assert_eq!(alias.to_string(), "twill1:0000000000abc:10.42.0.5,fd00::5");
        assert_eq!(alias.to_string().parse(), Ok(alias.clone()));
        let ruled = Alias { ruled: ips(&["fd00::5"]), ..alias };
        assert_eq!(ruled.to_string(), "twill1:0000000000abc:10.42.0.5,fd00::5;rules=fd00::5");
        assert_eq!(ruled.to_string().parse(), Ok(ruled.clone()));
        let unchecked = Alias { unchecked: true, ..ruled };
        assert_eq!(unchecked.to_string(), "twill1:0000000000abc:10.42.0.5,fd00::5;rules=fd00::5;spoofcheck=off");
        assert_eq!(unchecked.to_string().parse(), Ok(unchecked.clone()));
        let filtered = Alias { filtered: true, ruled: vec![], ..unchecked };
        assert_eq!(filtered.to_string(), "twill1:0000000000abc:10.42.0.5,fd00::5;spoofcheck=off;filter=on");
        assert_eq!(filtered.to_string().parse(), Ok(filtered));
    }

    #[test]
    fn what_a_newer_version_adds_to_an_alias_is_passed_over() {
        let alias: Alias = "twill1:0000000000abc:10.42.0.5;wings=2;spoofcheck=off".parse().unwrap();
        assert_eq!((alias.addresses, alias.unchecked), (ips(&["10.42.0.5"]), true));
    }

    #[test]
    fn only_its_own_alias_tells_of_a_filter() {
        let alias = Some("twill1:0000000000001:10.42.0.1;filter=on");
        assert!(filtered(alias, KeyHash(1)) && !filtered(alias, KeyHash(2)));
        for other in [Some("twill1:0000000000001:10.42.0.1;filter=off"), Some("twill1:0000000000001:10.42.0.1"), None] {
            assert!(!filtered(other, KeyHash(1)), "{other:?}");
        }
    }

    #[test]
    fn only_its_own_alias_takes_an_attachment_out_of_the_spoof_check() {
        let alias = Some("twill1:0000000000001:10.42.0.1;spoofcheck=off");
        assert_eq!(unchecked("tw0000000000001", alias), Some(KeyHash(1)));
        assert_eq!(unchecked("tw0000000000002", alias), None);
        assert_eq!(unchecked("eth0", alias), None);
        assert_eq!(unchecked("tw0000000000001", ALIAS), None);
        assert_eq!(unchecked("tw0000000000001", Some("twill1:0000000000001:10.42.0.1;spoofcheck=maybe")), None);
    }

    #[test]
    fn what_others_write_into_an_alias_is_not_taken_for_ours() {
        for text in [
            "",
            "uplink",
            "twill1:",
            "twill1:abc:10.0.0.1",
            "twill2:0000000000abc:10.0.0.1",
            "twill1:0000000000abc:x",
            "twill1:0000000000abc:10.0.0.1;rules=",
            "twill1:0000000000abc:10.0.0.1;spoofcheck",
        ] {
            assert!(text.parse::<Alias>().is_err(), "{text:?}");
        }
    }
}
