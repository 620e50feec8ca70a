//! What is in use on this node, by its store and its kernel side by side.
//!
//! What looks wrong in passing is looked at once more under the attachment's lock: between two looks an ADD or a DEL may have
//! come and gone. What somebody works on is right.

use std::collections::BTreeSet;
use std::path::Path;

use twill_attach::{Error, Kernel, Linux};
use twill_cluster::inquiry::{Fault, LiveAddress, Stray};
use twill_cluster::record::Holder;
use twill_ipam::alias::Proof;
use twill_ipam::store::{BlockUse, Inventory, Occupant};
use twill_ipam::{Attachment, BootTime, KeyHash, Liveness, State};

use crate::calendar::boot_time;
use crate::store::{NodeStore, run_dir};

const LOOK: &str = "looking at what is in use";

/// All of it.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) blocks: Vec<BlockUse>,
    pub(super) addresses: Vec<LiveAddress>,
    pub(super) strays: Vec<Stray>,
}

/// Looks.
pub(super) fn look(store: &NodeStore) -> Result<Sight, Error> {
    let mut kernel = Linux::of_daemon();
    let observed = kernel.observe().map_err(Error::kernel(LOOK))?;
    let ends = kernel.standing().map_err(Error::kernel(LOOK))?;
    let read = store.with(|store| Ok((store.inventory(BootTime::now())?, run_dir(store.path()))));
    let (inventory, run_dir) = read.map_err(Error::store(LOOK))?;
    let mut eye = Eye { store, run_dir: &run_dir, kernel };
    let faults = inventory.attachments.iter().map(|row| eye.fault(row, ends.contains(&row.hash)));
    let faults: Vec<Option<Fault>> = faults.collect::<Result<_, _>>()?;
    let known: BTreeSet<KeyHash> = inventory.attachments.iter().map(|row| row.hash).collect();
    let mut strays = Vec::new();
    for (hash, addresses) in observed.attachments.iter().filter(|(hash, _)| !known.contains(hash)) {
        if eye.is_stray(*hash)? {
            strays.push(Stray { interface: hash.host_ifname(), addresses: addresses.clone() });
        }
    }
    let addresses = addresses(&inventory, &faults);
    Ok(Sight { addresses, strays, blocks: inventory.blocks })
}

fn addresses(inventory: &Inventory, faults: &[Option<Fault>]) -> Vec<LiveAddress> {
    let boot = boot_time();
    let address = |occupied: &twill_ipam::store::Occupied| {
        let place = if let Occupant::Attachment(place) = occupied.by { Some(place) } else { None };
        LiveAddress {
            ip: occupied.ip,
            holder: Holder::of(inventory, occupied.by, boot),
            row: place.map(|place| inventory.attachments[place].id.0),
            fault: place.and_then(|place| faults[place]),
        }
    };
    inventory.addresses.iter().map(address).collect()
}

struct Eye<'a> {
    store: &'a NodeStore,
    run_dir: &'a Path,
    kernel: Linux,
}

impl Eye<'_> {
    /// What is wrong with an attachment whose link stood or did not stand a moment ago.
    fn fault(&mut self, row: &Attachment, link: bool) -> Result<Option<Fault>, Error> {
        if link && row.state == State::Attached {
            return Ok(None);
        }
        let held = Liveness::try_acquire(self.run_dir, row.hash).map_err(Error::store(LOOK))?;
        if held.is_none() || !self.row(row.hash)?.is_some_and(|now| now.is_still(row)) {
            return Ok(None);
        }
        Ok(match row.state {
            State::Attached => (!self.stands(row.hash, Proof::Name)?).then_some(Fault::NoLink),
            State::Reserved | State::Deleting => Some(Fault::HalfMade),
        })
    }

    /// Whether a host end stands that has no row.
    fn is_stray(&mut self, hash: KeyHash) -> Result<bool, Error> {
        let held = Liveness::try_acquire(self.run_dir, hash).map_err(Error::store(LOOK))?;
        Ok(held.is_some() && self.row(hash)?.is_none() && self.stands(hash, Proof::Alias)?)
    }

    fn row(&self, hash: KeyHash) -> Result<Option<Attachment>, Error> {
        self.store.with(|store| store.attachment(hash)).map_err(Error::store(LOOK))
    }

    fn stands(&mut self, hash: KeyHash, proof: Proof) -> Result<bool, Error> {
        self.kernel.stands(hash, proof).map_err(Error::kernel(LOOK))
    }
}
