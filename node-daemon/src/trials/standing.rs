//! How many trials stand, so that the daemon's end can wait for them.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The trials of this node whose pods may stand.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<(Mutex<usize>, Condvar)>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct One(Standing);

impl Standing {
    /// Counts one more.
    pub(super) fn one(&self) -> One {
        self.change(|count| count + 1);
        One(self.clone())
    }

    /// Waits until none stands, but no longer than that; whether none does.
    pub fn wait(&self, longest: Duration) -> bool {
        let (count, changed) = &*self.0;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(count, longest, |count| *count > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    fn change(&self, to: impl FnOnce(usize) -> usize) {
        let (count, changed) = &*self.0;
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = to(*count);
        changed.notify_all();
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.change(|count| count - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_waits_for_all_that_stand_and_not_for_ever() {
        let standing = Standing::default();
        assert!(standing.wait(Duration::ZERO));
        let (one, other) = (standing.one(), standing.one());
        drop(one);
        assert!(!standing.wait(Duration::from_millis(20)));
        let ending = std::thread::spawn(move || drop(other));
        assert!(standing.wait(Duration::from_secs(60)));
        ending.join().unwrap();
    }
}
