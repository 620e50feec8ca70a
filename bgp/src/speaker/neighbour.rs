//! A peer with its session, and the connections that this has.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Config, Connection, Output, PeerConfig};
use crate::bfd;
use crate::path::{Family, PerFamily};
use crate::rib::{Forwarding, Own, Paths, PeerId, Restart, Terms};
use crate::session::{self, ConnectionId, Negotiated, Reason, Session, State};
use crate::wire::{self, Capabilities, Dialect, GracefulRestart, Message};

/// How long a session stays in Idle after its first failure; it doubles with each, up to the second one.
const IDLE_HOLD: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];

/// A peer.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub id: PeerId,
    pub config: PeerConfig,
    pub session: Session,
    /// As last told.
    pub state: State,
    /// Since when.
    pub since: Duration,
    /// Why the last connection ended, and when.
    pub last_error: Option<(Duration, Reason)>,
    /// How often it was established.
    pub ups: u32,
    pub bfd: Option<bfd::State>,
    /// It has announced too much, and is left alone until then.
    pub barred: Option<Duration>,
    pub lines: BTreeMap<ConnectionId, Line>,
    /// The connection that routes go by, and how.
    pub established: Option<(ConnectionId, Dialect)>,
    accepted: u32,
}

/// A connection that stands.
#[derive(Debug)]
pub(super) struct Line {
    /// Our end.
    pub local: IpAddr,
    /// Messages of the session that wait to be written: a few of a few bytes.
    pub waiting: Vec<u8>,
    /// The transport knows that there is something to write.
    pub called: bool,
}

impl Neighbour {
    pub fn new(id: PeerId, config: PeerConfig, own: &Config, seed: u64, now: Duration) -> Self {
        let session = Session::new(session_config(&config, own), seed);
        Self {
            id,
            config,
            session,
            state: State::Idle,
            since: now,
            last_error: None,
            ups: 0,
            bfd: None,
            barred: None,
            lines: BTreeMap::new(),
            established: None,
            accepted: 0,
        }
    }

    pub fn address(&self) -> IpAddr {
        self.config.peer.address
    }

    pub fn connection(&self, id: ConnectionId) -> Connection {
        Connection { peer: self.id, id }
    }

    /// A connection has failed before the session stood. That a peer closes connections says less than why it does; that the
    /// configuration was changed says only why the session was made anew.
    pub fn note_failure(&mut self, now: Duration, reason: &Reason) {
        let says_more = |(_, last): &(Duration, Reason)| *last != Reason::Lost && !last.is_by_configuration();
        if *reason != Reason::Lost || !self.last_error.as_ref().is_some_and(says_more) {
            self.last_error = Some((now, reason.clone()));
        }
    }

    /// The connection that the peer makes now.
    pub fn next_accepted(&mut self) -> ConnectionId {
        self.accepted = self.accepted.wrapping_add(1);
        ConnectionId::Accepted(self.accepted)
    }

    pub fn add_line(&mut self, id: ConnectionId, local: IpAddr) {
        self.lines.insert(id, Line { local, waiting: Vec::new(), called: false });
    }

    /// Has a message of the session wait. Only UPDATEs need a dialect, and a session sends none.
    pub fn send(&mut self, id: ConnectionId, message: &Message) {
        if let Some(line) = self.lines.get_mut(&id) {
            wire::encode(message, &Dialect::default(), &mut line.waiting)
                .expect("only an UPDATE can fail to be written");
        }
    }

    /// Tells the transport what has something to write, once until it has taken all.
    pub fn call(&mut self, has_routes: bool, outputs: &mut Vec<Output>) {
        let (peer, established) = (self.id, self.established.as_ref().map(|(id, _)| *id));
        for (id, line) in &mut self.lines {
            let has_more = !line.waiting.is_empty() || has_routes && established == Some(*id);
            if has_more && !line.called {
                line.called = true;
                outputs.push(Output::Write(Connection { peer, id: *id }));
            }
        }
    }

    /// Our next hops: what is configured, and our end of the connection.
    pub fn own(&self) -> Own {
        let mut own = self.config.place.own;
        let local = self.established.as_ref().and_then(|(id, _)| self.lines.get(id)).map(|line| line.local);
        match local {
            Some(IpAddr::V4(address)) => own.v4 = own.v4.or(Some(address)),
            Some(IpAddr::V6(address)) if address.is_unicast_link_local() => {
                own.link_local = own.link_local.or(Some(address));
            }
            Some(IpAddr::V6(address)) => own.v6 = own.v6.or(Some(address)),
            None => {}
        }
        own
    }

    /// What the RIB is to know of the session that is established.
    pub fn agreed(&self, negotiated: &Negotiated) -> crate::rib::Session {
        let dialect = &negotiated.dialect;
        let paths = |several: bool| if several { Paths::Several } else { Paths::One };
        let terms = |family: Family| Terms {
            send: paths(dialect.add_path[family].send),
            receive: paths(dialect.add_path[family].receive),
            extended_next_hop: dialect.extended_next_hop,
        };
        let forwarding = |kept: bool| if kept { Forwarding::Preserved } else { Forwarding::Lost };
        let restart = |restart: &GracefulRestart| Restart {
            time: Duration::from_secs(restart.time.into()),
            restarting: restart.restarting,
            families: restart.families.iter().map(|(family, kept)| (*family, forwarding(*kept))).collect(),
        };
        crate::rib::Session {
            asn: negotiated.peer_as,
            router_id: negotiated.peer_identifier,
            families: Family::ALL
                .into_iter()
                .filter(|family| dialect.families[*family])
                .map(|family| (family, terms(family)))
                .collect(),
            own: self.own(),
            links: self.config.place.links.clone(),
            restart: negotiated.graceful_restart.as_ref().map(restart),
        }
    }

    /// What the next OPEN offers. The F bits tell whether the kernel has kept the routes: over our restart where there was no session
    /// with this peer since, and over the loss of a session in any case (RFC 4724, section 4.1).
    pub fn offer(&self, own: &Config, kept: PerFamily<bool>, restarting: bool) -> Capabilities {
        let mut offered = capabilities(&self.config);
        let is_kept = |family: &Family| (*family, self.ups > 0 || kept[*family]);
        offered.graceful_restart = own.restart.map(|restart| GracefulRestart {
            restarting,
            notification: false,
            time: u16::try_from(restart.time.as_secs()).unwrap_or(u16::MAX),
            families: self.config.offer.families.iter().map(is_kept).collect(),
        });
        offered
    }
}

fn capabilities(config: &PeerConfig) -> Capabilities {
    Capabilities {
        families: Some(config.offer.families.clone()),
        route_refresh: true,
        add_path: config.offer.add_path,
        extended_next_hop: config.offer.extended_next_hop,
        ..Capabilities::default()
    }
}

fn session_config(config: &PeerConfig, own: &Config) -> session::Config {
    session::Config {
        local_as: config.peer.local_as,
        peer_as: config.peer.asn,
        identifier: own.identity.router_id,
        capabilities: capabilities(config),
        hold_time: config.hold_time,
        passive: config.passive,
        first_as: true,
        connect_retry: config.connect_retry,
        idle_hold: IDLE_HOLD[0],
        idle_hold_most: IDLE_HOLD[1],
    }
}
