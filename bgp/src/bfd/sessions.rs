//! The sessions of a node, by peer, and which of them a packet is for (RFC 5880, section 6.3; RFC 5881, section 3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::{Input, Output, Packet, Refused, Session, Timing};
use crate::random::Random;

/// All sessions of a node.
#[derive(Debug)]
pub struct Sessions {
    random: Random,
    peers: BTreeMap<IpAddr, Session>,
    by_discriminator: BTreeMap<NonZeroU32, IpAddr>,
    /// Those that are no longer wanted, until their peers know it, or are gone.
    leaving: BTreeSet<IpAddr>,
}

impl Sessions {
    /// None yet. The seed is for discriminators and jitter: another one at each start, so that peers see a new session in it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            peers: BTreeMap::new(),
            by_discriminator: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Has sessions with these peers and no others. A session that goes says so to its peer, which takes it for no failure.
    #[must_use]
    pub fn configure(&mut self, now: Duration, peers: &BTreeMap<IpAddr, Timing>) -> Vec<(IpAddr, Output)> {
        let mut outputs = Vec::new();
        self.leaving = self.peers.keys().filter(|peer| !peers.contains_key(peer)).copied().collect();
        for peer in self.leaving.clone() {
            outputs.extend(self.step(now, peer, Input::Disable));
        }
        for (peer, timing) in peers {
            if self.peers.contains_key(peer) {
                outputs.extend(self.step(now, *peer, Input::Enable));
                outputs.extend(self.step(now, *peer, Input::Configure(*timing)));
            } else {
                let discriminator = self.free_discriminator();
                self.by_discriminator.insert(discriminator, *peer);
                self.peers.insert(*peer, Session::new(*timing, discriminator, now));
            }
        }
        outputs
    }

    fn free_discriminator(&mut self) -> NonZeroU32 {
        loop {
            let drawn = NonZeroU32::new(self.random.draw_half());
            if let Some(free) = drawn.filter(|drawn| !self.by_discriminator.contains_key(drawn)) {
                return free;
            }
        }
    }

    /// Takes a packet. Its sender counts only where it does not know our discriminator yet.
    ///
    /// # Errors
    /// [`Refused`]: why it is not taken.
    pub fn receive(&mut self, now: Duration, from: IpAddr, bytes: &[u8]) -> Result<Vec<(IpAddr, Output)>, Refused> {
        let packet = Packet::decode(bytes)?;
        let peer = match packet.yours {
            Some(yours) => *self.by_discriminator.get(&yours).ok_or(Refused::NoSession(yours))?,
            None => from,
        };
        if !self.peers.contains_key(&peer) {
            return Err(Refused::Stranger);
        }
        Ok(self.step(now, peer, Input::Received(&packet)))
    }

    /// Does what is due.
    #[must_use]
    pub fn tick(&mut self, now: Duration) -> Vec<(IpAddr, Output)> {
        let is_due = |session: &Session| session.deadline().is_some_and(|due| due <= now);
        let due: Vec<_> = self.peers.iter().filter(|(_, session)| is_due(session)).map(|(peer, _)| *peer).collect();
        due.into_iter().flat_map(|peer| self.step(now, peer, Input::Tick)).collect()
    }

    /// Ends all of them in peace: what a daemon says before it restarts, so that its peers wait for it (RFC 5882, section 4.3).
    #[must_use]
    pub fn disable(&mut self, now: Duration) -> Vec<(IpAddr, Output)> {
        let all: Vec<_> = self.peers.keys().copied().collect();
        all.into_iter().flat_map(|peer| self.step(now, peer, Input::Disable)).collect()
    }

    /// When [`Sessions::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.peers.values().filter_map(Session::deadline).min()
    }

    /// Each peer with its session.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Session)> {
        self.peers.iter().map(|(peer, session)| (*peer, session))
    }

    fn step(&mut self, now: Duration, peer: IpAddr, input: Input<'_>) -> Vec<(IpAddr, Output)> {
        let chance = self.random.draw_half();
        let Some(session) = self.peers.get_mut(&peer) else { return Vec::new() };
        let outputs = session.step(now, chance, input);
        if self.leaving.contains(&peer) && session.is_let_go() {
            self.by_discriminator.remove(&session.discriminator());
            self.leaving.remove(&peer);
            self.peers.remove(&peer);
        }
        outputs.into_iter().map(|output| (peer, output)).collect()
    }
}
