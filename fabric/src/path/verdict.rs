//! What answers, and their absence, mean: a pure function from what was heard to what an operator is told.
//!
//! By it the daemon's probe judges the ways between nodes, and `twillctl test` those between pods.

use std::io;
use std::net::IpAddr;

use nix::libc::{EACCES, EINVAL, EPERM};
use twill_cluster::record::Told;
use twill_conf::NodeName;

use super::{Inner, Target};

/// Which questions were answered by an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Through {
    /// A small ping.
    pub small: bool,
    /// A ping of the pods' MTU.
    pub full: bool,
    /// A datagram to a port that nobody listens at.
    pub refusal: bool,
}

/// What was heard of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// By its underlay address.
    pub outer: Through,
    /// Through the tunnel, where that is the way to its pods.
    pub inner: Option<Through>,
    /// Whereto the asking node has sent nothing, since its own kernel does not.
    pub no_way: Option<NoWay>,
}

/// An address to which a node's kernel sends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoWay {
    /// The address.
    pub to: IpAddr,
    /// What the kernel says to it: an errno.
    pub errno: i32,
    /// What it lacks.
    pub why: Why,
}

/// Why a kernel sends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is no route, or one that refuses.
    NoRoute,
    /// There is one, and the packet is not let out by it: EPERM is the node's own firewall.
    NotLetOut,
}

impl NoWay {
    /// Of an address, by what the kernel said: `no_route` where it has no way there, `not_let_out` where it has one.
    pub fn of(to: IpAddr, no_route: Option<i32>, not_let_out: Option<i32>) -> Option<Self> {
        let routed = no_route.map(|errno| Self { to, errno, why: Why::NoRoute });
        routed.or(not_let_out.map(|errno| Self { to, errno, why: Why::NotLetOut }))
    }

    /// What it means where nothing is answered.
    pub fn verdict(self) -> Verdict {
        match self.why {
            Why::NoRoute => Verdict::NoRoute(self),
            Why::NotLetOut => Verdict::NotLetOut(self),
        }
    }
}

/// How it is about the way to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is known to be wrong.
    Good,
    /// Nothing comes back by any way.
    Silent,
    /// What is sent as it is comes back, and nothing that is encapsulated.
    NotThrough,
    /// Nothing was sent: the asking node itself has no way there.
    NoRoute(NoWay),
    /// Nothing was sent: the asking node itself does not let it out.
    NotLetOut(NoWay),
    /// Only small packets come back.
    SmallOnly,
    /// Through the tunnel only what has its checksums by software comes back.
    Checksums,
}

/// What the kernel says of routes and rules of the types prohibit and blackhole (`fib_props` in net/ipv4/fib_semantics.c).
const IN_THE_WAY: [i32; 2] = [EACCES, EINVAL];

/// What [`Verdict::word`] may be.
pub const FINDINGS: [&str; 7] = [GOOD, "silent", "not_through", "small_only", "checksums", "no_route", "not_let_out"];
/// That of a way of which nothing is known to be wrong.
pub const GOOD: &str = "good";

impl Verdict {
    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => GOOD,
            Self::Silent => FINDINGS[1],
            Self::NotThrough => FINDINGS[2],
            Self::SmallOnly => FINDINGS[3],
            Self::Checksums => FINDINGS[4],
            Self::NoRoute(_) => FINDINGS[5],
            Self::NotLetOut(_) => FINDINGS[6],
        }
    }
}

impl Heard {
    /// What it means.
    pub fn verdict(&self) -> Verdict {
        let Self { outer, inner, no_way } = *self;
        let way = inner.unwrap_or(outer);
        let any = |through: Through| through.small || through.full || through.refusal;
        // What never left says nothing of the network.
        if let Some(no_way) = no_way.filter(|_| !any(way)) {
            return no_way.verdict();
        }
        match (way.small, inner) {
            (true, _) if !way.full => Verdict::SmallOnly,
            // Only where the same is answered beside the tunnel: a firewall of the node may refuse it in silence.
            (true, Some(inner)) if !inner.refusal && outer.refusal => Verdict::Checksums,
            (true, _) => Verdict::Good,
            // A node that answers no pings, but answers.
            (false, _) if any(way) => Verdict::Good,
            (false, Some(_)) if any(outer) => Verdict::NotThrough,
            (false, _) => Verdict::Silent,
        }
    }
}

/// The large packets that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// How long they are, in bytes.
    pub bytes: u32,
    /// Why they are as long, in words.
    pub why: &'static str,
}

impl Full {
    /// As long as the pods' MTU, in bytes, allows.
    pub fn mtu(bytes: u32) -> Self {
        Self { bytes, why: "the MTU of pods" }
    }
}

/// In words, with what to do: `me` has asked the target. Of what may be wrong with the target or the network, all who ask tell
/// alike, so that it is one problem of theirs.
pub fn tell(verdict: Verdict, me: &NodeName, target: &Target, full: Full) -> Told {
    let Full { bytes, why } = full;
    let Target { node, outer, inner } = target;
    let (overhead, port) = inner.map_or((0, 0), |Inner { overhead, port, .. }| (overhead, port));
    let (what, fix) = match verdict {
        Verdict::Good => (format!("{node} answers"), "nothing is to be done".to_owned()),
        Verdict::Silent => (
            format!("{node} ({outer}) does not answer, neither at its underlay address nor at its pods'"),
            format!(
                "is the machine on, and the network to it whole? One that answers no ping looks the same: icmp_echo_ignore_all on \
                 {node}, or a firewall"
            ),
        ),
        Verdict::NotThrough => (
            format!("{node} ({outer}) answers, but not through the tunnel: encapsulated packets do not arrive"),
            format!(
                "let UDP port {port} pass in every firewall on the way to {node}, and on both nodes; then compare vni and port \
                 of vxlan.twill on both, look at rp_filter of the interfaces between nodes, and try \
                 checksum_offload = \"off\"; 'twillctl trace' from a pod of the one to one of the other shows where it ends"
            ),
        ),
        Verdict::NoRoute(no_way) => return without_route(no_way, me, target),
        Verdict::NotLetOut(no_way) => return not_let_out(no_way, me, target),
        Verdict::SmallOnly => (
            format!("small packets to {node} ({outer}) come back, and those of {bytes} bytes, {why}, do not"),
            match overhead {
                0 => {
                    format!("the network between must carry {bytes} bytes; or set mtu in [backend] to what it carries")
                }
                _ => format!(
                    "the network between must carry {} bytes, {overhead} of them the tunnel's; or set mtu in [backend] to \
                     what it carries, less {overhead}",
                    bytes + overhead
                ),
            },
        ),
        Verdict::Checksums => (
            format!("pings to {node} ({outer}) come back through the tunnel, and UDP comes back beside it only"),
            format!(
                "either a network card computes wrong checksums in tunnels, and checksum_offload = \"off\" in [backend] helps; \
                 or a firewall on {node} drops UDP that comes by vxlan.twill"
            ),
        ),
    };
    Told { what, fix }
}

/// Where the asking node has no route.
fn without_route(NoWay { to, errno, .. }: NoWay, me: &NodeName, target: &Target) -> Told {
    let Target { node, outer, .. } = target;
    let cause = io::Error::from_raw_os_error(errno);
    if to == *outer {
        return without_way_to_node(me, target, &cause);
    }
    let seen = format!("'twillctl trace' from a pod on {me} to one on {node} shows which route is taken");
    let what =
        format!("this node has no route to the pods of {node} ({outer}): the kernel sends nothing to {to}: {cause}");
    // Routes of Twill's that refuse are of the type unreachable. These errors are those of others.
    let fix = match IN_THE_WAY.contains(&errno) {
        true => format!(
            "a route or a policy rule of somebody else on {me} is in the way, of the type blackhole or prohibit: {seen}; remove it where \
             it is made, or move the pool out of its way"
        ),
        false => format!(
            "twilld puts the route back by itself; if that is told again and again, something on {me} takes it away: 'ip monitor route' \
             there shows when, 'twillctl doctor' names programs that may (NetworkManager, systemd-networkd), and {seen}"
        ),
    };
    Told { what, fix }
}

/// Where the asking node has a route, and does not let packets out by it.
fn not_let_out(NoWay { to, errno, .. }: NoWay, me: &NodeName, Target { node, outer, .. }: &Target) -> Told {
    let cause = io::Error::from_raw_os_error(errno);
    let whom = if to == *outer { format!("{node} itself") } else { format!("the pods of {node} ({outer})") };
    match errno {
        // What netfilter drops at the output hook (NF_DROP), conntrack for want of room among it.
        EPERM => Told {
            what: format!(
                "a firewall of this node itself drops what it sends to {whom}: the kernel sends nothing to {to}: {cause}"
            ),
            fix: format!(
                "let it pass in the chains at the output and the postrouting hook on {me}, which 'nft list ruleset' and 'iptables-save' there \
                 show; 'twillctl doctor --node {me}' says whether the table of connections is full, which looks the same, as does a program of \
                 BPF at twilld's control group"
            ),
        },
        _ => Told {
            what: format!(
                "this node does not send what is for {whom}, though it has a route: the kernel says of {to}: {cause}"
            ),
            fix: format!(
                "'ip route get {to}' on {me} names the interface: 'ip -s link show' and 'tc -s qdisc show' there say whether it is up and \
                 what it drops"
            ),
        },
    }
}

/// Where the asking node has no way to the other one's underlay address.
fn without_way_to_node(me: &NodeName, Target { node, outer, .. }: &Target, cause: &io::Error) -> Told {
    Told {
        what: format!("this node has no route to {node} itself: the kernel sends nothing to {outer}: {cause}"),
        fix: format!(
            "'ip route get {outer}' on {me} says the same: is the interface between nodes up, with its address, and is there a route \
             from its subnet to that of {node}? Twill makes none between nodes"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Through = Through { small: true, full: true, refusal: true };
    const NOTHING: Through = Through { small: false, full: false, refusal: false };

    fn tunnelled(outer: Through, inner: Through) -> Verdict {
        Heard { outer, inner: Some(inner), no_way: None }.verdict()
    }

    fn plain(outer: Through) -> Verdict {
        Heard { outer, inner: None, no_way: None }.verdict()
    }

    #[test]
    fn each_fault_has_its_own_verdict() {
        assert_eq!(tunnelled(ALL, ALL), Verdict::Good);
        assert_eq!(tunnelled(ALL, NOTHING), Verdict::NotThrough);
        assert_eq!(tunnelled(NOTHING, NOTHING), Verdict::Silent);
        assert_eq!(tunnelled(ALL, Through { full: false, ..ALL }), Verdict::SmallOnly);
        assert_eq!(tunnelled(ALL, Through { refusal: false, ..ALL }), Verdict::Checksums);
        assert_eq!(plain(ALL), Verdict::Good);
        assert_eq!(plain(Through { full: false, ..ALL }), Verdict::SmallOnly);
        assert_eq!(plain(NOTHING), Verdict::Silent);
    }

    const OUTER: &str = "192.0.2.2";
    const INNER: &str = "10.42.0.1";

    fn no_way(to: &str) -> NoWay {
        // EHOSTUNREACH, as an unreachable route gives it.
        NoWay { to: to.parse().unwrap(), errno: 113, why: Why::NoRoute }
    }

    #[test]
    fn what_never_left_the_asking_node_is_no_fault_of_the_network() {
        let inner = Heard { outer: ALL, inner: Some(NOTHING), no_way: Some(no_way(INNER)) };
        assert_eq!(inner.verdict(), Verdict::NoRoute(no_way(INNER)), "not what a firewall between would look like");
        let outer = Heard { outer: NOTHING, inner: Some(NOTHING), no_way: Some(no_way(OUTER)) };
        assert_eq!(outer.verdict(), Verdict::NoRoute(no_way(OUTER)));
        assert_eq!(Heard { inner: None, ..outer }.verdict(), Verdict::NoRoute(no_way(OUTER)));
        assert_eq!(Heard { inner: Some(ALL), ..outer }.verdict(), Verdict::Good, "what is answered has a way");
        let kept = NoWay { errno: EPERM, why: Why::NotLetOut, ..no_way(INNER) };
        assert_eq!(Heard { no_way: Some(kept), ..inner }.verdict(), Verdict::NotLetOut(kept), "nor a silent machine");
    }

    #[test]
    fn every_verdict_has_a_word_of_its_own() {
        let no_way = no_way(INNER);
        let all = [
            Verdict::Good,
            Verdict::Silent,
            Verdict::NotThrough,
            Verdict::SmallOnly,
            Verdict::Checksums,
            Verdict::NoRoute(no_way),
            Verdict::NotLetOut(no_way),
        ];
        assert_eq!(all.map(Verdict::word), FINDINGS);
    }

    #[test]
    fn a_route_that_is_missing_is_told_by_the_end_to_which_it_leads() {
        let inner = Inner { address: INNER.parse().unwrap(), overhead: 50, port: 4789 };
        let target = Target { node: "n2".parse().unwrap(), outer: OUTER.parse().unwrap(), inner: Some(inner) };
        let me = "n1".parse().unwrap();
        let told = |to| tell(Verdict::NoRoute(no_way(to)), &me, &target, Full::mtu(1450));
        let (pods, node) = (told(INNER), told(OUTER));
        assert!(pods.what.contains("no route to the pods of n2") && pods.what.contains("No route to host"), "{pods:?}");
        assert!(pods.fix.contains("'twillctl trace' from a pod on n1") && !pods.fix.contains("firewall"), "{pods:?}");
        assert!(node.what.contains("no route to n2 itself") && node.fix.contains("ip route get 192.0.2.2"), "{node:?}");
        for errno in IN_THE_WAY {
            let refused = tell(Verdict::NoRoute(NoWay { errno, ..no_way(INNER) }), &me, &target, Full::mtu(1450));
            assert!(refused.fix.starts_with("a route or a policy rule of somebody else on n1"), "{refused:?}");
        }
    }

    #[test]
    fn what_may_be_wrong_with_a_node_all_who_ask_tell_alike() {
        let inner = Inner { address: INNER.parse().unwrap(), overhead: 50, port: 4789 };
        let target = Target { node: "n2".parse().unwrap(), outer: OUTER.parse().unwrap(), inner: Some(inner) };
        for verdict in [Verdict::Silent, Verdict::NotThrough, Verdict::SmallOnly, Verdict::Checksums] {
            let told = |me: &str| tell(verdict, &me.parse().unwrap(), &target, Full::mtu(1450));
            assert_eq!(told("n1"), told("n3"), "{verdict:?}");
        }
    }

    #[test]
    fn what_the_node_itself_does_not_let_out_is_told_by_what_holds_it() {
        let inner = Inner { address: INNER.parse().unwrap(), overhead: 50, port: 4789 };
        let target = Target { node: "n2".parse().unwrap(), outer: OUTER.parse().unwrap(), inner: Some(inner) };
        let told = |to: &str, errno| {
            let kept = NoWay::of(to.parse().unwrap(), None, Some(errno)).unwrap();
            let heard = Heard { outer: NOTHING, inner: Some(NOTHING), no_way: Some(kept) };
            tell(heard.verdict(), &"n1".parse().unwrap(), &target, Full::mtu(1450))
        };
        let (pods, node) = (told(INNER, EPERM), told(OUTER, EPERM));
        assert!(pods.what.starts_with("a firewall of this node itself drops") && pods.what.contains("the pods of n2"));
        assert!(node.what.contains("n2 itself") && node.fix.contains("output"), "{node:?}");
        // ENOBUFS.
        let full = told(OUTER, 105);
        assert!(full.fix.contains("tc -s qdisc") && !full.what.contains("firewall"), "{full:?}");
    }

    #[test]
    fn what_a_firewall_of_the_other_node_hides_is_no_fault_of_the_path() {
        let no_pings = Through { refusal: true, ..NOTHING };
        let no_refusals = Through { refusal: false, ..ALL };
        assert_eq!(tunnelled(NOTHING, ALL), Verdict::Good, "who lets only the tunnel pass");
        assert_eq!(tunnelled(no_refusals, no_refusals), Verdict::Good);
        assert_eq!(tunnelled(no_pings, no_pings), Verdict::Good);
        assert_eq!(tunnelled(no_pings, NOTHING), Verdict::NotThrough);
        assert_eq!(plain(no_pings), Verdict::Good);
    }
}
