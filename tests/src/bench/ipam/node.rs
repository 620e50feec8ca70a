//! A simulated node: the real keeper and the real client of etcd, around a node store that is a list.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use twill_cluster::keeper::{Facts, Identity, Input, Keeper, Output, Standing};
use twill_cluster::record::{Path, Tunnel, Underlay, VxlanEnd};
use twill_cluster::request::{Answer, RequestId};
use twill_cluster::{EtcdStore, View};
use twill_conf::NodeName;
use twill_ipam::store::{BlockState, BlockUse, Origin};
use twill_ipam::{Block, BootTime};

/// The daemon's first pause, without its jitter.
const PAUSE: Duration = Duration::from_millis(250);

/// A node on its way into the cluster.
#[derive(Debug)]
pub struct SimulatedNode {
    name: NodeName,
    keeper: Keeper,
    store: EtcdStore,
    facts: Facts,
    local: Vec<BlockUse>,
    requests: JoinSet<(RequestId, Answer)>,
    /// When the pause that the keeper asked for is over.
    paused: Option<Instant>,
    /// What etcd was asked for and did.
    pub tally: Tally,
}

/// Writes of a node, or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Transactions that were done.
    pub writes: usize,
    /// Claims that were refused.
    pub conflicts: usize,
    /// Requests without an answer, or that were not taken.
    pub failed: usize,
}

impl Tally {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.conflicts += other.conflicts;
        self.failed += other.failed;
    }
}

/// The node with this number: its name, and its facts but for the tunnel.
pub fn facts(number: usize) -> (NodeName, Facts) {
    let [high, low] = u16::try_from(number).expect("no more nodes than that").to_be_bytes();
    let underlay = Underlay {
        ipv4: format!("192.168.{high}.{low}/16").parse().ok(),
        ipv6: format!("fd00:77::{high:x}:{low:x}/64").parse().ok(),
    };
    let mac = format!("02:00:5e:10:{high:02x}:{low:02x}");
    let vxlan = Some(VxlanEnd { mac, vni: Some(7777), port: Some(4789) });
    let path = Some(Path { tunnels: true, mtu: 1500, pods: 1450 });
    let labels = [("topology.example/zone".to_owned(), format!("zone-{}", number % 3))].into();
    let facts =
        Facts { underlay, tunnel: Tunnel::default(), vxlan, path, labels, version: env!("CARGO_PKG_VERSION").into() };
    let name = format!("node-{number:04}.example").parse().expect("it is a name");
    (name, facts)
}

impl SimulatedNode {
    /// A node that knows nothing yet.
    pub fn new(number: usize, store: EtcdStore) -> Self {
        let (node, facts) = facts(number);
        let machine_id = format!("{number:032x}");
        let identity = Identity { node: node.clone(), machine_id, run: format!("{number:016x}") };
        let (keeper, requests) = (Keeper::new(identity), JoinSet::new());
        Self { name: node, keeper, store, facts, local: Vec::new(), requests, paused: None, tally: Tally::default() }
    }

    /// Runs until it has a block of each family open, and its record says its tunnel addresses.
    pub async fn join(&mut self, views: &mut watch::Receiver<Arc<View>>) {
        views.mark_changed();
        self.step(Input::Facts(self.facts.clone()));
        self.step(Input::Local(Vec::new()));
        while !self.is_in(views) {
            self.turn(views).await;
        }
    }

    /// Uses up all that it has, and runs until another block of each family is open, as for a pod that waits.
    pub async fn claim_another(&mut self, views: &mut watch::Receiver<Arc<View>>) {
        let before = self.local.len();
        self.local.iter_mut().for_each(|block| block.assigned = block.total - u64::from(block.tunnel.is_some()));
        self.step(Input::Local(self.local.clone()));
        while self.local.len() < before + 2 {
            self.turn(views).await;
        }
    }

    /// Waits for the next thing to learn, and learns it.
    async fn turn(&mut self, views: &mut watch::Receiver<Arc<View>>) {
        tokio::select! {
            Some(answer) = self.requests.join_next() => {
                let (id, answer) = answer.expect("a request does not panic");
                self.step(Input::Answer(id, answer));
            }
            Ok(()) = views.changed() => {
                let view = Arc::clone(&views.borrow_and_update());
                self.step(Input::View(view));
            }
            () = sleep_until(self.paused.unwrap_or_else(Instant::now)), if self.paused.is_some() => {
                self.paused = None;
                self.step(Input::Resume);
            }
        }
        while let Some(Ok((id, answer))) = self.requests.try_join_next() {
            self.step(Input::Answer(id, answer));
        }
    }

    fn is_in(&self, views: &watch::Receiver<Arc<View>>) -> bool {
        let complete = self.facts.tunnel.ipv4.is_some() && self.facts.tunnel.ipv6.is_some();
        let standing = matches!(self.keeper.standing(), Standing::Registered { .. });
        let published =
            || views.borrow().nodes.get(&self.name).is_some_and(|node| node.value.tunnel == self.facts.tunnel);
        complete && standing && self.requests.is_empty() && published()
    }

    fn step(&mut self, input: Input) {
        if let Input::Answer(_, answer) = &input {
            match answer {
                Answer::Done(_) => self.tally.writes += 1,
                Answer::Refused(_) => self.tally.conflicts += 1,
                Answer::Unavailable | Answer::Unknown => self.tally.failed += 1,
                Answer::Found { .. } => {}
            }
        }
        let mut changed = false;
        for output in self.keeper.step(input, BootTime::now()) {
            match output {
                Output::Request(request) => {
                    let store = self.store.clone();
                    self.requests.spawn(async move { (request.id, request.perform(&store).await) });
                }
                Output::Open { block, pool, .. } => {
                    self.local.push(self.opened(block, pool));
                    changed = true;
                }
                Output::Pause => self.paused = Some(Instant::now() + PAUSE),
                _ => {}
            }
        }
        if changed {
            let tunnel =
                |ipv6: bool| self.local.iter().filter_map(|block| block.tunnel).find(|ip| ip.is_ipv6() == ipv6);
            if let Some(IpAddr::V4(ip)) = tunnel(false) {
                self.facts.tunnel.ipv4 = Some(ip);
            }
            if let Some(IpAddr::V6(ip)) = tunnel(true) {
                self.facts.tunnel.ipv6 = Some(ip);
            }
            self.step(Input::Local(self.local.clone()));
            self.step(Input::Facts(self.facts.clone()));
        }
    }

    /// A block as the node store has it; the first of a family gives the tunnel's address.
    fn opened(&self, block: Block, pool: twill_conf::PoolName) -> BlockUse {
        let first = !self.local.iter().any(|known| known.block.family() == block.family());
        BlockUse {
            block,
            pool: Some(pool),
            state: BlockState::Open,
            origin: Origin::Cluster,
            tunnel: first.then(|| block.first()),
            total: block.size(),
            assigned: 0,
            cooling: 0,
            reserved: 0,
        }
    }
}
