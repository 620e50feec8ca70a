//! The node's kernel as a map, with its clock, and with the faults that it is told to have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use twill_ipam::{BootTime, KeyHash};
use twill_testkit::histories::Counts;

use crate::oracle::Oracle;

/// The board, which the process that runs and the world share.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Board>>);

impl Shared {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Board::new())))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a process is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Add,
    Del,
    Gc,
    Daemon,
    Sweep,
}

/// A veth.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// No other one ever has it.
    pub(crate) serial: u64,
    /// In which instance of a namespace its other end is.
    pub(crate) instance: u64,
    /// Those that its alias names.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether the pod's end has them.
    pub(crate) configured: bool,
    /// Whether somebody has renamed it once for a moment.
    pub(crate) hidden: bool,
}

/// What a process may know, and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    pub(crate) kind: Kind,
    pub(crate) hash: Option<KeyHash>,
    /// A number that grows with everything that begins or ends.
    pub(crate) began: u64,
    /// An ADD that has a row, and what is to become of it.
    pub(crate) building: bool,
    /// It has asked for its row to become attached.
    pub(crate) confirming: bool,
    pub(crate) confirmed: bool,
    /// A DEL has marked its row.
    pub(crate) overtaken: bool,
    /// Somebody else took its link away, or the ground from under its lock.
    pub(crate) undermined: bool,
    /// A DEL that has marked, or found nothing to mark.
    pub(crate) marked: bool,
    /// What the runtime called valid.
    pub(crate) valid: BTreeSet<KeyHash>,
}

impl Kind {
    /// For the counts.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Daemon => "daemon's look",
            Self::Sweep => "sweep",
        }
    }
}

/// As a program that plays a history again has it.
impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Add => "Add",
            Self::Del => "Del",
            Self::Gc => "Gc",
            Self::Daemon => "Daemon",
            Self::Sweep => "Sweep",
        };
        write!(f, "Kind::{name}")
    }
}

impl Course {
    pub(crate) fn new(kind: Kind, hash: Option<KeyHash>, began: u64, valid: BTreeSet<KeyHash>) -> Self {
        Self {
            kind,
            hash,
            began,
            building: false,
            confirming: false,
            confirmed: false,
            overtaken: false,
            undermined: false,
            marked: false,
            valid,
        }
    }
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) now: BootTime,
    pub(crate) links: BTreeMap<KeyHash, Link>,
    /// Those that somebody has renamed for good: of their names they are none of ours any more.
    pub(crate) strays: Vec<Link>,
    /// The devices that limit what pods send.
    pub(crate) ifbs: BTreeSet<KeyHash>,
    /// Where routes lead to: the number of a link, 0 for one that is none of ours.
    pub(crate) routes: Vec<(IpAddr, u64)>,
    pub(crate) tunnel: Option<IpAddr>,
    /// The instance of each container's namespace that its path leads to; absent where there is none.
    pub(crate) namespaces: BTreeMap<(u8, bool), u64>,
    /// The link that somebody has renamed, until when.
    pub(crate) renamed: Option<(KeyHash, BootTime)>,
    /// So many changes are refused.
    pub(crate) refusals: u32,
    /// So many transactions find room yet.
    pub(crate) room: Option<u32>,
    /// Whether a daemon hears the doorbell.
    pub(crate) heard: bool,
    pub(crate) processes: Vec<Course>,
    /// The processes that have not ended.
    pub(crate) running: Vec<usize>,
    pub(crate) oracle: Oracle,
    pub(crate) counts: Counts,
    serial: u64,
}

impl Board {
    fn new() -> Self {
        Self {
            now: BootTime(Duration::from_secs(1_000_000)),
            links: BTreeMap::new(),
            strays: Vec::new(),
            ifbs: BTreeSet::new(),
            routes: Vec::new(),
            tunnel: None,
            namespaces: BTreeMap::new(),
            renamed: None,
            refusals: 0,
            room: None,
            heard: false,
            processes: Vec::new(),
            running: Vec::new(),
            oracle: Oracle::default(),
            counts: Counts::new(),
            serial: 0,
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A number that was not there before.
    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Whether a write finds room.
    pub(crate) fn has_room(&mut self) -> bool {
        match &mut self.room {
            None => true,
            Some(0) => {
                self.count("fault: no room");
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Whether a change is refused.
    pub(crate) fn refuses(&mut self) -> bool {
        if self.refusals == 0 {
            return false;
        }
        self.refusals -= 1;
        self.count("fault: refused by the kernel");
        true
    }

    /// A process has committed.
    pub(crate) fn written(&mut self, process: usize) {
        let Course { kind, hash, marked, .. } = self.processes[process];
        if kind == Kind::Del && !marked {
            self.processes[process].marked = true;
            for other in &mut self.processes {
                other.overtaken |= other.kind == Kind::Add && other.hash == hash && other.building && !other.confirmed;
            }
        }
        let course = &mut self.processes[process];
        course.confirmed |= course.confirming;
    }

    /// The link of `hash`, as a process sees it. Who renamed it puts the name back before anybody but the sweep looks.
    pub(crate) fn sees(&mut self, hash: KeyHash, sweep: bool) -> bool {
        if !sweep {
            self.renamed = None;
        }
        self.links.contains_key(&hash) && self.renamed.is_none_or(|(renamed, _)| renamed != hash)
    }

    /// Somebody from outside takes a link away.
    pub(crate) fn undermine(&mut self, hash: KeyHash) {
        self.oracle.excuse(hash);
        for process in &mut self.processes {
            process.undermined |= process.hash == Some(hash);
        }
        self.unlink(hash);
    }

    /// Whether an instance of a namespace has a pod's interface.
    pub(crate) fn has_interface(&self, instance: u64) -> bool {
        self.links.values().chain(&self.strays).any(|link| link.instance == instance)
    }

    /// Takes a link away, with all that goes with it.
    pub(crate) fn unlink(&mut self, hash: KeyHash) -> Option<Link> {
        let link = self.links.remove(&hash)?;
        self.routes.retain(|(_, to)| *to != link.serial);
        if self.renamed.is_some_and(|(renamed, _)| renamed == hash) {
            self.renamed = None;
        }
        self.oracle.went(hash, &link, self.now);
        Some(link)
    }

    /// Somebody renames the link of a live pod for a moment, shorter than the grace period. Nobody does it twice to the
    /// same link: one that two looks and the removal each miss anew cannot be told from one that is gone.
    pub(crate) fn rename(&mut self, hash: KeyHash) {
        let Some(link) = self.links.get_mut(&hash).filter(|link| !link.hidden) else { return };
        if self.oracle.lives.contains_key(&hash) {
            link.hidden = true;
            self.renamed = Some((hash, BootTime(self.now.0 + Duration::from_secs(20))));
            self.count("fault: link renamed for a moment");
        }
    }

    /// Somebody renames a link for good. Its pod lives on, and its routes stand.
    pub(crate) fn stray(&mut self, hash: KeyHash) -> bool {
        let Some(link) = self.links.remove(&hash) else { return false };
        self.oracle.excuse(hash);
        for process in &mut self.processes {
            process.undermined |= process.hash == Some(hash);
        }
        self.strays.push(link);
        true
    }

    /// What was renamed goes.
    pub(crate) fn end_strays(&mut self, which: impl Fn(&Link) -> bool) {
        for link in self.strays.extract_if(.., |link| which(link)) {
            self.routes.retain(|(_, to)| *to != link.serial);
        }
    }

    /// A namespace goes, with what is in it.
    pub(crate) fn destroy(&mut self, container: u8, other: bool) -> bool {
        let Some(instance) = self.namespaces.remove(&(container, other)) else { return false };
        let inside = |link: &Link| link.instance == instance;
        self.end_strays(inside);
        let gone: Vec<_> = self.links.iter().filter(|(_, link)| inside(link)).map(|(hash, _)| *hash).collect();
        gone.into_iter().for_each(|hash| self.undermine(hash));
        true
    }
}
