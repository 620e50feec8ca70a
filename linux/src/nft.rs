//! Our nftables tables: one transaction a change, by `nft -j`.
//!
//! A table is a frame (chains, rules, sets) and the members of some sets, which come and go with the nodes of the cluster.
//!
//! What nft shows of a frame is not what was given to it: it fills in defaults and merges. So a frame is not compared
//! with what is desired but with what nft showed of it right after we made it. Two fingerprints are kept, of the frame
//! that was applied and of what nft showed then; a difference in either means that the table is made anew, whole. Members are
//! shown as they were given, and only those that differ are added and deleted: one node more is one element, however many
//! there are.
//!
//! The daemon [looks](Firewall::reconcile) on an nftables event and on its timer, and otherwise [goes on](Firewall::advance)
//! from what it made; nft takes about 15 ms, and one that has not ended after 10 s is killed.

mod members;
mod process;
mod transaction;
mod version;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imbl::OrdSet;
use nftables::schema::NfListObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::members::{Members, Turnover};
use self::process::{failed, run, start, succeeded};
use crate::Error;
use crate::monitor::Echoes;

pub use self::version::{Version, version};

/// What is done to a table, for errors.
const APPLY: &str = "apply the ruleset";

/// The text that `nft -j -f -` reads (libnftables-json(5)): one table of family inet and one name, made of it whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The table's name, family inet.
    pub table: String,
    /// The objects in it: chains, sets, rules.
    pub objects: Vec<NfListObject<'static>>,
    /// The addresses in some of its sets, by the set's name: in such as hold single addresses, no intervals, and have no elements
    /// among the objects.
    pub members: BTreeMap<String, OrdSet<IpAddr>>,
}

/// Whether the table of family inet and that name is there, in whatever form: one small request, and no run of nft. In the
/// namespace of the calling thread.
pub fn is_there(table: &str) -> Result<bool, Error> {
    crate::netfilter::has_table(table)
}

/// Keeps one table as it shall be. Remembers what nft reported back after the last change, so that someone else's
/// change, or a flush, is noticed. It works in the namespace of the calling thread.
#[derive(Debug)]
pub struct Firewall {
    file: PathBuf,
    memory: Option<Memory>,
    /// The members that stood after the last look or change, as long as the memory holds.
    standing: Option<Members>,
    echoes: Arc<Echoes>,
}

/// What was applied last, as fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// Of the frame.
    applied: String,
    /// Of what nft showed of it right after.
    shown: String,
}

impl Firewall {
    /// `memory`: a file in the run directory where the last applied fingerprints are kept over a restart. One that is not
    /// there or cannot be understood costs one change that was not needed. `echoes` is told of each change, so that it is no
    /// news to the caller's monitor.
    pub fn new(memory: &Path, echoes: Arc<Echoes>) -> Self {
        let kept = fs::read(memory).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file: memory.to_owned(), memory: kept, standing: None, echoes }
    }

    /// Looks at the table, and brings it to `desired` in one transaction if it is not so; true if it changed something. On
    /// an error the table is as it was, unless the error tells of another program at work, or of the memory's file.
    pub fn reconcile(&mut self, desired: &Ruleset) -> Result<bool, Error> {
        let applied = desired.frame_fingerprint();
        if let Some(memory) = self.memory.as_ref().filter(|memory| memory.applied == applied)
            && let Some(shown) = show(desired)?.filter(|shown| shown.fingerprint == memory.shown)
            && let Some(members) = shown.members
        {
            return self.exchange(members, desired);
        }
        self.replace(applied, desired)
    }

    /// As [`Self::reconcile`], but without a look where the frame is the one that was made last: by what stood then. For a
    /// caller who has heard of no change since.
    pub fn advance(&mut self, desired: &Ruleset) -> Result<bool, Error> {
        let same = self.memory.as_ref().is_some_and(|memory| memory.applied == desired.frame_fingerprint());
        match self.standing.take().filter(|_| same) {
            Some(members) => self.exchange(members, desired),
            None => self.reconcile(desired),
        }
    }

    /// Adds and deletes the members by which `standing` differs.
    fn exchange(&mut self, standing: Members, desired: &Ruleset) -> Result<bool, Error> {
        let turnover = Turnover::between(&standing, &desired.members);
        if !turnover.is_empty() {
            self.standing = None;
            self.apply(&turnover.transaction(&desired.table))?;
        }
        self.standing = Some(desired.members.clone());
        Ok(!turnover.is_empty())
    }

    /// Puts the whole table in the place of what stands.
    fn replace(&mut self, applied: String, desired: &Ruleset) -> Result<bool, Error> {
        self.forget();
        self.apply(&desired.transaction())?;
        let expected = rules_and_chains(&desired.objects);
        let as_given =
            |shown: &Shown| shown.rules_and_chains == expected && shown.members.as_ref() == Some(&desired.members);
        let Some(shown) = show(desired)?.filter(as_given) else {
            let detail = format!("table inet {}: another program changed it while it was applied", desired.table);
            return Err(Error::Nft { what: APPLY, detail, kind: ErrorKind::Interrupted });
        };
        self.standing = Some(desired.members.clone());
        self.remember(Memory { applied, shown: shown.fingerprint })?;
        Ok(true)
    }

    fn apply(&self, commands: &str) -> Result<(), Error> {
        let output = start(APPLY, &["-j", "-f", "-"], commands, |process| self.echoes.expect_of_process(process))?;
        succeeded(APPLY, output).map(drop)
    }

    /// Whether a table of that name stands, in whatever form.
    pub fn stands(&self, table: &str) -> Result<bool, Error> {
        Ok(list(table)?.is_some())
    }

    /// Removes the table; true if there was one.
    pub fn remove(&mut self, table: &str) -> Result<bool, Error> {
        self.forget();
        // The kernel is asked: where there is no nft, there may be nothing to remove.
        if !is_there(table)? {
            return Ok(false);
        }
        // Adding comes first: deleting a table that somebody deleted meanwhile would be an error.
        run("remove the table", &["-j", "-f", "-"], &transaction::removal(table))?;
        Ok(true)
    }

    fn forget(&mut self) {
        (self.memory, self.standing) = (None, None);
    }

    fn remember(&mut self, memory: Memory) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let temporary = self.file.with_extension("new");
            fs::write(&temporary, serde_json::to_vec(&memory)?)?;
            fs::rename(&temporary, &self.file)
        };
        let written = write().map_err(|cause| {
            let detail = format!("{}: {cause}", self.file.display());
            Error::Nft { what: "remember what was applied", detail, kind: cause.kind() }
        });
        self.memory = Some(memory);
        written
    }
}

fn rules_and_chains(objects: &[NfListObject<'_>]) -> usize {
    objects.iter().filter(|object| matches!(object, NfListObject::Rule(_) | NfListObject::Chain(_))).count()
}

/// What nft shows of a table.
struct Shown {
    /// Of all but the members.
    fingerprint: String,
    rules_and_chains: usize,
    /// `None` where a set holds something else than addresses.
    members: Option<Members>,
}

/// `None` where there is no such table.
fn show(desired: &Ruleset) -> Result<Option<Shown>, Error> {
    let Some(mut listing) = list(&desired.table)? else { return Ok(None) };
    let members = members::take(&mut listing, desired.members.keys());
    let objects = listing.get("nftables").and_then(Value::as_array);
    let is_counted = |object: &&Value| object.get("rule").is_some() || object.get("chain").is_some();
    let rules_and_chains = objects.map_or(0, |objects| objects.iter().filter(is_counted).count());
    strip(&mut listing);
    let fingerprint = fingerprint(listing.to_string().as_bytes());
    Ok(Some(Shown { fingerprint, rules_and_chains, members }))
}

/// What `nft -j list table` prints of a table of family inet; `None` where there is no such table.
pub(crate) fn list(table: &str) -> Result<Option<Value>, Error> {
    listing("list the table", &["table", "inet", table])
}

/// What `nft -j list` prints of an object; `None` where there is no such object.
pub(crate) fn listing(what: &'static str, object: &[&str]) -> Result<Option<Value>, Error> {
    let output = start(what, &[&["-j", "list"], object].concat(), "", |_| ())?;
    if !output.status.success() {
        // strerror(ENOENT), in English by LC_ALL.
        let absent = String::from_utf8_lossy(&output.stderr).contains("No such file or directory");
        return if absent { Ok(None) } else { Err(failed(what, &output)) };
    }
    let listing = serde_json::from_slice(&output.stdout);
    listing.map(Some).map_err(|error| {
        let detail = format!("its JSON cannot be read: {error}");
        Error::Nft { what, detail, kind: ErrorKind::InvalidData }
    })
}

/// Applies commands in nft's own language (nft(8)), all or none.
pub(crate) fn change(what: &'static str, commands: &str) -> Result<(), Error> {
    run(what, &["-f", "-"], commands).map(drop)
}

/// Takes out what changes by itself: handles, counts, remaining times, nft's version, and the order of a set's elements.
pub(crate) fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["handle", "metainfo", "packets", "bytes", "used", "expires"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(strip);
            if let Some(Value::Array(elements)) = fields.get_mut("elem") {
                elements.sort_by_cached_key(Value::to_string);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
