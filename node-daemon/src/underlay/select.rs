//! Which of several interfaces and addresses is taken: rules on what a dump showed, without I/O.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_fabric::family::Family;
use twill_fabric::{Side, Underlay};
use twill_linux::IfName;
use twill_linux::table::{SeenAddress, SeenLink};

/// What is there, and what for.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    /// All links.
    pub(super) links: &'a [SeenLink],
    /// All addresses.
    pub(super) addresses: &'a [SeenAddress],
    /// What each family had when it last had something.
    pub(super) known: &'a Underlay,
    /// What was taken last.
    pub(super) last: &'a Underlay,
    /// For which families an interface is wanted.
    pub(super) families: &'a [Family],
}

/// The interfaces that the configuration admits, best first.
#[derive(Debug, Default)]
pub(super) struct Offer<'a> {
    pub(super) links: Vec<&'a SeenLink>,
    /// The address that the kernel chooses as source.
    pub(super) source: Option<IpAddr>,
}

/// An address, and the interface that it is sent from by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End<'a> {
    pub(super) link: &'a SeenLink,
    pub(super) cidr: IpNetwork,
}

impl<'a> Offer<'a> {
    pub(super) fn of(links: impl IntoIterator<Item = &'a SeenLink>) -> Self {
        Self { links: links.into_iter().collect(), source: None }
    }

    pub(super) fn names(&self) -> Vec<IfName> {
        self.links.iter().map(|link| link.name).collect()
    }
}

impl<'a> Scene<'a> {
    /// The link with that number.
    pub(super) fn link(&self, index: u32) -> Option<&'a SeenLink> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The ends on the first interface that is up and has an address of one of the families; the known one comes first,
    /// so that no other takes its place while it is there.
    pub(super) fn take(&self, offer: &Offer<'a>) -> Vec<End<'a>> {
        let is_known = |link: &SeenLink| self.known_sides().any(|side| side.index == link.index);
        let mut links: Vec<&SeenLink> = offer.links.iter().copied().filter(|link| link.up).collect();
        links.sort_by_key(|link| !is_known(link));
        let ends = |link| self.families.iter().filter_map(move |family| self.end(link, offer.source, *family));
        links.into_iter().map(|link| ends(link).collect::<Vec<_>>()).find(|ends| !ends.is_empty()).unwrap_or_default()
    }

    /// What was taken and stands: what is known, where the interface has the address still; and what was taken last on an interface
    /// that is down, where there is nothing else (`alone`). What was given up before comes back by its address alone.
    pub(super) fn held(&self, alone: bool) -> Vec<End<'a>> {
        let held = |family: &Family| {
            let is_up = |side: &Side| self.link(side.index).is_some_and(|link| link.up);
            let side = match self.known.side(*family)? {
                known if is_up(known) => Some(known).filter(|known| self.has(known)),
                _ => self.last.side(*family).filter(|last| alone && !is_up(last)),
            }?;
            Some(End { link: self.link(side.index)?, cidr: side.cidr })
        };
        self.families.iter().filter_map(held).collect()
    }

    /// Whether the node would give up an IPv4 address that stands for these interfaces: a route that is lost for a moment, as
    /// while a lease is renewed, is no reason for that.
    pub(super) fn leaves_ipv4(&self, offer: &Offer<'_>) -> bool {
        let of_ipv4 = self.held(false).into_iter().filter(|end| end.cidr.is_ipv4()).map(|end| end.link.index);
        of_ipv4.into_iter().any(|index| offer.links.iter().all(|link| link.index != index))
    }

    fn has(&self, side: &Side) -> bool {
        let is_its = |seen: &SeenAddress| seen.index == side.index && seen.cidr == side.cidr && seen.usable;
        self.addresses.iter().any(is_its)
    }

    fn known_sides(&self) -> impl Iterator<Item = &'a Side> {
        self.families.iter().filter_map(|family| self.known.side(*family))
    }

    /// The address of a family that is taken of an interface: the known one before the kernel's choice, which changes with
    /// each new address of IPv6, and that before others, in their order.
    ///
    /// One that spans no subnet (/32, /128) comes last: keepalived adds such addresses to whichever node is master, and
    /// one that moves between nodes must never be a node's own. On an interface that is known with one that does, it is
    /// not taken at all: the other may be on its way back. The kernel's choice may be on another interface, loopback
    /// where routing reaches the host itself, if the one that is sent by has none.
    fn end(&self, link: &'a SeenLink, source: Option<IpAddr>, family: Family) -> Option<End<'a>> {
        let known = self.known.side(family);
        let is_known = |cidr: IpNetwork| known.is_some_and(|known| known.cidr == cidr);
        let had_subnet = known.is_some_and(|known| known.index == link.index && !spans_nothing(known.cidr));
        let is_source = |cidr: IpNetwork| Some(cidr.ip()) == source;
        let usable = self.addresses.iter().filter(|seen| Family::of_prefix(seen.cidr) == family);
        let usable = usable.filter(|seen| seen.index == link.index || is_source(seen.cidr));
        let usable = usable.filter(|seen| seen.global && seen.usable && (!seen.secondary || is_known(seen.cidr)));
        let usable = usable.filter(|seen| !(had_subnet && spans_nothing(seen.cidr)));
        let taken = usable
            .min_by_key(|seen| (spans_nothing(seen.cidr), !is_known(seen.cidr), !is_source(seen.cidr), seen.cidr))?;
        Some(End { link, cidr: taken.cidr })
    }
}

fn spans_nothing(cidr: IpNetwork) -> bool {
    cidr.prefix() == if cidr.is_ipv6() { 128 } else { 32 }
}

/// The order of names as people count: en2 before en10.
pub(super) fn by_name(one: &str, other: &str) -> Ordering {
    let (a, b) = (one.as_bytes(), other.as_bytes());
    match (a.first(), b.first()) {
        (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
            let ((x, rest), (y, other_rest)) = (number(one), number(other));
            x.cmp(&y).then_with(|| by_name(rest, other_rest))
        }
        (Some(x), Some(y)) if x == y && one.is_char_boundary(1) => by_name(&one[1..], &other[1..]),
        _ => one.cmp(other),
    }
}

/// The number that a text begins with, and what follows.
fn number(text: &str) -> (u64, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    // A name has 15 bytes at most, so the number fits.
    (text[..end].parse().unwrap_or(u64::MAX), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Family; 2] = Family::ALL;

    fn link(index: u32, name: &str) -> SeenLink {
        let name = IfName::new(name).unwrap();
        SeenLink { index, name, kind: None, mac: None, mtu: 1500, up: true, running: true, carrier: true, alias: None }
    }

    fn down(index: u32, name: &str) -> SeenLink {
        SeenLink { up: false, ..link(index, name) }
    }

    fn seen(index: u32, cidr: &str) -> SeenAddress {
        SeenAddress::plain(index, cidr.parse().unwrap())
    }

    fn known(ends: &[(u32, &str)]) -> Underlay {
        let mut underlay = Underlay::default();
        for (index, cidr) in ends {
            let cidr: IpNetwork = cidr.parse().unwrap();
            let device = IfName::new("was").unwrap();
            let side = Side { device, index: *index, cidr, mtu: 1500, rp_filter: false, bare: false, accept_ra: false };
            *if cidr.is_ipv6() { &mut underlay.ipv6 } else { &mut underlay.ipv4 } = Some(side);
        }
        underlay
    }

    /// What is taken of all links in their order, as in "eth0 192.0.2.7/24".
    fn taken(links: &[SeenLink], addresses: &[SeenAddress], known: &Underlay, source: Option<&str>) -> Vec<String> {
        let scene = Scene { links, addresses, known, last: known, families: &BOTH };
        let source = source.map(|source| source.parse().unwrap());
        text(&scene.take(&Offer { source, ..Offer::of(links) }))
    }

    fn held(links: &[SeenLink], addresses: &[SeenAddress], last: &Underlay, alone: bool) -> Vec<String> {
        text(&Scene { links, addresses, known: last, last, families: &BOTH }.held(alone))
    }

    /// Where nothing was taken last.
    fn comes_back(links: &[SeenLink], addresses: &[SeenAddress], known: &Underlay) -> Vec<String> {
        text(&Scene { links, addresses, known, last: &Underlay::default(), families: &BOTH }.held(true))
    }

    fn text(ends: &[End<'_>]) -> Vec<String> {
        ends.iter().map(|end| format!("{} {}", end.link.name, end.cidr)).collect()
    }

    #[test]
    fn an_ipv4_address_that_stands_is_not_given_up_for_the_default_route_of_ipv6() {
        let links = [link(2, "eth0"), link(3, "eth1")];
        let leaves = |links: &[SeenLink], addresses: &[SeenAddress], known: &Underlay, to: &SeenLink| {
            Scene { links, addresses, known, last: known, families: &BOTH }.leaves_ipv4(&Offer::of([to]))
        };
        let both = known(&[(2, "192.0.2.7/24"), (2, "fd00::7/64")]);
        let addresses = [seen(2, "192.0.2.7/24"), seen(2, "fd00::7/64"), seen(3, "fd01::7/64")];
        assert!(leaves(&links, &addresses, &both, &links[1]));
        assert!(!leaves(&links, &addresses, &both, &links[0]), "it is the same interface");
        assert!(!leaves(&links, &addresses[1..], &both, &links[1]), "the address is gone");
        assert!(!leaves(&[down(2, "eth0"), link(3, "eth1")], &addresses, &both, &links[1]), "nothing passes there");
        assert!(!leaves(&links, &addresses, &known(&[(2, "fd00::7/64")]), &links[1]), "there was no IPv4");
    }

    #[test]
    fn a_keepalived_address_is_not_taken_beside_another_one() {
        let secondary = SeenAddress { secondary: true, ..seen(2, "192.0.2.8/24") };
        let addresses = [seen(2, "192.0.2.200/32"), seen(2, "192.0.2.7/24"), secondary, seen(3, "192.0.2.1/24")];
        assert_eq!(taken(&[link(2, "eth0")], &addresses, &known(&[]), None), ["eth0 192.0.2.7/24"]);
        let as_source = taken(&[link(2, "eth0")], &addresses, &known(&[]), Some("192.0.2.200"));
        assert_eq!(as_source, ["eth0 192.0.2.7/24"], "nor where routes choose it as their source");
    }

    #[test]
    fn a_keepalived_address_that_is_left_alone_for_a_moment_is_not_taken() {
        let left = [seen(2, "192.0.2.200/32")];
        assert!(taken(&[link(2, "eth0")], &left, &known(&[(2, "192.0.2.7/24")]), None).is_empty());
        assert_eq!(taken(&[link(2, "eth0")], &left, &known(&[(3, "192.0.2.7/24")]), None), ["eth0 192.0.2.200/32"]);
    }

    #[test]
    fn a_cloud_address_that_spans_no_subnet_serves_where_there_is_no_other() {
        let first = [seen(2, "10.0.0.7/32")];
        assert_eq!(taken(&[link(2, "eth0")], &first, &known(&[]), None), ["eth0 10.0.0.7/32"]);
        let next = [seen(2, "10.0.0.8/32")];
        assert_eq!(taken(&[link(2, "eth0")], &next, &known(&[(2, "10.0.0.7/32")]), None), ["eth0 10.0.0.8/32"]);
    }

    #[test]
    fn an_address_that_is_known_is_kept_when_another_comes_and_given_up_when_it_goes() {
        let before = known(&[(2, "2001:db8::7/64")]);
        let (old, new) = (seen(2, "2001:db8::7/64"), seen(2, "2001:db8::2/64"));
        let eth0 = [link(2, "eth0")];
        assert_eq!(taken(&eth0, &[new.clone(), old.clone()], &before, None), ["eth0 2001:db8::7/64"]);
        assert_eq!(taken(&eth0, std::slice::from_ref(&new), &before, None), ["eth0 2001:db8::2/64"]);
        let late = SeenAddress { secondary: true, ..old };
        assert_eq!(taken(&eth0, &[new, late], &before, None), ["eth0 2001:db8::7/64"], "also as a secondary one");
    }

    #[test]
    fn of_several_interfaces_the_first_that_is_up_with_an_address_is_taken_and_then_kept() {
        let addresses = [seen(3, "192.0.2.3/24"), seen(4, "192.0.2.4/24"), seen(4, "2001:db8::4/64")];
        let links = [down(2, "en1"), link(3, "en2"), link(4, "en10")];
        assert_eq!(taken(&links, &addresses, &known(&[]), None), ["en2 192.0.2.3/24"]);
        let kept = taken(&links, &addresses, &known(&[(4, "192.0.2.9/24")]), None);
        assert_eq!(kept, ["en10 192.0.2.4/24", "en10 2001:db8::4/64"]);
        let links = [link(3, "en2"), down(4, "en10")];
        let moved = taken(&links, &addresses, &known(&[(4, "192.0.2.4/24")]), None);
        assert_eq!(moved, ["en2 192.0.2.3/24"], "the known one is down");
    }

    #[test]
    fn the_kernels_choice_of_source_comes_before_others_but_not_before_the_known_address() {
        let addresses = [seen(2, "192.0.2.3/24"), seen(2, "198.51.100.3/24"), seen(1, "203.0.113.7/32")];
        let eth0 = [link(2, "eth0")];
        let source = Some("198.51.100.3");
        assert_eq!(taken(&eth0, &addresses, &known(&[]), source), ["eth0 198.51.100.3/24"]);
        assert_eq!(taken(&eth0, &addresses, &known(&[(2, "192.0.2.3/24")]), source), ["eth0 192.0.2.3/24"]);
        let unnumbered = taken(&eth0, &addresses[2..], &known(&[]), Some("203.0.113.7"));
        assert_eq!(unnumbered, ["eth0 203.0.113.7/32"], "loopback's, where the interface has none");
    }

    #[test]
    fn what_was_there_last_is_held_while_its_interface_is_down_or_has_the_address_under_whatever_name() {
        let before = known(&[(2, "192.0.2.7/24"), (2, "2001:db8::7/64")]);
        assert_eq!(held(&[down(2, "eth0")], &[], &before, true), ["eth0 192.0.2.7/24", "eth0 2001:db8::7/64"]);
        assert_eq!(held(&[link(2, "lan0")], &[seen(2, "192.0.2.7/24")], &before, true), ["lan0 192.0.2.7/24"]);
        assert!(held(&[link(3, "eth0")], &[seen(3, "192.0.2.7/24")], &before, true).is_empty(), "another interface");
    }

    #[test]
    fn what_was_given_up_comes_back_with_its_address_and_not_with_an_interface_that_is_down() {
        let before = known(&[(2, "192.0.2.7/24"), (2, "2001:db8::7/64")]);
        let tentative = SeenAddress { usable: false, ..seen(2, "2001:db8::7/64") };
        assert!(comes_back(&[link(2, "eth0")], &[tentative], &before).is_empty());
        assert_eq!(comes_back(&[link(2, "eth0")], &[seen(2, "2001:db8::7/64")], &before), ["eth0 2001:db8::7/64"]);
        assert!(comes_back(&[down(2, "eth0")], &[], &before).is_empty());
    }

    #[test]
    fn what_is_down_is_not_held_where_the_other_family_has_an_interface_of_its_own_that_is_up() {
        let before = known(&[(2, "192.0.2.7/24")]);
        assert!(held(&[down(2, "eth1")], &[], &before, false).is_empty());
        assert_eq!(held(&[link(2, "eth1")], &[seen(2, "192.0.2.7/24")], &before, false), ["eth1 192.0.2.7/24"]);
    }

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = ["eth10", "eth2", "eth", "en1", "eth2.7", "enp1s10", "enp1s9", "ä1"];
        names.sort_by(|one, other| by_name(one, other));
        assert_eq!(names, ["en1", "enp1s9", "enp1s10", "eth", "eth2", "eth2.7", "eth10", "ä1"]);
    }
}
