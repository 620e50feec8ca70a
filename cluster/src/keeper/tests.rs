//! The rules over the simulated store: several keepers, each with a node store that is only a map.

mod claiming;
mod draining;
mod faults;
mod histories;
mod pools;
mod registering;
mod returning;
mod steady;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::json;
use twill_conf::NodeName;
use twill_ipam::store::{BlockState, BlockUse, Origin};

use super::*;
use crate::key;
use crate::simulated::{Fate, SimulatedStore};
use crate::store::Range;
use crate::txn::{Op, Txn};

/// A node: a keeper, what its node store has, and what has to be done yet.
struct Node {
    keeper: Keeper,
    etcd: SimulatedStore,
    local: BTreeMap<Block, BlockUse>,
    queue: VecDeque<Output>,
    log: Vec<Output>,
    claims: usize,
    now: BootTime,
}

impl Node {
    fn new(etcd: &SimulatedStore, name: &str) -> Self {
        Self::of_machine(etcd, name, &format!("machine-{name}"), "run1")
    }

    fn of_machine(etcd: &SimulatedStore, name: &str, machine_id: &str, run: &str) -> Self {
        let identity = Identity {
            node: name.parse().unwrap(),
            machine_id: machine_id.into(),
            run: format!("{run}-{name}-{machine_id}"),
        };
        let mut node = Self {
            keeper: Keeper::new(identity),
            etcd: etcd.clone(),
            local: BTreeMap::new(),
            queue: VecDeque::new(),
            log: Vec::new(),
            claims: 0,
            now: BootTime::default(),
        };
        node.feed(Input::Facts(Facts { version: "1".into(), ..Facts::default() }));
        node.feed(Input::Local(Vec::new()));
        node
    }

    /// The daemon is started again, in the same boot: the node store is what it was.
    fn restart(self) -> Self {
        self.restart_as("run2")
    }

    fn restart_as(self, run: &str) -> Self {
        let Identity { node, machine_id, .. } = self.keeper.identity.clone();
        let mut again = Self::of_machine(&self.etcd, node.as_str(), &machine_id, run);
        again.local = self.local;
        again.look();
        again
    }

    /// The operator deletes the node, as one that is off: record, blocks and mirror in one transaction.
    fn remove(&mut self) {
        let me = self.keeper.identity.node.clone();
        let mut view = View::default();
        view.replace(&self.etcd.look(&Range::watched()));
        let keys = view.blocks_of(&me).flat_map(|block| [key::block(block), key::addresses(&me, block)]);
        let then = keys.chain([key::node(&me)]).map(|key| Op::Delete { key }).collect();
        self.etcd.apply(&Txn { when: Vec::new(), then });
        self.local.clear();
    }

    fn feed(&mut self, input: Input) {
        let outputs = self.keeper.step(input, self.now);
        self.log.extend(outputs.iter().cloned());
        self.queue.extend(outputs);
    }

    fn see(&mut self) {
        let mut view = View::default();
        view.replace(&self.etcd.look(&Range::watched()));
        self.feed(Input::View(Arc::new(view)));
    }

    fn look(&mut self) {
        let blocks = self.local.values().cloned().collect();
        self.feed(Input::Local(blocks));
    }

    /// Does the next thing; a pause is left alone. `false` when nothing is left.
    fn act(&mut self) -> bool {
        let Some(output) = self.queue.pop_front() else { return false };
        match output {
            Output::Request(request) => {
                self.claims += usize::from(request.claims().is_some());
                let answer = now(request.perform(&self.etcd));
                self.feed(Input::Answer(request.id, answer));
            }
            Output::Open { block, pool, .. } => self.put(block, pool, BlockState::Open),
            Output::Close { block, pool } => self.put(block, pool, BlockState::Closing),
            Output::GiveBack { block, pool } => {
                let has = &self.local[&block];
                if has.assigned == 0 && has.cooling == 0 && has.tunnel.is_none() {
                    self.put(block, pool, BlockState::Closing);
                }
                self.look();
            }
            Output::MoveTunnel { family, give_up } => self.move_tunnel(family, give_up),
            _ => {}
        }
        true
    }

    /// As the node store does it, but that nothing cools.
    fn move_tunnel(&mut self, family: Family, give_up: bool) {
        let of_family = |has: &&mut BlockUse| has.block.family() == family;
        let mut open = self.local.values_mut().filter(of_family).filter(|has| has.state == BlockState::Open);
        let place = open.find(|has| has.free() > 0).map(|has| has.block);
        if place.is_some() || give_up {
            self.local.values_mut().filter(of_family).for_each(|has| has.tunnel = None);
        }
        if let Some(has) = place.and_then(|block| self.local.get_mut(&block)) {
            has.tunnel = Some(has.block.first());
        }
        self.look();
    }

    fn put(&mut self, block: Block, pool: PoolName, state: BlockState) {
        let total = block.size();
        let fresh = BlockUse {
            block,
            pool: Some(pool),
            state,
            origin: Origin::Cluster,
            tunnel: None,
            total,
            assigned: 0,
            cooling: 0,
            reserved: 0,
        };
        self.local.entry(block).or_insert(fresh).state = state;
        self.look();
    }

    /// Sees the cluster and works until there is nothing more to do.
    fn settle(&mut self) {
        for _ in 0..20 {
            let before = (self.etcd.look(&Range::watched()).revision, self.log.len());
            self.see();
            while self.act() {}
            self.feed(Input::Resume);
            while self.act() {}
            if before == (self.etcd.look(&Range::watched()).revision, self.log.len()) {
                return;
            }
        }
    }

    /// Gives `count` addresses out of open blocks of a family, as far as there are any.
    fn assign(&mut self, ipv6: bool, count: u64) -> u64 {
        let mut left = count;
        for has in self.local.values_mut() {
            if has.state == BlockState::Open && has.block.cidr().is_ipv6() == ipv6 {
                let taken = left.min(has.total - has.assigned);
                has.assigned += taken;
                left -= taken;
            }
        }
        self.look();
        count - left
    }

    fn open(&self) -> Vec<Block> {
        self.local.values().filter(|has| has.state == BlockState::Open).map(|has| has.block).collect()
    }

    /// What each order to open a block said of it.
    fn freshness(&self) -> Vec<bool> {
        self.log.iter().filter_map(|o| if let Output::Open { fresh, .. } = o { Some(*fresh) } else { None }).collect()
    }

    fn has_problem(&self, problem: impl Fn(&Problem) -> bool) -> bool {
        self.keeper.problems().iter().any(problem)
    }
}

/// The simulated store never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the simulated store waits"),
    }
}

fn write(etcd: &SimulatedStore, key: &str, value: serde_json::Value) {
    let put = Op::Put { key: key.into(), value: value.to_string().into_bytes(), lease: None };
    etcd.apply(&Txn { when: Vec::new(), then: vec![put] });
}

fn delete(etcd: &SimulatedStore, key: &str) {
    etcd.apply(&Txn { when: Vec::new(), then: vec![Op::Delete { key: key.into() }] });
}

fn configure(etcd: &SimulatedStore, pools: &[(&str, &str, u8)]) {
    let pools: Vec<_> =
        pools.iter().map(|(name, cidr, block)| json!({ "name": name, "cidr": cidr, "block": block })).collect();
    write(etcd, "config", json!({ "pool": pools, "backend": { "type": "vxlan" } }));
}

fn cluster(pools: &[(&str, &str, u8)]) -> SimulatedStore {
    let etcd = SimulatedStore::new();
    configure(&etcd, pools);
    etcd
}

/// The cluster as etcd has it; asserts that no two blocks overlap and that each is mirrored by its owner.
fn sound_view(etcd: &SimulatedStore) -> View {
    let mut view = View::default();
    view.replace(&etcd.look(&Range::watched()));
    assert_eq!(view.faults, BTreeMap::new());
    // In order of address, wider first: what overlaps a block lies next to it.
    let blocks: Vec<&Block> = view.blocks.keys().collect();
    assert!(blocks.windows(2).all(|pair| !pair[0].contains(pair[1].first())), "{blocks:?}");
    for (block, record) in &view.blocks {
        let mirror = etcd.look(&Range::key(&key::addresses(&record.value.node, *block)));
        assert_eq!(mirror.entries.len(), 1, "{block} is mirrored");
        assert_eq!(view.nodes[&record.value.node].created, record.value.epoch, "{block} is of its owner's epoch");
    }
    view
}
