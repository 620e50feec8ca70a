//! This node, as far as its ways to others depend on it.
//!
//! A back end gets no more of this node than this, so what it makes for a peer stays good until this or that peer changes.

use std::collections::BTreeSet;

use twill_cluster::record::{self, NodeRecord};
use twill_conf::NodeName;
use twill_conf::cluster::{ClusterConf, Vxlan};
use twill_linux::MacAddr;

use super::roll::Roll;
use crate::family::Family;
use crate::{Local, Underlay};

/// One side of every way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The cluster's configuration.
    pub conf: ClusterConf,
    /// This node's name.
    pub name: NodeName,
    /// The MAC of its VTEP.
    pub vtep_mac: MacAddr,
    /// What carries traffic between nodes.
    pub underlay: Underlay,
    /// Those of its addresses by which tunnels and sessions of BGP go: that others know it by, where there are such.
    pub ends: record::Underlay,
    /// The families of pools that this node's kernel knows.
    pub families: BTreeSet<Family>,
    /// Its record says that it may send by a tunnel, or it has none yet.
    pub tunnels: bool,
    /// The tunnel that it must be able to receive, if any.
    pub tunnel: Option<Vxlan>,
    /// Where it need not receive any, the one that another node still does.
    pub others: Option<Vxlan>,
}

impl Site {
    /// Of a node with this record, once it is registered.
    pub fn new(conf: &ClusterConf, local: &Local, own: Option<&NodeRecord>, roll: &Roll) -> Self {
        let tunnel = super::way::tunnel(conf, own, roll);
        let others = if tunnel.is_none() { super::way::received_by_others(roll) } else { None };
        Self {
            conf: conf.clone(),
            name: local.name.clone(),
            vtep_mac: local.vtep_mac,
            underlay: local.underlay.clone(),
            ends: known_ends(local.underlay.ends(), own),
            families: Family::ALL.into_iter().filter(|family| local.uses(conf, *family)).collect(),
            tunnels: own.is_none_or(NodeRecord::tunnels),
            tunnel,
            others,
        }
    }

    /// Whether pools have addresses of this family, which the kernel knows.
    pub fn uses(&self, family: Family) -> bool {
        self.families.contains(&family)
    }
}

/// Those of a node's addresses by whose family others know it already: they go on sending there, and take packets from there, until
/// they hear of another one, which may be never while etcd is away. Where none of these is left, all of them.
pub(crate) fn known_ends(observed: record::Underlay, own: Option<&NodeRecord>) -> record::Underlay {
    let Some(published) = own.map(|own| &own.underlay) else { return observed };
    let known = record::Underlay {
        ipv4: observed.ipv4.filter(|_| published.ipv4.is_some()),
        ipv6: observed.ipv6.filter(|_| published.ipv6.is_some()),
    };
    if known.ipv4.or(known.ipv6).is_some() { known } else { observed }
}

/// Whether any pool has addresses of this family.
pub fn uses(conf: &ClusterConf, family: Family) -> bool {
    conf.pools.iter().any(|pool| Family::of_prefix(pool.cidr) == family)
}
