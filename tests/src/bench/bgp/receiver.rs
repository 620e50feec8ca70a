//! Twill's speaker with the least of a transport, as a process of its own: one peer, which makes the connection, over blocking TCP.
//!
//! It is what `bgp` itself costs, without the daemon around it. It tells its parent on standard output, a line each: `ready`, and when it
//! has as many routes as it was told to expect, what they hold of its heap.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use twill_bgp::path::{Asn, Family, PeerAs, PerFamily};
use twill_bgp::policy::Policy;
use twill_bgp::rib::{Hops, Identity, Kind, Multipath, NextHopRule, Patience, Peer};
use twill_bgp::session::State;
use twill_bgp::speaker::{Begin, Config, Connection, Endpoint, Input, Offer, Output, PeerConfig, Place, Speaker};

use crate::bench::heap::{self, Allocations};
use crate::{LabError, Result};

/// What the process says when it listens.
pub const READY: &str = "ready";
/// Where it listens.
const PORT: u16 = 179;
/// What is read at once.
const CHUNK: usize = 64 << 10;
/// How long it waits for bytes before it looks at its timers.
const LOOK: Duration = Duration::from_millis(100);

/// Whom it serves, and where.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// Its address.
    pub local: IpAddr,
    /// Its AS.
    pub asn: u32,
    /// Its peer's address.
    pub peer: IpAddr,
    /// Its peer's AS.
    pub peer_asn: u32,
}

/// What the routes take of its heap.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Heap {
    /// Bytes more than before the first of them, in pieces that are not freed.
    pub held: i64,
    /// So many pieces were asked for altogether.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Takes so many routes, and keeps them until the peer or the parent is gone.
pub fn serve(seat: Seat, expected: usize) -> Result<String> {
    let to = SocketAddr::new(seat.local, PORT);
    let listener = TcpListener::bind(to).map_err(LabError::io(format!("listening on {to}")))?;
    say(READY)?;
    let (stream, from) = listener.accept().map_err(LabError::io("accepting a connection"))?;
    stream.set_read_timeout(Some(LOOK)).map_err(LabError::io("setting the read timeout"))?;
    stream.set_nodelay(true).map_err(LabError::io("setting TCP_NODELAY"))?;
    let began = Instant::now();
    let now = Duration::ZERO;
    let (mut speaker, mut outputs) = Speaker::new(now, config(seat)?, Begin::Cold, 1);
    let everything = ["0.0.0.0/0", "::/0"].map(|prefix| (prefix.parse().expect("a prefix"), Some(0)));
    outputs.extend(speaker.step(now, Input::Reach(everything.into_iter().collect())));
    let (connection, more) = speaker
        .accept(now, seat.local, from.ip())
        .map_err(|refused| LabError::wrong(format!("the speaker refuses {from}: {refused}")))?;
    outputs.extend(more);
    let mut transport = Transport { stream, speaker, connection, began };
    transport.perform(outputs)?;
    transport.take(expected)?;
    Ok(String::new())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(LabError::io("writing to the parent"))
}

fn config(seat: Seat) -> Result<Config> {
    let peer = Peer {
        kind: Kind::External(Hops::Single),
        asn: PeerAs::Is(Asn(seat.peer_asn)),
        local_as: Asn(seat.asn),
        address: seat.peer,
        policy: Some(Arc::new(Policy::open())),
        next_hop: NextHopRule::OwnForExternal,
        maximum: BTreeMap::new(),
        patience: Patience::default(),
    };
    let config = PeerConfig {
        peer,
        offer: Offer { families: vec![Family::Ipv4], add_path: PerFamily::default(), extended_next_hop: false },
        endpoint: Endpoint { address: seat.peer, port: PORT, source: None, ttl: None, least_ttl: None, password: None },
        place: Place::default(),
        hold_time: 90,
        connect_retry: Duration::from_secs(5),
        passive: true,
        shutdown: None,
    };
    let identity = Identity { asn: Asn(seat.asn), router_id: Ipv4Addr::new(10, 0, 0, 1), cluster: None };
    Config::new(identity, Multipath::default(), None, [config])
        .map_err(|invalid| LabError::wrong(format!("the speaker's configuration: {invalid}")))
}

struct Transport {
    stream: TcpStream,
    speaker: Speaker,
    connection: Connection,
    began: Instant,
}

impl Transport {
    /// Reads until the connection ends. Tells once that all is there.
    fn take(&mut self, expected: usize) -> Result<()> {
        let mut chunk = vec![0; CHUNK];
        let mut before = None;
        let mut is_told = false;
        loop {
            let read = match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => Some(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
                // The peer has gone without a word.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(LabError::io("reading from the peer")(error)),
            };
            let now = self.began.elapsed();
            let is_due = self.speaker.deadline().is_some_and(|deadline| deadline <= now);
            for input in read
                .map(|bytes| Input::Received(self.connection, bytes))
                .into_iter()
                .chain(is_due.then_some(Input::Tick))
            {
                let outputs = self.speaker.step(now, input);
                self.perform(outputs)?;
            }
            let Some(received) = self.received() else { continue };
            let (held, asked) = *before.get_or_insert_with(|| (heap::held(), heap::so_far()));
            if received == expected && !is_told {
                is_told = true;
                let Allocations { count, bytes } = heap::so_far();
                let heap = Heap { held: heap::held() - held, count: count - asked.count, bytes: bytes - asked.bytes };
                say(&serde_json::to_string(&heap).expect("numbers"))?;
            }
        }
    }

    /// How many routes of the peer there are, once its session is established.
    fn received(&self) -> Option<usize> {
        let peer = self.speaker.peers().pop().filter(|peer| peer.state == State::Established)?;
        Some(peer.families.iter().map(|(_, summary)| summary.received as usize).sum())
    }

    fn perform(&mut self, outputs: Vec<Output>) -> Result<()> {
        for output in outputs {
            match output {
                Output::Write(_) => self.write()?,
                // As the kernel's owner takes them, who keeps none.
                Output::RoutesChanged => drop(self.speaker.changes()),
                Output::Close(_, _) => return Err(LabError::wrong("the speaker has closed the connection")),
                // The peer makes the connections.
                Output::Dial(..) | Output::Selected(_) | Output::Told(..) => {}
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        loop {
            let mut bytes = Vec::new();
            let more = self.speaker.write(self.began.elapsed(), self.connection, &mut bytes);
            if bytes.is_empty() {
                return self.perform(more);
            }
            self.stream.write_all(&bytes).map_err(LabError::io("writing to the peer"))?;
            self.perform(more)?;
        }
    }
}
