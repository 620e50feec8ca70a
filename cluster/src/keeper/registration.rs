//! The node's own record: written by this node alone, never over another machine's.

use std::sync::Arc;

use super::flight::{Fate, Flight};
use super::{Facts, Identity, Problem};
use twill_ipam::Block;

use crate::View;
use crate::ability::{Ability, Can};
use crate::key;
use crate::record::{NodeRecord, Versioned};
use crate::request::{Answer, RequestId};
use crate::txn::{Compare, Op, Txn};
use twill_ipam::guard::{Guard, stands};

/// How far it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Registration {
    /// The record as last seen or written.
    known: Option<Versioned<NodeRecord>>,
    /// Set once this run has written the record: the epoch.
    epoch: Option<i64>,
    flight: Option<Flight<NodeRecord>>,
    /// There was a record when the first write was sent.
    returned: bool,
    /// The revision of the record (0: none) at which a write was refused: another try needs another record.
    refused: Option<i64>,
    /// Why the record cannot be written, as far as the last view says.
    obstacle: Option<Problem>,
    /// Why nothing will be assigned any more in this run.
    end: Option<Problem>,
    /// What somebody said of draining in this run: by this word, or not.
    drain: Option<Option<String>>,
}

/// What an answer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The first write of this run was done.
    Registered { epoch: i64, returned: bool },
    /// Go on.
    On,
    /// Go on after a pause.
    Later,
}

impl Registration {
    /// The epoch, while the node may claim by it.
    pub(super) fn epoch(&self) -> Option<i64> {
        if self.problem().is_some() { None } else { self.epoch }
    }

    /// What stands in the way of assigning.
    pub(super) fn problem(&self) -> Option<&Problem> {
        self.end.as_ref().or(self.obstacle.as_ref())
    }

    /// Whether the record is being written.
    pub(super) fn is_writing(&self) -> bool {
        self.flight.is_some()
    }

    /// The write on its way.
    pub(super) fn flight(&mut self) -> Option<&mut Flight<NodeRecord>> {
        self.flight.as_mut()
    }

    /// etcd lost history: the record has to be written again, whatever it says now.
    pub(super) fn restart(&mut self) {
        let (end, drain) = (self.end.take(), self.drain.take());
        *self = Self { end, drain, ..Self::default() };
    }

    /// The node is to be drained, or not any more. `word` is fresh; a drain that goes on keeps its own.
    pub(super) fn drain(&mut self, on: bool, word: String) {
        self.drain = Some(on.then(|| self.drained_by().map_or(word, str::to_owned)));
    }

    /// The word of the drain that holds. One that is to begin holds at once; one that is to end, until etcd has shown a
    /// record without it: only so does the record of a node that was cut off tell that it gives no addresses.
    pub(super) fn drained_by(&self) -> Option<&str> {
        // What stands in the way may be that the record is another machine's.
        let known = self.known.as_ref().filter(|_| self.obstacle.is_none());
        let begun = self.drain.as_ref().and_then(Option::as_deref);
        begun.or_else(|| known?.value.drain.as_deref())
    }

    /// Judges what the view shows under our name. `true`: the record of this run was deleted, and the epoch is over.
    pub(super) fn see(&mut self, view: &View, me: &Identity) -> bool {
        let seen = view.nodes.get(&me.node).map(Arc::as_ref);
        if self.known.as_ref().is_some_and(|known| view.revision < known.modified) {
            return false; // The answer to our write came before the view of it.
        }
        let unreadable = view.faults.get(&key::node(&me.node)).filter(|_| seen.is_none());
        self.obstacle = match (seen, unreadable) {
            (Some(record), _) if record.value.machine_id != me.machine_id && stands(Guard::MachineId) => {
                Some(Problem::NameTaken {
                    node: me.node.clone(),
                    owner: record.value.machine_id.clone(),
                    machine_id: me.machine_id.clone(),
                })
            }
            (_, Some(cause)) => Some(Problem::RecordUnreadable { node: me.node.clone(), cause: cause.clone() }),
            _ => None,
        };
        let Some(epoch) = self.epoch else {
            self.known = seen.cloned();
            return false;
        };
        let ours = |record: &Versioned<NodeRecord>| {
            let unchanged = self.known.as_ref().is_some_and(|known| known.modified == record.modified);
            record.created == epoch && (unchanged || me.wrote(&record.value.nonce))
        };
        match seen {
            _ if self.obstacle.is_some() => self.end = self.end.take().or(self.obstacle.clone()),
            Some(record) if ours(record) => self.known = Some(record.clone()),
            Some(record) if !stands(Guard::OwnRecordCompare) => self.known = Some(record.clone()),
            Some(_) => self.end = self.end.take().or(Some(Problem::RecordChanged { node: me.node.clone() })),
            None => {
                // Whoever deletes a node has done with its drain: if it comes back, it serves.
                self.drain = None;
                self.restart();
                return true;
            }
        }
        false
    }

    /// The write that is due, if one is: its record, to be given a nonce.
    pub(super) fn wanted(&self, facts: &Facts, disputes: &[Block], me: &Identity) -> Option<NodeRecord> {
        let stands = self.known.as_ref().map_or(0, |known| known.modified);
        if self.flight.is_some() || self.problem().is_some() || self.refused == Some(stands) {
            return None;
        }
        let other = self.known.as_ref().map(|known| known.value.other.clone()).unwrap_or_default();
        let record = NodeRecord {
            machine_id: me.machine_id.clone(),
            nonce: String::new(),
            underlay: facts.underlay.clone(),
            tunnel: facts.tunnel.clone(),
            vxlan: facts.vxlan.clone(),
            path: facts.path,
            labels: facts.labels.clone(),
            version: facts.version.clone(),
            can: Can::of(&facts.version, Ability::OF_THIS_VERSION),
            disputes: disputes.iter().map(Block::cidr).collect(),
            drain: self.drain.clone().unwrap_or_else(|| self.drained_by().map(str::to_owned)),
            other,
        };
        let says_the_same = |known: &Versioned<NodeRecord>| {
            let nonce = known.value.nonce.clone();
            NodeRecord { nonce, ..record.clone() } == known.value
        };
        let fresh = self.epoch.is_some() && self.known.as_ref().is_some_and(says_the_same);
        (!fresh).then_some(record)
    }

    /// The transaction for a record, which is on its way from now on.
    pub(super) fn send(&mut self, id: RequestId, record: NodeRecord, me: &Identity) -> Txn {
        let key = key::node(&me.node);
        let when = match &self.known {
            None => vec![Compare::Created { key: key.clone(), revision: 0 }],
            Some(known) => vec![
                Compare::Created { key: key.clone(), revision: known.created },
                Compare::Modified { key: key.clone(), revision: known.modified },
            ],
        };
        let value = serde_json::to_vec(&record).expect("a record has string keys and finite numbers");
        self.returned = self.known.is_some();
        self.flight = Some(Flight::new(id, key.clone(), record.nonce.clone(), record));
        Txn { when, then: vec![Op::Put { key, value, lease: None }] }
    }

    /// Takes an answer; `None` if it answers something else.
    pub(super) fn answered(&mut self, id: RequestId, answer: &Answer) -> Option<Progress> {
        let mut flight = self.flight.take()?;
        let Some(fate) = flight.settle(id, answer) else {
            self.flight = Some(flight);
            return None;
        };
        Some(match fate {
            Fate::Done { revision, created } => self.written(flight.what, revision, created),
            Fate::Refused => {
                self.refused = Some(self.known.as_ref().map_or(0, |known| known.modified));
                Progress::Later
            }
            Fate::Unsent | Fate::Undone => Progress::Later,
            Fate::Doubtful => {
                self.flight = Some(flight);
                Progress::On
            }
            Fate::Unread => {
                self.flight = Some(flight);
                Progress::Later
            }
        })
    }

    /// A pause is over: what was refused may be tried again.
    pub(super) fn resume(&mut self) {
        self.refused = None;
    }

    fn written(&mut self, value: NodeRecord, modified: i64, created: Option<i64>) -> Progress {
        let created = created.or(self.known.as_ref().map(|known| known.created)).unwrap_or(modified);
        self.refused = None;
        // A view may have shown a later state by now.
        if self.known.as_ref().is_none_or(|known| known.modified < modified) {
            self.known = Some(Versioned { value, created, modified });
        }
        match self.epoch {
            Some(_) => Progress::On,
            None => {
                self.epoch = Some(created);
                Progress::Registered { epoch: created, returned: self.returned }
            }
        }
    }
}
