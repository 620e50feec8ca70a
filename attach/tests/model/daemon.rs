//! The daemon of the node: a handle of the store that its tasks share, and the tasks that touch addresses.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use twill_attach::Kernel as _;
use twill_attach::course::{Rows, rebuild};
use twill_conf::PoolName;
use twill_conf::cluster::{Given, Pool};
use twill_ipam::store::{BlockState, BlockUse, Node};
use twill_ipam::{Block, Error, NodePool, Store};

use crate::hands::Hands;

/// The pool of all blocks.
const POOL: &str = "default";

/// What the tasks of one daemon share: the store, while none of them works on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Arc<Mutex<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    store: Option<Store>,
    /// The blocks as they were seen last.
    blocks: Vec<BlockUse>,
}

/// The store in the hands of one task.
pub(crate) struct Shared {
    pub(crate) place: Place,
    pub(crate) hands: Hands,
    pub(crate) run_dir: PathBuf,
}

impl Shared {
    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.place.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the store, when the daemon starts.
    pub(crate) fn open(&mut self) -> bool {
        let opened = rebuild::open(&mut self.hands, &self.run_dir, &[]);
        let is_open = opened.is_ok();
        self.slot().store = opened.ok().map(|(store, _)| store);
        is_open
    }

    /// What the block task does where it looks: tells the plugin what it must know, opens what the node `owns`, newly
    /// claimed or not, forgets what it does not, and takes the tunnel's address.
    pub(crate) fn look(&mut self, owns: &[(Block, bool)]) -> Result<(), Error> {
        let now = self.hands.now();
        let pool: PoolName = POOL.parse().unwrap();
        let told = NodePool::new(&Pool::new(pool.clone(), "10.42.0.0/16".parse().unwrap(), 30), Given::Default);
        let (name, pools) = ("n1".into(), Some(vec![told]));
        let node = Node { name, mtu: 1450, ipv4: true, ipv6: false, pools, ..Node::default() };
        if self.with(|store| store.node())?.as_ref() != Some(&node) {
            self.with(|store| store.set_node(&node))?;
        }
        let has = self.with(|store| store.blocks(now))?;
        self.slot().blocks = has.clone();
        for (block, fresh) in owns {
            if !has.iter().any(|has| has.block == *block && has.state == BlockState::Open) {
                self.with(|store| match fresh {
                    true => store.put_block(*block, &pool, BlockState::Open),
                    false => store.bring_back(*block, &pool),
                })?;
            }
        }
        for has in has.iter().filter(|has| owns.iter().all(|(block, _)| *block != has.block)) {
            self.with(|store| store.remove_block(has.block, now))?;
        }
        if let Ok(Some(ip)) = self.with(|store| store.tunnel(false, now)) {
            self.hands.strings.pause();
            self.hands.board.lock().take_tunnel(ip);
        }
        Ok(())
    }

    /// Closes a block, if it is empty. Whether it may be given back.
    pub(crate) fn close(&mut self, block: Block) -> Result<bool, Error> {
        let now = self.hands.now();
        let closed = self.with(|store| store.close_empty_block(block, now))?;
        let has = self.with(|store| store.blocks(now))?;
        let is_closed = closed && has.iter().any(|has| has.block == block && has.state == BlockState::Closing);
        self.slot().blocks = has;
        if is_closed {
            self.hands.board.lock().closed(block);
        }
        Ok(is_closed)
    }
}

impl Rows for Shared {
    fn with<T>(&mut self, work: impl FnOnce(&mut Store) -> T) -> T {
        let (mut store, blocks) = loop {
            let mut slot = self.slot();
            if let Some(store) = slot.store.take() {
                break (store, slot.blocks.clone());
            }
            drop(slot);
            self.hands.sleep(Duration::from_millis(1));
        };
        // Where that fails, every write is refused.
        drop(rebuild::reopen(&mut self.hands, &mut store, &blocks));
        let done = work(&mut store);
        self.slot().store = Some(store);
        done
    }
}
