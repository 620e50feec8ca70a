//! The ports of an ADD. One that is published already is somebody's, and the ADD fails with his name, but where he is no
//! more: an older plugin, or one that was killed, may have left his element, or his row.

use std::time::Duration;

use twill_conf::network::PortMapping;
use twill_ipam::alias::Proof;
use twill_ipam::{Attachment, KeyHash, Liveness};
use twill_linux::ports::Port;

use super::add::Add;
use super::take_out;
use crate::error::{Error, PUBLISH};
use crate::kernel::{Builder, Kernel, Remains};
use crate::ports::of;

/// How long somebody who works on the owner of a port that is taken is waited for, if the ADD itself may live so long.
const PATIENCE: Duration = Duration::from_secs(1);

const FREE: &str = "freeing a dead pod's ports of the node";

impl<B: Builder> Add<'_, B> {
    /// Publishes the ports of `row`.
    pub(super) fn publish(&mut self, row: &Attachment, pair: &B::Pair) -> Result<(), Error> {
        let ports = of(row);
        if ports.is_empty() {
            return Ok(());
        }
        match self.builder.publish(pair, &ports) {
            Err(twill_linux::Error::PortTaken { taken }) => {
                for port in &taken {
                    self.evict(port)?;
                }
                self.builder.publish(pair, &ports).map_err(Error::kernel(PUBLISH))
            }
            done => done.map_err(Error::kernel(PUBLISH)),
        }
    }

    /// Withdraws what the owner of `port` published, if he is no more: he has neither row nor link, and nobody works on him.
    fn evict(&mut self, port: &Port) -> Result<(), Error> {
        let taken = |holder| Error::PortTaken { port: format!("{}/{}", port.host_port, port.protocol), holder };
        let Some(owner) = KeyHash::parse(&port.owner) else { return Err(taken(port.owner.clone())) };
        self.in_time(PUBLISH)?;
        let mut _lock = None;
        if owner != self.wanted.hash {
            // Whoever works on him may be about to end: a DEL, the daemon's repair.
            _lock = match Liveness::acquire(self.wanted.run_dir, owner, self.patience()) {
                Err(twill_ipam::Error::Busy) => None,
                lock => Some(lock.map_err(Error::store(PUBLISH))?),
            };
            let row = self.store.attachment(owner).map_err(Error::store(PUBLISH))?;
            let link = self.builder.kernel().stands(owner, Proof::Name).map_err(Error::kernel(PUBLISH))?;
            if _lock.is_none() || row.is_some() || link {
                let holder = row.map_or_else(|| format!("the pod behind {}", owner.host_ifname()), |row| row.title());
                return Err(taken(holder));
            }
        }
        self.builder.withdraw(owner).map_err(Error::kernel(PUBLISH))
    }

    fn patience(&mut self) -> Duration {
        PATIENCE.min(self.deadline.since(self.builder.kernel().now()))
    }

    /// Frees the dead pods whose rows have a port that is wanted: their links are gone, and nobody works on them. Whether
    /// there was one.
    ///
    /// The sweep looks twice, since somebody may have renamed a link for a moment. Here one look is enough: with a link that is
    /// gone its routes are, and with one that was renamed they are not.
    pub(super) fn free_dead(&mut self) -> Result<bool, Error> {
        let wanted = self.wanted;
        let in_the_way = |row: &Attachment| {
            let overlaps = |theirs: &PortMapping| wanted.extras.ports.iter().any(|port| port.overlaps(theirs));
            row.hash != wanted.hash && row.extras.ports.iter().any(overlaps)
        };
        let mut freed = false;
        for row in self.store.attachments().map_err(Error::store(FREE))?.into_iter().filter(in_the_way) {
            self.in_time(FREE)?;
            let _lock = match Liveness::acquire(wanted.run_dir, row.hash, self.patience()) {
                Err(twill_ipam::Error::Busy) => continue,
                lock => lock.map_err(Error::store(FREE))?,
            };
            // He may have gone, or come anew, until we had his lock.
            let now = self.store.attachment(row.hash).map_err(Error::store(FREE))?;
            let Some(row) = now.filter(|now| now.id == row.id) else {
                freed = true;
                continue;
            };
            let kernel = self.builder.kernel();
            let addresses: Vec<_> = row.addresses.iter().map(|(ip, _)| *ip).collect();
            if kernel.stands(row.hash, Proof::Name).map_err(Error::kernel(FREE))?
                || kernel.leads_to_any(&addresses).map_err(Error::kernel(FREE))?
            {
                continue;
            }
            take_out(kernel, &Remains::of(&row)).map_err(Error::kernel(FREE))?;
            self.store.release(row.id, kernel.now()).map_err(Error::store(FREE))?;
            freed = true;
        }
        Ok(freed)
    }
}
