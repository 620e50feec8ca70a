//! Small clusters for tests. Node 3 is named `n3`, its VTEP's MAC is 02:00:00:00:00:03, it registered at revision 30.

use std::sync::Arc;

use twill_cluster::View;
use twill_cluster::record::{self, BlockRecord, NodeRecord, Versioned, VxlanEnd};
use twill_conf::NodeName;
use twill_conf::cluster::{ClusterConf, Kind, Pool};
use twill_linux::{IfName, MacAddr};

use super::{Local, Pod, Side, Underlay};

/// A cluster being put together.
pub(crate) struct Sample {
    pub(crate) view: View,
}

impl Sample {
    /// With these pools, all masqueraded.
    pub(crate) fn new(pools: &[&str]) -> Self {
        let pool = |(number, cidr): (usize, &&str)| {
            let cidr: ipnetwork::IpNetwork = cidr.parse().unwrap();
            let block = if cidr.is_ipv6() { 122 } else { 26 };
            Pool::new(format!("pool{number}").parse().unwrap(), cidr, block)
        };
        let pools = pools.iter().enumerate().map(pool).collect();
        let conf = ClusterConf { pools, backend: Default::default(), firewall: Default::default(), bgp: None };
        Self { view: View { revision: 1000, config: Some(versioned(conf, 1)), ..View::default() } }
    }

    /// With another back end.
    pub(crate) fn backend(mut self, kind: Kind) -> Self {
        self.view.config.as_mut().unwrap().value.backend.kind = kind;
        self
    }

    /// With records that say that nobody receives or sends by a tunnel.
    pub(crate) fn without_tunnels(self) -> Self {
        self.but_all(|record| {
            record.value.vxlan = None;
            record.value.path = Some(record::Path { tunnels: false, mtu: 1500, pods: 1500 });
        })
    }

    /// With a node that has these underlay addresses.
    pub(crate) fn node(mut self, number: u16, underlay: &[&str]) -> Self {
        let mut ends = record::Underlay::default();
        for address in underlay {
            let address: ipnetwork::IpNetwork = address.parse().unwrap();
            if address.is_ipv6() { ends.ipv6 = Some(address) } else { ends.ipv4 = Some(address) }
        }
        let record = NodeRecord {
            machine_id: format!("machine{number}"),
            nonce: "x-1".to_owned(),
            underlay: ends,
            tunnel: record::Tunnel::default(),
            vxlan: Some(VxlanEnd { mac: mac(number).to_string(), vni: None, port: None }),
            path: None,
            labels: Default::default(),
            version: String::new(),
            can: None,
            disputes: Vec::new(),
            drain: None,
            other: Default::default(),
        };
        let created = i64::from(number) * 10;
        let record = Versioned { value: record, created, modified: created + 5 };
        self.view.nodes.insert(name(number), record.into());
        self
    }

    /// With a block of that node; its first of a family gives the tunnel address.
    pub(crate) fn block(mut self, number: u16, block: &str) -> Self {
        let block: twill_ipam::Block = block.parse().unwrap();
        if let Some(record) = self.view.nodes.get_mut(&name(number)).map(Arc::make_mut) {
            match block.first() {
                std::net::IpAddr::V4(v4) => _ = record.value.tunnel.ipv4.get_or_insert(v4),
                std::net::IpAddr::V6(v6) => _ = record.value.tunnel.ipv6.get_or_insert(v6),
            }
        }
        let record = BlockRecord {
            node: name(number),
            machine_id: format!("machine{number}"),
            epoch: i64::from(number) * 10,
            nonce: "x-1".to_owned(),
            other: Default::default(),
        };
        self.view.blocks.insert(block, versioned(record, i64::from(number) * 10 + 1).into());
        self
    }

    /// With a change to a node's record.
    pub(crate) fn but(mut self, number: u16, change: impl FnOnce(&mut Versioned<NodeRecord>)) -> Self {
        change(Arc::make_mut(self.view.nodes.get_mut(&name(number)).unwrap()));
        self
    }

    /// With a change to every node's record.
    pub(crate) fn but_all(mut self, change: impl Fn(&mut Versioned<NodeRecord>)) -> Self {
        for number in self.view.nodes.keys().cloned().collect::<Vec<_>>() {
            change(Arc::make_mut(self.view.nodes.get_mut(&number).unwrap()));
        }
        self
    }

    /// Without a node and its blocks.
    pub(crate) fn without(mut self, number: u16) -> Self {
        self.view.nodes.remove(&name(number));
        let stays = |record: &BlockRecord| record.node != name(number);
        self.view.blocks = self.view.blocks.into_iter().filter(|(_, record)| stays(&record.value)).collect();
        self
    }

    /// A node as it sees itself, with a pod for each of `pods`, whose addresses are separated by commas.
    pub(crate) fn local(&self, number: u16, pods: &[&str]) -> Local {
        let record = &self.view.nodes[&name(number)].value;
        let pod = |(at, addresses): (usize, &&str)| Pod {
            host: IfName::new(&format!("tw{:013x}", at + 1)).unwrap(),
            mac: MacAddr([2, 0x70, 0, 0, 0, at as u8 + 1]),
            mtu: 1450,
            addresses: addresses.split(',').map(|ip| ip.parse().unwrap()).collect(),
            unchecked: false,
            filtered: false,
        };
        let side = |cidr| Side {
            device: IfName::new("eth0").unwrap(),
            index: 2,
            cidr,
            mtu: 1500,
            rp_filter: false,
            bare: false,
            accept_ra: false,
        };
        Local {
            name: name(number),
            vtep_mac: mac(number),
            underlay: Underlay { ipv4: record.underlay.ipv4.map(side), ipv6: record.underlay.ipv6.map(side) },
            tunnel: record.tunnel.clone(),
            blocks: self.view.blocks_of(&name(number)).collect(),
            pods: pods.iter().enumerate().map(pod).collect(),
            unfiltered: true,
            ipv6: true,
        }
    }
}

pub(crate) fn name(number: u16) -> NodeName {
    format!("n{number}").parse().unwrap()
}

pub(crate) fn mac(number: u16) -> MacAddr {
    let [high, low] = number.to_be_bytes();
    MacAddr([2, 0, 0, 0, high, low])
}

fn versioned<T>(value: T, created: i64) -> Versioned<T> {
    Versioned { value, created, modified: created }
}
