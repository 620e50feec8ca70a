//! Sets of things that more than one reason can call for: each stands as long as one of its reasons does.

use std::collections::BTreeMap;

use imbl::OrdSet;

/// How often each thing was put in.
#[derive(Debug, Clone)]
pub(crate) struct Tally<K: Ord> {
    there: OrdSet<K>,
    /// How often beyond the first time.
    again: BTreeMap<K, usize>,
}

impl<K: Ord + Clone> Tally<K> {
    /// Once more.
    pub(crate) fn add(&mut self, thing: K) {
        if self.there.insert(thing.clone()).is_some() {
            *self.again.entry(thing).or_default() += 1;
        }
    }

    /// Once less.
    pub(crate) fn take(&mut self, thing: &K) {
        match self.again.get_mut(thing) {
            None => _ = self.there.remove(thing),
            Some(1) => _ = self.again.remove(thing),
            Some(more) => *more -= 1,
        }
    }

    /// What was put in more often than it was taken out. A copy costs nothing.
    pub(crate) fn there(&self) -> &OrdSet<K> {
        &self.there
    }
}

impl<K: Ord> Default for Tally<K> {
    fn default() -> Self {
        Self { there: OrdSet::default(), again: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_stands_until_it_was_taken_as_often_as_it_was_added() {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.add('a');
        }
        tally.add('b');
        for _ in 0..2 {
            tally.take(&'a');
            assert!(tally.there().contains(&'a'));
        }
        tally.take(&'a');
        assert_eq!(tally.there().iter().collect::<String>(), "b");
        tally.take(&'b');
        assert!(tally.there().is_empty() && tally.again.is_empty());
    }
}
