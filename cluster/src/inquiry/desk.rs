//! The daemon's side: which requests are looked at, in which order, and what is dropped. Without I/O or clock.
//!
//! Whoever may write below `requests/` may write anything there, and as much as he likes. So a node takes up few requests in a
//! second and remembers few; what is more is dropped, and what is no request is not answered. Both are told, at most
//! once in a minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use twill_conf::NodeName;
use twill_ipam::BootTime;

use super::LONGEST_REQUEST;
use crate::store::Event;
use crate::view::{Change, Entry};

/// So many may wait.
const MOST_WAITING: usize = 64;
/// So many are taken up at once where none was for a while, and how long each takes to be allowed again.
const BURST: u32 = 32;
const AGAIN: Duration = Duration::from_millis(100);
/// Between two complaints.
const QUIET: Duration = Duration::from_secs(60);
/// The longest ID of a request, in bytes.
const LONGEST_ID: usize = 64;

/// A request that is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its ID.
    pub id: String,
    /// Its mod_revision.
    pub revision: i64,
    /// Its value, of bounded length.
    pub value: Vec<u8>,
}

/// What the daemon knows of its requests.
#[derive(Debug, Clone)]
pub struct Desk {
    prefix: String,
    waiting: VecDeque<Letter>,
    /// Requests that stand and were taken up, with their revisions: a snapshot tells of them again.
    done: BTreeMap<String, i64>,
    /// How many may be taken up, and as of when.
    allowed: (u32, BootTime),
    /// What was dropped since the last complaint, with the reason of the last.
    dropped: Option<(u64, String)>,
    complained: Option<BootTime>,
}

impl Desk {
    /// An empty one.
    pub fn new(node: &NodeName) -> Self {
        Self {
            prefix: super::request_key(node, ""),
            waiting: VecDeque::new(),
            done: BTreeMap::new(),
            allowed: (BURST, BootTime::default()),
            dropped: None,
            complained: None,
        }
    }

    /// Takes what the watch of `requests/<node>/` tells.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Snapshot(snapshot) | Event::Restored(snapshot) => {
                self.waiting.clear();
                let stands =
                    |id: &String| snapshot.entries.iter().any(|entry| entry.key == format!("{}{id}", self.prefix));
                self.done.retain(|id, _| stands(id));
                snapshot.entries.into_iter().for_each(|entry| self.receive(entry));
            }
            Event::Delta(delta) => {
                for change in delta.changes {
                    match change {
                        Change::Put(entry) => self.receive(entry),
                        Change::Delete(key) => self.withdraw(&key),
                    }
                }
            }
            Event::Lost(_) => {}
        }
    }

    /// The next request to be answered, if one may be taken up now.
    pub fn next(&mut self, now: BootTime) -> Option<Letter> {
        let (left, since) = self.allowed;
        let again = u32::try_from(now.since(since).as_millis() / AGAIN.as_millis()).unwrap_or(u32::MAX);
        let allowed = left.saturating_add(again).min(BURST);
        if again > 0 {
            self.allowed = (allowed, now);
        }
        if allowed == 0 {
            return None;
        }
        let letter = self.waiting.pop_front()?;
        self.allowed.0 = allowed - 1;
        self.done.insert(letter.id.clone(), letter.revision);
        Some(letter)
    }

    /// Whether requests wait.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What was dropped, if it is time to say so.
    pub fn complaint(&mut self, now: BootTime) -> Option<String> {
        if self.complained.is_some_and(|last| now.since(last) < QUIET) {
            return None;
        }
        let (count, why) = self.dropped.take()?;
        self.complained = Some(now);
        Some(format!("{count} requests to this node were dropped, the last one since {why}"))
    }

    fn receive(&mut self, entry: Entry) {
        let Some(id) = entry.key.strip_prefix(&self.prefix) else { return };
        let is_word = |id: &str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if id.is_empty() || id.len() > LONGEST_ID || !is_word(id) {
            return self.drop_one(format!("{:?} is no ID", id.chars().take(LONGEST_ID).collect::<String>()));
        }
        if entry.value.len() > LONGEST_REQUEST {
            return self.drop_one(format!("{id} has {} bytes", entry.value.len()));
        }
        // Written anew, it is another one; told again, it is the same.
        if self.done.get(id) == Some(&entry.modified) {
            return;
        }
        self.waiting.retain(|letter| letter.id != id);
        if self.waiting.len() >= MOST_WAITING || self.done.len() >= 16 * MOST_WAITING {
            return self.drop_one("too many come at once".to_owned());
        }
        self.waiting.push_back(Letter { id: id.to_owned(), revision: entry.modified, value: entry.value });
    }

    fn withdraw(&mut self, key: &str) {
        let Some(id) = key.strip_prefix(&self.prefix) else { return };
        self.waiting.retain(|letter| letter.id != id);
        self.done.remove(id);
    }

    fn drop_one(&mut self, why: String) {
        let count = self.dropped.take().map_or(0, |(count, _)| count);
        self.dropped = Some((count + 1, why));
    }
}
