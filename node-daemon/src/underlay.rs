//! The underlay as it stands: which interfaces carry traffic between nodes, with which addresses and MTU.
//!
//! Observed anew in each pass of the reconciler, so that whatever changes is followed without a restart: another address,
//! another MTU, another name. What the operator said ([`UnderlayConf`]) is asked first: an interface that is up and has an
//! address of the family, what is known of it before what else it has ([`select`]). Where that gives nothing, what was there goes on
//! as long as its interface has the address, whatever it is called by now; or is down, where it was there last and there is nothing
//! else. For then nothing is gained by giving it up: while an interface is down no packet passes, and an address that is published
//! anew each time is programmed by every other node. Where the other family has an interface of its own that is up, others reach the
//! node by that.

mod announcing;
mod select;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_cluster::record;
use twill_conf::node::{Pattern, UnderlayChoice, UnderlayConf};
use twill_fabric::family::Family;
use twill_fabric::{Side, Underlay};
use twill_linux::table::{self, SeenAddress, SeenLink, route};
use twill_linux::{IfName, Netlink};

pub use announcing::Announcer;
use select::{End, Offer, Scene};

/// Why there is no underlay at the moment.
#[derive(Debug, thiserror::Error)]
pub enum NoUnderlay {
    /// None was named, and there is no default route.
    #[error("there is no default route to tell the underlay interface by: name it with --underlay")]
    NoDefaultRoute,
    /// None was named, and what was there is left by the other family's default route.
    #[error(
        "there is no default route of IPv4, and that of IPv6 leads out of {}, which would change the IPv4 address of the node: name the \
         underlay interface with --underlay", names(.0)
    )]
    DefaultElsewhere(Vec<IfName>),
    /// The named one is not there.
    #[error("the underlay interface {0} does not exist")]
    NoInterface(UnderlayChoice),
    /// No name fits.
    #[error("no interface has a name that fits the underlay's, {0}")]
    NoMatch(UnderlayChoice),
    /// Nothing leads there, or the cluster's own routes do.
    #[error("no interface leads to {0}, by which the underlay is to be told, or the cluster's own only")]
    NoWay(IpAddr),
    /// None of them is up with an address that other nodes could send to.
    #[error("of the interfaces that the underlay may be, none is up with a global address of its own: {}", names(.0))]
    NoAddress(Vec<IfName>),
    /// The kernel would not tell.
    #[error(transparent)]
    Kernel(#[from] twill_linux::Error),
}

fn names(devices: &[IfName]) -> String {
    devices.iter().map(IfName::to_string).collect::<Vec<_>>().join(", ")
}

/// Observes the underlay, and remembers what it was.
#[derive(Debug)]
pub struct Observer {
    conf: UnderlayConf,
    /// What each family had when it last had something: taken up again where it comes back.
    known: Underlay,
    /// As it was observed last.
    last: Underlay,
    /// The numbers of interfaces that have had an IPv4 address: a lease that ends for a moment makes none of another kind.
    with_ipv4: BTreeSet<u32>,
    /// What the node's record says was looked at.
    recalled: bool,
}

/// What is there, and what an operator should know of it.
#[derive(Debug)]
pub struct Observed {
    /// With at least one side.
    pub underlay: Underlay,
    /// A sentence for each thing that is not as the configuration has it.
    pub problems: Vec<String>,
}

impl Observer {
    /// Nothing is known yet.
    pub fn new(conf: UnderlayConf) -> Self {
        let (known, last) = (Underlay::default(), Underlay::default());
        Self { conf, known, last, with_ipv4: BTreeSet::new(), recalled: false }
    }

    /// As it was last; `None` where there never was one in this run.
    pub fn last(&self) -> Option<Underlay> {
        Some(self.last.clone()).filter(|last| last.sides().next().is_some())
    }

    /// Observes the underlay among these links. `published`: what the node's record says, once that is known.
    pub fn observe(
        &mut self,
        netlink: &mut Netlink,
        links: &[SeenLink],
        published: Option<&record::Underlay>,
    ) -> Result<Observed, NoUnderlay> {
        let addresses = table::addresses(netlink)?;
        self.with_ipv4.retain(|index| links.iter().any(|link| link.index == *index));
        self.with_ipv4.extend(addresses.iter().filter(|seen| seen.cidr.is_ipv4()).map(|seen| seen.index));
        if let Some(published) = published.filter(|_| !self.recalled) {
            self.recalled = true;
            self.recall(published, links, &addresses);
        }
        let mut problems = Vec::new();
        let mut found = Vec::new();
        let mut without = Vec::new();
        let groups = groups(&self.conf);
        for (choice, families) in &groups {
            let scene = Scene { links, addresses: &addresses, known: &self.known, last: &self.last, families };
            match ends(netlink, *choice, &scene) {
                Ok(ends) => found.extend(ends),
                Err(NoUnderlay::Kernel(error)) => return Err(error.into()),
                Err(why) => without.push((scene, why)),
            }
        }
        let is_alone = found.is_empty() && without.iter().all(|(scene, _)| scene.held(false).is_empty());
        for (scene, why) in &without {
            let held = scene.held(is_alone);
            let what = held.iter().map(|end| format!("{} on {}", end.cidr, end.link.name)).collect::<Vec<_>>();
            let of = match scene.families[..] {
                [Family::V4] => "IPv4: ",
                [Family::V6] => "IPv6: ",
                _ => "",
            };
            problems.push(match what.is_empty() {
                true => format!("{of}{why}"),
                false => format!("{of}{why}; what was known goes on: {}", what.join(", ")),
            });
            found.extend(held);
        }
        if found.is_empty()
            && let Some((_, why)) = without.into_iter().next()
        {
            return Err(why);
        }
        let side = |ipv6| found.iter().find(|end| end.cidr.is_ipv6() == ipv6).map(|end| self.side(end));
        let underlay = Underlay { ipv4: side(false), ipv6: side(true) };
        self.remember(underlay.clone());
        self.last = underlay.clone();
        Ok(Observed { underlay, problems })
    }

    /// What an earlier run took is known to this one where it still stands: a restart is no reason for another address.
    fn recall(&mut self, published: &record::Underlay, links: &[SeenLink], addresses: &[SeenAddress]) {
        let stands = |cidr: Option<IpNetwork>| {
            let seen = addresses.iter().find(|seen| Some(seen.cidr) == cidr && seen.global && seen.usable)?;
            let link = links.iter().find(|link| link.index == seen.index)?;
            Some(self.side(&End { link, cidr: seen.cidr }))
        };
        let published = Underlay { ipv4: stands(published.ipv4), ipv6: stands(published.ipv6) };
        self.last.ipv4 = self.last.ipv4.take().or(published.ipv4.clone());
        self.last.ipv6 = self.last.ipv6.take().or(published.ipv6.clone());
        self.remember(published);
    }

    fn side(&self, end: &End<'_>) -> Side {
        let device = end.link.name;
        Side {
            device,
            index: end.link.index,
            cidr: end.cidr,
            mtu: end.link.mtu,
            rp_filter: filters_reverse_paths(device),
            bare: !self.with_ipv4.contains(&end.link.index),
            accept_ra: sysctl(&format!("net/ipv6/conf/{device}/accept_ra")) > 0,
        }
    }

    /// What a family had before stays known while it has nothing, so that it takes up the same when that is back.
    fn remember(&mut self, Underlay { ipv4, ipv6 }: Underlay) {
        self.known.ipv4 = ipv4.or(self.known.ipv4.take());
        self.known.ipv6 = ipv6.or(self.known.ipv6.take());
    }
}

/// What is said for a family alone is one interface; what is said for both is one interface for all that is left.
fn groups(conf: &UnderlayConf) -> Vec<(Option<&UnderlayChoice>, Vec<Family>)> {
    let own = [(Family::V4, &conf.ipv4), (Family::V6, &conf.ipv6)];
    let alone = own.iter().filter_map(|(family, choice)| Some((Some(choice.as_ref()?), vec![*family])));
    let shared = own.iter().filter(|(_, choice)| choice.is_none()).map(|(family, _)| *family).collect::<Vec<_>>();
    let shared = (!shared.is_empty()).then_some((conf.both.as_ref(), shared));
    alone.chain(shared).collect()
}

fn ends<'a>(
    netlink: &mut Netlink,
    choice: Option<&UnderlayChoice>,
    scene: &Scene<'a>,
) -> Result<Vec<End<'a>>, NoUnderlay> {
    let offer = match choice {
        None => default(netlink, scene)?,
        Some(UnderlayChoice::Name(name)) => Offer::of(scene.links.iter().filter(|l| l.name.as_str() == name.as_str())),
        Some(UnderlayChoice::Pattern(pattern)) => fitting(pattern, scene),
        Some(UnderlayChoice::To(address)) => towards(netlink, *address, scene)?,
    };
    match (scene.take(&offer), choice) {
        (ends, _) if !ends.is_empty() => Ok(ends),
        (_, Some(name @ UnderlayChoice::Name(_))) if offer.links.is_empty() => {
            Err(NoUnderlay::NoInterface(name.clone()))
        }
        (_, Some(pattern)) if offer.links.is_empty() => Err(NoUnderlay::NoMatch(pattern.clone())),
        _ => Err(NoUnderlay::NoAddress(offer.names())),
    }
}

/// The interface of the default route, IPv4's first; of several that are equal each.
fn default<'a>(netlink: &mut Netlink, scene: &Scene<'a>) -> Result<Offer<'a>, NoUnderlay> {
    for ipv6 in [false, true] {
        let routes = table::default_routes(netlink, ipv6)?;
        let offer = Offer::of(routes.into_iter().filter_map(|(index, _)| scene.link(index)));
        if offer.links.is_empty() {
            continue;
        }
        let leaves = ipv6 && scene.leaves_ipv4(&offer);
        return if leaves { Err(NoUnderlay::DefaultElsewhere(offer.names())) } else { Ok(offer) };
    }
    Err(NoUnderlay::NoDefaultRoute)
}

/// Those whose name fits, without our own, which have addresses too.
fn fitting<'a>(pattern: &Pattern, scene: &Scene<'a>) -> Offer<'a> {
    let fits = |link: &&SeenLink| pattern.matches(link.name.as_str()) && !is_ours(link.name);
    let mut links: Vec<&SeenLink> = scene.links.iter().filter(fits).collect();
    links.sort_by(|one, other| select::by_name(one.name.as_str(), other.name.as_str()));
    Offer::of(links)
}

/// The one that the kernel sends to `address` by, with its choice of source; or the one that has the address, since all
/// nodes may be told the same address, which is then one node's own.
fn towards<'a>(netlink: &mut Netlink, address: IpAddr, scene: &Scene<'a>) -> Result<Offer<'a>, NoUnderlay> {
    let way = route::to(netlink, address)?;
    let has = |seen: &&SeenAddress| seen.cidr.ip() == address;
    let index = way.and_then(|way| match way.local {
        true => scene.addresses.iter().find(has).map(|seen| seen.index),
        false => Some(way.index),
    });
    let link = index.and_then(|index| scene.link(index)).filter(|link| !is_ours(link.name));
    let link = link.ok_or(NoUnderlay::NoWay(address))?;
    Ok(Offer { source: way.and_then(|way| way.source), ..Offer::of([link]) })
}

fn is_ours(name: IfName) -> bool {
    twill_fabric::backend::devices().contains(&name)
}

/// Whether an interface filters reverse paths, strictly or loosely: by the greater of `all` and its own
/// (Documentation/networking/ip-sysctl.rst, `rp_filter`).
pub fn filters_reverse_paths(device: IfName) -> bool {
    ["all", device.as_str()].iter().any(|place| sysctl(&format!("net/ipv4/conf/{place}/rp_filter")) > 0)
}

/// A number below /proc/sys, 0 where it is not there (IPv6 disabled).
fn sysctl(path: &str) -> i32 {
    std::fs::read_to_string(format!("/proc/sys/{path}")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_for_one_family_wins_there_and_the_rest_is_one_interface() {
        let choice = |text: &str| Some(text.parse::<UnderlayChoice>().unwrap());
        let both = UnderlayConf { both: choice("en*"), ..UnderlayConf::default() };
        assert_eq!(groups(&both), [(both.both.as_ref(), vec![Family::V4, Family::V6])]);
        let ipv6 = UnderlayConf { ipv6: choice("eth1"), ..UnderlayConf::default() };
        assert_eq!(groups(&ipv6), [(ipv6.ipv6.as_ref(), vec![Family::V6]), (None, vec![Family::V4])]);
        let each = UnderlayConf { ipv4: choice("eth1"), ipv6: choice("eth2"), both: choice("eth0") };
        assert_eq!(groups(&each), [(each.ipv4.as_ref(), vec![Family::V4]), (each.ipv6.as_ref(), vec![Family::V6])]);
    }
}
