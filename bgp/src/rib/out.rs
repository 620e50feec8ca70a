//! The adjacency out: what a peer was told, and which prefixes are to be looked at again.
//!
//! Only prefixes are remembered until the session can send, not messages: a prefix that is announced and withdrawn before costs nothing,
//! and what is sent follows from what is used then, however often that has changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::path::{Attributes, Family, NextHop, PathId};
use crate::prefix::family;

/// What the session is to send, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// These are no longer announced. One family a batch.
    Withdraw {
        /// Each with the identifier that it was announced with; 0 where the peer takes one route a prefix.
        routes: Vec<(IpNetwork, PathId)>,
    },
    /// These have all the same said of them. One family a batch.
    Advertise {
        /// What is said.
        attributes: Arc<Attributes>,
        /// Where packets go.
        next_hop: NextHop,
        /// Of which routes.
        routes: Vec<(IpNetwork, PathId)>,
    },
    /// All that there was to say of this family at the start has been said (RFC 4724, section 2).
    EndOfRib(Family),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    attributes: Arc<Attributes>,
    next_hop: NextHop,
    /// The peer asks for it again.
    again: bool,
}

/// One peer's adjacency out.
#[derive(Debug, Default)]
pub(super) struct Out {
    sent: BTreeMap<(IpNetwork, PathId), Sent>,
    dirty: BTreeSet<IpNetwork>,
    /// Families whose End-of-RIB marker is to be sent yet.
    pub unfinished: BTreeSet<Family>,
}

/// A route as a peer is to be told it.
pub(super) type Told = (PathId, Arc<Attributes>, NextHop);

/// Batches under way, each route in the one that says the same.
#[derive(Debug, Default)]
pub(super) struct Batches {
    withdrawn: BTreeMap<Family, Vec<(IpNetwork, PathId)>>,
    advertised: Vec<Batch>,
    places: HashMap<(Family, *const Attributes, NextHop), usize>,
}

impl Out {
    /// Notes that what is used for this prefix may have changed.
    pub fn look_at(&mut self, prefix: IpNetwork) {
        self.dirty.insert(prefix);
    }

    /// Notes that the peer wants a family once more (RFC 2918).
    pub fn repeat(&mut self, wanted: Family) {
        for ((prefix, _), sent) in self.sent.iter_mut().filter(|((prefix, _), _)| family(*prefix) == wanted) {
            sent.again = true;
            self.dirty.insert(*prefix);
        }
    }

    /// Takes prefixes to look at, at most so many.
    pub fn take(&mut self, most: usize) -> Vec<IpNetwork> {
        std::iter::from_fn(|| self.dirty.pop_first()).take(most).collect()
    }

    /// Whether nothing of this family is left to look at.
    pub fn is_settled(&self, asked: Family) -> bool {
        let end = if asked == Family::Ipv4 { self.dirty.first() } else { self.dirty.last() };
        end.is_none_or(|prefix| family(*prefix) != asked)
    }

    /// Whether there is anything to look at.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// How many routes of a family the peer has been told.
    pub fn count(&self, asked: Family) -> usize {
        self.sent.keys().filter(|(prefix, _)| family(*prefix) == asked).count()
    }

    /// What the peer was told, in order.
    pub fn told(&self) -> impl Iterator<Item = (IpNetwork, Told)> {
        self.sent.iter().map(|((prefix, id), sent)| (*prefix, (*id, Arc::clone(&sent.attributes), sent.next_hop)))
    }

    /// Puts into the batches what differs from what the peer was told of this prefix, and returns how many attributes were dropped.
    pub fn settle(&mut self, prefix: IpNetwork, wanted: Vec<Told>, batches: &mut Batches) -> usize {
        let mut dropped = 0;
        let all = (prefix, PathId(0))..=(prefix, PathId(u32::MAX));
        let gone: Vec<_> = self.sent.range(all).map(|(key, _)| *key).collect();
        for key in gone.into_iter().filter(|(_, id)| wanted.iter().all(|(wanted, ..)| wanted != id)) {
            self.sent.remove(&key);
            batches.withdrawn.entry(family(prefix)).or_default().push(key);
            dropped += 1;
        }
        for (id, attributes, next_hop) in wanted {
            let sent = Sent { attributes, next_hop, again: false };
            if self.sent.get(&(prefix, id)) == Some(&sent) {
                continue;
            }
            batches.advertise((prefix, id), &sent);
            dropped += usize::from(self.sent.insert((prefix, id), sent).is_some());
        }
        dropped
    }
}

impl Batches {
    fn advertise(&mut self, route: (IpNetwork, PathId), sent: &Sent) {
        let next = self.advertised.len();
        let key = (family(route.0), Arc::as_ptr(&sent.attributes), sent.next_hop);
        let place = *self.places.entry(key).or_insert(next);
        match self.advertised.get_mut(place) {
            Some(Batch::Advertise { routes, .. }) => routes.push(route),
            _ => self.advertised.push(Batch::Advertise {
                attributes: Arc::clone(&sent.attributes),
                next_hop: sent.next_hop,
                routes: vec![route],
            }),
        }
    }

    /// The batches in the order of sending, withdrawals first.
    pub fn finish(self) -> Vec<Batch> {
        let withdrawn = self.withdrawn.into_values().map(|routes| Batch::Withdraw { routes });
        withdrawn.chain(self.advertised).collect()
    }
}
