//! What the fuzz targets do with their bytes, and with each file of their corpora as an ordinary test.
//!
//! `bgp/fuzz` calls it with what it makes up (`hack/fuzz`), the tests here with what is committed there. Each function panics
//! where a promise of the crate is broken.

mod bfd;

pub use bfd::bfd;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::path::{Asn, Family, PeerAs, PerFamily};
use crate::session::{Config, ConnectionId, Input, Output, Session, State};
use crate::wire::{
    self, AddPath, Capabilities, Cease, Dialect, Framer, GracefulRestart, Message, Nlri, Notification, Open, Update,
};

/// Takes the first byte for a dialect, and the rest for what a connection brings. Whatever can be read is written, and read
/// again as the same.
pub fn wire(bytes: &[u8]) {
    let Some((flags, stream)) = bytes.split_first() else { return };
    let is = |bit: u8| flags & 1 << bit != 0;
    let add_path = |both| AddPath { send: both, receive: both };
    let dialect = Dialect {
        families: PerFamily::new(|family| is(if family == Family::Ipv4 { 0 } else { 1 })),
        four_octet: is(2),
        add_path: PerFamily::new(|family| add_path(is(if family == Family::Ipv4 { 3 } else { 4 }))),
        extended_next_hop: is(5),
        internal: is(6),
        first_as: is(7).then_some(Asn(65001)),
    };
    read(stream, &dialect, |message| written_and_read(message, &dialect));
}

/// All messages of a stream, until one cannot be read.
fn read(stream: &[u8], dialect: &Dialect, mut each: impl FnMut(Message)) {
    let mut framer = Framer::default();
    framer.feed(stream);
    while let Ok(Some(frame)) = framer.next_frame() {
        match wire::decode(&frame, dialect) {
            Ok(message) => each(message),
            Err(notification) => written_and_read(Message::Notification(notification), dialect),
        }
    }
}

fn written_and_read(message: Message, dialect: &Dialect) {
    let mut bytes = Vec::new();
    match wire::encode(&message, dialect, &mut bytes) {
        Ok(()) => {}
        // With what a peer of two bytes is told beside, there may be more than there was.
        Err(wire::WriteError::TooLong { .. }) => return,
        Err(error) => panic!("{message:?} was read and cannot be written: {error}"),
    }
    let mut again = Vec::new();
    read(&bytes, dialect, |message| again.push(message));
    match message {
        Message::Update(update) => same_routes(&update, &again, dialect),
        // Nothing is written of a family that is not spoken.
        Message::Refresh(None) => assert!(again.is_empty()),
        Message::Open(mut open) => {
            open.capabilities.unknown.clear();
            if let Some(families) = &open.capabilities.families
                && families.is_empty()
            {
                open.capabilities.families = None;
            }
            assert_eq!(again, [Message::Open(open)]);
        }
        message => assert_eq!(again, [message]),
    }
}

fn same_routes(update: &Update, again: &[Message], dialect: &Dialect) {
    let mut withdrawn = BTreeSet::new();
    let mut announced = BTreeSet::new();
    let mut end_of_rib = None;
    for message in again {
        let Message::Update(part) = message else { panic!("an UPDATE became {message:?}") };
        assert!(part.malformed.is_empty() && part.ignored.is_empty(), "{part:?} of {update:?}");
        withdrawn.extend(part.withdrawn.iter().copied());
        announced.extend(announcements(part));
        end_of_rib = end_of_rib.or(part.end_of_rib);
        if let (true, Some(part), Some(all)) = (dialect.four_octet, &part.announced, &update.announced) {
            let mut expected = all.attributes.clone();
            expected.unknown.iter_mut().for_each(|unknown| unknown.partial = true);
            assert_eq!(part.attributes, expected);
        }
    }
    assert_eq!(withdrawn, update.withdrawn.iter().copied().collect());
    assert_eq!(announced, announcements(update).collect());
    assert_eq!(end_of_rib, update.end_of_rib);
}

fn announcements(update: &Update) -> impl Iterator<Item = (crate::path::NextHop, Nlri)> + '_ {
    let reach = update.announced.iter().flat_map(|announced| &announced.reach);
    reach.flat_map(|reach| reach.routes.iter().map(|route| (reach.next_hop, *route)))
}

/// Takes bytes for a history of a session: an operation each, with what belongs to it behind.
pub fn session(bytes: &[u8]) {
    let Some((flags, history)) = bytes.split_first() else { return };
    let mut play = Play::new(*flags);
    let mut rest = history.iter().copied();
    while let Some(operation) = rest.next() {
        let argument = rest.next().unwrap_or_default();
        match operation % 14 {
            0 => play.step(Input::ManualStart),
            1 if argument.is_multiple_of(4) => {
                play.step(Input::ManualStop(Cease::AdministrativeShutdown("fuzz".into())))
            }
            1 | 2 => play.step(Input::AutomaticStop(Cease::OutOfResources)),
            3 => play.step(Input::BfdDown),
            4 => play.connected(),
            5 => play.accept(),
            6 => play.fail(argument),
            7 => {
                let some: Vec<u8> = rest.by_ref().take(argument.into()).collect();
                play.hear(argument, &some);
            }
            8 | 9 => play.hear_message(argument),
            10 => play.wait(Duration::from_millis(u64::from(argument) * 50)),
            11 => play.expire(),
            12 => play.step(Input::Refresh(Family::Ipv4)),
            _ => play.take(argument),
        }
    }
}

/// A session, and what is known of it from outside.
struct Play {
    session: Session,
    peer_as: PeerAs,
    now: Duration,
    dial: Option<ConnectionId>,
    connections: BTreeSet<ConnectionId>,
    accepted: u32,
    up: Option<ConnectionId>,
}

impl Play {
    fn new(flags: u8) -> Self {
        let is = |bit: u8| flags & 1 << bit != 0;
        let graceful =
            GracefulRestart { time: 120, families: vec![(Family::Ipv4, true)], ..GracefulRestart::default() };
        let config = Config {
            local_as: Asn(64512),
            peer_as: match (is(0), is(7)) {
                (true, true) => PeerAs::AnyBut(Asn(64512)),
                (true, false) => PeerAs::Is(Asn(64512)),
                (false, _) => PeerAs::Is(Asn(64513)),
            },
            identifier: Ipv4Addr::new(10, 0, 0, if is(1) { 1 } else { 9 }),
            capabilities: Capabilities {
                families: Some(Family::ALL.to_vec()),
                route_refresh: true,
                graceful_restart: is(2).then_some(graceful),
                extended_next_hop: is(3),
                add_path: PerFamily::new(|_| AddPath { send: is(4), receive: is(4) }),
                ..Capabilities::default()
            },
            hold_time: if is(5) { 0 } else { 9 },
            passive: is(6),
            first_as: is(7),
            connect_retry: Duration::from_secs(5),
            idle_hold: Duration::from_secs(1),
            idle_hold_most: Duration::from_secs(16),
        };
        Self {
            peer_as: config.peer_as,
            session: Session::new(config, flags.into()),
            now: Duration::ZERO,
            dial: None,
            connections: BTreeSet::new(),
            accepted: 0,
            up: None,
        }
    }

    fn step(&mut self, input: Input<'_>) {
        for output in self.session.step(self.now, input) {
            match output {
                Output::Connect(id) => {
                    assert_eq!(self.dial.replace(id), None, "one is made at a time");
                }
                Output::Close(id) => {
                    self.connections.remove(&id);
                    self.dial = self.dial.filter(|dial| *dial != id);
                }
                Output::Send(id, message) => {
                    assert!(self.connections.contains(&id), "{message:?} is sent on {id:?}, which is gone");
                    written_and_read(message, &Dialect::default());
                }
                Output::Up(id, agreed) => {
                    assert!(self.peer_as.admits(agreed.peer_as), "{} came, not {}", agreed.peer_as, self.peer_as);
                    assert_eq!(self.up.replace(id), None, "up twice");
                }
                Output::Down { .. } => assert!(self.up.take().is_some(), "down twice"),
                Output::Failed(id, _) => assert_ne!(self.up, Some(id), "what is up goes down"),
                Output::Update(_) | Output::Refresh(_) => assert!(self.up.is_some(), "routes of no session"),
            }
        }
        assert_eq!(self.session.state() == State::Established, self.up.is_some());
        assert_eq!(self.session.negotiated().is_some(), self.up.is_some());
        assert!(self.up.is_none_or(|up| self.connections.contains(&up)));
        assert!(self.connections.len() <= 2, "{:?}", self.connections);
        assert!(self.session.state() != State::Idle || self.connections.is_empty());
    }

    fn connected(&mut self) {
        if let Some(id) = self.dial.take() {
            self.connections.insert(id);
            self.step(Input::Connected(id));
        }
    }

    /// There are three until the session has said which goes.
    fn accept(&mut self) {
        let id = ConnectionId::Accepted(self.accepted);
        self.accepted += 1;
        self.connections.insert(id);
        self.step(Input::Accepted(id));
    }

    fn one(&self, which: u8) -> Option<ConnectionId> {
        self.connections.iter().copied().cycle().nth(which.into())
    }

    fn fail(&mut self, which: u8) {
        let id = if which.is_multiple_of(3) { self.dial.take() } else { self.one(which) };
        if let Some(id) = id {
            self.step(Input::Failed(id));
            assert!(!self.connections.contains(&id));
        }
    }

    fn take(&mut self, which: u8) {
        if let Some(id) = self.one(which) {
            self.step(Input::Sent(id));
        }
    }

    fn hear(&mut self, which: u8, bytes: &[u8]) {
        if let Some(id) = self.one(which % 2) {
            self.step(Input::Received(id, bytes));
        }
    }

    fn hear_message(&mut self, which: u8) {
        let system = Asn([64513, 64512, 4_200_000_000, 0][usize::from(which >> 6)]);
        let graceful = GracefulRestart { time: 9, restarting: true, ..GracefulRestart::default() };
        let open = Open {
            system,
            hold_time: if which & 0x20 != 0 { 3 } else { 0 },
            identifier: Ipv4Addr::new(10, 0, 0, 5),
            capabilities: Capabilities {
                four_octet: (which & 0x10 == 0).then_some(system),
                graceful_restart: Some(graceful),
                ..Capabilities::default()
            },
        };
        let message = match which >> 1 & 7 {
            0..=2 => Message::Open(open),
            3 | 4 => Message::Keepalive,
            5 => Message::Update(Update { end_of_rib: Some(Family::Ipv4), ..Update::default() }),
            6 => Message::Refresh(Some(Family::Ipv4)),
            _ => Message::Notification(Notification::from(Cease::ConnectionRejected)),
        };
        let mut bytes = Vec::new();
        wire::encode(&message, &Dialect::default(), &mut bytes).expect("nothing of it needs a session");
        self.hear(which, &bytes);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.step(Input::Tick);
    }

    /// To the deadline, which is behind then.
    fn expire(&mut self) {
        if let Some(deadline) = self.session.deadline() {
            self.now = self.now.max(deadline);
            self.step(Input::Tick);
            assert!(self.session.deadline().is_none_or(|next| next > self.now), "a timer that is due has not expired");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Gives each file of a corpus to its target.
    fn replay(corpus: &str, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(corpus);
        let mut count = 0;
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            println!("{}", path.display());
            target(&std::fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count >= 20, "{} has {count} files", folder.display());
    }

    #[test]
    fn the_corpus_of_the_wire_breaks_no_promise() {
        replay("wire", super::wire);
    }

    #[test]
    fn the_corpus_of_bfd_breaks_no_promise() {
        replay("bfd", super::bfd);
    }

    #[test]
    fn the_corpus_of_the_session_breaks_no_promise() {
        replay("session", super::session);
    }
}
