//! The transport: one blocking netlink socket with strict checking, extended acknowledgements and windows of requests.
//!
//! It promises that nothing is called done which the kernel did not acknowledge: each request carries its own sequence
//! number, each answer is matched by it, and where an answer is missing (an overrun, five seconds of silence) the whole
//! call fails with [`Error::Transport`]: the outcome is unknown then, and the caller dumps to see what stands. A socket
//! that failed so is to be replaced by a new one.
//!
//! The plugin sends its few requests with it, and [`crate::table`] its tens of thousands.

pub(crate) mod decode;
mod errand;
pub(crate) mod frame;
pub(crate) mod socket;

use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::sync::Arc;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_ECHO, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use crate::monitor::Echoes;
use crate::{Error, NetNs};
use decode::decode;
pub use errand::Errand;
use frame::{Frames, NLMSG_DONE, NLMSG_ERROR, Verdict};
use socket::Socket;

/// Requests in one send at most: their acknowledgements fit even into a receive buffer of the default size.
const WINDOW: usize = 128;
/// Bytes in one send at most, well below the default send buffer (net.core.wmem_default, 208 KiB).
const WINDOW_BYTES: usize = 64 * 1024;
/// The kernel fills at most 32 KiB a read of a dump (NLMSG_GOODSIZE bounds in net/netlink/af_netlink.c).
const READ: usize = 64 * 1024;
/// How often a dump is tried that the kernel calls interrupted. Each try sees a table that somebody is changing.
const DUMP_TRIES: usize = 16;

/// What a request does, for the error's text: "add route 10.42.1.0/26 …". It is only formatted when it is needed.
pub type Attempt = Arc<dyn fmt::Display + Send + Sync>;

/// A change that is asked of the kernel.
#[derive(Clone)]
pub struct Request {
    /// The message.
    pub message: RouteNetlinkMessage,
    /// NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_APPEND as wanted; REQUEST and ACK are added.
    pub flags: u16,
    /// What it does, for the error's text.
    pub attempt: Attempt,
}

impl Request {
    /// A request; `attempt` is a string, or a value that can be formatted later.
    pub fn new(message: RouteNetlinkMessage, flags: u16, attempt: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { message, flags, attempt: Arc::new(attempt) }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("attempt", &format_args!("{}", self.attempt))
            .field("flags", &self.flags)
            .field("message", &self.message)
            .finish()
    }
}

/// A route netlink socket in one namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    namespace: Option<NetNs>,
    echoes: Option<Arc<Echoes>>,
}

impl Netlink {
    /// In the caller's namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self::over(Socket::open()?, None))
    }

    /// In another namespace; the caller's thread stays where it is. A socket belongs for good to the namespace in which
    /// it was made.
    pub fn open_in(namespace: &NetNs) -> Result<Self, Error> {
        let socket = namespace.visit(Socket::open)??;
        Ok(Self::over(socket, Some(namespace.clone())))
    }

    fn over(socket: Socket, namespace: Option<NetNs>) -> Self {
        Self { socket, sequence: 0, outgoing: Vec::new(), incoming: Vec::with_capacity(READ), namespace, echoes: None }
    }

    /// This socket, whose changes are expected in `echoes`.
    #[must_use]
    pub fn expecting(mut self, echoes: &Arc<Echoes>) -> Self {
        self.echoes = Some(Arc::clone(echoes));
        self
    }

    /// The namespace that the socket was opened in; `None` for the caller's own.
    pub fn namespace(&self) -> Option<&NetNs> {
        self.namespace.as_ref()
    }

    /// Another socket in the same namespace.
    pub fn another(&self) -> Result<Self, Error> {
        self.namespace.as_ref().map_or_else(Self::open, Self::open_in)
    }

    /// Leaves one request to a child process, which waits for the answer; the socket goes with it. See [`Errand`] for
    /// when that is right.
    pub fn leave(mut self, request: &Request) -> Result<Errand, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        self.outgoing.clear();
        frame::append(&mut self.outgoing, &request.message, request.flags | NLM_F_REQUEST | NLM_F_ACK, self.sequence);
        Errand::send(&self.outgoing, self.socket, Arc::clone(&request.attempt))
    }

    /// Sends the requests, in windows, and gives the outcome of each, in order. The outer error means that the outcome
    /// of some of them is unknown.
    pub fn batch<R: Borrow<Request>>(&mut self, requests: &[R]) -> Result<Vec<Result<(), Error>>, Error> {
        if let Some(echoes) = &self.echoes {
            echoes.expect(requests.iter().map(|request| &request.borrow().message));
        }
        let mut outcomes = Vec::with_capacity(requests.len());
        while outcomes.len() < requests.len() {
            let rest = &requests[outcomes.len()..];
            let first = self.sequence.wrapping_add(1);
            let count = self.send_window(rest)?;
            outcomes.extend(self.acknowledgements(first, &rest[..count])?);
        }
        Ok(outcomes)
    }

    /// Sends the requests; the first refusal is the error. Those after it were tried all the same, but for those beyond
    /// a window of 128: a sequence that must stop at its first error is sent one by one.
    pub fn apply(&mut self, requests: &[Request]) -> Result<(), Error> {
        for outcome in self.batch(requests)? {
            outcome?;
        }
        Ok(())
    }

    /// All answers to a dump request; repeated when the kernel says that it was interrupted (NLM_F_DUMP_INTR).
    ///
    /// An object that this build cannot decode is left out: it is none that we made, and one exotic route of someone
    /// else must not blind us to all others. Links are never left out (see `decode`).
    pub fn dump(&mut self, request: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.dump_of(request, usize::MAX, Some)
    }

    /// The same, of which only that is held which `keep` makes something of, and of that the first `most`. The rest is read and
    /// forgotten as it comes: a machine may have all routes of the Internet.
    pub fn dump_of<T>(
        &mut self,
        request: RouteNetlinkMessage,
        most: usize,
        keep: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_TRIES {
            if let Some(found) = self.dump_once(&request, most, &keep)? {
                return Ok(found);
            }
        }
        let cause = io::Error::new(io::ErrorKind::Interrupted, "the table changed during every attempt");
        Err(Error::Transport { what: frame::dump_name(&request), cause })
    }

    /// The answer to a request for one object. `None` only where the kernel says that there is none: an answer that
    /// cannot be decoded is an error.
    pub fn one(&mut self, request: RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>, Error> {
        match self.exchange(&request, NLM_F_ACK)? {
            (answer, Verdict { errno: None, .. }) => Ok(answer),
            (_, Verdict { errno: Some(Errno::ENODEV | Errno::ESRCH | Errno::ENOENT), .. }) => Ok(None),
            (_, refused) => Err(refused.into_error(frame::dump_name(&request).to_owned())),
        }
    }

    /// Makes one object and gives it as the kernel shows it then (NLM_F_ECHO): what numbers it chose. `None` where the
    /// kernel does not show objects of that kind (links before Linux 6.2).
    pub fn make(&mut self, request: &Request) -> Result<Option<RouteNetlinkMessage>, Error> {
        match self.exchange(&request.message, request.flags | NLM_F_ACK | NLM_F_ECHO)? {
            (shown, Verdict { errno: None, .. }) => Ok(shown),
            (_, refused) => Err(refused.into_error(request.attempt.to_string())),
        }
    }

    /// Sends one message, and reads up to its acknowledgement or refusal; with the object that came before that.
    fn exchange(
        &mut self,
        message: &RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(Option<RouteNetlinkMessage>, Verdict), Error> {
        let sequence = self.send_single(message, flags)?;
        let mut answer = None;
        loop {
            self.socket.receive(&mut self.incoming, "receive an answer")?;
            for frame in Frames::over(&self.incoming) {
                let frame = frame?;
                if frame.port != self.socket.port() || frame.sequence != sequence {
                    continue;
                }
                if frame.kind == NLMSG_ERROR {
                    return Ok((answer, frame.verdict()?));
                }
                answer = Some(decode(&frame).ok_or_else(frame::malformed)?);
            }
        }
    }

    /// One try at a dump; `None` where it was interrupted, or an answer did not fit into the buffer, which grew by it.
    fn dump_once<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        most: usize,
        keep: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        let sequence = self.send_single(request, NLM_F_DUMP)?;
        let mut found = Vec::new();
        let mut whole = true;
        loop {
            let truncated = self.socket.receive(&mut self.incoming, "receive a dump")?;
            whole &= !truncated;
            for frame in Frames::over(&self.incoming) {
                let frame = match frame {
                    // The rest of this dump is still read, since the kernel refuses a second one meanwhile, but not used.
                    Err(_) if truncated => break,
                    other => other?,
                };
                if frame.port != self.socket.port() || frame.sequence != sequence {
                    continue;
                }
                whole &= frame.flags & NLM_F_DUMP_INTR == 0;
                match frame.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        let verdict = frame.verdict()?;
                        return match verdict.errno {
                            None => Ok(whole.then_some(found)),
                            Some(_) => Err(verdict.into_error(frame::dump_name(request).to_owned())),
                        };
                    }
                    _ if found.len() >= most => {}
                    _ => found.extend(decode(&frame).and_then(&keep)),
                }
            }
        }
    }

    /// Sends as many of `requests` as a window holds, and tells how many.
    fn send_window<R: Borrow<Request>>(&mut self, requests: &[R]) -> Result<usize, Error> {
        self.outgoing.clear();
        let mut count = 0;
        for request in requests.iter().map(Borrow::borrow).take(WINDOW) {
            let before = self.outgoing.len();
            let flags = request.flags | NLM_F_REQUEST | NLM_F_ACK;
            let sequence = self.sequence.wrapping_add(1);
            frame::append(&mut self.outgoing, &request.message, flags, sequence);
            if self.outgoing.len() > WINDOW_BYTES && before > 0 {
                self.outgoing.truncate(before);
                break;
            }
            self.sequence = sequence;
            count += 1;
        }
        self.socket.send(&self.outgoing)?;
        Ok(count)
    }

    fn send_single(&mut self, message: &RouteNetlinkMessage, flags: u16) -> Result<u32, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        self.outgoing.clear();
        frame::append(&mut self.outgoing, message, flags | NLM_F_REQUEST, self.sequence);
        self.socket.send(&self.outgoing)?;
        Ok(self.sequence)
    }

    /// Reads until each of `requests`, the first of which has sequence number `first`, is acknowledged or refused.
    fn acknowledgements<R: Borrow<Request>>(
        &mut self,
        first: u32,
        requests: &[R],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let mut outcomes: Vec<Option<Result<(), Error>>> = requests.iter().map(|_| None).collect();
        let mut pending = requests.len();
        while pending > 0 {
            self.socket.receive(&mut self.incoming, "receive acknowledgements, so the outcome is unknown")?;
            for frame in Frames::over(&self.incoming) {
                let frame = frame?;
                let position = frame.sequence.wrapping_sub(first) as usize;
                if frame.port != self.socket.port() || frame.kind != NLMSG_ERROR || position >= requests.len() {
                    continue;
                }
                let outcome = match frame.verdict()? {
                    Verdict { errno: None, .. } => Ok(()),
                    refused => Err(refused.into_error(requests[position].borrow().attempt.to_string())),
                };
                if outcomes[position].replace(outcome).is_none() {
                    pending -= 1;
                }
            }
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.expect("none is pending")).collect())
    }
}
