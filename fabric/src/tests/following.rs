//! A reckoning that has followed a cluster says what one says that begins with what there is: of records that contradict each
//! other in every way, of nodes that move, of configurations that change.

use std::sync::Arc;

use proptest::prelude::*;
use twill_cluster::record::{NodeRecord, Path, Versioned, VxlanEnd};
use twill_conf::cluster::{Kind, Vxlan};
use twill_linux::IfName;
use twill_linux::state::Target;

use super::sample::{Sample, mac, name};
use super::{Learned, Local, Reckoning};
use crate::mtu::Mtus;
use crate::path::targets;

/// What happens.
#[derive(Debug, Clone)]
enum Edit {
    /// A node's record is written, by these choices, or deleted.
    Node(u16, Option<Choices>),
    /// A block's record, one of a few that overlap, is written for a node, or deleted.
    Block(usize, Option<u16>, i64),
    /// The configuration names another back end, or is gone.
    Backend(Option<u8>),
    /// A pool is there or is not.
    Pool(bool),
    /// This node's underlay has only one family, or both.
    Underlay(u8),
    /// This node has so many pods.
    Pods(u8),
    /// A route is learned, by one of a few gateways, or is not any more.
    Learned(usize, Option<u8>),
}

/// What a record gives, of a few values each.
#[derive(Debug, Clone)]
struct Choices {
    created: i64,
    modified: bool,
    v4: Option<u8>,
    v6: Option<u8>,
    mac: Option<u16>,
    vni: Option<bool>,
    path: Option<bool>,
    tunnel: u8,
}

/// Nested, equal in their numbers but of other families, and outside of all pools.
const BLOCKS: [&str; 10] = [
    "10.42.1.0/26",
    "10.42.1.0/24",
    "10.42.1.64/26",
    "10.42.0.0/16",
    "10.42.2.0/26",
    "10.42.2.32/27",
    "10.43.0.0/26",
    "fd42::100/122",
    "fd42::/64",
    "fd42::140/122",
];

fn choices() -> impl Strategy<Value = Choices> {
    let rest = (
        proptest::option::of(1..4u16),
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<bool>()),
        0..4u8,
    );
    let ends = (proptest::option::of(0..5u8), proptest::option::of(0..4u8));
    (1..6i64, any::<bool>(), ends, rest).prop_map(|(created, modified, (v4, v6), (mac, vni, path, tunnel))| Choices {
        created,
        modified,
        v4,
        v6,
        mac,
        vni,
        path,
        tunnel,
    })
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let node = 1..6u16;
    let edit = prop_oneof![
        6 => (node.clone(), proptest::option::weighted(0.8, choices())).prop_map(|(node, choices)| Edit::Node(node, choices)),
        6 => (0..BLOCKS.len(), proptest::option::weighted(0.8, node), 1..6i64)
            .prop_map(|(block, owner, created)| Edit::Block(block, owner, created)),
        1 => proptest::option::weighted(0.9, 0..5u8).prop_map(Edit::Backend),
        1 => any::<bool>().prop_map(Edit::Pool),
        1 => (1..4u8).prop_map(Edit::Underlay),
        1 => (0..3u8).prop_map(Edit::Pods),
        3 => (0..BLOCKS.len(), proptest::option::of(1..3u8)).prop_map(|(block, by)| Edit::Learned(block, by)),
    ];
    prop::collection::vec(edit, 1..40)
}

fn record(number: u16, choices: &Choices) -> Versioned<NodeRecord> {
    // One of these is a pool's, one is this node's own, one is none of a machine.
    let v4 = ["192.168.9.2/24", "192.168.9.3/24", "192.168.10.4/24", "192.168.9.1/24", "10.42.0.9/24"];
    let v6 = ["fd09::2/64", "fd09::3/64", "fd10::4/64", "ff02::1/64"];
    let sample = Sample::new(&[]).node(number, &[]);
    let mut written = Versioned::clone(&sample.view.nodes[&name(number)]);
    written.created = choices.created;
    written.modified = choices.created + i64::from(choices.modified);
    let record = &mut written.value;
    record.underlay.ipv4 = choices.v4.map(|at| v4[usize::from(at)].parse().unwrap());
    record.underlay.ipv6 = choices.v6.map(|at| v6[usize::from(at)].parse().unwrap());
    record.vxlan = choices.mac.map(|number| {
        let vni = choices.vni.map(|same| if same { 7777 } else { 7 });
        VxlanEnd { mac: if number == 3 { "nonsense".to_owned() } else { mac(number).to_string() }, vni, port: None }
    });
    record.path = choices.path.map(|tunnels| Path { tunnels, mtu: 1500, pods: 0 });
    record.tunnel.ipv4 =
        [None, Some([10, 42, 1, 0].into()), Some([10, 42, 2, 1].into()), None][usize::from(choices.tunnel)];
    record.tunnel.ipv6 = (choices.tunnel > 2).then(|| "fd42::100".parse().unwrap());
    written
}

/// A cluster as it is edited.
struct World {
    sample: Sample,
    conf: twill_conf::cluster::ClusterConf,
    local: Local,
    learned: Learned,
}

impl World {
    fn new() -> Self {
        let sample = Sample::new(&["10.42.0.0/16", "fd42::/64"]).node(1, &["192.168.9.1/24", "fd09::1/64"]);
        let local = sample.local(1, &[]);
        let conf = sample.view.config.as_ref().unwrap().value.clone();
        Self { sample, conf, local, learned: Learned::default() }
    }

    fn edit(&mut self, edit: &Edit) {
        let view = &mut self.sample.view;
        match edit {
            Edit::Node(number, Some(choices)) => {
                drop(view.nodes.insert(name(*number), Arc::new(record(*number, choices))));
            }
            Edit::Node(number, None) => drop(view.nodes.remove(&name(*number))),
            Edit::Block(at, owner, created) => {
                let block = BLOCKS[*at].parse().unwrap();
                drop(view.blocks.remove(&block));
                if let Some(owner) = owner {
                    let one = Sample::new(&[]).block(*owner, BLOCKS[*at]);
                    let mut record = Versioned::clone(&one.view.blocks[&block]);
                    (record.created, record.modified) = (*created, *created);
                    view.blocks.insert(block, Arc::new(record));
                }
            }
            Edit::Backend(kind) => {
                let kind = kind.map(|kind| match kind {
                    0 => Kind::Vxlan(Vxlan::default()),
                    1 => Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() }),
                    2 => Kind::Vxlan(Vxlan { vni: 7, ..Vxlan::default() }),
                    3 => Kind::HostGw,
                    _ => Kind::Bgp,
                });
                if let Some(kind) = &kind {
                    self.conf.backend.kind = kind.clone();
                }
                let value = self.conf.clone();
                view.config = kind.map(|_| Versioned { value, created: 1, modified: 1 });
            }
            Edit::Pool(there) => {
                let pools = Sample::new(if *there { &["10.42.0.0/16", "fd42::/64"] } else { &["10.42.0.0/16"] });
                self.conf.pools = pools.view.config.unwrap().value.pools;
                if let Some(config) = &mut view.config {
                    config.value = self.conf.clone();
                }
            }
            Edit::Underlay(families) => {
                let ends = [(1, "192.168.9.1/24"), (2, "fd09::1/64")];
                let ends: Vec<&str> =
                    ends.into_iter().filter(|(bit, _)| families & bit != 0).map(|(_, end)| end).collect();
                self.local.underlay = Sample::new(&[]).node(1, &ends).local(1, &[]).underlay;
            }
            Edit::Pods(number) => {
                let pods = ["10.42.1.1", "10.42.1.2,fd42::101"];
                self.local.pods = Sample::new(&[]).node(1, &[]).local(1, &pods[..usize::from(*number)]).pods;
            }
            Edit::Learned(at, by) => {
                let prefix = BLOCKS[*at].parse().unwrap();
                let device = IfName::new("eth0").unwrap();
                let target = |by: u8| Target::Gateway { gateway: [192, 168, 9, by].into(), device, onlink: false };
                match by {
                    Some(by) => drop(self.learned.routes.insert(prefix, target(*by))),
                    None => drop(self.learned.routes.remove(&prefix)),
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn what_was_followed_comes_to_what_is_there(edits in edits()) {
        let mut world = World::new();
        let (mut reckoning, mut mtus) = (Reckoning::default(), Mtus::default());
        for edit in &edits {
            world.edit(edit);
            let view = &world.sample.view;
            let followed = reckoning.follow(view, &world.local, &world.learned);
            let mut fresh = Reckoning::default();
            prop_assert_eq!(followed, fresh.follow(view, &world.local, &world.learned), "after {:?}", edit);
            let mtu = |mtus: &mut Mtus| mtus.follow(view, &world.local.name, &world.local.underlay);
            prop_assert_eq!(mtu(&mut mtus), mtu(&mut Mtus::default()));
            prop_assert_eq!(targets(&reckoning), targets(&fresh));
        }
    }
}
