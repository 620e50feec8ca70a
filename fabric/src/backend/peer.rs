//! What may be believed of one record, seen by itself.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use twill_cluster::record::{NodeRecord, Tunnel, Underlay, Versioned};
use twill_conf::NodeName;
use twill_ipam::Block;
use twill_linux::MacAddr;

use super::roll::Terms;
use crate::family::Family;

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Its record as it stands.
    pub written: Arc<Versioned<NodeRecord>>,
    /// Its tunnel addresses, each inside a block of its own.
    pub tunnel: Tunnel,
    /// Its blocks by address, none of which overlaps another node's.
    pub blocks: Vec<Block>,
}

/// Who registered before whom: by the revision, and by the name.
pub(super) type Seniority = (i64, NodeName);

impl Peer {
    /// A node with these blocks, and what of its record is not used; the error says why it is left out whole.
    pub(super) fn believed(
        name: &NodeName,
        written: &Arc<Versioned<NodeRecord>>,
        blocks: Vec<Block>,
        terms: &Terms,
    ) -> Result<(Self, Vec<String>), String> {
        check_underlay(name, &written.value, terms)?;
        let mut problems = Vec::new();
        let mut tunnel = written.value.tunnel.clone();
        for family in Family::ALL {
            let Some(address) = family.tunnel(&tunnel) else { continue };
            if blocks.iter().any(|block| block.contains(address)) {
                continue;
            }
            problems.push(format!(
                "the tunnel address {address} of node {name} is in no block of that node: it is not used"
            ));
            match family {
                Family::V4 => tunnel.ipv4 = None,
                Family::V6 => tunnel.ipv6 = None,
            }
        }
        Ok((Self { name: name.clone(), written: Arc::clone(written), tunnel, blocks }, problems))
    }

    /// Its record, for what a single back end needs of it.
    pub fn record(&self) -> &NodeRecord {
        &self.written.value
    }

    /// Whether it only just registered: what is missing from its record may still come, and is no problem yet.
    pub fn is_new(&self) -> bool {
        self.written.created == self.written.modified
    }

    pub(super) fn seniority(&self) -> Seniority {
        (self.written.created, self.name.clone())
    }

    /// Its underlay addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        Family::ALL.into_iter().filter_map(|family| family.underlay(&self.record().underlay))
    }

    /// The MAC of its VTEP, as the record gives it.
    pub(super) fn mac(&self) -> Option<MacAddr> {
        self.record().vxlan.as_ref()?.mac.parse().ok()
    }
}

/// Refuses a node whose underlay address nobody can send to, or that is ours, or lies in a pool: a tunnel's outer packet
/// would go into the tunnel again.
fn check_underlay(name: &NodeName, record: &NodeRecord, terms: &Terms) -> Result<(), String> {
    let ours = terms.local.as_ref().map_or(&Underlay { ipv4: None, ipv6: None }, |(_, ends)| ends);
    for (family, end) in [(Family::V4, record.underlay.ipv4), (Family::V6, record.underlay.ipv6)] {
        let Some(end) = end else { continue };
        let address = end.ip();
        let pool = terms.pools.iter().find(|(_, cidr)| cidr.contains(address));
        let fault = if Family::of(address) != family {
            "is of the other family".to_owned()
        } else if !is_unicast(address) {
            "is no address of a machine".to_owned()
        } else if family.underlay(ours) == Some(address) {
            "is this node's own".to_owned()
        } else if let Some((pool, _)) = pool {
            format!("lies in the pool {pool}")
        } else {
            continue;
        };
        return Err(format!("node {name} is left out: its underlay address {address} {fault}"));
    }
    Ok(())
}

/// Whether packets can be sent to one machine by this address from any link.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_loopback() || v4.octets()[0] == 0 || v4 == Ipv4Addr::BROADCAST),
        IpAddr::V6(v6) => {
            !(v6.is_multicast()
                || v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some())
        }
    }
}
