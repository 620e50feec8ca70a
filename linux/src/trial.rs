//! What the kernel can of what Twill needs, by really trying it: whether a feature is there cannot be read anywhere, since it
//! may be built in, a module that is loaded when it is asked for, or absent.
//!
//! All of it happens in a namespace of its own that goes with the trial, so nothing of the machine changes but that modules
//! are loaded, as Twill would have them loaded too. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN; called by whoever checks a machine.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::netlink::Request;
use crate::netns::{NetNs, in_throw_away};
use crate::state::{Link, LinkKind};
use crate::table::link::{self, Device, Veth, VethEnd};
use crate::table::source::{self, Sources};
use crate::table::tc;
use crate::table::traffic::{self, Bucket};
use crate::{Error, IfName, MacAddr, Netlink, nft};

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Pairs of virtual interfaces, which pods are attached by.
    Veth,
    /// The tunnel between nodes.
    Vxlan,
    /// nftables of family inet, with filters that know connections.
    Nftables,
    /// Rules of nftables that ask the routing table.
    Fib,
    /// Masquerading and published ports.
    Nat,
    /// Limits of what a pod receives.
    TokenBucket,
    /// Limits of what a pod sends.
    Redirection,
    /// The filter of what a pod sends by the addresses of others, at the host end of its veth.
    SourceFilter,
}

impl Feature {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 8] = [
        Self::Veth,
        Self::Vxlan,
        Self::Nftables,
        Self::Fib,
        Self::Nat,
        Self::TokenBucket,
        Self::Redirection,
        Self::SourceFilter,
    ];
}

/// What became of each.
#[derive(Debug)]
pub struct Trial {
    /// In the order of [`Feature::ALL`].
    pub outcomes: Vec<(Feature, Result<(), Error>)>,
}

/// Tries everything. The outer error: there was nowhere to try it.
pub fn all() -> Result<Trial, Error> {
    in_throw_away(|| {
        let outcomes = Feature::ALL.map(|feature| (feature, attempt(feature)));
        Trial { outcomes: outcomes.into() }
    })
}

const FILTERS: &str = "
table inet twill_trial {
    chain forward { type filter hook forward priority filter; policy accept; ct state established accept; }
}
";
const FIB: &str = "
table inet twill_fib {
    chain prerouting {
        type filter hook prerouting priority raw; policy accept;
        fib daddr type != local return
        fib saddr . iif oif 0 drop
    }
}
";
const NAT: &str = "
table inet twill_nat {
    map ports { type inet_service : ipv4_addr . inet_service; }
    chain prerouting {
        type nat hook prerouting priority dstnat + 5; policy accept;
        dnat ip to tcp dport map @ports
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        meta nfproto { ipv4, ipv6 } masquerade
    }
}
";

fn attempt(feature: Feature) -> Result<(), Error> {
    match feature {
        Feature::Veth => pair().map(drop),
        Feature::Vxlan => vxlan(),
        Feature::Nftables => nft::change("try filters", FILTERS),
        Feature::Fib => nft::change("try rules that ask the routing table", FIB),
        Feature::Nat => nft::change("try address translation", NAT),
        Feature::TokenBucket => {
            let (mut netlink, device) = device(name("lo"))?;
            netlink.apply(&[traffic::shape(device, BUCKET)])
        }
        Feature::Redirection => redirection(),
        Feature::SourceFilter => {
            let (_, device) = device(name("lo"))?;
            in_order(&source::limit(device, &Sources(BTreeSet::new())))
        }
    }
}

const BUCKET: Bucket = Bucket { rate: 1_000_000, burst: 10_000 };

fn name(text: &str) -> IfName {
    IfName::new(text).expect("a constant is a valid name")
}

fn device(name: IfName) -> Result<(Netlink, Device), Error> {
    let mut netlink = Netlink::open()?;
    let seen = link::by_name(&mut netlink, &name)?;
    let seen = seen.ok_or_else(|| Error::NoDevice { attempt: "try it out".to_owned(), device: name.to_string() })?;
    Ok((netlink, Device { index: seen.index, name }))
}

/// One end of a pair, both in this namespace. A second pair is refused, as a name that is taken.
fn pair() -> Result<Device, Error> {
    let end = |text, last| VethEnd { name: name(text), mac: MacAddr([2, 0, 0, 0, 0, last]), index: 0 };
    let veth = Veth {
        host: end("trial0", 1),
        peer: end("trial1", 2),
        mtu: 1500,
        alias: None,
        ipv4: Vec::new(),
        sources: None,
    };
    veth.make(&mut Netlink::open()?, &NetNs::current()?)?;
    Ok(device(name("trial0"))?.1)
}

fn vxlan() -> Result<(), Error> {
    let link = Link {
        name: name("trial.vx"),
        kind: LinkKind::Vxlan { vni: 1, port: 4789, local: IpAddr::from([127, 0, 0, 1]) },
        mac: MacAddr([2, 0, 0, 0, 0, 3]),
        mtu: 1450,
    };
    in_order(&link::create_vxlan(&link))
}

fn redirection() -> Result<(), Error> {
    let ifb = name("trial.ifb");
    in_order(&link::create_ifb(ifb, 1500, "trial"))?;
    // Not the other way round, as with pods: each trial has a device of its own to try it on.
    let (_, from) = device(ifb)?;
    let (_, to) = device(name("lo"))?;
    in_order(&[tc::hooks(from), traffic::redirect(from, to)])
}

/// One by one, up to the first refusal.
fn in_order(requests: &[Request]) -> Result<(), Error> {
    let mut netlink = Netlink::open()?;
    requests.iter().try_for_each(|request| netlink.apply(std::slice::from_ref(request)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_runs_the_tests_can_everything_and_nothing_is_left_of_the_trial() {
        if !twill_testkit::is_root("making a network namespace") || !twill_testkit::has_program("nft") {
            return;
        }
        let trial = all().unwrap();
        for (feature, outcome) in &trial.outcomes {
            assert!(outcome.is_ok(), "{feature:?}: {outcome:?}");
        }
        let left = link::by_name(&mut Netlink::open().unwrap(), &name("trial0")).unwrap();
        assert_eq!(left, None);
    }
}
