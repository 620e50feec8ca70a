//! The first step of an ADD: addresses are set aside, as soon as there are some and the key is free.

use std::time::Duration;

use twill_ipam::alias::Proof;
use twill_ipam::{Attachment, BootTime, Error as Ipam, State};

use super::add::Add;
use super::take_out;
use super::waiting::Waiting;
use crate::error::{Error, MORE_SUBNETS, RESERVE};
use crate::kernel::{Builder, Kernel, Remains};

/// How often it looks meanwhile: a claim takes a few milliseconds.
const BLOCK_POLL: Duration = Duration::from_millis(10);

impl<B: Builder> Add<'_, B> {
    /// free → reserved. Waits for a block where the daemon may bring one.
    pub(super) fn reserve(&mut self) -> Result<Attachment, Error> {
        let mut waiting = Waiting::default();
        let reserved = self.try_reserve(&mut waiting);
        waiting.end(self.wanted, &mut self.store);
        reserved
    }

    fn try_reserve(&mut self, waiting: &mut Waiting) -> Result<Attachment, Error> {
        let wanted = self.wanted;
        loop {
            let now = self.builder.kernel().now();
            match self.store.reserve_with(&wanted.reservation, wanted.extras, now) {
                Ok(row) => return Ok(row),
                Err(Ipam::Exists { .. }) => self.make_way()?,
                Err(error @ Ipam::PortTaken { .. }) => {
                    if !self.free_dead()? {
                        return Err(Error::store(RESERVE)(error));
                    }
                }
                Err(error @ Ipam::NoFreeAddress { family, .. }) if wanted.is_standalone() => {
                    return Err(match self.is_cooling(family, now)? {
                        true => Error::store(RESERVE)(error),
                        false => Error::Exhausted { source: error, remedy: MORE_SUBNETS },
                    });
                }
                Err(error @ Ipam::Requested { .. }) if wanted.is_standalone() => {
                    return Err(Error::store(RESERVE)(error));
                }
                Err(error) => {
                    waiting.after(error, wanted, &mut self.store, (now, self.deadline))?;
                    self.builder.kernel().sleep(BLOCK_POLL);
                }
            }
        }
    }

    /// Whether some address of `subnets` of the family will be free without anybody's doing. STATUS asks the same.
    fn is_cooling(&self, family: &str, now: BootTime) -> Result<bool, Error> {
        let reservation = &self.wanted.reservation;
        let outlooks =
            self.store.outlook(reservation.subnets, reservation.pools, now).map_err(Error::store(RESERVE))?;
        Ok(outlooks.iter().any(|outlook| outlook.family.name() == family && outlook.cooling + outlook.free > 0))
    }

    /// The key has a row. A living attachment is an error; one whose link is gone, or whose DEL was never finished, is
    /// brought to its end, so that the way is free.
    fn make_way(&mut self) -> Result<(), Error> {
        let step = "finishing an earlier DEL";
        let hash = self.wanted.hash;
        let Some(row) = self.store.attachment(hash).map_err(Error::store(step))? else { return Ok(()) };
        // A reserved row is a killed ADD's: we have the lock.
        if row.state == State::Attached
            && self.builder.kernel().stands(hash, Proof::Name).map_err(Error::kernel(step))?
        {
            self.refuse_living(&row)?;
        }
        let kernel = self.builder.kernel();
        let mut remains = Remains::of(&row);
        remains.namespaces.push(self.wanted.reservation.netns);
        take_out(kernel, &remains).map_err(Error::kernel(step))?;
        self.store.release(row.id, kernel.now()).map_err(Error::store(step))
    }

    /// The host end of `row` stands. It is dead all the same where the namespace that it led to was replaced by another
    /// of the same path, and the kernel has not cleaned up yet. Of a row that was rebuilt from the kernel nobody knows the
    /// path, and it may lead to a living pod elsewhere.
    fn refuse_living(&mut self, row: &Attachment) -> Result<(), Error> {
        let place = match &row.netns {
            Some(path) if path == self.wanted.reservation.netns => match self.builder.pod_has_interface()? {
                true => String::new(),
                false => return Ok(()),
            },
            Some(path) => format!(", in {}", path.display()),
            None if self.builder.pod_has_interface()? => String::new(),
            None => ", in a namespace that is not known since the node's store was lost".to_owned(),
        };
        let why = format!("the attachment stands already{place}; DEL it first");
        Err(self.wanted.exists(why))
    }
}
