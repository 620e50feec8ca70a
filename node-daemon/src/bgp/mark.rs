//! The mark that BGP speaks here.
//!
//! It stands in the run directory since this node first spoke in this life of the machine: who finds it begins where another one has
//! stopped, and asks its peers to go on meanwhile (RFC 4724). The kernel's routes outlive a daemon, so it says no more than with whom
//! sessions stood: after a restart only these are waited for. A router that is dead for days would else keep each restart from
//! following what changes for minutes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use twill_bgp::path::PerFamily;
use twill_bgp::rib::Expired;
use twill_bgp::speaker::{Begin, Event};

/// The mark's file: the boot of which it is good, and behind it the peers, one a line.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    boot: String,
    /// With whom sessions stood when the daemon before this one ended.
    before: BTreeSet<IpAddr>,
    /// Those of them that are waited for.
    awaited: BTreeSet<IpAddr>,
    /// With whom sessions stand, or are about to stand again.
    up: BTreeSet<IpAddr>,
    /// The file does not say that yet.
    dirty: bool,
}

impl Mark {
    /// In this directory.
    pub fn new(run_dir: &Path) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            path: run_dir.join("bgp"),
            boot: boot.trim().to_owned(),
            before: BTreeSet::new(),
            awaited: BTreeSet::new(),
            up: BTreeSet::new(),
            dirty: false,
        }
    }

    /// How to begin. From now on it stands.
    pub fn begin(&mut self) -> Begin {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let mut lines = text.lines();
        let is_of_this_boot = !self.boot.is_empty() && lines.next() == Some(&self.boot);
        self.before = lines.filter(|_| is_of_this_boot).filter_map(|line| line.parse().ok()).collect();
        // Should this daemon end before they are up again, the next one waits for them too.
        self.awaited.clone_from(&self.before);
        self.dirty = true;
        self.keep();
        if is_of_this_boot { Begin::Restarted { kept: PerFamily::both(true) } } else { Begin::Cold }
    }

    /// With whom sessions stood when the daemon before this one ended.
    pub fn before(&self) -> impl Iterator<Item = IpAddr> {
        self.before.iter().copied()
    }

    /// Whether a session with this peer stood when the daemon before this one ended.
    pub fn was_up(&self, peer: IpAddr) -> bool {
        self.before.contains(&peer)
    }

    /// Notes whose session comes and goes. One that may be restarting is about to come again.
    pub fn follow(&mut self, peer: IpAddr, event: &Event) {
        self.dirty |= match event {
            Event::Up(_) => self.up.insert(peer),
            Event::Down { is_graceful: false, .. } | Event::Expired(Expired::Restart(_)) => self.up.remove(&peer),
            _ => false,
        };
    }

    /// Nobody is waited for any more: who has not come is gone.
    pub fn settle(&mut self) {
        self.dirty |= !self.awaited.is_empty();
        self.awaited.clear();
    }

    /// Brings the file to what has been noted since the last time, if anything has: hundreds of sessions may have come up.
    pub fn keep(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.write();
        }
    }

    /// BGP does not speak here any more.
    pub fn remove(&mut self) {
        self.before.clear();
        self.awaited.clear();
        self.up.clear();
        self.dirty = false;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => self.warn(&error),
            _ => {}
        }
    }

    /// All at once, since a daemon may be killed at any time.
    fn write(&self) {
        let mut text = format!("{}\n", self.boot);
        for peer in self.up.union(&self.awaited) {
            writeln!(text, "{peer}").expect("a string takes all");
        }
        let new = self.path.with_extension("new");
        if let Err(error) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.path)) {
            self.warn(&error);
        }
    }

    fn warn(&self, error: &std::io::Error) {
        tracing::warn!("BGP: a restart of twilld may cost packets: {}: {error}", self.path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use twill_bgp::session::Reason;

    use super::*;

    #[test]
    fn the_next_one_knows_with_whom_sessions_stood() {
        let directory = tempfile::tempdir().unwrap();
        let peers: Vec<IpAddr> = ["10.0.0.1", "fd00::2", "10.0.0.3"].map(|text| text.parse().unwrap()).into();
        let down = |is_graceful| Event::Down { reason: Reason::Lost, is_graceful };
        let known = |mark: &Mark| peers.iter().map(|peer| mark.was_up(*peer)).collect::<Vec<_>>();
        let mut first = Mark::new(directory.path());
        assert_eq!(first.begin(), Begin::Cold);
        first.up.extend(&peers);
        first.follow(peers[0], &down(false));
        first.follow(peers[1], &down(true));
        first.keep();
        assert_eq!(known(&first), [false; 3]);

        let mut second = Mark::new(directory.path());
        assert_eq!(second.begin(), Begin::Restarted { kept: PerFamily::both(true) });
        assert_eq!(known(&second), [false, true, true]);
        // Killed at once, it leaves to the next one what it found.
        let mut third = Mark::new(directory.path());
        third.begin();
        assert_eq!(known(&third), [false, true, true]);
        third.up.insert(peers[1]);
        third.settle();
        third.keep();
        let mut fourth = Mark::new(directory.path());
        fourth.begin();
        assert_eq!(known(&fourth), [false, true, false]);

        fourth.boot = "another".to_owned();
        assert_eq!((fourth.begin(), known(&fourth)), (Begin::Cold, vec![false; 3]));
        fourth.remove();
        fourth.keep();
        assert_eq!(Mark::new(directory.path()).begin(), Begin::Cold);
    }

    #[test]
    fn many_that_come_at_once_are_written_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut mark = Mark::new(directory.path());
        mark.begin();
        // Any writing would bring it back.
        let gone = || std::fs::remove_file(directory.path().join("bgp"));
        gone().unwrap();
        let peers: Vec<IpAddr> = (1..=200).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).collect();
        mark.up.extend(&peers);
        for peer in &peers {
            mark.follow(*peer, &Event::Down { reason: Reason::Lost, is_graceful: *peer == peers[0] });
        }
        assert!(gone().is_err(), "nothing was written for a single one");
        mark.keep();
        let mut next = Mark::new(directory.path());
        next.begin();
        assert!(peers.iter().all(|peer| next.was_up(*peer) == (*peer == peers[0])));
        gone().unwrap();
        mark.keep();
        assert!(gone().is_err(), "nothing has changed");
    }
}
