//! How long the kernel's routes of before a restart are spared.
//!
//! Longer than selection waits. By RFC 4724 that begins without the peers that restart themselves, else two would wait for each other,
//! and without those that cannot tell when they are done; but what these are about to say stands in the kernel, and where it went, packets
//! would be lost until it came again. So the routes stay until each peer with a session of before has said what it has, or time is up:
//! the restart time for those that do not come, [`SILENCE`] for those that do not tell, the time of selection for all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use twill_bgp::path::{Family, PerFamily};
use twill_bgp::speaker::{Event, GracefulRestart};

/// How long a peer without End-of-RIB markers is given from its session's beginning to say what it has.
const SILENCE: Duration = Duration::from_secs(10);

/// Whom the routes wait for. All times are since the task began.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Spare {
    /// How long those without a session are waited for.
    sessions: Duration,
    /// How long anybody is.
    routes: Duration,
    waits: BTreeMap<IpAddr, Wait>,
}

/// What is waited for of a peer.
#[derive(Debug, PartialEq, Eq)]
struct Wait {
    /// The families of which it has not said all.
    families: BTreeSet<Family>,
    until: Duration,
}

impl Spare {
    /// After a restart now, for the peers that had a session before.
    pub fn after(now: Duration, restart: GracefulRestart, peers: impl IntoIterator<Item = IpAddr>) -> Self {
        let (sessions, routes) = (now + restart.time, now + restart.deferral);
        let wait = |peer| (peer, Wait { families: Family::ALL.into(), until: sessions.min(routes) });
        Self { sessions, routes, waits: peers.into_iter().map(wait).collect() }
    }

    /// Takes what happened with a peer.
    pub fn follow(&mut self, now: Duration, peer: IpAddr, event: &Event) {
        let Some(wait) = self.waits.get_mut(&peer) else { return };
        match event {
            Event::Up(negotiated) => {
                wait.families = of(negotiated.dialect.families);
                let tells = negotiated.graceful_restart.is_some();
                wait.until = if tells { self.routes } else { self.routes.min(now + SILENCE) };
            }
            Event::EndOfRib(family) => _ = wait.families.remove(family),
            Event::Down { is_graceful: true, .. } => {
                (wait.families, wait.until) = (Family::ALL.into(), self.sessions.min(self.routes));
            }
            // What it has said is gone, and so is what it said before.
            Event::Down { is_graceful: false, .. } => wait.families.clear(),
            _ => {}
        }
        self.advance(now);
    }

    /// Others than these are no peers any more.
    pub fn retain(&mut self, is_peer: impl Fn(IpAddr) -> bool) {
        self.waits.retain(|peer, _| is_peer(*peer));
    }

    /// Ends the waits whose time has come.
    pub fn advance(&mut self, now: Duration) {
        self.waits.retain(|_, wait| !wait.families.is_empty() && now < wait.until);
    }

    /// When [`Self::advance`] is to be called next, if at all.
    pub fn deadline(&self) -> Option<Duration> {
        self.waits.values().map(|wait| wait.until).min()
    }

    /// Whether the routes of a family are still to be left alone.
    pub fn holds(&self, family: Family) -> bool {
        self.waits.values().any(|wait| wait.families.contains(&family))
    }
}

fn of(families: PerFamily<bool>) -> BTreeSet<Family> {
    Family::ALL.into_iter().filter(|family| families[*family]).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use twill_bgp::path::Asn;
    use twill_bgp::session::{Negotiated, Reason};
    use twill_bgp::wire::{self, Dialect};

    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    fn secs(secs: u64) -> Duration {
        NOW + Duration::from_secs(secs)
    }

    fn peer(n: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, n).into()
    }

    /// A session of these families, with graceful restart or without.
    fn up(families: &[Family], restart: Option<wire::GracefulRestart>) -> Event {
        Event::Up(Box::new(Negotiated {
            peer_as: Asn(65001),
            peer_identifier: Ipv4Addr::LOCALHOST,
            hold_time: Duration::from_secs(30),
            dialect: Dialect { families: PerFamily::new(|family| families.contains(&family)), ..Dialect::default() },
            route_refresh: true,
            graceful_restart: restart,
        }))
    }

    /// One that is restarting too.
    fn restarting() -> Option<wire::GracefulRestart> {
        Some(wire::GracefulRestart { restarting: true, ..wire::GracefulRestart::default() })
    }

    fn down(is_graceful: bool) -> Event {
        Event::Down { reason: Reason::Lost, is_graceful }
    }

    /// After a restart, with a restart time of two minutes.
    fn after(peers: &[u8]) -> Spare {
        let spare = Spare::after(NOW, GracefulRestart::default(), peers.iter().map(|n| peer(*n)));
        assert_eq!(held(&spare), [!peers.is_empty(); 2]);
        spare
    }

    fn held(spare: &Spare) -> [bool; 2] {
        Family::ALL.map(|family| spare.holds(family))
    }

    #[test]
    fn each_family_is_held_until_all_that_had_a_session_have_said_what_they_have_also_who_restarts() {
        let mut spare = after(&[1, 2]);
        spare.follow(secs(1), peer(1), &up(&Family::ALL, restarting()));
        spare.follow(secs(1), peer(2), &up(&[Family::Ipv6], restarting()));
        spare.follow(secs(1), peer(3), &up(&Family::ALL, restarting()));
        spare.follow(secs(2), peer(1), &Event::EndOfRib(Family::Ipv6));
        assert_eq!(held(&spare), [true, true]);
        spare.follow(secs(2), peer(2), &Event::EndOfRib(Family::Ipv6));
        assert_eq!(held(&spare), [true, false]);
        spare.follow(secs(3), peer(1), &Event::EndOfRib(Family::Ipv4));
        assert_eq!((held(&spare), spare.deadline()), ([false, false], None));
    }

    #[test]
    fn who_cannot_tell_when_it_is_done_has_ten_seconds_from_its_session_on() {
        let mut spare = after(&[1]);
        spare.follow(secs(3), peer(1), &up(&Family::ALL, None));
        assert_eq!(spare.deadline(), Some(secs(13)));
        spare.advance(secs(12));
        assert_eq!(held(&spare), [true, true]);
        spare.advance(secs(13));
        assert_eq!((held(&spare), spare.deadline()), ([false, false], None));
    }

    #[test]
    fn who_does_not_come_has_the_restart_time_and_who_comes_and_does_not_end_that_of_selection() {
        let mut spare = after(&[1, 2]);
        assert_eq!(spare.deadline(), Some(secs(120)));
        spare.follow(secs(119), peer(1), &up(&[Family::Ipv4], restarting()));
        spare.advance(secs(120));
        assert_eq!((held(&spare), spare.deadline()), ([true, false], Some(secs(360))));
        spare.advance(secs(360));
        assert_eq!((held(&spare), spare.deadline()), ([false, false], None));
        // Nobody gains time by coming last.
        let mut spare =
            Spare::after(NOW, GracefulRestart { deferral: Duration::from_secs(1), ..Default::default() }, [peer(1)]);
        spare.follow(NOW, peer(1), &up(&Family::ALL, None));
        assert_eq!(spare.deadline(), Some(secs(1)));
    }

    #[test]
    fn who_goes_again_is_waited_for_again_only_if_it_may_be_restarting() {
        let mut spare = after(&[1, 2]);
        for n in [1, 2] {
            spare.follow(secs(1), peer(n), &up(&[Family::Ipv4], restarting()));
        }
        spare.follow(secs(2), peer(1), &down(true));
        assert_eq!((held(&spare), spare.deadline()), ([true, true], Some(secs(120))));
        spare.follow(secs(2), peer(1), &down(false));
        assert_eq!((held(&spare), spare.deadline()), ([true, false], Some(secs(360))));
        spare.retain(|other| other != peer(2));
        assert_eq!((held(&spare), spare.deadline()), ([false, false], None));
    }
}
