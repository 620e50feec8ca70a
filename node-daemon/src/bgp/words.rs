//! What the log says of BGP: a line for each session that comes or goes, and for what a peer does wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use twill_bgp::rib::{Expired, Limit};
use twill_bgp::session::Negotiated;
use twill_bgp::speaker::Event;
use twill_fabric::peering::Who;

use super::translate::title;

/// What a peer can do at any rate is said once in this time.
const QUIET: Duration = Duration::from_secs(60);

/// What was said of late.
#[derive(Debug, Default)]
pub struct Words {
    /// Of each peer and matter: when it was said, and how often it was not said since.
    said: BTreeMap<(IpAddr, &'static str), (Instant, u64)>,
    /// What peers are called with whom a session is up: one that ends because its peer is no longer configured has no name then.
    called: BTreeMap<IpAddr, String>,
}

impl Words {
    /// Says what happened with a peer.
    pub fn tell(&mut self, names: &BTreeMap<IpAddr, Who>, peer: IpAddr, event: &Event) {
        let title = self.call(names, peer, event);
        let matter = match event {
            Event::Malformed(_) => "malformed",
            Event::Limit(Limit::Near { .. }) => "near",
            Event::Unwritten(_) => "unwritten",
            _ => return tell(&title, event),
        };
        if let Some(more) = self.turn(peer, matter, Instant::now()) {
            tell(&title, event);
            if more > 0 {
                tracing::warn!("BGP: {more} more of that kind of {peer} since the last that was told");
            }
        }
    }

    /// What the peer of an event is called.
    fn call(&mut self, names: &BTreeMap<IpAddr, Who>, peer: IpAddr, event: &Event) -> String {
        let before = if matches!(event, Event::Down { .. }) { self.called.remove(&peer) } else { None };
        let title = match (names.get(&peer), before) {
            (Some(who), _) => format!("{} ({peer})", title(who)),
            (None, Some(before)) => before,
            (None, None) => peer.to_string(),
        };
        if matches!(event, Event::Up(_)) {
            self.called.insert(peer, title.clone());
        }
        title
    }

    /// Whether it is time to say it, and how often it was not said since the last time.
    fn turn(&mut self, peer: IpAddr, matter: &'static str, now: Instant) -> Option<u64> {
        let (when, more) = self.said.get(&(peer, matter)).copied().unwrap_or((now - QUIET, 0));
        let is_due = now.duration_since(when) >= QUIET;
        self.said.insert((peer, matter), if is_due { (now, 0) } else { (when, more + 1) });
        // Those that are no longer spoken with are forgotten.
        self.said.retain(|_, (when, _)| now.duration_since(*when) < 2 * QUIET);
        is_due.then_some(more)
    }
}

fn tell(title: &str, event: &Event) {
    match event {
        Event::State { from, to } => tracing::debug!("BGP: {title} is {to} after {from}"),
        Event::Up(negotiated) => tracing::info!("BGP: the session with {title} is up{}", agreed(negotiated)),
        Event::Down { reason, is_graceful: true } => {
            tracing::warn!("BGP: the session with {title} is down, its routes are kept until it is back: {reason}");
        }
        Event::Down { reason, is_graceful: false } => tracing::warn!("BGP: the session with {title} is down: {reason}"),
        Event::EndOfRib(family) => tracing::debug!("BGP: {title} has said all its {family} routes"),
        Event::Failed(reason) => tracing::debug!("BGP: no session with {title} yet: {reason}"),
        Event::Malformed(faults) => {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            tracing::warn!("BGP: {title} sent a malformed UPDATE: {}", faults.join("; "));
        }
        Event::Limit(Limit::Near { family, routes, maximum }) => {
            tracing::warn!(
                "BGP: {title} announces {routes} {family} prefixes, and may announce {maximum} (max_prefixes)"
            );
        }
        Event::Limit(Limit::Exceeded { family, maximum }) => tracing::warn!(
            "BGP: {title} announces more than {maximum} {family} prefixes (max_prefixes): its session ends for five minutes"
        ),
        Event::Expired(Expired::Restart(_)) => {
            tracing::warn!("BGP: {title} has not come back in time: its routes are gone");
        }
        Event::Expired(Expired::Stale(_, family)) => {
            tracing::warn!(
                "BGP: {title} is back, and has not said in time which {family} routes it has: the others are gone"
            );
        }
        Event::Expired(Expired::Deferral(family)) => {
            tracing::warn!("BGP: after this restart some peer was waited for in vain ({family})");
        }
        Event::Unwritten(error) => tracing::error!("BGP: {title} cannot be told of a route: {error}"),
    }
}

/// What is worth knowing of what was agreed on.
fn agreed(negotiated: &Negotiated) -> String {
    let families: Vec<_> = twill_bgp::path::Family::ALL
        .into_iter()
        .filter(|family| negotiated.dialect.families[*family])
        .map(|family| family.to_string())
        .collect();
    let restart = if negotiated.graceful_restart.is_some() { ", graceful restart" } else { "" };
    format!(": AS {}, {}{restart}", negotiated.peer_as, families.join(" and "))
}

#[cfg(test)]
mod tests {
    use twill_bgp::path::Asn;
    use twill_bgp::session::Reason;
    use twill_bgp::wire::Dialect;

    use super::*;

    #[test]
    fn a_session_that_ends_since_its_peer_is_not_configured_any_more_is_told_by_the_name_that_it_had() {
        let (mut words, peer) = (Words::default(), "192.0.2.1".parse::<IpAddr>().unwrap());
        let named = BTreeMap::from([(peer, Who::Node("n3".parse().unwrap()))]);
        let up = Event::Up(Box::new(Negotiated {
            peer_as: Asn(64512),
            peer_identifier: [192, 0, 2, 1].into(),
            hold_time: Duration::ZERO,
            dialect: Dialect::default(),
            route_refresh: false,
            graceful_restart: None,
        }));
        let down = || Event::Down { reason: Reason::Lost, is_graceful: false };
        assert_eq!(words.call(&named, peer, &up), "node n3 (192.0.2.1)");
        assert_eq!(words.call(&BTreeMap::new(), peer, &down()), "node n3 (192.0.2.1)");
        assert_eq!(words.call(&BTreeMap::new(), peer, &down()), "192.0.2.1", "nothing is kept of it");
    }

    #[test]
    fn what_a_peer_does_at_any_rate_is_said_once_a_minute_with_how_often_it_was() {
        let (mut words, begin) = (Words::default(), Instant::now() + 10 * QUIET);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut turns = |peer, seconds| words.turn(peer, "malformed", begin + Duration::from_secs(seconds));
        assert_eq!([turns(one, 0), turns(one, 1), turns(one, 59)], [Some(0), None, None]);
        assert_eq!((turns(other, 59), turns(one, 60), turns(one, 61)), (Some(0), Some(2), None));
    }
}
