//! By which way this node sends to another one: the choice that makes a switch of back ends lose nothing.
//!
//! Nodes are switched one after another, each when it learns of it. Plain packets are understood by every node at any time,
//! tunnelled ones only where a device stands for them. So a node sends by the tunnel to those whose records say that they
//! receive by it, and only after its own record says that it may: the device of everybody else stands for as long as any
//! record says that. (To a node that no plain packet reaches, what BGP has learned is the way until then, and without that
//! there is none.) All of it is read from one view, whose order is etcd's, so no two nodes can miss each other.
//!
//! ```text
//!              configuration: VXLAN                        configuration: host-gw
//!   device made → record "receives" → record "may send"    routes become plain → record "does not send" →
//!   → the others' routes, as they hear of it               no record sends any more → record "receives not" → device removed
//! ```

use twill_cluster::record::{NodeRecord, VxlanEnd};
use twill_conf::cluster::{ClusterConf, Kind, Vxlan};

use super::{Peer, Roll, Site};
use crate::family::Family;
use crate::native;

/// A way to another node, of the packets of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Encapsulated.
    Tunnel,
    /// As they are, by the other node's underlay address.
    Native,
    /// As they are, by the routes that BGP has learned, if it has. No back end makes those.
    Learned,
}

/// What is to be known of VXLAN on this node beyond what stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VxlanUse {
    /// The identifier and the port that can be received once what is desired stands.
    pub receives: Option<(u32, u16)>,
    /// This node sends by it, or the configuration says that it shall.
    pub sends: bool,
    /// Some node may send by it, or the configuration says that all shall.
    pub needed: bool,
}

/// The tunnel that this node must be able to receive: the configuration's, or the one that its own record promises, or else
/// one that somebody may send by. (This node may have withdrawn its promise without having heard of that word yet, and the
/// other has sent since before it could hear of the withdrawal.)
pub(super) fn tunnel(conf: &ClusterConf, own: Option<&NodeRecord>, roll: &Roll) -> Option<Vxlan> {
    conf.backend.kind.vxlan().cloned().or_else(|| {
        let promised = own.and_then(|own| own.vxlan.as_ref());
        promised.or_else(|| roll.senders().find_map(|peer| peer.record().vxlan.as_ref())).map(promised_by)
    })
}

/// The tunnel that another node receives by, if any does.
pub(super) fn received_by_others(roll: &Roll) -> Option<Vxlan> {
    roll.receivers().find_map(|peer| peer.record().vxlan.as_ref()).map(promised_by)
}

fn promised_by(end: &VxlanEnd) -> Vxlan {
    let default = Vxlan::default();
    let (vni, port) = (end.vni.unwrap_or(default.vni), end.port.unwrap_or(default.port));
    Vxlan { vni, port, ..default }
}

impl Site {
    /// The identifier and the port of the tunnel that other nodes receive by, if any does.
    pub fn tunnel_or_default(&self) -> (u32, u16) {
        let vxlan = self.tunnel.as_ref().or(self.others.as_ref()).cloned().unwrap_or_default();
        (vxlan.vni, vxlan.port)
    }

    /// The way to a peer for packets of a family; `None` where there is none.
    pub fn way(&self, peer: &Peer, family: Family) -> Option<Way> {
        let native = native::gateway(self, peer, family).is_some();
        let vxlan = match &self.conf.backend.kind {
            Kind::Vxlan(vxlan) => vxlan,
            Kind::HostGw => return native.then_some(Way::Native),
            // What was learned counts; these are the ways for as long as nothing is.
            Kind::Bgp if native => return Some(Way::Native),
            Kind::Bgp => {
                let tunnel = self.tunnel.as_ref().filter(|vxlan| self.tunnels && receives(peer, vxlan));
                return Some(if tunnel.is_some() { Way::Tunnel } else { Way::Learned });
            }
        };
        let plain = vxlan.direct || !self.may_tunnel(peer, vxlan);
        Some(match (native && plain, self.tunnels) {
            (true, _) => Way::Native,
            (false, true) => Way::Tunnel,
            // Who received by it may have withdrawn that, without having heard of this configuration yet.
            (false, false) => Way::Learned,
        })
    }

    /// Whether both records say so: ours that we send, the peer's that it receives. Those of versions that know nothing else
    /// always do.
    fn may_tunnel(&self, peer: &Peer, vxlan: &Vxlan) -> bool {
        self.tunnels && (receives(peer, vxlan) || peer.record().path.is_none())
    }

    /// What others have to know, and what this node has to keep. `stands`: there is a device to receive by. `sends`: some route leads
    /// through it.
    pub(crate) fn vxlan_use(&self, stands: bool, sends: bool, roll: &Roll) -> VxlanUse {
        let wanted = self.conf.backend.kind.vxlan().is_some();
        VxlanUse {
            receives: self.tunnel.as_ref().filter(|_| stands).map(|vxlan| (vxlan.vni, vxlan.port)),
            sends: wanted || sends,
            needed: wanted || sends || roll.senders().next().is_some(),
        }
    }
}

/// Whether a peer says that it receives by this tunnel.
fn receives(peer: &Peer, vxlan: &Vxlan) -> bool {
    peer.record()
        .vxlan
        .as_ref()
        .is_some_and(|end| end.vni.is_none_or(|vni| vni == vxlan.vni) && end.port.is_none_or(|port| port == vxlan.port))
}
