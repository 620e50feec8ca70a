//! What the log says of BGP: a line for each session that comes or goes, and for what a peer does wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;

use twill_bgp::rib::{Expired, Limit};
use twill_bgp::session::Negotiated;
use twill_bgp::speaker::Event;
use twill_fabric::peering::Who;

use super::translate::title;

/// Says what happened with a peer.
pub fn tell(names: &BTreeMap<IpAddr, Who>, peer: IpAddr, event: &Event) {
    let title = match names.get(&peer) {
        Some(who) => format!("{} ({peer})", title(who)),
        None => peer.to_string(),
    };
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
