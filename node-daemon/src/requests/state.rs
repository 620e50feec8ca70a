//! How this daemon is: put together from what its tasks know, most of which the metrics count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use twill_cluster::inquiry::state::{
    Backend, Etcd, Followed, Passes, Peers, PoolState, Repair, Repairs, Sessions, State, TunnelEnd,
};
use twill_cluster::store::Store;
use twill_conf::NodeName;
use twill_conf::cluster::Kind;
use twill_fabric::Reckoning;
use twill_fabric::reach::{Reach, reach};
use twill_ipam::store::BlockUse;
use twill_ipam::{BootTime, Family};

use super::looks::Place;
use crate::blocks::Complaints;
use crate::metrics::health::Readiness;
use crate::metrics::{self, Cluster, Convergence, Memory, Probes, Requests};
use crate::picture::{Picture, Pictures, Standings};
use crate::rival::Bearer;
use crate::store::NodeStore;
use crate::troubles::Troubles;

/// Those who know.
#[derive(Debug)]
pub struct Sources {
    /// When the daemon began.
    pub begin: Instant,
    /// What was asked of etcd.
    pub requests: Requests,
    /// What the watch has heard.
    pub cluster: Cluster,
    /// How long it took until the kernel followed.
    pub convergence: Convergence,
    /// The reconciler's passes.
    pub passes: metrics::Passes,
    /// The speaker of BGP.
    pub peers: metrics::Peers,
    /// The path probe.
    pub probes: Probes,
    /// Whom this node reaches.
    pub reckoning: Arc<Mutex<Reckoning>>,
    /// What stands.
    pub standings: Standings,
    /// What the tasks find wrong.
    pub troubles: Troubles,
    /// What the keeper of blocks finds wrong.
    pub complaints: Complaints,
    /// Whether pods can be served.
    pub readiness: Arc<Readiness>,
}

impl Sources {
    /// How it is now.
    pub(super) async fn look<S: Store>(
        &self,
        etcd: &S,
        me: &Bearer,
        pictures: &Pictures,
        store: &NodeStore,
        place: &Place,
    ) -> State {
        let store = store.clone();
        let blocks = place.run(move || store.with(|store| store.blocks(BootTime::now()))).await;
        let blocks = blocks.and_then(|blocks| blocks.map_err(|error| error.to_string()));
        let mut not_ready = self.readiness.wrong().await.to_vec();
        let rival = me.rival(etcd).await;
        let picture = pictures.borrow().clone();
        let memory = self.passes.memory();
        let reach = match picture.clone() {
            Some(picture) => self.reach(me, picture, place).await,
            None => Ok(Reach::default()),
        };
        let blocks = blocks.unwrap_or_else(|error| {
            not_ready.push(error);
            Vec::new()
        });
        let reach = reach.unwrap_or_else(|error| {
            not_ready.push(error);
            Reach::default()
        });
        let board = self.troubles.subscribe().borrow().clone();
        let troubles = board.into_values().flatten().chain(self.complaints.now());
        State {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine_id: me.machine_id.clone(),
            uptime_seconds: self.begin.elapsed().as_secs(),
            not_ready,
            config: Followed { known: picture.as_ref().and_then(Picture::config_revision), applied: memory.applied },
            backend: self.backend(picture.as_ref(), &reach),
            peers: self.peers(reach),
            bgp: self.peers.sessions().map(|(total, up)| Sessions { total, up }),
            pools: pools(&blocks),
            repairs: self.repairs(&memory),
            etcd: self.etcd(),
            passes: self.passes(memory),
            troubles: troubles.collect(),
            rival,
        }
        .within_bounds()
    }

    /// Away from the tasks that share a thread: the reconciler may be at it.
    async fn reach(&self, me: &Bearer, picture: Picture, place: &Place) -> Result<Reach, String> {
        let (me, reckoning) = (me.node.clone(), Arc::clone(&self.reckoning));
        let look = move || {
            let owners = picture.reach.blocks.values().map(|record| &record.value.node);
            let others: BTreeSet<&NodeName> = owners.filter(|owner| **owner != me).collect();
            reach(&reckoning.lock().unwrap_or_else(PoisonError::into_inner), others)
        };
        place.run(look).await
    }

    fn backend(&self, picture: Option<&Picture>, reach: &Reach) -> Backend {
        let config = picture.and_then(|picture| picture.reach.config.as_ref());
        let kind = config.map(|config| &config.value.backend.kind);
        let standing = *self.standings.borrow();
        let receives = standing.and_then(|standing| standing.vxlan.receives);
        Backend {
            kind: kind.map(|kind| kind.name().to_owned()),
            sends_tunnelled: standing.is_some_and(|standing| standing.vxlan.sends),
            receives: receives.map(|(vni, port)| TunnelEnd { vni, port }),
            switching: kind.and_then(|kind| switching(kind, receives.is_some(), reach)),
        }
    }

    fn peers(&self, reach: Reach) -> Peers {
        let Reach { tunnel, plain, learned, unreached } = reach;
        let faulty = self.probes.faulty();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Peers {
            nodes: count(tunnel + plain + learned + unreached.len()),
            tunnel: count(tunnel),
            plain: count(plain),
            bgp: count(learned),
            unreached: count(unreached.len()),
            unreached_nodes: unreached,
            faulty_nodes: count(faulty.len()),
            faulty: faulty.into_iter().map(|(node, found)| (node, found.to_owned())).collect(),
        }
    }

    fn repairs(&self, memory: &Memory) -> Repairs {
        let by_kind = self.passes.repaired().into_iter().map(|(kind, count)| (kind.to_owned(), count));
        let last = memory.repair.as_ref();
        Repairs {
            by_kind: by_kind.collect(),
            contested: self.passes.feuds(),
            last: last.map(|(at, what)| Repair { seconds_ago: at.elapsed().as_secs(), what: what.clone() }),
        }
    }

    fn etcd(&self) -> Etcd {
        let (connected, revision, losses) = self.cluster.stands();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (last, median) = self.requests.latency().unzip();
        Etcd { connected, revision, losses, last_micros: last.map(micros), median_micros: median.map(micros) }
    }

    fn passes(&self, memory: Memory) -> Passes {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Passes {
            last: memory.last.map(|pass| pass.word().to_owned()).unwrap_or_default(),
            settled_seconds_ago: memory.settled.map(|at| at.elapsed().as_secs()),
            converged_millis: self.convergence.last().map(millis),
            obstacles: memory.obstacles,
        }
    }
}

/// What is still as another back end has it.
fn switching(kind: &Kind, receives: bool, reach: &Reach) -> Option<String> {
    match kind {
        Kind::Vxlan(vxlan) => {
            let waits = !vxlan.direct && reach.plain > 0;
            waits.then(|| format!("{} nodes are sent to without the tunnel until they receive by it", reach.plain))
        }
        Kind::HostGw | Kind::Bgp if reach.tunnel > 0 => {
            Some(format!("{} nodes are still sent to through the tunnel", reach.tunnel))
        }
        Kind::HostGw | Kind::Bgp if receives => Some(
            "the tunnel is still received by, since others may send through it, or something here uses it".to_owned(),
        ),
        Kind::HostGw | Kind::Bgp => None,
    }
}

/// What the blocks come to, by pool and family.
fn pools(blocks: &[BlockUse]) -> Vec<PoolState> {
    let mut pools: BTreeMap<(String, bool), PoolState> = BTreeMap::new();
    for block in blocks {
        let name = block.pool.as_ref().map(ToString::to_string).unwrap_or_default();
        let ipv6 = block.block.family() == Family::V6;
        let pool =
            pools.entry((name.clone(), ipv6)).or_insert_with(|| PoolState { pool: name, ipv6, ..PoolState::default() });
        pool.blocks += 1;
        for (sum, more) in [
            (&mut pool.free, metrics::open(block)),
            (&mut pool.used, block.assigned),
            (&mut pool.cooling, block.cooling),
            (&mut pool.total, block.total),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
    pools.into_values().collect()
}

#[cfg(test)]
mod tests {
    use twill_conf::cluster::Vxlan;
    use twill_ipam::store::{BlockState, Origin};

    use super::*;

    #[test]
    fn a_switch_is_under_way_until_nothing_is_as_the_other_back_end_has_it() {
        let vxlan = Kind::Vxlan(Vxlan::default());
        let direct = Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() });
        let (tunnel, plain) = (Reach { tunnel: 2, ..Reach::default() }, Reach { plain: 2, ..Reach::default() });
        assert_eq!(switching(&vxlan, true, &tunnel), None);
        assert!(switching(&vxlan, true, &plain).is_some() && switching(&direct, true, &plain).is_none());
        assert!(switching(&Kind::HostGw, true, &tunnel).unwrap().contains("2 nodes are still sent to"));
        assert!(switching(&Kind::HostGw, true, &plain).unwrap().contains("still received by"));
        assert_eq!(switching(&Kind::Bgp, false, &plain), None);
    }

    #[test]
    fn a_pool_has_the_sum_of_its_blocks_and_a_closing_one_gives_nothing() {
        let block = |cidr: &str, state| BlockUse {
            block: cidr.parse().unwrap(),
            pool: Some("default".parse().unwrap()),
            state,
            origin: Origin::Cluster,
            tunnel: None,
            total: 64,
            assigned: 3,
            cooling: 2,
            reserved: 1,
        };
        let blocks = [
            block("10.42.0.0/26", BlockState::Open),
            block("10.42.0.64/26", BlockState::Closing),
            block("fd42::/122", BlockState::Open),
        ];
        let pools = pools(&blocks);
        let [four, six] = pools.as_slice() else { panic!("{pools:?}") };
        assert_eq!((four.blocks, four.free, four.used, four.cooling, four.total), (2, 58, 6, 4, 128));
        assert_eq!((six.ipv6, six.blocks, six.free), (true, 1, 58));
    }
}
