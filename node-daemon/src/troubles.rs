//! What the tasks of this node find wrong with it: told in the log when it begins and when it is over, and kept for
//! [`alive`](crate::alive), by which `twillctl` shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use twill_cluster::record::Told;

/// The problems by who found them.
pub type Board = BTreeMap<&'static str, Vec<Told>>;

/// The board that all tasks write on.
#[derive(Debug, Clone)]
pub struct Troubles(Arc<watch::Sender<Board>>);

impl Default for Troubles {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Board::new())))
    }
}

impl Troubles {
    /// Puts what one task finds wrong now in the place of what it found before.
    pub fn set(&self, finder: &'static str, now: Vec<Told>) {
        self.0.send_if_modified(|board| {
            let before = board.remove(finder).unwrap_or_default();
            for told in now.iter().filter(|told| !before.contains(told)) {
                tracing::warn!("{}; {}", told.what, told.fix);
            }
            for told in before.iter().filter(|told| !now.contains(told)) {
                tracing::info!("over: {}", told.what);
            }
            let changed = before != now;
            if !now.is_empty() {
                board.insert(finder, now);
            }
            changed
        });
    }

    /// Whoever wants to know.
    pub fn subscribe(&self) -> watch::Receiver<Board> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(what: &str) -> Told {
        Told { what: what.to_owned(), fix: "do something".to_owned() }
    }

    #[test]
    fn each_finder_has_its_own_part_and_what_has_not_changed_wakes_nobody() {
        let troubles = Troubles::default();
        let mut seen = troubles.subscribe();
        troubles.set("one", vec![told("a")]);
        troubles.set("other", vec![told("b")]);
        assert!(seen.has_changed().unwrap());
        let all: Vec<_> = seen.borrow_and_update().values().flatten().cloned().collect();
        assert_eq!(all, [told("a"), told("b")]);
        troubles.set("one", vec![told("a")]);
        assert!(!seen.has_changed().unwrap());
        troubles.set("one", vec![]);
        assert_eq!(seen.borrow_and_update().values().flatten().cloned().collect::<Vec<_>>(), [told("b")]);
    }
}
