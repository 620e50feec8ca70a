//! What pods would lose by another configuration of the data path, whatever the order in which nodes are switched.
//!
//! A [`Way`](crate::backend::Way) is chosen so that nobody sends what the other cannot receive. Some changes no order makes harmless:
//! packets that are too long for the new way, nodes that have none, and a tunnel that becomes another one at its place. `twillctl
//! config apply` asks here before it writes.

use std::collections::BTreeMap;
use std::fmt;

use twill_cluster::View;
use twill_cluster::record::NodeRecord;
use twill_conf::NodeName;
use twill_conf::cluster::{ClusterConf, Kind, Vxlan};

use crate::backend::some_of;
use crate::backend::uses;
use crate::family::Family;
use crate::native;

/// Something that pods would lose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hazard {
    /// Nodes still send by a tunnel with another identifier or port.
    OtherTunnel {
        /// Identifier and port, as they are.
        stands: (u32, u16),
        /// Nodes that send by it.
        nodes: Vec<NodeName>,
    },
    /// Daemons that know no other back end than VXLAN.
    OldVersion {
        /// Their nodes.
        nodes: Vec<NodeName>,
    },
    /// Nodes that are on no subnet with the others.
    Apart {
        /// The family of the blocks that could not be reached.
        family: Family,
        /// The nodes, all but those of the largest subnet.
        nodes: Vec<NodeName>,
        /// The back end that would not reach them.
        by: &'static str,
    },
    /// Pods whose full-size packets do not fit any more.
    Tall {
        /// Where they are.
        node: NodeName,
        /// The greatest MTU among them, in bytes.
        mtu: u32,
        /// What the new way carries, in bytes.
        left: u32,
    },
}

/// What would be lost by `new`. Empty where nothing stands yet, and where the back end stays as it is: what is lost by that is
/// lost already. Where the configuration is gone or cannot be read, nodes go on by the one that they have read last: whether they send
/// by a tunnel, their records say, and blocks are of such a one.
pub fn hazards(view: &View, new: &ClusterConf) -> Vec<Hazard> {
    let old = view.config.as_ref().map(|config| &config.value.backend);
    if old == Some(&new.backend) {
        return Vec::new();
    }
    let old = old.map(|backend| &backend.kind);
    let tunnelled = |record: &NodeRecord| old.map_or(record.tunnels(), |kind| kind.vxlan().is_some());
    let mut hazards = Vec::new();
    match &new.backend.kind {
        Kind::Vxlan(vxlan) => hazards.extend(other_tunnel(view, old, vxlan)),
        Kind::HostGw | Kind::Bgp if view.nodes.values().any(|record| tunnelled(&record.value)) => {
            hazards.extend(old_version(view).into_iter().chain(apart(view, new)));
        }
        // It may have been BGP.
        Kind::HostGw if old.map_or(!view.blocks.is_empty(), |old| *old == Kind::Bgp) => {
            hazards.extend(apart(view, new))
        }
        Kind::HostGw | Kind::Bgp => {}
    }
    hazards.extend(tall(view, tunnelled, &new.backend.kind));
    hazards
}

fn other_tunnel(view: &View, old: Option<&Kind>, new: &Vxlan) -> Option<Hazard> {
    let default = old.and_then(Kind::vxlan).cloned().unwrap_or_default();
    let mut found: BTreeMap<(u32, u16), Vec<NodeName>> = BTreeMap::new();
    for (name, record) in &view.nodes {
        let Some(end) = record.value.vxlan.as_ref().filter(|_| record.value.tunnels()) else { continue };
        let stands = (end.vni.unwrap_or(default.vni), end.port.unwrap_or(default.port));
        if stands != (new.vni, new.port) {
            found.entry(stands).or_default().push(name.clone());
        }
    }
    // One node alone sends to nobody.
    let found = found.into_iter().filter(|_| view.nodes.len() > 1).max_by_key(|(_, nodes)| nodes.len());
    found.map(|(stands, nodes)| Hazard::OtherTunnel { stands, nodes })
}

fn old_version(view: &View) -> Option<Hazard> {
    let old = view.nodes.iter().filter(|(_, record)| record.value.path.is_none());
    let nodes: Vec<_> = old.map(|(name, _)| name.clone()).collect();
    (!nodes.is_empty()).then_some(Hazard::OldVersion { nodes })
}

/// Nodes that plain routes do not reach. With peers in the configuration, BGP does: its routers between know the way.
fn apart(view: &View, new: &ClusterConf) -> Vec<Hazard> {
    let by = new.backend.kind.name();
    if new.backend.kind == Kind::Bgp && new.bgp.as_ref().is_some_and(|bgp| !bgp.peers.is_empty()) {
        return Vec::new();
    }
    let nodes: Vec<_> = view.nodes.iter().map(|(name, record)| (name, &record.value.underlay)).collect();
    let strangers = |family| native::strangers(&nodes, family).into_iter().cloned().collect();
    let families = Family::ALL.into_iter().filter(|family| uses(new, *family));
    let hazards = families.map(|family| Hazard::Apart { family, nodes: strangers(family), by });
    hazards.filter(|hazard| !matches!(hazard, Hazard::Apart { nodes, .. } if nodes.is_empty())).collect()
}

/// The pods whose packets fit the old way and would not fit the new one. What is too long for both is lost already.
fn tall(view: &View, tunnelled: impl Fn(&NodeRecord) -> bool, new: &Kind) -> Vec<Hazard> {
    let tall = |(name, record): (&NodeName, &NodeRecord)| {
        let path = record.path?;
        let carries = |by_tunnel: bool| {
            let overhead = if by_tunnel { crate::mtu::overhead(view, &record.underlay) } else { 0 };
            path.mtu.saturating_sub(overhead)
        };
        let left = carries(new.vxlan().is_some());
        let fitted = path.pods.min(carries(tunnelled(record)));
        (path.mtu > 0 && fitted > left).then(|| Hazard::Tall { node: name.clone(), mtu: path.pods, left })
    };
    view.nodes.iter().map(|(name, record)| (name, &record.value)).filter_map(tall).collect()
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherTunnel { stands: (vni, port), nodes } => write!(
                f,
                "{} send by VXLAN with the identifier {vni} and the port {port}, and would not understand those that are switched \
                 before them: switch to host-gw first, or to the same identifier and port",
                some_of(nodes.iter())
            ),
            Self::OldVersion { nodes } => {
                write!(f, "twilld on {} is of a version that knows VXLAN alone: update it first", some_of(nodes.iter()))
            }
            Self::Apart { family, nodes, by } => {
                let family = if *family == Family::V6 { "IPv6" } else { "IPv4" };
                write!(
                    f,
                    "not on one {family} subnet with the others: {}, whose pods {by} would not reach: stay with vxlan, or \
                     take direct = true beside it{}",
                    some_of(nodes.iter()),
                    if *by == "bgp" { ", or have the routers between for peers" } else { "" }
                )
            }
            Self::Tall { node, mtu, left } => write!(
                f,
                "pods on {node} have an MTU of {mtu} bytes, and the new way carries {left}: their full-size packets would be lost; \
                 set \"mtu\" to {left} in [backend], and in network configurations that ask for more, make those pods anew, and \
                 switch half a minute later, when the node has told that they are gone"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use twill_cluster::record::Path;

    use super::*;
    use crate::tests::sample::{Sample, name};

    fn sample() -> Sample {
        Sample::new(&["10.42.0.0/16", "fd42::/64"])
            .node(1, &["192.168.9.1/24", "fd09::1/64"])
            .node(2, &["192.168.9.2/24", "fd09::2/64"])
            .node(3, &["192.168.9.3/24", "fd09::3/64"])
            .but_all(|record| record.value.path = Some(Path { tunnels: true, mtu: 1500, pods: 0 }))
    }

    fn with_pods(sample: Sample, number: u16, pods: u32) -> Sample {
        sample.but(number, |record| record.value.path = Some(Path { tunnels: false, mtu: 1500, pods }))
    }

    fn to(sample: &Sample, kind: Kind) -> Vec<Hazard> {
        let mut new = sample.view.config.as_ref().unwrap().value.clone();
        new.backend.kind = kind;
        hazards(&sample.view, &new)
    }

    fn vxlan(vni: u32) -> Kind {
        Kind::Vxlan(Vxlan { vni, ..Vxlan::default() })
    }

    #[test]
    fn nodes_on_one_subnet_lose_nothing_by_any_switch() {
        let direct = Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() });
        for from in [vxlan(7777), Kind::HostGw, Kind::Bgp] {
            for to_kind in [vxlan(7777), direct.clone(), Kind::HostGw, Kind::Bgp] {
                assert_eq!(to(&sample().backend(from.clone()), to_kind), []);
            }
        }
        let mut fresh = sample();
        fresh.view.config = None;
        let new = sample().view.config.unwrap().value;
        assert_eq!(hazards(&fresh.view, &new), []);
    }

    #[test]
    fn where_the_configuration_is_gone_records_say_what_would_be_lost() {
        let lost = |mut sample: Sample, kind: Kind| {
            let config = sample.view.config.take().unwrap();
            let mut new = config.value.clone();
            new.backend.kind = kind;
            hazards(&sample.view, &new)
        };
        let stands = (7777, 4789);
        let nodes = vec![name(1), name(2), name(3)];
        assert_eq!(lost(sample(), vxlan(8)), [Hazard::OtherTunnel { stands, nodes }]);
        let tall = with_pods(sample(), 1, 1500);
        assert_eq!(
            lost(tall, vxlan(7777)),
            [Hazard::Tall { node: name(1), mtu: 1500, left: 1450 }],
            "it sends plainly"
        );
        let far = |tunnels| {
            let path = Some(Path { tunnels, mtu: 1500, pods: 0 });
            sample().node(4, &["192.168.10.4/24", "fd10::4/64"]).but_all(|record| record.value.path = path)
        };
        assert_eq!(lost(far(true), Kind::HostGw).len(), 2, "a family each");
        assert_eq!(lost(far(false), Kind::HostGw), [], "nobody has a block, so nothing has stood yet");
        assert_eq!(lost(far(false).block(4, "10.42.4.0/26"), Kind::HostGw).len(), 2, "it may have been BGP");
        assert_eq!(lost(far(false).block(4, "10.42.4.0/26"), Kind::Bgp), []);
    }

    #[test]
    fn another_tunnel_is_one_only_for_those_who_still_send_by_the_old_one() {
        let told = to(&sample(), vxlan(8));
        assert_eq!(told, [Hazard::OtherTunnel { stands: (7777, 4789), nodes: vec![name(1), name(2), name(3)] }]);
        let text = told[0].to_string();
        assert!(text.starts_with("n1, n2, n3 send by VXLAN with the identifier 7777 and the port 4789"), "{text}");
        assert_eq!(to(&sample().without(2).without(3), vxlan(8)), [], "a node alone");
        let quiet = (1..=3).fold(sample().backend(Kind::HostGw), |sample, number| with_pods(sample, number, 0));
        assert_eq!(to(&quiet, vxlan(8)), []);
    }

    #[test]
    fn what_is_lost_already_stands_in_no_ones_way() {
        let tall = with_pods(sample(), 1, 9000);
        assert_eq!(to(&tall, vxlan(7777)), []);
        assert_eq!(to(&tall, vxlan(8)).len(), 1, "the other tunnel");
        assert_eq!(to(&tall, Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() })), []);
        let plain = with_pods(sample().backend(Kind::HostGw), 1, 9000);
        assert_eq!(to(&plain, vxlan(7777)).len(), 1, "up to 1500 bytes they fitted");
    }

    #[test]
    fn a_daemon_that_knows_vxlan_alone_is_updated_before_host_gw() {
        let old = sample().but(2, |record| record.value.path = None);
        assert_eq!(to(&old, Kind::HostGw), [Hazard::OldVersion { nodes: vec![name(2)] }]);
    }

    #[test]
    fn host_gw_cuts_off_the_nodes_of_smaller_subnets() {
        let known = |sample: Sample| with_pods(sample, 4, 0);
        let far = known(sample().node(4, &["192.168.10.4/24", "fd10::4/64"]));
        let apart = |family| Hazard::Apart { family, nodes: vec![name(4)], by: "host-gw" };
        assert_eq!(to(&far, Kind::HostGw), [apart(Family::V4), apart(Family::V6)]);
        let beside = known(sample().node(4, &["192.168.10.4/24", "fd09::4/64"]));
        assert_eq!(to(&beside, Kind::HostGw), [], "all are on one IPv6 subnet, which carries IPv4 too");
        let plain = known(sample().node(4, &["192.168.9.4/24"]));
        assert_eq!(to(&plain, Kind::HostGw), [apart(Family::V6)]);
        assert_eq!(to(&far.backend(Kind::HostGw), Kind::HostGw), [], "it is so already");
    }

    #[test]
    fn bgp_cuts_off_the_nodes_of_smaller_subnets_unless_there_are_peers_that_know_the_way() {
        let far = with_pods(sample().node(4, &["192.168.10.4/24", "fd10::4/64"]), 4, 0);
        let apart = |family, by| Hazard::Apart { family, nodes: vec![name(4)], by };
        let told = to(&far, Kind::Bgp);
        assert_eq!(told, [apart(Family::V4, "bgp"), apart(Family::V6, "bgp")]);
        assert!(told[0].to_string().ends_with(", or have the routers between for peers"), "{}", told[0]);
        let routed = far.backend(Kind::Bgp);
        assert_eq!(to(&routed, Kind::HostGw), [apart(Family::V4, "host-gw"), apart(Family::V6, "host-gw")]);
        let old = routed.backend(vxlan(7777));
        let mut new = old.view.config.as_ref().unwrap().value.clone();
        new.backend.kind = Kind::Bgp;
        let peers = "[[pool]]\nname='a'\ncidr='10.42.0.0/16'\n[[bgp.peer]]\nname='p'\naddress='192.0.2.1'\nas=7";
        new.bgp = ClusterConf::from_toml(peers).unwrap().bgp;
        assert_eq!(hazards(&old.view, &new), []);
    }

    #[test]
    fn pods_that_are_too_tall_for_a_tunnel_are_told_unless_they_were_given_headroom() {
        let tall = with_pods(with_pods(sample().backend(Kind::HostGw), 1, 1500), 2, 1450);
        let told = to(&tall, vxlan(7777));
        assert_eq!(told, [Hazard::Tall { node: name(1), mtu: 1500, left: 1450 }]);
        assert_eq!(to(&tall, Kind::HostGw), []);
        let six = with_pods(sample().node(4, &["fd09::4/64"]).backend(Kind::HostGw), 2, 1450);
        let told = to(&six, vxlan(7777));
        assert_eq!(told, [Hazard::Tall { node: name(2), mtu: 1450, left: 1430 }], "towards n4 it goes by IPv6");
    }
}
