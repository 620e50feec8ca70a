//! How things stand, for `twillctl bgp peers`, `routes` and `explain`: values, which somebody else prints.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::{Neighbour, Speaker};
use crate::bfd;
use crate::path::{Asn, Attributes, Family, NextHop, PathId};
use crate::rib::{Explained, Kind, PeerId, Source, Summary, Withheld};
use crate::session::{Negotiated, Reason, State};

/// How a peer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Its address.
    pub address: IpAddr,
    /// Its AS: the configured one, or that which its OPEN named, as long as its session stands or its routes are kept. None: any
    /// other than ours may come, and none has.
    pub asn: Option<Asn>,
    /// What it is to us.
    pub kind: Kind,
    /// The state of its session.
    pub state: State,
    /// Since when.
    pub since: Duration,
    /// How often the session was established.
    pub ups: u32,
    /// Why a connection last ended, and when.
    pub last_error: Option<(Duration, Reason)>,
    /// Why somebody has stopped it.
    pub shutdown: Option<String>,
    /// It announced too much, and is left alone until then.
    pub barred: Option<Duration>,
    /// The state of BFD's session, where there is one.
    pub bfd: Option<bfd::State>,
    /// What was agreed on, while it is established.
    pub negotiated: Option<Negotiated>,
    /// Its routes of each configured family.
    pub families: Vec<(Family, Summary)>,
    /// Whether something waits to be written to it.
    pub is_behind: bool,
}

/// What is used for a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteReport {
    /// Which.
    pub prefix: IpNetwork,
    /// The best one first.
    pub used: Vec<Used>,
}

/// A route that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Of which peer. None: our own.
    pub from: Option<IpAddr>,
    /// Where packets go. None: our own.
    pub next_hop: Option<NextHop>,
    /// What is said of it, after the import.
    pub attributes: Arc<Attributes>,
    /// Whether it is of a session that is gone.
    pub stale: bool,
}

/// Why a prefix is as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The most specific prefix with any route that covers what was asked for.
    pub prefix: IpNetwork,
    /// The most specific prefix that covers it and of which a route is used: by that one packets go.
    pub used: Option<IpNetwork>,
    /// All routes to it, and what became of each.
    pub routes: Vec<Explained>,
    /// What each peer is told of each route that is used, or why not.
    pub told: Vec<(IpAddr, Vec<Told>)>,
}

/// What a peer is told of a route: whose and which it is, and as what it goes out.
pub type Told = (Source, PathId, Result<Attributes, Withheld>);

impl Speaker {
    /// The peers, in the order of their addresses.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerReport> {
        self.by_address
            .values()
            .filter_map(|id| self.neighbours.get(id))
            .map(|neighbour| self.peer(neighbour))
            .collect()
    }

    fn peer(&self, neighbour: &Neighbour) -> PeerReport {
        let id = neighbour.id;
        let summary = |family: &Family| Some((*family, self.rib.summary(id, *family)?));
        PeerReport {
            address: neighbour.address(),
            asn: self.rib.asn(id),
            kind: neighbour.config.peer.kind,
            state: neighbour.session.state(),
            since: neighbour.since,
            ups: neighbour.ups,
            last_error: neighbour.last_error.clone(),
            shutdown: neighbour.config.shutdown.clone(),
            barred: neighbour.barred,
            bfd: neighbour.bfd,
            negotiated: neighbour.session.negotiated().cloned(),
            families: neighbour.config.offer.families.iter().filter_map(summary).collect(),
            is_behind: self.rib.is_dirty(id) || neighbour.lines.values().any(|line| !line.waiting.is_empty()),
        }
    }

    /// What is used, in the order of prefixes.
    pub fn table(&self) -> impl Iterator<Item = RouteReport> {
        self.table_behind(None, None)
    }

    /// The same, of prefixes inside of one, or all, and behind another one: made one by one as they are asked for, so that a part of a large
    /// table costs no more than that part.
    pub fn table_behind(
        &self,
        inside: Option<IpNetwork>,
        after: Option<IpNetwork>,
    ) -> impl Iterator<Item = RouteReport> + use<'_> {
        self.rib.routes_behind(inside, after).filter(|(_, used)| !used.is_empty()).map(|(prefix, used)| {
            let used = used.into_iter().map(|route| Used {
                from: self.address_of(route.source),
                next_hop: route.next_hop,
                attributes: route.attributes,
                stale: route.stale,
            });
            RouteReport { prefix, used: used.collect() }
        })
    }

    /// Why a prefix is as it is, or where it has no route of its own, the most specific one that covers it. None: no route does.
    #[must_use]
    pub fn explain(&self, asked: IpNetwork) -> Option<Explanation> {
        let prefix = self.rib.covering(asked)?;
        let told = |(address, id): (&IpAddr, &PeerId)| (*address, self.rib.explain_export(*id, prefix));
        let routes = self.rib.explain(prefix);
        let used = self.rib.used_for(asked);
        Some(Explanation { prefix, used, routes, told: self.by_address.iter().map(told).collect() })
    }

    /// Whose a route is. None: our own, or of a peer that is gone.
    #[must_use]
    pub fn address_of(&self, source: Source) -> Option<IpAddr> {
        match source {
            Source::Local => None,
            Source::Peer(id) => self.neighbours.get(&id).map(Neighbour::address),
        }
    }
}
