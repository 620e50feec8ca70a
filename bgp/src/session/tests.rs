//! The machine against the RFC: each state with each input, collisions, NOTIFICATIONs, timers, and two of them over a link.

mod collision;
mod link;
mod notification;
mod peer_as;
mod table;
mod timers;

use std::time::Duration;

use super::*;
use crate::path::Family;
use crate::wire::{ErrorCode, GracefulRestart};

pub(super) const DIALLED: ConnectionId = ConnectionId::Dialled(0);
pub(super) const ACCEPTED: ConnectionId = ConnectionId::Accepted(0);

pub(super) fn config(identifier: u8) -> Config {
    Config {
        local_as: Asn(64512),
        peer_as: PeerAs::Is(Asn(64512)),
        identifier: Ipv4Addr::new(10, 0, 0, identifier),
        capabilities: Capabilities {
            families: Some(Family::ALL.to_vec()),
            route_refresh: true,
            ..Capabilities::default()
        },
        hold_time: 90,
        passive: false,
        first_as: true,
        connect_retry: Duration::from_secs(8),
        idle_hold: Duration::from_secs(1),
        idle_hold_most: Duration::from_secs(60),
    }
}

pub(super) fn graceful(mut config: Config) -> Config {
    config.capabilities.graceful_restart =
        Some(GracefulRestart { time: 120, families: vec![(Family::Ipv4, true)], ..GracefulRestart::default() });
    config
}

/// The OPEN of the other side.
pub(super) fn peer_open(config: &Config) -> Open {
    let mut capabilities = config.capabilities.clone();
    capabilities.four_octet = Some(config.local_as);
    Open { system: config.local_as, hold_time: config.hold_time, identifier: config.identifier, capabilities }
}

pub(super) fn bytes(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    wire::encode(message, &Dialect::default(), &mut out).unwrap();
    out
}

/// A session, at a time that the test moves.
pub(super) struct Bench {
    pub session: Session,
    pub now: Duration,
}

impl Bench {
    pub fn new(config: Config) -> Self {
        Self { session: Session::new(config, 7), now: Duration::from_secs(1000) }
    }

    pub fn step(&mut self, input: Input<'_>) -> Vec<Output> {
        self.session.step(self.now, input)
    }

    pub fn hear(&mut self, id: ConnectionId, message: &Message) -> Vec<Output> {
        self.step(Input::Received(id, &bytes(message)))
    }

    /// Moves time to the deadline, and ticks.
    pub fn wait(&mut self) -> Vec<Output> {
        self.now = self.session.deadline().expect("a timer runs");
        self.step(Input::Tick)
    }

    /// Brings a session of `config(1)`, say, to a state, on a dialled connection, with a peer of `peer`.
    pub fn at(state: State, config: Config, peer: &Config) -> Self {
        let mut bench = Self::new(config);
        if state == State::Idle {
            return bench;
        }
        let _connect = bench.step(Input::ManualStart);
        if state == State::Active {
            let _wait = bench.step(Input::Failed(DIALLED));
        }
        if state >= State::OpenSent {
            let _open = bench.step(Input::Connected(DIALLED));
        }
        if state >= State::OpenConfirm {
            let _keepalive = bench.hear(DIALLED, &Message::Open(peer_open(peer)));
        }
        if state >= State::Established {
            let _up = bench.hear(DIALLED, &Message::Keepalive);
        }
        assert_eq!(bench.session.state(), state);
        bench
    }
}

/// What is sent among these, in order.
pub(super) fn sent(outputs: &[Output]) -> Vec<(ConnectionId, Message)> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Send(id, message) => Some((*id, message.clone())),
        _ => None,
    });
    sent.collect()
}

/// The NOTIFICATION among these.
pub(super) fn told(outputs: &[Output]) -> Option<Notification> {
    sent(outputs).into_iter().find_map(|(_, message)| match message {
        Message::Notification(notification) => Some(notification),
        _ => None,
    })
}

/// Both have ways to say that a connection is not needed.
pub(super) fn is_collision(outputs: &[Output], id: ConnectionId) -> bool {
    sent(outputs).contains(&(id, Message::Notification(ErrorCode::CONNECTION_COLLISION.into())))
        && outputs.contains(&Output::Close(id))
}
