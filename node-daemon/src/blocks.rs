//! The block task: performs what the [`Keeper`] decides, and tells the plugin what it must know.
//!
//! The rules of registering, claiming and giving back are in `cluster::keeper`, which does no I/O; here are its hands. Everything that
//! the keeper learns comes through here: the view, the use of the local blocks, what this node publishes of itself, and
//! the answers of etcd.

mod pause;
mod tell;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use twill_cluster::View;
use twill_cluster::keeper::{Facts, Identity, Input, Keeper, Output};
use twill_cluster::record::{self, Tunnel, VxlanEnd};
use twill_cluster::request::{Answer, RequestId};
use twill_cluster::store::Store;
use twill_conf::cluster::Given;
use twill_conf::node::NodeConf;
use twill_conf::{NodeName, PoolName};
use twill_fabric::Underlay;
use twill_fabric::ends::{Ends, Known, Standing};
use twill_fabric::mtu::Mtus;
use twill_ipam::store::{BlockState, BlockUse, Node, Origin};
use twill_ipam::{Block, BootTime, Error, Family, KeyHash, NodePool, Want};
use twill_linux::{MacAddr, sockets};

use crate::bell::{Bell, Causes};
use crate::metrics::Addresses;
use crate::picture::{Picture, Pictures, Rings, Standings, Underlays};
use crate::store::NodeStore;
use pause::Pause;
pub use tell::Complaints;
use tell::Teller;

/// How often the use of the blocks is looked at without a ring: cooling addresses become free in silence.
const LOOK: Duration = Duration::from_secs(5);

/// What the block task hears of.
#[derive(Debug)]
pub struct News {
    /// The cluster, as it is seen.
    pub pictures: Pictures,
    /// This node's underlay.
    pub underlays: Underlays,
    /// What stands in the kernel.
    pub standings: Standings,
    /// The plugin's rings.
    pub rings: Rings,
    /// That the node is to be drained, or not any more.
    pub drains: mpsc::Receiver<bool>,
}

/// Whom the block task tells.
#[derive(Debug)]
pub struct Hearers {
    /// The reconciler.
    pub bell: Arc<Bell>,
    /// Who waits for the epoch: it is there once the node is registered.
    pub registered: watch::Sender<Option<i64>>,
    /// Who counts.
    pub metrics: Addresses,
    /// Who asks what is wrong.
    pub complaints: Complaints,
}

/// The block task's state.
#[derive(Debug)]
pub struct Blocks {
    keeper: Keeper,
    facts: Facts,
    ends: Ends,
    mtus: Mtus,
    /// As last told to the keeper; `None` before the first look.
    local: Option<Vec<BlockUse>>,
    /// As last told to the keeper.
    wants: Vec<Want>,
    /// What ADDs want and cannot have, each with the reason: not told yet.
    refusals: Vec<(Want, String)>,
    /// The pods without a spoof check, as the reconciler was last told.
    unchecked: Vec<KeyHash>,
    /// The tunnel address of a family was given up: that is to be published.
    gave_up: bool,
    exhausted: Vec<PoolName>,
    name: NodeName,
    store: NodeStore,
    bell: Arc<Bell>,
    /// The epoch, once the node is registered.
    registered: watch::Sender<Option<i64>>,
    pause: Pause,
    teller: Teller,
    metrics: Addresses,
}

impl Blocks {
    /// A task that has not begun.
    pub fn new(conf: &NodeConf, identity: Identity, vtep_mac: MacAddr, store: NodeStore, hearers: Hearers) -> Self {
        let Hearers { bell, registered, metrics, complaints } = hearers;
        Self {
            keeper: Keeper::new(identity),
            facts: Facts {
                underlay: record::Underlay::default(),
                tunnel: Tunnel::default(),
                vxlan: None,
                path: None,
                labels: conf.labels.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            ends: Ends::new(vtep_mac),
            mtus: Mtus::default(),
            local: None,
            wants: Vec::new(),
            refusals: Vec::new(),
            unchecked: Vec::new(),
            gave_up: false,
            exhausted: Vec::new(),
            name: conf.node_name.clone(),
            store,
            bell,
            registered,
            pause: Pause::default(),
            teller: Teller::new(complaints),
            metrics,
        }
    }

    /// Keeps the node registered and supplied with blocks until the daemon ends.
    pub async fn keep<S: Store + Clone>(mut self, etcd: &S, news: News) {
        let News { mut pictures, mut underlays, mut standings, mut rings, mut drains } = news;
        let mut requests: JoinSet<(RequestId, Answer)> = JoinSet::new();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pictures.mark_changed();
        loop {
            let input = tokio::select! {
                Ok(()) = pictures.changed() => proven(pictures.borrow_and_update().as_ref()),
                Ok(()) = underlays.changed() => None,
                Ok(()) = standings.changed() => None,
                Ok(()) = rings.changed() => None,
                Some(on) = drains.recv() => Some(Input::Drain(on)),
                Some(answer) = requests.join_next() => {
                    let (id, answer) = answer.expect("a request to etcd does not panic");
                    Some(Input::Answer(id, answer))
                }
                () = self.pause.over() => Some(Input::Resume),
                _ = look.tick() => Some(Input::Tick),
            };
            if let Some(input) = input {
                let outputs = self.keeper.step(input, BootTime::now());
                self.perform(outputs, etcd, &mut requests).await;
            }
            let (underlay, picture) = (underlays.borrow().clone(), pictures.borrow().clone());
            let sent_from = self.facts.underlay.clone();
            let standing = *standings.borrow_and_update();
            let news = self.look(picture.as_ref(), underlay.as_ref(), standing).await;
            let now = &self.facts.underlay;
            let is_gone = |ipv6| sent_from.address(ipv6).is_some_and(|ip| now.address(ipv6) != Some(ip));
            if is_gone(false) || is_gone(true) {
                // What tells etcd of the new address must not go by a connection that has the old one.
                etcd.reconnect().await;
            }
            for input in news {
                let outputs = self.keeper.step(input, BootTime::now());
                self.perform(outputs, etcd, &mut requests).await;
            }
            self.tell_plugin(picture.as_ref(), underlay.as_ref()).await;
            self.refuse().await;
        }
    }

    async fn perform<S: Store + Clone>(
        &mut self,
        outputs: Vec<Output>,
        etcd: &S,
        requests: &mut JoinSet<(RequestId, Answer)>,
    ) {
        for output in outputs {
            match output {
                Output::Request(request) => {
                    let (etcd, metrics) = (etcd.clone(), self.metrics.clone());
                    requests.spawn(async move {
                        let answer = request.perform(&etcd).await;
                        if let Some(block) = request.claims() {
                            metrics.claimed(&answer);
                            if let Answer::Refused(_) = answer {
                                tracing::debug!("{block} was not to be had: what it was chosen by is not so any more");
                            }
                        }
                        (request.id, answer)
                    });
                }
                Output::Open { block, pool, fresh } => {
                    // One that was this node's before may have been lost with the store: its addresses cool first.
                    let open = move |store: &mut twill_ipam::Store| match fresh {
                        true => store.put_block(block, &pool, BlockState::Open),
                        false => store.bring_back(block, &pool),
                    };
                    let done = self.store.run(open).await;
                    self.stored(done);
                }
                Output::Close { block, pool } => {
                    let done = self.store.run(move |store| store.put_block(block, &pool, BlockState::Closing)).await;
                    self.stored(done);
                }
                Output::GiveBack { block, pool: _ } => {
                    let done = self.store.run(move |store| store.close_empty_block(block, BootTime::now())).await;
                    // The keeper waits for a look, whether or not the block could be closed.
                    self.local = None;
                    self.teller.store(done.map(drop));
                }
                Output::MoveTunnel { family, give_up } => {
                    let moved = self.store.run(move |store| store.move_tunnel(family, give_up, BootTime::now())).await;
                    if let Ok(None) = moved {
                        match family {
                            Family::V4 => self.facts.tunnel.ipv4 = None,
                            Family::V6 => self.facts.tunnel.ipv6 = None,
                        }
                        self.gave_up = true;
                    }
                    self.local = None;
                    self.teller.store(moved.map(drop));
                }
                Output::Refuse { want, why } => self.refusals.push((want, why.to_string())),
                Output::GaveBack { block } => {
                    tracing::info!("gave {block} back: it was empty, and is not needed");
                    self.metrics.gave_back();
                    self.pause.forget();
                }
                Output::Unregistered => {
                    tracing::warn!(
                        "the record of {} is gone from etcd, or of another history: registering anew",
                        self.name
                    );
                    self.registered.send_replace(None);
                    self.metrics.registered(false);
                }
                Output::Registered { epoch, returned } => {
                    tell::registered(self.name.as_str(), epoch, returned);
                    self.registered.send_replace(Some(epoch));
                    self.metrics.registered(true);
                    self.pause.forget();
                }
                Output::Claimed { block, pool } => {
                    tracing::info!("claimed {block} of pool {pool}");
                    self.pause.forget();
                }
                Output::Exhausted(pools) => self.exhausted = pools,
                Output::Problems(problems) => self.teller.problems(&problems),
                Output::Pause => self.pause.begin(),
            }
        }
    }

    /// Refuses what ADDs want and cannot have. Comes after the node's row, which tells an ADD of exhausted pools in the words
    /// that all later ones get.
    async fn refuse(&mut self) {
        for (want, why) in std::mem::take(&mut self.refusals) {
            let done = self.store.run(move |store| store.refuse_want(&want, &why)).await;
            self.teller.store(done);
        }
    }

    /// An order of the keeper was carried out, or was not: then the next look tells it that nothing has changed, and it
    /// orders again.
    fn stored(&mut self, done: Result<(), Error>) {
        if done.is_err() {
            self.local = None;
        }
        self.teller.store(done);
    }

    /// Looks at the local blocks and at this node; what changed since the last look is the keeper's to know.
    async fn look(
        &mut self,
        picture: Option<&Picture>,
        underlay: Option<&Underlay>,
        standing: Option<Standing>,
    ) -> Vec<Input> {
        let view = picture.filter(|picture| picture.proven).map(|picture| picture.view.clone());
        let name = self.name.clone();
        let found = self.store.run(move |store| supplies(store, &name, view.as_deref())).await;
        let Supplies { local, tunnel, wants, unchecked } = match found {
            Ok(found) => found,
            Err(error) => {
                self.teller.store(Err(error));
                return Vec::new();
            }
        };
        let mut news = Vec::new();
        self.store.remember(&local);
        self.metrics.stand(&local);
        if self.local.as_ref() != Some(&local) {
            // What is programmed depends on which blocks there are, not on how many of their addresses are in use.
            if self.local.as_deref().map(shape) != Some(shape(&local)) {
                self.bell.ring(Causes { view: true, ..Causes::default() });
            }
            self.local = Some(local.clone());
            news.push(Input::Local(local));
        }
        if unchecked != self.unchecked {
            // The kernel's events of such a pod came before its row was attached, by which the firewall lets it go.
            self.bell.ring(Causes { view: true, ..Causes::default() });
            self.unchecked = unchecked;
        }
        if wants != self.wants {
            self.wants.clone_from(&wants);
            news.push(Input::Wants(wants));
        }
        // What is said of the node depends on what its record says, so etcd must have told that first.
        if let (Some(underlay), Some(picture)) = (underlay, picture.filter(|picture| picture.proven)) {
            let addresses = underlay.ends();
            // A tunnel address that is published stays so while the store is being filled again; another may replace it.
            let known = &self.facts.tunnel;
            let tunnel = Tunnel { ipv4: tunnel.ipv4.or(known.ipv4), ipv6: tunnel.ipv6.or(known.ipv6) };
            let (vxlan, path) = self.say(picture, underlay, standing).await;
            let facts = Facts { underlay: addresses, tunnel, vxlan, path, ..self.facts.clone() };
            if facts != self.facts || std::mem::take(&mut self.gave_up) {
                self.facts = facts;
                news.push(Input::Facts(self.facts.clone()));
            }
        }
        news
    }

    /// How this node receives and sends.
    async fn say(
        &mut self,
        picture: &Picture,
        underlay: &Underlay,
        standing: Option<Standing>,
    ) -> (Option<VxlanEnd>, Option<record::Path>) {
        let own = picture.view.nodes.get(&self.name).map(|record| &record.value);
        let config = picture.reach.config.as_ref().map(|config| &config.value);
        let idle = standing.is_some_and(|Standing { vxlan, .. }| vxlan.receives.is_some() && !vxlan.needed);
        let connected = idle && self.is_connected().await;
        let nodes = picture.view.nodes.len();
        let mtu = self.mtus.follow(&picture.reach, &self.name, underlay).underlay;
        self.ends.say(Known { own, config, standing, nodes, mtu, connected }, Instant::now())
    }

    /// Whether a connection of the node itself has one of its tunnel addresses. Where that cannot be known, it may.
    async fn is_connected(&self) -> bool {
        let Tunnel { ipv4, ipv6 } = self.facts.tunnel;
        let addresses: Vec<IpAddr> = ipv4.map(IpAddr::V4).into_iter().chain(ipv6.map(IpAddr::V6)).collect();
        // The table of a busy node is long.
        let looked = tokio::task::spawn_blocking(move || sockets::any_from(&addresses)).await;
        looked.expect("reading a table does not panic").unwrap_or(true)
    }

    /// Writes the node's row in the store, if what the plugin must know has changed.
    async fn tell_plugin(&mut self, picture: Option<&Picture>, underlay: Option<&Underlay>) {
        let (Some(picture), Some(underlay)) = (picture, underlay) else { return };
        let Some(config) = &picture.reach.config else { return };
        let pools: Vec<_> =
            config.value.pools.iter().map(|pool| NodePool::new(pool, pool.given(&self.facts.labels))).collect();
        let has = |family| pools.iter().any(|pool| pool.family == family && pool.given == Given::Default);
        let node = Node {
            name: self.name.to_string(),
            mtu: self.mtus.follow(&picture.reach, &self.name, underlay).pods,
            ipv4: has(Family::V4),
            ipv6: has(Family::V6),
            exhausted: self.exhausted.clone(),
            drain: None,
            pools: Some(pools),
        };
        // Before etcd has told anything in this run, what the store knows goes on; a new store knows nothing.
        let drain = self.keeper.drain().map(|drain| drain.map(str::to_owned));
        let saved = picture.view.nodes.get(&self.name).and_then(|record| record.value.drain.clone());
        // Compared with the store, not with a memory: somebody may have deleted the file.
        let done = self.store.run(move |store| {
            let known = store.node()?;
            let drain = drain.unwrap_or_else(|| known.as_ref().map_or(saved, |known| known.drain.clone()));
            let node = Node { drain, ..node };
            if known.as_ref() == Some(&node) { Ok(()) } else { store.set_node(&node) }
        });
        let done = done.await;
        self.teller.store(done);
    }
}

/// The view, where etcd itself told it in this run; the keeper must not see any other.
fn proven(picture: Option<&Picture>) -> Option<Input> {
    picture.filter(|picture| picture.proven).map(|picture| Input::View(picture.view.clone()))
}

/// What of the blocks matters to the kernel.
fn shape(blocks: &[BlockUse]) -> Vec<(Block, BlockState, Option<IpAddr>)> {
    blocks.iter().map(|block| (block.block, block.state, block.tunnel)).collect()
}

/// What a look at the node's store finds.
struct Supplies {
    /// The blocks with their use.
    local: Vec<BlockUse>,
    tunnel: Tunnel,
    /// What ADDs that wait want.
    wants: Vec<Want>,
    /// The pods without a spoof check.
    unchecked: Vec<KeyHash>,
}

/// What is there. The tunnel addresses are taken now where a family has its first block. Blocks that went to somebody else are
/// forgotten as soon as nothing of ours is in them, or they would stand in the new owner's way.
fn supplies(store: &mut twill_ipam::Store, me: &NodeName, view: Option<&View>) -> Result<Supplies, Error> {
    let now = BootTime::now();
    for lost in store.blocks(now)?.iter().filter(|block| is_lost(block, me, view)) {
        if let Some(ip) = lost.tunnel {
            store.release_tunnel(ip, now)?;
        }
        store.remove_block(lost.block, now)?;
    }
    let mut tunnel = Tunnel::default();
    for ipv6 in [false, true] {
        match store.tunnel(ipv6, now) {
            Ok(Some(IpAddr::V4(ip))) => tunnel.ipv4 = Some(ip),
            Ok(Some(IpAddr::V6(ip))) => tunnel.ipv6 = Some(ip),
            // Pods were faster; the next block has room.
            Ok(None) | Err(Error::NoFreeAddress { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // The wants first: whoever wants something then found no more than the use tells.
    let wants = store.wants(now)?;
    Ok(Supplies { local: store.blocks(now)?, tunnel, wants, unchecked: store.unchecked()? })
}

/// Whether a block from the cluster is closed here, and by etcd's own word not ours. One that is nobody's and has
/// addresses in use, the tunnel's among them, the keeper will claim again.
fn is_lost(block: &BlockUse, me: &NodeName, view: Option<&View>) -> bool {
    let closed = block.origin == Origin::Cluster && block.state == BlockState::Closing;
    let used = block.assigned > 0 || block.tunnel.is_some();
    let lost = |view: &View| match view.overlapping(block.block) {
        Some((there, record)) => *there != block.block || record.value.node != *me,
        None => !used,
    };
    closed && view.is_some_and(lost)
}
