//! Waiting for the daemon, where the node's own blocks have no address for an ADD.
//!
//! The ADD leaves in the store what it wants, rings the doorbell, and tries again every few milliseconds. The daemon claims a
//! block, or writes down why it will not. Where nobody hears the doorbell nobody is waited for.

use std::net::IpAddr;
use std::time::Duration;

use twill_ipam::{BootTime, Error as Ipam, Unavailable, Want};

use super::add::{Add, RESERVE};
use crate::error::Error;
use crate::kernel::{Builder, Kernel};

/// How long an ADD waits for the daemon to claim a block.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks meanwhile: a claim takes a few milliseconds.
const POLL: Duration = Duration::from_millis(10);

const EXHAUSTED: &str =
    "add a pool of this family to the cluster configuration, remove pods, or delete nodes that are gone";

/// What an ADD wants of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// No more than that it looks.
    Look,
    /// A block of the pools that serve the ADD.
    Block,
    /// The block of this address.
    BlockOf(IpAddr),
}

/// One ADD's waiting: nothing, until the first time that it has to.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    until: Option<BootTime>,
    wish: Option<Wish>,
    /// A want of this ADD stands in the store.
    left: bool,
}

impl<B: Builder> Add<'_, B> {
    /// After the store refused with `error`: returns when it is worth while to try again, fails when it is not.
    pub(super) fn wait(&mut self, waiting: &mut Waiting, error: Ipam) -> Result<(), Error> {
        let now = self.builder.kernel().now();
        let wish = match &error {
            Ipam::NoFreeAddress { exhausted, .. } if !exhausted.is_empty() => {
                return Err(Error::Exhausted { source: error, remedy: EXHAUSTED });
            }
            Ipam::NotRebuilt => Wish::Look,
            Ipam::NoFreeAddress { .. } | Ipam::NotReady | Ipam::NoPool(_) => Wish::Block,
            // A daemon of an older version tells of no pools, and knows no wants.
            Ipam::Requested { address, why: Unavailable::Elsewhere(_) } if self.tells_of_pools()? => {
                Wish::BlockOf(*address)
            }
            _ => return Err(Error::store(RESERVE)(error)),
        };
        if waiting.wish != Some(wish) {
            waiting.wish = Some(wish);
            self.leave(waiting, wish, now)?;
            if !(self.wanted.ring)() {
                return Err(Error::store(RESERVE)(error));
            }
        }
        let until = *waiting.until.get_or_insert_with(|| self.deadline.min(BootTime(now.0 + PATIENCE)));
        let refusal = |store: &twill_ipam::Store| store.want_refusal(self.wanted.hash).map_err(Error::store(RESERVE));
        let told = if waiting.left { refusal(&self.store)? } else { None };
        let refused = |why: Unavailable| match wish {
            Wish::BlockOf(address) => Some(Ipam::Requested { address, why }),
            Wish::Block | Wish::Look => None,
        };
        if let Some(why) = told {
            let error = refused(Unavailable::Told(why.clone())).unwrap_or(Ipam::Refused(why));
            return Err(Error::store(RESERVE)(error));
        }
        if now >= until {
            return Err(Error::store(RESERVE)(refused(Unavailable::Untold).unwrap_or(error)));
        }
        self.builder.kernel().sleep(POLL);
        Ok(())
    }

    /// The waiting is over, well or not.
    pub(super) fn wait_no_more(&mut self, waiting: &Waiting) {
        if waiting.left {
            // The daemon forgets one that stays after ten seconds.
            drop(self.store.take_want_back(self.wanted.hash));
        }
    }

    fn leave(&mut self, waiting: &mut Waiting, wish: Wish, now: BootTime) -> Result<(), Error> {
        let address = match wish {
            Wish::Look => return Ok(()),
            Wish::Block => None,
            Wish::BlockOf(address) => Some(address),
        };
        let pools = self.wanted.reservation.pools.to_vec();
        let want = Want { key: self.wanted.hash, pools, address, at: now };
        self.store.leave_want(&want).map_err(Error::store(RESERVE))?;
        waiting.left = true;
        Ok(())
    }

    fn tells_of_pools(&self) -> Result<bool, Error> {
        let node = self.store.node().map_err(Error::store(RESERVE))?;
        Ok(node.is_some_and(|node| !node.pools.is_empty()))
    }
}
