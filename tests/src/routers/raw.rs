//! A speaker that says whatever bytes a test wants, and tells every message that came back.
//!
//! It has no part of Twill's speaker: its handshake is made of bytes of its own ([`message`]), and what it hears is decoded by
//! `bgpkit-parser`. It knows no routes and judges nothing: a message that the decoder refuses is told with the decoder's reason.

mod conversation;
mod feed;
pub mod message;

pub use bgpkit_parser::models::BgpMessage;
pub use conversation::Received;
pub use feed::Feed;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bgpkit_parser::models::BgpOpenMessage;

use super::{Family, Host};
use crate::deadline::{self, PATIENCE};
use crate::{LabError, Result};
use conversation::Inbox;

/// Where speakers listen (RFC 4271, section 8.2.1).
const PORT: u16 = 179;
/// How long a first attempt at a connection may take.
const DIAL: Duration = Duration::from_secs(2);
/// How long one handshake may take. A router that is not ready closes the connection, or lets it wait: then there is another one.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// As what it introduces itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// The hold time that it offers, in seconds. 0: none, and nobody needs to say that he lives. With any other it sends KEEPALIVEs.
    pub hold_time: u16,
    /// The families that it speaks (RFC 4760). With none it names none, as speakers of before RFC 4760.
    pub families: Vec<Family>,
    /// It writes AS numbers with four bytes (RFC 6793), if the other one does too.
    pub four_octet: bool,
    /// Further capabilities (RFC 5492): code and value.
    pub capabilities: Vec<(u8, Vec<u8>)>,
}

impl Introduction {
    /// One that speaks IPv4, with AS numbers of four bytes, and needs no KEEPALIVEs.
    pub fn new(asn: u32, router_id: Ipv4Addr) -> Self {
        let families = vec![Family::Ipv4];
        Self { asn, router_id, hold_time: 0, families, four_octet: true, capabilities: Vec::new() }
    }
}

/// A raw speaker with a session that is established, as long as the other one wants it.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    /// Whoever writes whole messages holds it.
    writer: Arc<Mutex<TcpStream>>,
    inbox: Arc<Inbox>,
    reader: Option<JoinHandle<()>>,
    open: BgpOpenMessage,
}

/// A raw speaker that waits to be called.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
}

impl Listener {
    /// Listens on an address of a host.
    pub fn on(host: &Host, address: IpAddr) -> Result<Self> {
        let what = format!("listening on {address} port {PORT}");
        let bind = || TcpListener::bind(SocketAddr::new(address, PORT));
        let listener = host.namespace().enter(bind)?.map_err(LabError::io(what))?;
        listener.set_nonblocking(true).map_err(LabError::io("making the listener non-blocking"))?;
        Ok(Self { listener })
    }

    /// Waits for a call, and for the session to be established.
    pub fn accept(&self, introduction: &Introduction) -> Result<Raw> {
        deadline::until_some("a router has called and made a session", PATIENCE, || match self.listener.accept() {
            Ok((stream, _)) => Raw::handshake(stream, introduction).map(Ok),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(Err("nobody calls")),
            Err(error) => Err(LabError::io("accepting a connection")(error)),
        })
    }
}

impl Raw {
    /// Calls a router, and waits for the session to be established: tries again where the router is not ready.
    pub fn dial(host: &Host, router: IpAddr, introduction: &Introduction) -> Result<Self> {
        let to = SocketAddr::new(router, PORT);
        deadline::until_some(&format!("a session with {router} stands"), PATIENCE, || {
            let dialled = host.namespace().enter(|| TcpStream::connect_timeout(&to, DIAL))?;
            let stream = dialled.map_err(LabError::io(format!("calling {to}")))?;
            Self::handshake(stream, introduction).map(Ok::<_, String>)
        })
    }

    /// Calls a router and says nothing: what it is told, and whether it hears KEEPALIVEs, is the test's.
    pub fn call(host: &Host, router: IpAddr) -> Result<Self> {
        let to = SocketAddr::new(router, PORT);
        let dialled = host.namespace().enter(|| TcpStream::connect_timeout(&to, DIAL))?;
        Self::on(dialled.map_err(LabError::io(format!("calling {to}")))?, true, None)
    }

    /// Listens on a connection. With an interval it says so often that it lives.
    fn on(stream: TcpStream, four_octet: bool, interval: Option<Duration>) -> Result<Self> {
        let io = |what: &'static str| move |error| LabError::io(what)(error);
        stream.set_nonblocking(false).map_err(io("making the connection blocking"))?;
        stream.set_nodelay(true).map_err(io("setting TCP_NODELAY"))?;
        let writer = Arc::new(Mutex::new(stream.try_clone().map_err(io("copying the socket"))?));
        let inbox = Arc::new(Inbox::new(four_octet));
        let reader = conversation::listen(
            stream.try_clone().map_err(io("copying the socket"))?,
            Arc::clone(&inbox),
            interval.map(|_| Arc::clone(&writer)),
            interval.unwrap_or_default(),
        )?;
        let open = BgpOpenMessage {
            version: 0,
            asn: 0.into(),
            hold_time: 0,
            bgp_identifier: Ipv4Addr::UNSPECIFIED,
            extended_length: false,
            opt_params: Vec::new(),
        };
        Ok(Self { stream, writer, inbox, reader: Some(reader), open })
    }

    fn handshake(stream: TcpStream, introduction: &Introduction) -> Result<Self> {
        let interval = Duration::from_secs(u64::from(introduction.hold_time)) / 3;
        let mut raw = Self::on(stream, introduction.four_octet, (introduction.hold_time > 0).then_some(interval))?;
        raw.send(&message::open(introduction))?;
        raw.open = raw.until_open()?;
        raw.send(&message::keepalive())?;
        raw.until_within("KEEPALIVE", HANDSHAKE, |received| {
            matches!(received.message, Ok(BgpMessage::KeepAlive)).then_some(())
        })?;
        Ok(raw)
    }

    /// Waits for the other one's OPEN.
    pub fn until_open(&self) -> Result<BgpOpenMessage> {
        self.until_within("OPEN", HANDSHAKE, |received| match &received.message {
            Ok(BgpMessage::Open(open)) => Some(open.clone()),
            _ => None,
        })
    }

    /// What the other one has said in its OPEN.
    pub fn open(&self) -> &BgpOpenMessage {
        &self.open
    }

    /// Sends bytes as they are.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let told = || match self.inbox.end() {
            Some(end) => format!("sending {} bytes ({end})", bytes.len()),
            None => format!("sending {} bytes", bytes.len()),
        };
        writer.write_all(bytes).map_err(|error| LabError::io(told())(error))
    }

    /// All that came so far, in its order.
    pub fn received(&self) -> Vec<Received> {
        self.inbox.all()
    }

    /// What came since the `from`th message.
    pub fn received_since(&self, from: usize) -> Vec<Received> {
        self.inbox.since(from)
    }

    /// How many messages came so far.
    pub fn count(&self) -> usize {
        self.inbox.count()
    }

    /// Why nothing more comes; None while the connection stands.
    pub fn end(&self) -> Option<String> {
        self.inbox.end()
    }

    /// Waits for a message, those that came before among them, and gives what is made of it. `what` names it.
    pub fn until<T>(&self, what: &str, is_it: impl Fn(&Received) -> Option<T>) -> Result<T> {
        self.until_within(what, PATIENCE, is_it)
    }

    fn until_within<T>(&self, what: &str, patience: Duration, is_it: impl Fn(&Received) -> Option<T>) -> Result<T> {
        self.inbox.find(what, patience, is_it)
    }

    /// Waits for a NOTIFICATION, and gives its code and subcode.
    pub fn until_notification(&self) -> Result<(u8, u8)> {
        self.until("NOTIFICATION", Received::notification)
    }

    /// Waits until the other one has closed the connection.
    pub fn until_closed(&self) -> Result<String> {
        deadline::until_some("the connection is closed", PATIENCE, || Ok(self.end().ok_or("it stands")))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It may be closed already. The reader ends by it in any case.
        self.stream.shutdown(Shutdown::Both).unwrap_or_default();
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            eprintln!("the reader of a raw speaker has panicked");
        }
    }
}
