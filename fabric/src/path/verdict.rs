//! What answers, and their absence, mean: a pure function from what was heard to what an operator is told.
//!
//! By it the daemon's probe judges the ways between nodes, and `twillctl test` those between pods.

use std::io;
use std::net::IpAddr;

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
    /// Whereto the asking node has no way, so that nothing was sent there.
    pub no_way: Option<NoWay>,
}

/// An address to which a node has no way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoWay {
    /// The address.
    pub to: IpAddr,
    /// What the kernel says to it: an errno of connect(2).
    pub errno: i32,
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
    /// Only small packets come back.
    SmallOnly,
    /// Through the tunnel only what has its checksums by software comes back.
    Checksums,
}

/// What [`Verdict::word`] may be.
pub const FINDINGS: [&str; 6] = [GOOD, "silent", "not_through", "small_only", "checksums", "no_route"];
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
        if let Some(errno) = no_way.filter(|_| !any(way)) {
            return Verdict::NoRoute(errno);
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

/// In words, with what to do: `me` has asked the target.
pub fn tell(verdict: Verdict, me: &NodeName, target: &Target, full: Full) -> Told {
    let Full { bytes, why } = full;
    let Target { node, outer, inner } = target;
    let (overhead, port) = inner.map_or((0, 0), |Inner { overhead, port, .. }| (overhead, port));
    let (what, fix) = match verdict {
        Verdict::Good => (format!("{node} answers"), "nothing is to be done".to_owned()),
        Verdict::Silent => (
            format!("{node} ({outer}) does not answer, neither at its underlay address nor at its pods'"),
            format!(
                "is the machine on, and the network between {me} and {node} whole? One that answers no ping looks the same: \
                 icmp_echo_ignore_all on {node}, or a firewall"
            ),
        ),
        Verdict::NotThrough => (
            format!("{node} ({outer}) answers, but not through the tunnel: encapsulated packets do not arrive"),
            format!(
                "let UDP port {port} pass in every firewall between {me} and {node}, and on both; then compare vni and port \
                 of vxlan.twill on both, look at rp_filter of the interfaces between nodes, and try \
                 checksum_offload = \"off\"; 'twillctl trace' from a pod of the one to one of the other shows where it ends"
            ),
        ),
        Verdict::NoRoute(NoWay { to, errno }) => {
            let cause = io::Error::from_raw_os_error(errno);
            if to == *outer {
                return without_way_to_node(me, target, &cause);
            }
            (
                format!(
                    "this node has no route to the pods of {node} ({outer}): the kernel sends nothing to {to}: {cause}"
                ),
                format!(
                    "twilld puts the route back by itself; if that is told again and again, something on {me} takes it away: 'ip \
                     monitor route' there shows when, 'twillctl doctor' names programs that may (NetworkManager, \
                     systemd-networkd), and 'twillctl trace' from a pod on {me} to one on {node} shows which route is taken"
                ),
            )
        }
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
        NoWay { to: to.parse().unwrap(), errno: 113 }
    }

    #[test]
    fn what_never_left_the_asking_node_is_no_fault_of_the_network() {
        let inner = Heard { outer: ALL, inner: Some(NOTHING), no_way: Some(no_way(INNER)) };
        assert_eq!(inner.verdict(), Verdict::NoRoute(no_way(INNER)), "not what a firewall between would look like");
        let outer = Heard { outer: NOTHING, inner: Some(NOTHING), no_way: Some(no_way(OUTER)) };
        assert_eq!(outer.verdict(), Verdict::NoRoute(no_way(OUTER)));
        assert_eq!(Heard { inner: None, ..outer }.verdict(), Verdict::NoRoute(no_way(OUTER)));
        assert_eq!(Heard { inner: Some(ALL), ..outer }.verdict(), Verdict::Good, "what is answered has a way");
    }

    #[test]
    fn a_route_that_is_missing_is_told_by_the_end_to_which_it_leads() {
        let inner = Inner { address: INNER.parse().unwrap(), overhead: 50, port: 4789 };
        let target = Target { node: "n2".parse().unwrap(), outer: OUTER.parse().unwrap(), inner: Some(inner) };
        let told = |to| tell(Verdict::NoRoute(no_way(to)), &"n1".parse().unwrap(), &target, Full::mtu(1450));
        let (pods, node) = (told(INNER), told(OUTER));
        assert!(pods.what.contains("no route to the pods of n2") && pods.what.contains("No route to host"), "{pods:?}");
        assert!(pods.fix.contains("'twillctl trace' from a pod on n1") && !pods.fix.contains("firewall"), "{pods:?}");
        assert!(node.what.contains("no route to n2 itself") && node.fix.contains("ip route get 192.0.2.2"), "{node:?}");
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
