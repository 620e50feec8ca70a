//! How large packets may be: what the underlay carries, less what a back end puts around a packet.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use twill_cluster::View;
use twill_cluster::record::{self, NodeRecord, Versioned};
use twill_cluster::view::differences;
use twill_conf::NodeName;
use twill_conf::cluster::{ClusterConf, Vxlan, vxlan_overhead};

use crate::backend::{Backend as _, Problems, Site, known_ends, uses};
use crate::family::Family;
use crate::native::Native;
use crate::tally::Tally;
use crate::{Side, Underlay};

/// MTUs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtu {
    /// For new pods' interfaces: the underlay's less what the back end puts around a packet, and no more than the
    /// configuration allows.
    ///
    /// It is the least over all nodes, as each pair of nodes has its own outer header. It is never less than what IP
    /// asks for ([`desired`](crate::desired) reports that); without a configuration it is one that fits every back end.
    pub pods: u32,
    /// Of the interface that decides what a tunnel leaves for pods: for the node's record.
    pub underlay: u32,
}

/// The MTUs, kept from view to view: a change of one record is the work of one.
#[derive(Debug, Default)]
pub struct Mtus {
    // As they were seen last.
    nodes: OrdMap<NodeName, Arc<Versioned<NodeRecord>>>,
    ours: record::Underlay,
    /// The families in which nodes are reached.
    reached: Tally<Family>,
}

impl Mtus {
    /// What holds by this view.
    pub fn follow(&mut self, view: &View, local: &NodeName, underlay: &Underlay) -> Mtu {
        let own = view.nodes.get(local).map(|record| &record.value);
        self.see(view, known_ends(underlay.ends(), own));
        let families = || preferred(&self.ours).chain(self.reached.there().iter().copied()).collect();
        let of_tunnel = narrowest(Ways::TUNNEL, families(), underlay).map_or(0, |(side, _)| side.mtu);
        let Some(conf) = &view.config else {
            let mtu = underlay.sides().map(|side| side.mtu).min().unwrap_or(0);
            return Mtu { pods: mtu.saturating_sub(UNKNOWN_OVERHEAD).max(IPV6_MIN_MTU), underlay: of_tunnel };
        };
        let ways = Ways::of(&conf.value, own.is_some_and(|own| own.vxlan.is_some()));
        let narrowest = narrowest(ways, families(), underlay);
        let (mtu, overhead) = narrowest.map_or((0, 0), |(side, overhead)| (side.mtu, overhead));
        let most = conf.value.backend.mtu.unwrap_or(u32::MAX);
        Mtu { pods: mtu_within(&conf.value, mtu, overhead).min(most), underlay: of_tunnel }
    }

    fn see(&mut self, view: &View, ours: record::Underlay) {
        if ours != self.ours {
            *self = Self { ours, ..Self::default() };
        }
        let reached = |record: &NodeRecord| Family::common(&self.ours, &record.underlay);
        for (_, was, is) in differences(&self.nodes, &view.nodes) {
            was.and_then(|record| reached(&record.value)).iter().for_each(|family| self.reached.take(family));
            is.and_then(|record| reached(&record.value)).into_iter().for_each(|family| self.reached.add(family));
        }
        self.nodes = view.nodes.clone();
    }
}

/// The greatest overhead of any back end.
const UNKNOWN_OVERHEAD: u32 = vxlan_overhead(true);
/// What every link of IPv6 carries (RFC 8200, section 5).
const IPV6_MIN_MTU: u32 = 1280;
/// What every link of IPv4 carries (RFC 791, section 3.2).
const IPV4_MIN_MTU: u32 = 68;

/// What is left of the underlay's MTU, but no less than the pools' families need: the outer packets are then sent in
/// fragments, which is slow, where the kernel would otherwise turn IPv6 off on the device.
pub(crate) fn mtu_within(conf: &ClusterConf, underlay: u32, overhead: u32) -> u32 {
    let least = if uses(conf, Family::V6) { IPV6_MIN_MTU } else { IPV4_MIN_MTU };
    underlay.saturating_sub(overhead).max(least)
}

/// How packets may go to other nodes.
#[derive(Debug, Clone, Copy)]
struct Ways {
    tunnel: bool,
    plain: bool,
}

impl Ways {
    const TUNNEL: Self = Self { tunnel: true, plain: false };

    /// By this configuration. `receives`: there is a tunnel all the same.
    fn of(conf: &ClusterConf, receives: bool) -> Self {
        let vxlan = conf.backend.kind.vxlan();
        Self { tunnel: vxlan.is_some() || receives, plain: vxlan.is_none_or(|vxlan| vxlan.direct) }
    }
}

/// The side that leaves least for a packet towards nodes that are reached in these families, and the overhead there.
fn narrowest(ways: Ways, families: BTreeSet<Family>, underlay: &Underlay) -> Option<(&Side, u32)> {
    let overhead = |family| if ways.tunnel { Vxlan::default().overhead(family) } else { Native.overhead(family) };
    let common = families.into_iter().filter_map(|family| Some((underlay.side(family)?, overhead(family))));
    // A plain packet goes by the interface of its own family, whatever the nodes have in common.
    let plain = underlay.sides().filter(|_| ways.plain).map(|side| (side, 0));
    let sides = common.chain(plain);
    sides.min_by_key(|(side, overhead)| side.mtu.saturating_sub(*overhead))
}

/// What a tunnel puts around a packet, at most, towards the nodes that can be reached from these addresses.
pub(crate) fn overhead(view: &View, from: &record::Underlay) -> u32 {
    let peers = view.nodes.values().filter_map(|node| Family::common(from, &node.value.underlay));
    let families: BTreeSet<Family> = preferred(from).chain(peers).collect();
    families.into_iter().map(|family| Vxlan::default().overhead(family)).max().unwrap_or(UNKNOWN_OVERHEAD)
}

/// The family in which a node with these addresses would reach one like itself.
fn preferred(ours: &record::Underlay) -> impl Iterator<Item = Family> + use<> {
    Family::common(ours, ours).into_iter()
}

/// What an operator should know of packets' sizes on this node.
pub(crate) fn report(site: &Site, reached: impl Iterator<Item = Family>, problems: &mut Problems) {
    let families = preferred(&site.ends).chain(reached).collect();
    let narrowest = narrowest(Ways::of(&site.conf, site.tunnel.is_some()), families, &site.underlay);
    let Some((Side { device, mtu, .. }, overhead)) = narrowest else { return };
    let left = mtu.saturating_sub(overhead);
    if left < IPV6_MIN_MTU && site.uses(Family::V6) {
        problems.report(format!(
            "the MTU of {device} is {mtu}, which leaves {left} bytes for pods: IPv6 needs {IPV6_MIN_MTU}, so full-size \
             packets travel in fragments"
        ));
    }
    if let Some(wanted) = site.conf.backend.mtu.filter(|wanted| *wanted > left) {
        problems.report(format!(
            "the configuration's mtu is {wanted}, and {device} with its MTU of {mtu} leaves {left} bytes for pods: they get \
             these"
        ));
    }
}
