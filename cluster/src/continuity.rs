//! Whether etcd's history is still the one that was seen before.
//!
//! An etcd that is restored from a backup keeps its cluster ID; its revisions begin again where the backup ends, and may
//! have overtaken what was seen by the time that a node looks again. A watch would then go on as if nothing had been. So
//! before one goes on, the key that was seen last is read at its revision ([`Mark`]): in the same history it holds the
//! same. Where that was compacted away, the snapshot that must follow has to have what was written last ([`Mark::is_in`]),
//! and nothing in it may contradict what is known ([`follows`]). All this is
//! asked of linearizable reads only: the answer of a member that lags behind looks like a step back.

use crate::View;
use crate::key;
use crate::view::{self, Change, Delta, Entry, Snapshot};

/// The change that was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// At which revision.
    pub revision: i64,
    /// Which key.
    pub key: String,
    /// What it held then; `None`: it was deleted.
    pub value: Option<Vec<u8>>,
    /// What was written last: this, or before it.
    pub written: Option<Written>,
}

/// A key that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Which.
    pub key: String,
    /// At which revision.
    pub revision: i64,
    /// What it held then.
    pub value: Vec<u8>,
}

impl Written {
    fn is(&self, entry: &Entry) -> bool {
        (entry.modified, &entry.value) == (self.revision, &self.value)
    }
}

/// What a key was at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// This, or nothing.
    Found(Option<Entry>),
    /// etcd does not know any more.
    Compacted,
    /// etcd has not come so far.
    Future,
}

/// What the past says of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one that was seen: a watch may go on.
    Same,
    /// It is another one.
    Another,
    /// It cannot be told by this: take a snapshot.
    Unknown,
}

impl Mark {
    /// The mark that a snapshot leaves: its youngest key. `None` where it is empty.
    pub fn of_snapshot(snapshot: &Snapshot) -> Option<Self> {
        let youngest = snapshot.entries.iter().max_by_key(|entry| entry.modified)?;
        Some(Self::of_entry(youngest))
    }

    /// The mark after a delta.
    pub fn after(before: Option<Self>, delta: &Delta) -> Option<Self> {
        delta.changes.iter().fold(before, |before, change| match change {
            Change::Put(entry) => Some(Self::of_entry(entry)),
            Change::Delete(key) => {
                let written = before.and_then(|before| before.written);
                Some(Self { revision: delta.revision, key: key.clone(), value: None, written })
            }
        })
    }

    fn of_entry(entry: &Entry) -> Self {
        let (key, revision, value) = (entry.key.clone(), entry.modified, entry.value.clone());
        let written = Some(Written { key: key.clone(), revision, value: value.clone() });
        Self { revision, key, value: Some(value), written }
    }

    /// Whether a snapshot can be of the same history, where the past was compacted away: what was written last is there,
    /// or was written again. (It may have been deleted in the time of which nothing is known; then the snapshot is taken
    /// for one of another history, which costs a pause in claiming and is safe.)
    pub fn is_in(&self, snapshot: &Snapshot) -> bool {
        let Some(Written { key, revision, .. }) = &self.written else { return true };
        snapshot.entries.iter().any(|entry| entry.key == *key && entry.modified >= *revision)
    }

    /// What is to be read, a key at a revision each, in this order. A deletion is proved by two: that a key is gone could
    /// have many reasons. And since it bears no nonce, what was written before it is read too: another history may have
    /// deleted the same key at the same revision.
    pub fn readings(&self) -> impl Iterator<Item = (&str, i64)> {
        let before = self.value.is_none().then_some((self.key.as_str(), self.revision - 1));
        let written = self.earlier().map(|written| (written.key.as_str(), written.revision));
        before.into_iter().chain([(self.key.as_str(), self.revision)]).chain(written)
    }

    /// What was written before a deletion, unless that is what was deleted.
    fn earlier(&self) -> Option<&Written> {
        let is_before = |written: &&Written| (&written.key, written.revision) != (&self.key, self.revision - 1);
        self.written.as_ref().filter(|_| self.value.is_none()).filter(is_before)
    }

    /// Judges what one of these readings gave.
    pub fn judge(&self, (key, revision): (&str, i64), past: &Past) -> Verdict {
        let is_earlier =
            self.earlier().is_some_and(|written| (written.key.as_str(), written.revision) == (key, revision));
        let is_written = |entry: &Entry| self.written.as_ref().is_some_and(|written| written.is(entry));
        let same = match past {
            // The deletion itself was found, or this would not be asked.
            Past::Compacted if is_earlier => return Verdict::Same,
            Past::Compacted => return Verdict::Unknown,
            Past::Future => false,
            Past::Found(entry) if is_earlier => entry.as_ref().is_some_and(is_written),
            Past::Found(entry) if revision < self.revision => entry.is_some(),
            Past::Found(entry) => match (entry, &self.value) {
                (Some(entry), Some(_)) => is_written(entry),
                (None, None) => true,
                _ => false,
            },
        };
        if same { Verdict::Same } else { Verdict::Another }
    }
}

/// Whether a snapshot can be of the history that the view is of: it is not older, and what it has from the view's time is
/// what the view has. That something is missing proves nothing; it may have been deleted.
pub fn follows(view: &View, snapshot: &Snapshot) -> bool {
    let of_that_time = |entry: &&Entry| entry.modified <= view.revision;
    snapshot.revision >= view.revision
        && snapshot.entries.iter().filter(of_that_time).all(|entry| is_known(view, entry))
        && snapshot
            .entries
            .iter()
            .all(|entry| known(view, &entry.key).is_none_or(|modified| modified <= entry.modified))
}

/// Whether the view has the entry, at its revision. What cannot be read proves nothing: no view has it, and one from the disk
/// does not even name it.
fn is_known(view: &View, entry: &Entry) -> bool {
    known(view, &entry.key) == Some(entry.modified) || !view::is_readable(entry)
}

/// The revision at which the view has a key.
fn known(view: &View, key: &str) -> Option<i64> {
    match key::Key::parse(key).ok()?? {
        key::Key::Block(block) => view.blocks.get(&block).map(|record| record.modified),
        key::Key::Config => view.config.as_ref().map(|record| record.modified),
        key::Key::Node(name) => view.nodes.get(&name).map(|record| record.modified),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedStore;
    use crate::store::{Event, Range};
    use crate::txn::{Op, Txn};

    fn put(store: &SimulatedStore, key: &str, word: &str) {
        let value = format!(r#"{{"machine_id":"m","nonce":"{word}"}}"#).into_bytes();
        store.apply(&Txn { when: Vec::new(), then: vec![Op::Put { key: key.into(), value, lease: None }] });
    }

    fn look(store: &SimulatedStore) -> (View, Mark) {
        let snapshot = store.look(&Range::watched());
        let mut view = View::default();
        view.replace(&snapshot);
        (view, Mark::of_snapshot(&snapshot).unwrap())
    }

    fn verdict(store: &SimulatedStore, mark: &Mark) -> Verdict {
        let readings = mark.readings().map(|(key, revision)| mark.judge((key, revision), &store.past(key, revision)));
        readings.into_iter().find(|verdict| *verdict != Verdict::Same).unwrap_or(Verdict::Same)
    }

    #[test]
    fn a_history_that_went_on_is_the_same_by_its_past_and_by_a_snapshot() {
        let store = SimulatedStore::new();
        put(&store, "nodes/a", "1");
        let (view, mark) = look(&store);
        put(&store, "nodes/a", "2");
        put(&store, "nodes/b", "3");
        assert_eq!(verdict(&store, &mark), Verdict::Same);
        store.compact();
        assert_eq!(verdict(&store, &mark), Verdict::Unknown);
        assert!(mark.is_in(&store.look(&Range::watched())));
        assert!(follows(&view, &store.look(&Range::watched())));
    }

    #[test]
    fn a_view_from_the_disk_which_lacks_what_cannot_be_read_is_of_the_same_history() {
        let store = SimulatedStore::new();
        let write = |key: &str, value: &[u8]| {
            store.apply(&Txn {
                when: Vec::new(),
                then: vec![Op::Put { key: key.into(), value: value.into(), lease: None }],
            });
        };
        put(&store, "nodes/a", "1");
        write("config", br#"{"pool":[{"name":"main","cidr":"10.42.0.0/16"}]}"#);
        let (before, _) = look(&store);
        write("config", b"{");
        write("nodes/garbage", b"");
        write("blocks/4/0a2a0000-26", b"[]");
        put(&store, "nodes/b", "2");
        let (mut view, _) = look(&store);
        view.faults.clear();
        view.config = before.config;
        assert!(follows(&view, &store.look(&Range::watched())));
        view.nodes.remove(&"b".parse::<twill_conf::NodeName>().unwrap());
        assert!(!follows(&view, &store.look(&Range::watched())), "it had not b at that time");
    }

    #[test]
    fn where_the_past_is_compacted_a_restored_history_lacks_what_was_written_last() {
        let store = SimulatedStore::new();
        put(&store, "nodes/a", "1");
        let backup = store.backup();
        put(&store, "nodes/b", "2");
        let (view, mark) = look(&store);
        store.restore(&backup);
        (0..3).for_each(|_| put(&store, "alive/a", "x"));
        store.compact();
        let snapshot = store.look(&Range::watched());
        assert!(follows(&view, &snapshot), "by what it has it could be the same");
        assert_eq!((verdict(&store, &mark), mark.is_in(&snapshot)), (Verdict::Unknown, false));
    }

    #[test]
    fn a_restored_history_is_another_one_whether_it_is_behind_or_has_overtaken() {
        let store = SimulatedStore::new();
        put(&store, "nodes/a", "1");
        let backup = store.backup();
        put(&store, "nodes/a", "2");
        put(&store, "nodes/a", "3");
        let (view, mark) = look(&store);
        store.restore(&backup);
        for word in ["x", "y", "z"] {
            assert_eq!(verdict(&store, &mark), Verdict::Another);
            assert!(!follows(&view, &store.look(&Range::watched())), "{word}");
            put(&store, "nodes/c", word);
        }
        assert_eq!(verdict(&store, &mark), Verdict::Another, "it has overtaken");
        assert!(!follows(&view, &store.look(&Range::watched())), "its record of a is older");
    }

    #[test]
    fn the_same_deletion_at_the_same_revision_of_another_history_proves_nothing() {
        let delete = |store: &SimulatedStore| {
            store.apply(&Txn { when: Vec::new(), then: vec![Op::Delete { key: "nodes/b".into() }] });
        };
        let store = SimulatedStore::new();
        put(&store, "nodes/b", "1");
        let (before, _) = look(&store);
        let backup = store.backup();
        put(&store, "nodes/a", "2");
        delete(&store);
        let Some(Event::Delta(delta)) = store.news(&Range::watched(), Some(before.revision)) else { panic!("a delta") };
        let mark = Mark::after(None, &delta).unwrap();
        assert_eq!(verdict(&store, &mark), Verdict::Same);
        store.restore(&backup);
        put(&store, "nodes/c", "3");
        delete(&store);
        assert_eq!(verdict(&store, &mark), Verdict::Another);
    }
}
