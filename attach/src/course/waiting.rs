//! Waiting for the daemon, where the node's own blocks have no address for an ADD.
//!
//! The ADD leaves in the store what it wants, rings, and tries again every few milliseconds. The daemon claims a block, or
//! writes down why it will not. One of a version that knows no wants gets the ring alone, and goes by the use of its blocks.
//! Where nobody hears the ring nobody is waited for.

use std::net::IpAddr;
use std::time::Duration;

use twill_ipam::{BootTime, Error as Ipam, Store, Unavailable, Want};

use super::add::Wanted;
use crate::error::{Error, RESERVE};

/// How long an ADD waits for the daemon to claim a block.
const PATIENCE: Duration = Duration::from_secs(3);

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
    /// What was left in the store.
    left: Option<Wish>,
    /// The daemon's refusal was seen.
    refused: bool,
}

impl Waiting {
    /// After the store refused with `error`: returns when it is worth while to try again in a moment, fails when it is not.
    /// Waits for an ADD that has to end at `deadline`.
    pub(super) fn after(
        &mut self,
        error: Ipam,
        wanted: &Wanted<'_>,
        store: &mut Store,
        (now, deadline): (BootTime, BootTime),
    ) -> Result<(), Error> {
        let wish = match &error {
            Ipam::NoFreeAddress { exhausted, .. } if !exhausted.is_empty() => {
                return Err(Error::Exhausted { source: error, remedy: EXHAUSTED });
            }
            Ipam::NotRebuilt => Wish::Look,
            Ipam::NoFreeAddress { .. } | Ipam::NotReady | Ipam::NoPool(_) => Wish::Block,
            // Only a claim can help, and a daemon of an older version is not asked for it.
            Ipam::Requested { address, why: Unavailable::Elsewhere(_) } if tells_of_pools(store)? => {
                Wish::BlockOf(*address)
            }
            _ => return Err(Error::store(RESERVE)(error)),
        };
        // A daemon that has just started may tell of pools only later.
        let left = self.left != Some(wish) && self.leave(wish, wanted, store, now)?;
        if (self.wish.replace(wish) != Some(wish) || left) && !(wanted.ring)() {
            return Err(Error::store(RESERVE)(error));
        }
        let until = *self.until.get_or_insert_with(|| deadline.min(BootTime(now.0 + PATIENCE)));
        let why = match self.left {
            Some(left) if left == wish => store.want_refusal(wanted.hash).map_err(Error::store(RESERVE))?,
            Some(_) | None => None,
        };
        let refused = |why: Unavailable| match wish {
            Wish::BlockOf(address) => Some(Ipam::Requested { address, why }),
            Wish::Block | Wish::Look => None,
        };
        // The store is asked once more: the daemon told it before it refused which pools are exhausted, and so an ADD that
        // comes just then and one that comes later are told the same.
        if let Some(why) = why
            && (std::mem::replace(&mut self.refused, true) || now >= until)
        {
            let error = refused(Unavailable::Told(why.clone())).unwrap_or(Ipam::Refused(why));
            return Err(Error::store(RESERVE)(error));
        }
        if now >= until {
            return Err(Error::store(RESERVE)(refused(Unavailable::Untold).unwrap_or(error)));
        }
        Ok(())
    }

    /// Leaves the want, where the daemon knows of wants. Whether it did.
    fn leave(&mut self, wish: Wish, wanted: &Wanted<'_>, store: &mut Store, now: BootTime) -> Result<bool, Error> {
        let address = match wish {
            Wish::Look => return Ok(false),
            Wish::Block if !tells_of_pools(store)? => return Ok(false),
            Wish::Block => None,
            Wish::BlockOf(address) => Some(address),
        };
        let want = Want { key: wanted.hash, pools: wanted.reservation.pools.to_vec(), address, at: now };
        store.leave_want(&want).map_err(Error::store(RESERVE))?;
        self.left = Some(wish);
        Ok(true)
    }

    /// The waiting is over, well or not.
    pub(super) fn end(&self, wanted: &Wanted<'_>, store: &mut Store) {
        if self.left.is_some() {
            // The daemon forgets one that stays after ten seconds.
            drop(store.take_want_back(wanted.hash));
        }
    }
}

/// Whether the daemon, if there is one, is of a version that tells of pools and knows wants.
fn tells_of_pools(store: &Store) -> Result<bool, Error> {
    let node = store.node().map_err(Error::store(RESERVE))?;
    Ok(node.is_some_and(|node| node.pools.is_some()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;

    use twill_ipam::store::{Node, Reservation, Role};
    use twill_ipam::{Extras, Key};
    use twill_linux::{IfName, MacAddr};

    use super::*;

    /// What an ADD is told that the daemon refuses as soon as it hears the ring, where the store then says `again`.
    fn told(again: Ipam) -> Error {
        let run_dir = tempfile::tempdir().unwrap();
        let daemon = RefCell::new(Store::open(run_dir.path(), Role::Daemon).unwrap());
        daemon.borrow_mut().set_node(&Node { pools: Some(Vec::new()), ..Node::default() }).unwrap();
        let (network, container) = ("net".parse().unwrap(), "c1".parse().unwrap());
        let key = Key { network, container, ifname: "eth0".parse().unwrap() };
        let hears = || {
            let mut daemon = daemon.borrow_mut();
            let want = daemon.wants(BootTime(Duration::ZERO)).unwrap().remove(0);
            daemon.refuse_want(&want, "it is so because I say so").unwrap();
            true
        };
        let wanted = Wanted {
            run_dir: run_dir.path(),
            reservation: Reservation {
                key: &key,
                netns: Path::new("/run/netns/p"),
                pod: None,
                subnets: &[],
                pools: &[],
                requested: &[],
            },
            hash: key.hash(),
            extras: &Extras::default(),
            ifname: IfName::new("eth0").unwrap(),
            mac: MacAddr(key.hash().pod_mac()),
            answers: false,
            filtered: false,
            mtu: None,
            routes: &[],
            began: BootTime(Duration::ZERO),
            ring: &hears,
        };
        let mut store = Store::open(run_dir.path(), Role::Plugin).unwrap();
        let mut waiting = Waiting::default();
        let times = (BootTime(Duration::ZERO), BootTime(Duration::from_secs(9)));
        waiting.after(none_free(&[]), &wanted, &mut store, times).expect("the store is asked once more");
        waiting.after(again, &wanted, &mut store, times).expect_err("it was refused")
    }

    fn none_free(exhausted: &[&str]) -> Ipam {
        let exhausted = exhausted.iter().map(|name| name.parse().unwrap()).collect();
        Ipam::NoFreeAddress { family: "IPv4", used: 4, total: 4, exhausted }
    }

    #[test]
    fn who_waits_for_a_pool_that_is_exhausted_is_told_what_all_later_ones_are() {
        assert!(matches!(told(none_free(&["main"])), Error::Exhausted { .. }));
        let refused = told(none_free(&[]));
        assert!(
            matches!(&refused, Error::Store { source: Ipam::Refused(why), .. } if why.contains("because I say so")),
            "{refused}"
        );
    }
}
