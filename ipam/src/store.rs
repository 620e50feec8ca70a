//! The node store: `node.db`, a SQLite file on tmpfs that plugin processes and the daemon open side by side.
//!
//! Any of them may be killed at any instruction; what was acknowledged stays, and what was not leaves no trace. Every
//! write is one short transaction that begins with BEGIN IMMEDIATE and ends before any netlink call. After each commit
//! the file is looked at once more: one that was removed meanwhile gives [`Error::Replaced`], and the caller undoes what
//! it did. The file does not outlive the boot; what it held is then gone from the kernel too.
//!
//! `opening` makes and opens the file, `schema` says what is in it; the other modules below are the methods by topic.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod attachments;
mod attempts;
mod blocks;
mod choosing;
mod cluster;
mod inventory;
mod node;
mod opening;
mod outlook;
mod rebuilding;
mod requesting;
mod reserving;
mod rows;
mod schema;
mod wants;
mod words;

pub use inventory::{Inventory, Occupant, Occupied};
pub use opening::Environment;
pub(crate) use opening::make_run_dir;
pub use schema::Schema;
pub use words::{Attempt, BlockState, BlockUse, Node, Observed, Origin, Outlook, Rebuilt, Reservation};

use ipnetwork::IpNetwork;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use twill_conf::PoolName;

use crate::error::{PATIENCE, sqlite};
use crate::{
    Attachment, AttachmentId, Block, BootTime, Error, Extras, Family, KeyHash, Liveness, State, Want, strings,
};

/// An open node store. One for each process.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    conn: Connection,
    /// Device and inode of the file that is open.
    file: (u64, u64),
    cooling: Duration,
    schema: Schema,
}

/// Who opens the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A plugin process: reads and writes what is there, makes the file where it is missing. Opening upgrades nothing; one
    /// write does, where it must ([`Store::reserve_with`]).
    Plugin,
    /// A DEL, or the record of what failed: reads and writes what is there, and makes nothing.
    Guest,
    /// The daemon, which upgrades the schema when it opens the file.
    Daemon,
    /// `twillctl`: reads only, makes nothing.
    Reader,
}

impl Store {
    /// Opens `node.db` in `run_dir`. A file of another boot is discarded first, one that is damaged is put aside.
    ///
    /// [`Error::NewerSchema`] where a newer major version made the file: ADD is then refused, and DEL works by the kernel
    /// alone. A reader or guest gets [`Error::Io`] where there is no file of this boot.
    pub fn open(run_dir: &Path, role: Role) -> Result<Self, Error> {
        Self::open_in(run_dir, role, &Environment::default())
    }
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Whether the open file is still the one at [`path`](Self::path); [`Error::Replaced`] if not. Every write asks this
    /// after its commit; who only reads for long asks it now and then, and opens the store anew.
    pub fn still_there(&self) -> Result<(), Error> {
        match opening::identity(&self.path)? {
            Some(file) if file == self.file => Ok(()),
            _ => Err(Error::Replaced(self.path.clone())),
        }
    }
    /// Whether the store was made in this boot and nobody has yet compared it with the kernel by
    /// [`rebuild`](Self::rebuild). Who opens the store for writing asks this first.
    pub fn needs_rebuild(&self) -> Result<bool, Error> {
        Ok(rebuilding::history(&self.conn)?.rebuilt.is_none())
    }

    // ---- what the plugin does -------------------------------------------------------------------------------------

    /// free → reserved: one transaction that takes one address of each family the node (or `subnets`) has.
    ///
    /// The caller holds the liveness lock of the key. An attachment that exists is [`Error::Exists`]; a row left
    /// `reserved` by a killed ADD is taken over with its addresses, as a new row. A store that was lost in this boot
    /// refuses with [`Error::NotRebuilt`] until it is rebuilt. An address that is asked for is given if anybody could have
    /// it, or if it cools in the attachment's own name; else [`Error::Requested`], and nothing is changed.
    pub fn reserve(&mut self, wanted: &Reservation<'_>, now: BootTime) -> Result<Attachment, Error> {
        self.reserve_with(wanted, &Extras::default(), now)
    }
    /// As [`reserve`](Self::reserve), for an attachment that is to have these ports and limits; [`Error::PortTaken`] where
    /// somebody has one of the ports. What a killed ADD left with ports or limits is not taken over ([`Error::Exists`]): they
    /// have to go from the kernel first.
    ///
    /// A file of minor version 0 is upgraded, if need be, in the same transaction: stand-alone there is no daemon to do it,
    /// and where there is one, and it is older, a step that only adds does it no harm. Without ports and limits the file
    /// stays as it is.
    pub fn reserve_with(
        &mut self,
        wanted: &Reservation<'_>,
        extras: &Extras,
        now: BootTime,
    ) -> Result<Attachment, Error> {
        let (schema, cooling) = (self.schema, self.cooling);
        let row = self.commit("reserving", |tx| {
            if !extras.is_empty() {
                schema.upgrade(tx, schema::version(tx)?)?;
            }
            reserving::reserve(tx, wanted, extras, now, cooling)
        })?;
        self.still_there().inspect_err(|_| {
            // The caller never gets to know the row, so nobody else would undo it.
            drop(self.commit("releasing", |tx| attachments::release(tx, row.id, now)));
        })?;
        Ok(row)
    }
    /// reserved → attached, where the row is still ours and reserved; else [`Error::Overtaken`].
    pub fn confirm(&mut self, id: AttachmentId, now: BootTime) -> Result<(), Error> {
        self.write("confirming", |tx| attachments::confirm(tx, id, now))
    }
    /// Whether a row is still `reserved`: what an ADD asks before each of its steps. [`Error::Replaced`] where others do not
    /// see it any more.
    pub fn still_reserved(&self, id: AttachmentId) -> Result<bool, Error> {
        strings::read();
        self.still_there()?;
        attachments::still_reserved(&self.conn, id)
    }
    /// any → deleting. `None` where there is no such attachment.
    pub fn mark_deleting(&mut self, key: KeyHash, now: BootTime) -> Result<Option<Attachment>, Error> {
        // Most DELs are repeats. They find nothing without a write, also where writing is impossible.
        if self.attachment(key)?.is_none() {
            return Ok(None);
        }
        self.write("marking", |tx| attachments::mark_deleting(tx, key, now))
    }
    /// deleting → cooling; also the undoing of a reservation. The caller has seen that the link is gone, and holds the
    /// liveness lock. Removes the row; its addresses cool. Nothing happens where the row is not there.
    pub fn release(&mut self, id: AttachmentId, now: BootTime) -> Result<(), Error> {
        self.write("releasing", |tx| attachments::release(tx, id, now))
    }
    /// As [`release`](Self::release), where the container must not get `ip` again at once: the kernel refused it. It cools
    /// in nobody's name.
    ///
    /// `false` where the row was not reserved any more: a DEL has marked it, and nothing of its key may come up.
    pub fn abandon(&mut self, id: AttachmentId, ip: IpAddr, now: BootTime) -> Result<bool, Error> {
        self.write("abandoning", |tx| attachments::abandon(tx, id, ip, now))
    }
    /// As [`release`](Self::release), for a row that [`sweep::judge`](crate::sweep::judge) condemned, under its lock:
    /// only where the row did not change since it was read. Says whether it was freed.
    pub fn sweep(&mut self, row: &Attachment, held: &Liveness, now: BootTime) -> Result<bool, Error> {
        if held.key() != row.hash {
            return Ok(false);
        }
        self.write("sweeping", |tx| attachments::sweep(tx, row, now))
    }
    /// What an ADD of these subnets or pools would find now, a family each. Writes nothing, and makes no block.
    ///
    /// [`Error::NotReady`] where the node has no open block yet, [`Error::NotRebuilt`] and [`Error::Overlap`] as
    /// [`reserve`](Self::reserve).
    pub fn outlook(&self, subnets: &[IpNetwork], pools: &[PoolName], now: BootTime) -> Result<Vec<Outlook>, Error> {
        let cooling = self.cooling;
        self.read("looking for addresses", |tx| outlook::outlook(tx, subnets, pools, now, cooling))
    }
    /// Leaves what an ADD wants of the daemon, in the place of what the attachment wanted before. Only where the daemon tells
    /// of pools ([`Node::pools`]): one that does not knows no wants, and its file may have no place for them.
    pub fn leave_want(&mut self, want: &Want) -> Result<(), Error> {
        self.write("leaving a want", |tx| wants::leave(tx, want))
    }
    /// Why the daemon will not do what an attachment wants, if it said so. Only after [`leave_want`](Self::leave_want).
    pub fn want_refusal(&self, key: KeyHash) -> Result<Option<String>, Error> {
        wants::refusal(&self.conn, key)
    }
    /// Takes a want back. Only after [`leave_want`](Self::leave_want).
    pub fn take_want_back(&mut self, key: KeyHash) -> Result<(), Error> {
        self.write("taking a want back", |tx| wants::take_back(tx, key))
    }
    /// One attachment.
    pub fn attachment(&self, key: KeyHash) -> Result<Option<Attachment>, Error> {
        self.read("reading an attachment", |tx| attachments::by_hash(tx, key))
    }
    /// Keeps a failed attempt; the oldest beyond 256 go. Long texts are cut.
    pub fn record_attempt(&mut self, attempt: &Attempt) -> Result<(), Error> {
        self.write("recording an attempt", |tx| attempts::record(tx, attempt))
    }

    // ---- what the daemon does, and what twillctl reads ------------------------------------------------------------

    /// What the daemon last wrote with [`set_node`](Self::set_node).
    pub fn node(&self) -> Result<Option<Node>, Error> {
        node::node(&self.conn)
    }
    /// Tells the plugin what it must know.
    pub fn set_node(&mut self, node: &Node) -> Result<(), Error> {
        self.write("writing the node", |tx| node::set(tx, node))
    }
    /// What ADDs that wait now want, oldest first. Wants that have outlived every ADD are removed.
    pub fn wants(&mut self, now: BootTime) -> Result<Vec<Want>, Error> {
        if wants::has_forgotten(&self.conn, now)? {
            self.write("forgetting wants", |tx| wants::forget(tx, now))?;
        }
        wants::waiting(&self.conn, now)
    }
    /// Tells an ADD that waits why its want is not done. Nothing happens where it does not wait any more, or wants something
    /// else by now.
    pub fn refuse_want(&mut self, want: &Want, why: &str) -> Result<(), Error> {
        self.write("refusing a want", |tx| wants::refuse(tx, want, why))
    }
    /// All blocks with their use, IPv4 first, in order of address.
    pub fn blocks(&self, now: BootTime) -> Result<Vec<BlockUse>, Error> {
        let cooling = self.cooling;
        self.read("reading blocks", |tx| blocks::usage(tx, now, cooling))
    }
    /// All that is in use, at one moment: what the mirror in etcd and the reports are made of.
    pub fn inventory(&self, now: BootTime) -> Result<Inventory, Error> {
        let cooling = self.cooling;
        self.read("taking the inventory", |tx| inventory::take(tx, now, cooling))
    }
    /// Adds a block, or changes state and pool of one that is there. [`Error::Overlap`] where it lies across another,
    /// or equals one of origin configuration.
    pub fn put_block(&mut self, block: Block, pool: &PoolName, state: BlockState) -> Result<(), Error> {
        self.write("writing a block", |tx| blocks::put(tx, block, pool, state))
    }
    /// open → closing, where no row of any state is in the block and it is not the tunnel's; the first step of giving it
    /// back. Says whether the block is closed now, `false` also where it is not there.
    pub fn close_empty_block(&mut self, block: Block, now: BootTime) -> Result<bool, Error> {
        let cooling = self.cooling;
        self.write("closing a block", |tx| blocks::close_empty(tx, block, now, cooling))
    }
    /// Forgets a block. Refused (`false`) while a row of any state, cooling included, or the tunnel's is in it.
    pub fn remove_block(&mut self, block: Block, now: BootTime) -> Result<bool, Error> {
        let cooling = self.cooling;
        self.write("removing a block", |tx| blocks::remove(tx, block, now, cooling))
    }
    /// The tunnel address: the one taken before, else one taken now from the first open cluster block of that family
    /// that has room. It stays the same while its block is there, open or closing. `None` where the node has no open
    /// cluster block of that family, [`Error::NoFreeAddress`] where they are full.
    pub fn tunnel(&mut self, ipv6: bool, now: BootTime) -> Result<Option<IpAddr>, Error> {
        let family = if ipv6 { Family::V6 } else { Family::V4 };
        if let Some(taken) = blocks::tunnel_address(&self.conn, family)? {
            return Ok(Some(taken));
        }
        let cooling = self.cooling;
        self.write("taking the tunnel address", |tx| blocks::take_tunnel(tx, family, now, cooling))
    }
    /// Takes another tunnel address of the family, from an open cluster block, and lets the old one cool: its block is to go.
    /// An error, and nothing is changed, where there is none to be had; with `give_up` the node then has none any more.
    pub fn move_tunnel(&mut self, family: Family, give_up: bool, now: BootTime) -> Result<Option<IpAddr>, Error> {
        let cooling = self.cooling;
        self.write("moving the tunnel address", |tx| blocks::move_tunnel(tx, family, give_up, now, cooling))
    }
    /// Gives the tunnel address back, so that its block can go; it cools. Nothing happens where `ip` is not one.
    pub fn release_tunnel(&mut self, ip: IpAddr, now: BootTime) -> Result<(), Error> {
        self.write("giving back the tunnel address", |tx| blocks::release_tunnel(tx, ip, now))
    }
    /// All attachments, oldest first.
    pub fn attachments(&self) -> Result<Vec<Attachment>, Error> {
        self.read("reading attachments", attachments::all)
    }
    /// The attachments that may send by the addresses of others, oldest first. The file is of minor version 1 at least: a
    /// daemon's is.
    pub fn unchecked(&self) -> Result<Vec<KeyHash>, Error> {
        let rows = self.read("reading attachments", attachments::with_extras)?;
        let unchecked = rows.iter().filter(|row| row.state == State::Attached && row.extras.unchecked);
        Ok(unchecked.map(|row| row.hash).collect())
    }
    /// The failed attempts, newest first.
    pub fn attempts(&self) -> Result<Vec<Attempt>, Error> {
        attempts::all(&self.conn)
    }
    /// Compares a store that was made in this boot with what stands in the kernel, unless somebody did so already
    /// (`None`); every address of which nothing is known cools from then on.
    ///
    /// The directory is locked meanwhile, so plugin and daemon do not both do this, and nobody opens the store. `look` is
    /// called under that lock, and again after the rows were written: a DEL that had the store open before may have
    /// removed a link in between, and its row goes again. Rows that are there already are left alone. Addresses outside of
    /// all blocks are kept too, and belong to a block as soon as there is one. Blocks that this node had before, but that
    /// become known only later, are for [`bring_back`](Self::bring_back).
    ///
    /// Nothing cools where the store is the first one of this boot and knew every attachment that was observed.
    pub fn rebuild<E: From<Error>>(
        &mut self,
        mut look: impl FnMut() -> Result<Observed, E>,
        now: BootTime,
    ) -> Result<Option<Rebuilt>, E> {
        let run_dir = self.path.parent().expect("the store lies in the run directory").to_owned();
        let _alone = opening::lock_alone(&run_dir, PATIENCE)?;
        self.still_there()?;
        if !self.needs_rebuild()? {
            return Ok(None);
        }
        let (observed, cooling, schema) = (look()?, self.cooling, self.schema);
        let mut rebuilt = self.write("rebuilding", |tx| {
            if !observed.extras.is_empty() {
                schema.upgrade(tx, schema::version(tx)?)?;
            }
            rebuilding::rebuild(tx, &observed, now, cooling)
        })?;
        if !rebuilt.added.is_empty() {
            let standing = look()?.attachments;
            let gone = |hash: &KeyHash| standing.iter().all(|(stands, _)| stands != hash);
            for hash in rebuilt.added.extract_if(.., |hash| gone(hash)) {
                self.forget(&run_dir, hash, now)?;
            }
        }
        Ok(Some(rebuilt))
    }
    /// Opens a block that this node had before. Where the store does not know it, it was lost with the one before: its
    /// addresses may be on their way in the network yet, and cool for what is left of the time since the rebuild.
    /// [`put_block`](Self::put_block) is for blocks whose addresses nobody had lately, as after a claim.
    pub fn bring_back(&mut self, block: Block, pool: &PoolName) -> Result<(), Error> {
        self.write("bringing back a block", |tx| blocks::bring_back(tx, block, pool))
    }
    /// Takes over an attachment that was seen in the kernel and has no row, under its lock: what [`rebuild`](Self::rebuild)
    /// does for all. `false`, and no row is changed, where it has one, or somebody else has one of the addresses. The schema is
    /// upgraded in any case, if need be.
    pub fn adopt(&mut self, seen: &Observed, held: &Liveness, now: BootTime) -> Result<bool, Error> {
        let (hash, schema) = (held.key(), self.schema);
        self.write("taking over an attachment", |tx| {
            schema.upgrade(tx, schema::version(tx)?)?;
            rebuilding::adopt(tx, hash, seen, now)
        })
    }
    /// A passive checkpoint of the write-ahead log.
    pub fn checkpoint(&self) -> Result<(), Error> {
        let pragma = self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        pragma.map_err(sqlite("a checkpoint"))
    }

    // ---- transactions ---------------------------------------------------------------------------------------------

    /// One write, and a look whether the file is still the one that others open.
    fn write<T>(
        &mut self,
        what: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let outcome = self.commit(what, change)?;
        self.still_there()?;
        Ok(outcome)
    }

    /// One transaction. It begins as a write: one that reads first and writes later fails at once where it meets another,
    /// whatever the busy handler would wait.
    fn commit<T>(
        &mut self,
        what: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        strings::write(what)?;
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite(what))?;
        self.schema.check(&self.path, schema::version(&tx)?)?;
        let outcome = change(&tx)?;
        tx.commit().map_err(sqlite(what))?;
        strings::written();
        Ok(outcome)
    }

    /// Frees the row of an attachment whose link went away, unless somebody works on it, who will see to it.
    fn forget(&mut self, run_dir: &Path, hash: KeyHash, now: BootTime) -> Result<(), Error> {
        let (Some(held), Some(row)) = (Liveness::try_acquire(run_dir, hash)?, self.attachment(hash)?) else {
            return Ok(());
        };
        self.sweep(&row, &held, now).map(drop)
    }

    /// Several reads of one state.
    fn read<T>(&self, what: &'static str, look: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        strings::read();
        let tx = self.conn.unchecked_transaction().map_err(sqlite(what))?;
        let outcome = look(&tx)?;
        tx.commit().map_err(sqlite(what))?;
        Ok(outcome)
    }
}
