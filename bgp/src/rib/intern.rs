//! Attributes that are equal are kept once: of 100,000 routes of a peer, most share theirs with thousands.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use crate::path::Attributes;

/// The attributes that are in use. What nobody uses any more is let go from time to time, at a cost that is spread over the changes.
#[derive(Debug, Default)]
pub(super) struct Interned {
    all: HashSet<Arc<Attributes>>,
    released: usize,
}

/// So many releases at least lie between two searches for what nobody uses.
const PATIENCE: usize = 64;

impl Interned {
    /// The one copy of these.
    pub fn intern(&mut self, attributes: Cow<'_, Attributes>) -> Arc<Attributes> {
        if let Some(there) = self.all.get(attributes.as_ref()) {
            return Arc::clone(there);
        }
        let new = Arc::new(attributes.into_owned());
        self.all.insert(Arc::clone(&new));
        new
    }

    /// Notes that a route's attributes were dropped.
    pub fn release(&mut self) {
        self.released += 1;
        if self.released > PATIENCE + self.all.len() / 2 {
            self.sweep();
        }
    }

    /// How many are in use.
    pub fn sweep(&mut self) -> usize {
        self.released = 0;
        self.all.retain(|attributes| Arc::strong_count(attributes) > 1);
        if self.all.capacity() / 4 > self.all.len() {
            self.all.shrink_to_fit();
        }
        self.all.len()
    }
}
