//! What comes on a raw speaker's connection, cut into messages and decoded by a thread of its own.

use std::io::{ErrorKind, Read, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use bgpkit_parser::models::{AsnLength, BgpMessage, CapabilityValue, ParamValue};
use bgpkit_parser::parser::bgp::parse_bgp_message;
use bytes::Bytes;

use super::message;
use crate::{LabError, Result};

/// How often a reader that hears nothing looks whether it has something to say.
const LOOK: Duration = Duration::from_millis(200);
/// What is read at once.
const CHUNK: usize = 64 << 10;
/// The header of a message: marker, length and type (RFC 4271, section 4.1).
const HEADER: usize = 19;

/// A message that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// Its bytes, with the header.
    pub bytes: Vec<u8>,
    /// What `bgpkit-parser` makes of it, or why it makes nothing of it.
    pub message: Result<BgpMessage, String>,
}

impl Received {
    /// The code and subcode of a NOTIFICATION, from its bytes.
    pub fn notification(&self) -> Option<(u8, u8)> {
        let code = (self.bytes.get(HEADER - 1) == Some(&message::NOTIFICATION)).then(|| self.bytes.get(HEADER..))??;
        Some((*code.first()?, *code.get(1)?))
    }
}

/// What has come so far.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
    /// We write AS numbers with four bytes, if the other one does.
    four_octet: bool,
}

#[derive(Debug)]
struct State {
    received: Vec<Received>,
    width: AsnLength,
    end: Option<String>,
}

impl Inbox {
    pub(super) fn new(four_octet: bool) -> Self {
        let state = State { received: Vec::new(), width: AsnLength::Bits16, end: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), four_octet }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    pub(super) fn since(&self, from: usize) -> Vec<Received> {
        self.lock().received.get(from..).unwrap_or_default().to_vec()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().received.len()
    }

    pub(super) fn end(&self) -> Option<String> {
        self.lock().end.clone()
    }

    /// Waits for a message, and gives what is made of it.
    pub(super) fn find<T>(&self, what: &str, patience: Duration, is_it: impl Fn(&Received) -> Option<T>) -> Result<T> {
        let started = Instant::now();
        let (mut state, mut looked) = (self.lock(), 0);
        loop {
            if let Some(found) = state.received[looked..].iter().find_map(&is_it) {
                return Ok(found);
            }
            looked = state.received.len();
            let left = patience.saturating_sub(started.elapsed());
            if state.end.is_some() || left.is_zero() {
                let end = state.end.as_deref().unwrap_or("the connection stands");
                let last = state.received.last().map(|last| format!("{:?}", last.message)).unwrap_or_default();
                let last = format!("{looked} messages, the last one {last}; {end}");
                return Err(LabError::Timeout { what: format!("{what} has come"), waited: started.elapsed(), last });
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn put(&self, bytes: Vec<u8>) {
        let mut state = self.lock();
        let parsed = parse_bgp_message(&mut Bytes::from(bytes.clone()), false, &state.width);
        let message = parsed.map_err(|error| error.to_string());
        if let Ok(BgpMessage::Open(open)) = &message
            && self.four_octet
            && offers_four_octets(&open.opt_params)
        {
            state.width = AsnLength::Bits32;
        }
        state.received.push(Received { at: Instant::now(), bytes, message });
        self.changed.notify_all();
    }

    fn close(&self, why: String) {
        self.lock().end.get_or_insert(why);
        self.changed.notify_all();
    }
}

fn offers_four_octets(parameters: &[bgpkit_parser::models::OptParam]) -> bool {
    let capabilities = parameters.iter().flat_map(|parameter| match &parameter.param_value {
        ParamValue::Capacities(all) => all.as_slice(),
        ParamValue::Raw(_) => &[],
    });
    capabilities.into_iter().any(|capability| matches!(capability.value, CapabilityValue::FourOctetAs(_)))
}

/// Starts the thread that reads until the connection ends. With a writer it sends a KEEPALIVE every `interval`.
pub(super) fn listen(
    mut stream: TcpStream,
    inbox: Arc<Inbox>,
    writer: Option<Arc<Mutex<TcpStream>>>,
    interval: Duration,
) -> Result<JoinHandle<()>> {
    stream.set_read_timeout(Some(LOOK)).map_err(LabError::io("setting the read timeout"))?;
    let read = move || {
        let (mut waiting, mut chunk, mut said) = (Vec::new(), vec![0; CHUNK], Instant::now());
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return inbox.close("the other one has closed the connection".into()),
                Ok(count) => waiting.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return inbox.close(format!("the connection has failed: {error}")),
            }
            if let Err(why) = cut(&mut waiting, &inbox) {
                return inbox.close(why);
            }
            if let Some(writer) = writer.as_ref().filter(|_| said.elapsed() >= interval) {
                said = Instant::now();
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = writer.write_all(&message::keepalive()) {
                    return inbox.close(format!("the connection has failed: {error}"));
                }
            }
        }
    };
    Builder::new().name("raw speaker".into()).spawn(read).map_err(LabError::io("starting a thread"))
}

/// Takes the whole messages out of what waits.
fn cut(waiting: &mut Vec<u8>, inbox: &Inbox) -> Result<(), String> {
    let mut at = 0;
    while let Some(&[high, low]) = waiting.get(at + 16..at + 18) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < HEADER {
            return Err(format!("the other one has sent a message of {length} bytes: there is none below {HEADER}"));
        }
        let Some(bytes) = waiting.get(at..at + length) else { break };
        inbox.put(bytes.to_vec());
        at += length;
    }
    waiting.drain(..at);
    Ok(())
}
