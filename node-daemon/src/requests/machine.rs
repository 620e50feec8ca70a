//! A look at this machine, as an operator asks for it: what it offers (`twill-checkup`), how etcd is from here with the node's own
//! credentials, and what the tasks of the daemon have found.
//!
//! The look blocks, so it has a thread of its own, one at a time and with a deadline; who comes meanwhile waits a moment. It changes
//! nothing of what the daemon makes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::timeout;
use twill_checkup::{Cluster, Scope, Stage, Tunnel};
use twill_cluster::inquiry::Reply;
use twill_cluster::inquiry::checkup::{Finding, Found, State, etcd};
use twill_cluster::record::Told;
use twill_cluster::store::{Range, Store as _};
use twill_cluster::{EtcdStore, View, key};
use twill_conf::node::NodeConf;
use twill_fabric::Underlay;
use twill_fabric::mtu::Mtus;

use super::looks::{Place, failed};
use crate::blocks::Complaints;
use crate::calendar;
use crate::picture::Pictures;
use crate::trials;
use crate::troubles::Troubles;

/// How long a look may take. Where nothing hangs it takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long an earlier look is waited for.
const TURN: Duration = Duration::from_secs(4);
/// How long a member of etcd may take to answer.
const ETCD_PATIENCE: Duration = Duration::from_secs(3);
/// The finders of the board whose findings are handed on, and what their checks are called. What `forward` finds, the look at the
/// machine finds itself.
const FINDERS: [(&str, &str, &str); 3] = [
    ("probe", "path", "packets reach every node that was asked so far"),
    ("bgp", "bgp", "no session is missing"),
    (trials::FINDER, "trials", "no pod of a trial is left"),
];

/// What is known of the machine, and of what is wanted of it.
#[derive(Debug, Clone)]
pub struct Machine {
    conf: NodeConf,
    pictures: Pictures,
    underlays: watch::Receiver<Option<Underlay>>,
    troubles: Troubles,
    complaints: Complaints,
    turn: Turn,
}

/// One looks at a time.
#[derive(Debug, Clone)]
struct Turn {
    held: Arc<Mutex<()>>,
    patience: Duration,
}

impl Machine {
    /// Of this node.
    pub fn new(
        conf: NodeConf,
        pictures: Pictures,
        underlays: watch::Receiver<Option<Underlay>>,
        troubles: Troubles,
        complaints: Complaints,
    ) -> Self {
        let turn = Turn { held: Arc::default(), patience: TURN };
        Self { conf, pictures, underlays, troubles, complaints, turn }
    }

    /// Looks.
    pub(super) async fn look(&self, place: &Place) -> Reply {
        let turn = match self.turn.take().await {
            Ok(turn) => turn,
            Err(refused) => return failed(refused),
        };
        let scope = self.scope();
        let local = place.run(move || {
            let found = twill_checkup::check(&scope);
            drop(turn);
            found
        });
        let (local, etcd) = tokio::join!(timeout(PATIENCE, local), self.etcd());
        let local = match local {
            Ok(Ok(local)) => local,
            Ok(Err(cause)) => return failed(cause),
            Err(_) => {
                return failed(format!(
                    "the look at the machine has not ended within {} s: nft, or the disk, may hang",
                    PATIENCE.as_secs()
                ));
            }
        };
        let found = Found::bounded(local.into_iter().map(Finding::from).chain(self.noted()).chain(etcd));
        Reply::Checkup { found: Found { now: u64::try_from(calendar::now().as_millis()).ok(), ..found } }
    }

    fn scope(&self) -> Scope {
        let conf = &self.conf;
        let underlay = self.underlays.borrow().clone();
        let picture = self.pictures.borrow().clone();
        let devices = underlay.iter().flat_map(Underlay::sides).map(|side| side.device.to_string());
        let mut devices: Vec<String> = devices.collect();
        devices.dedup();
        Scope {
            stage: Stage::Serving,
            node_name: Some(conf.node_name.clone()),
            run_dir: conf.run_dir.clone(),
            state_dir: conf.state_dir.clone(),
            machine_id_file: conf.machine_id_file.clone(),
            cni: conf.cni.clone(),
            tls: conf.etcd.tls.clone(),
            version: env!("CARGO_PKG_VERSION"),
            underlay: devices,
            etcd: true,
            cluster: picture.map_or_else(Cluster::default, |picture| self.cluster(&picture.reach, underlay.as_ref())),
        }
    }

    fn cluster(&self, view: &View, underlay: Option<&Underlay>) -> Cluster {
        let Some(conf) = view.config.as_ref().map(|config| &config.value) else { return Cluster::default() };
        let fits = underlay.map(|underlay| Mtus::default().follow(view, &self.conf.node_name, underlay).pods);
        // As the back end prefers: IPv4 where there is a side for it.
        let ipv6 = underlay.and_then(|underlay| underlay.sides().next()).map(|side| side.cidr.is_ipv6());
        Cluster {
            known: true,
            tunnel: conf.backend.kind.vxlan().map(|vxlan| Tunnel { vni: vxlan.vni, port: vxlan.port, ipv6 }),
            pools: conf.pools.iter().map(|pool| (pool.name.to_string(), pool.cidr)).collect(),
            ipv4: conf.pools.iter().any(|pool| pool.cidr.is_ipv4()),
            ipv6: conf.pools.iter().any(|pool| pool.cidr.is_ipv6()),
            open_forward: conf.firewall.open_forward,
            fits,
        }
    }

    /// What the daemon's tasks have found.
    fn noted(&self) -> Vec<Finding> {
        let board = self.troubles.subscribe().borrow().clone();
        let finding = |check: &str, state, what: &str, fix: &str| Finding {
            check: check.to_owned(),
            state,
            subject: String::new(),
            what: what.to_owned(),
            fix: fix.to_owned(),
        };
        let of = |told: &[Told], check: &str, good: &str| {
            let told = told.iter().map(|told| finding(check, State::Problem, &told.what, &told.fix));
            let mut told: Vec<Finding> = told.collect();
            if told.is_empty() {
                told.push(finding(check, State::Ok, good, ""));
            }
            told
        };
        let on_board = |(finder, check, good): (&str, &str, &str)| {
            of(board.get(finder).map(Vec::as_slice).unwrap_or_default(), check, good)
        };
        let of_blocks = of(&self.complaints.now(), "blocks", "nothing keeps this node from blocks of addresses");
        FINDERS.into_iter().flat_map(on_board).chain(of_blocks).collect()
    }

    /// By a connection of its own, so that credentials are read and shown anew.
    async fn etcd(&self) -> Vec<Finding> {
        let store =
            EtcdStore::open(&self.conf.etcd, &self.conf.prefix).expect("the daemon was started with these endpoints");
        let members = store.members(ETCD_PATIENCE).await;
        let began = Instant::now();
        let range = Range::key(key::CONFIG);
        let read = match timeout(PATIENCE - ETCD_PATIENCE, store.read(&range)).await {
            Ok(read) => read.map(|_| began.elapsed()).map_err(|error| error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        };
        etcd::judge(&members, &read)
    }
}

impl Turn {
    /// Waits for it; the error says that an earlier one has not ended.
    async fn take(&self) -> Result<OwnedMutexGuard<()>, String> {
        timeout(self.patience, Arc::clone(&self.held).lock_owned()).await.map_err(|_| {
            let seconds = self.patience.as_secs();
            format!("an earlier look at the machine has not ended within {seconds} s: nft, or the disk, may hang")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_that_come_at_once_both_look_and_one_that_hangs_is_not_waited_for_for_ever() {
        let turn = Turn { held: Arc::default(), patience: Duration::from_secs(20) };
        let first = turn.take().await.expect("it is free");
        let (second, ()) = tokio::join!(turn.take(), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        let hasty = Turn { patience: Duration::from_millis(20), ..turn };
        let refused = hasty.take().await.expect_err("the second one has it");
        assert!(refused.starts_with("an earlier look at the machine has not ended"), "{refused}");
        drop(second);
        hasty.take().await.expect("it is free again");
    }
}
