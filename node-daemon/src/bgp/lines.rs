//! The connections: TCP with the keys (RFC 2385) and the hop limits (RFC 5082) that the speaker's peers are to have.
//!
//! Each connection has two small tasks, one that reads and one that writes; they tell the speaker's task what happens, over one channel.
//! Reading stops while that task has not taken what came, so the kernel slows the peer down; and what is to be written is asked of the
//! speaker only when the peer has taken what was given before. So no peer costs memory by being fast or slow.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use twill_bgp::speaker::{Connection, Endpoint, Password};
use twill_linux::tcp::{self, Md5Key, Reach};

/// What is read at once, in bytes.
const READ: usize = 64 * 1024;
/// Pieces that wait until the speaker takes them.
const WAITING: usize = 16;
/// How long a connection is tried, if the speaker does not give it up before.
const DIALLING: Duration = Duration::from_secs(30);
/// How long the last bytes of a connection may take.
const LAST: Duration = Duration::from_secs(1);
/// How long after a port could not be had it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What happened to a connection.
#[derive(Debug)]
pub enum News {
    /// One that was dialled stands.
    Connected(Connection, TcpStream),
    /// One to this address could not be made, and why.
    Unreached(Connection, IpAddr, io::Error),
    /// One is gone.
    Failed(Connection),
    /// One brought these bytes.
    Received(Connection, Vec<u8>),
    /// One has taken what it was given.
    Written(Connection),
    /// Somebody has come to us.
    Came(TcpStream),
}

/// All connections, and the listeners.
#[derive(Debug)]
pub struct Lines {
    tell: mpsc::Sender<News>,
    lines: HashMap<Connection, Line>,
    listeners: Vec<Listener>,
    keys: BTreeMap<IpAddr, Md5Key>,
    /// Those of connections that are closed have last words to say.
    writers: JoinSet<()>,
}

#[derive(Debug)]
enum Line {
    /// It is being made.
    Dialling(AbortHandle),
    Standing {
        reader: AbortHandle,
        writer: AbortHandle,
        pieces: mpsc::Sender<Piece>,
    },
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// And then the end.
    Last(Vec<u8>),
}

#[derive(Debug)]
struct Listener {
    at: SocketAddr,
    state: Listening,
}

#[derive(Debug)]
enum Listening {
    Yes { socket: std::net::TcpListener, task: AbortHandle },
    No { since: Instant, why: String },
}

impl Lines {
    /// None yet; the other end tells what happens.
    pub fn new() -> (Self, mpsc::Receiver<News>) {
        let (tell, news) = mpsc::channel(WAITING);
        let (lines, listeners, keys) = (HashMap::new(), Vec::new(), BTreeMap::new());
        (Self { tell, lines, listeners, keys, writers: JoinSet::new() }, news)
    }

    /// Listens at this port on all addresses, with a key for each peer that has one. Why it does not, where it does not; it is to be
    /// asked again then.
    pub fn listen(&mut self, port: u16, passwords: impl Iterator<Item = (IpAddr, Password)>) -> Vec<String> {
        let wanted: BTreeMap<IpAddr, Md5Key> =
            passwords.filter_map(|(peer, password)| Some((peer, Md5Key::new(password.reveal()).ok()?))).collect();
        let places = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        let places = places.map(|address| SocketAddr::new(address, port));
        self.listeners.retain(|listener| places.contains(&listener.at) || listener.stop());
        for at in places {
            let known = self.listeners.iter().position(|listener| listener.at == at);
            let is_due = |listener: &Listener| match &listener.state {
                Listening::Yes { .. } => false,
                Listening::No { since, .. } => since.elapsed() >= AGAIN,
            };
            match known {
                None => self.listeners.push(Listener { at, state: open(at, &wanted, &self.tell) }),
                Some(place) if is_due(&self.listeners[place]) => {
                    self.listeners[place].state = open(at, &wanted, &self.tell);
                }
                Some(place) => self.listeners[place].change(&self.keys, &wanted),
            }
        }
        self.keys = wanted;
        let mute = self.listeners.iter().filter_map(|listener| match &listener.state {
            Listening::No { why, .. } => Some(why.clone()),
            Listening::Yes { .. } => None,
        });
        mute.collect()
    }

    /// Stops listening.
    pub fn shut(&mut self) {
        self.listeners.drain(..).for_each(|listener| _ = listener.stop());
        self.keys.clear();
    }

    /// Makes a connection.
    pub fn dial(&mut self, connection: Connection, endpoint: Endpoint) {
        let tell = self.tell.clone();
        let task = tokio::spawn(async move {
            let made = timeout(DIALLING, connect(&endpoint)).await;
            let news = match made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => News::Connected(connection, stream),
                Err(error) => {
                    tracing::debug!(%error, "BGP: no connection to {}", endpoint.address);
                    News::Unreached(connection, endpoint.address, error)
                }
            };
            // The speaker's task is there as long as its lines are.
            tell.send(news).await.ok();
        });
        self.lines.insert(connection, Line::Dialling(task.abort_handle()));
    }

    /// Whether a connection is still being made: the speaker may have given it up.
    pub fn is_dialling(&self, connection: Connection) -> bool {
        matches!(self.lines.get(&connection), Some(Line::Dialling(_)))
    }

    /// Gives one that came what one that is dialled has from the beginning.
    pub fn settle(stream: TcpStream, endpoint: &Endpoint) -> io::Result<TcpStream> {
        let stream = stream.into_std()?;
        tcp::settle(&stream, reach(endpoint)).map_err(io::Error::other)?;
        TcpStream::from_std(stream)
    }

    /// A connection stands: reads what it brings from now on.
    pub fn stand(&mut self, connection: Connection, stream: TcpStream) {
        let (reader, writer) = stream.into_split();
        let reader = tokio::spawn(read(connection, reader, self.tell.clone())).abort_handle();
        // One piece that is being written, and the last one behind it.
        let (pieces, taken) = mpsc::channel(2);
        let writer = self.writers.spawn(write(connection, writer, taken, self.tell.clone()));
        self.lines.insert(connection, Line::Standing { reader, writer, pieces });
        // Those that have ended are let go of.
        while self.writers.try_join_next().is_some() {}
    }

    /// Writes bytes: [`News::Written`] tells when the connection has taken them.
    pub fn write(&mut self, connection: Connection, bytes: Vec<u8>) {
        if let Some(Line::Standing { pieces, .. }) = self.lines.get(&connection) {
            // There is room: the speaker writes again only when the last piece was taken. A writer that is gone has told that.
            pieces.try_send(Piece::Bytes(bytes)).ok();
        }
    }

    /// Closes a connection behind these last bytes.
    pub fn close(&mut self, connection: Connection, last: Vec<u8>) {
        match self.lines.remove(&connection) {
            Some(Line::Dialling(task)) => task.abort(),
            Some(Line::Standing { reader, writer, pieces }) => {
                reader.abort();
                pieces.try_send(Piece::Last(last)).ok();
                // A peer that does not read would keep it for ever.
                tokio::spawn(async move {
                    sleep(LAST).await;
                    writer.abort();
                });
            }
            None => {}
        }
    }

    /// One is gone by itself.
    pub fn forget(&mut self, connection: Connection) {
        self.close(connection, Vec::new());
    }

    /// Drops all connections as a crash would, without a word.
    pub fn drop_all(&mut self) {
        self.shut();
        for (_, line) in self.lines.drain() {
            match line {
                Line::Dialling(task) => task.abort(),
                Line::Standing { reader, .. } => reader.abort(),
            }
        }
        self.writers.abort_all();
    }

    /// Waits until what was closed has said its last words.
    pub async fn finish(&mut self) {
        self.shut();
        let all = async { while self.writers.join_next().await.is_some() {} };
        timeout(LAST + LAST, all).await.ok();
    }
}

impl Listener {
    /// False, for `retain`.
    fn stop(&self) -> bool {
        if let Listening::Yes { task, .. } = &self.state {
            task.abort();
        }
        false
    }

    /// From one set of keys to another.
    fn change(&mut self, before: &BTreeMap<IpAddr, Md5Key>, after: &BTreeMap<IpAddr, Md5Key>) {
        let Listening::Yes { socket, .. } = &self.state else { return };
        let of_family = |peer: &IpAddr| peer.is_ipv4() == self.at.is_ipv4();
        let gone = before.keys().filter(|peer| !after.contains_key(peer)).map(|peer| (peer, None));
        let new = after.iter().filter(|(peer, key)| before.get(peer) != Some(key)).map(|(peer, key)| (peer, Some(key)));
        for (peer, key) in gone.chain(new).filter(|(peer, _)| of_family(peer)) {
            if let Err(error) = tcp::set_key(socket, *peer, key) {
                tracing::warn!("BGP: {error}");
            }
        }
    }
}

fn open(at: SocketAddr, keys: &BTreeMap<IpAddr, Md5Key>, tell: &mpsc::Sender<News>) -> Listening {
    let begin = || -> Result<Listening, Box<dyn std::error::Error>> {
        let socket = tcp::listen(at)?;
        let mut keys = keys.iter().filter(|(peer, _)| peer.is_ipv4() == at.is_ipv4());
        keys.try_for_each(|(peer, key)| tcp::set_key(&socket, *peer, Some(key)))?;
        let listener = TcpListener::from_std(socket.try_clone()?)?;
        let task = tokio::spawn(accept(listener, tell.clone())).abort_handle();
        Ok(Listening::Yes { socket, task })
    };
    begin().unwrap_or_else(|error| Listening::No { since: Instant::now(), why: error.to_string() })
}

async fn accept(listener: TcpListener, tell: mpsc::Sender<News>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if tell.send(News::Came(stream)).await.is_err() {
                    return;
                }
            }
            // Of the connection that came, or of descriptors that are all in use.
            Err(error) => {
                tracing::debug!(%error, "BGP: a connection could not be accepted");
                sleep(LAST).await;
            }
        }
    }
}

async fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let key = endpoint.password.as_ref().map(|password| Md5Key::new(password.reveal())).transpose();
    let key = key.map_err(io::Error::other)?;
    let peer = SocketAddr::new(endpoint.address, endpoint.port);
    let stream = tcp::dial(peer, endpoint.source, reach(endpoint), key.as_ref()).map_err(io::Error::other)?;
    let stream = TcpStream::from_std(stream)?;
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(stream), Err)
}

fn reach(endpoint: &Endpoint) -> Option<Reach> {
    let hops = |least: u8| NonZeroU8::new(u8::MAX - least + 1);
    match (endpoint.ttl, endpoint.least_ttl) {
        (_, Some(least)) => hops(least).map(Reach::Security),
        (ttl, None) => ttl.and_then(NonZeroU8::new).map(Reach::Hops),
    }
}

async fn read(connection: Connection, mut reader: OwnedReadHalf, tell: mpsc::Sender<News>) {
    let mut buffer = vec![0; READ];
    loop {
        let news = match reader.read(&mut buffer).await {
            Ok(0) => News::Failed(connection),
            Ok(length) => News::Received(connection, buffer[..length].to_vec()),
            Err(error) => {
                tracing::debug!(%error, "BGP: a connection broke");
                News::Failed(connection)
            }
        };
        let is_over = matches!(news, News::Failed(_));
        if tell.send(news).await.is_err() || is_over {
            return;
        }
    }
}

async fn write(
    connection: Connection,
    mut writer: OwnedWriteHalf,
    mut pieces: mpsc::Receiver<Piece>,
    tell: mpsc::Sender<News>,
) {
    while let Some(piece) = pieces.recv().await {
        let (bytes, is_last) = match piece {
            Piece::Bytes(bytes) => (bytes, false),
            Piece::Last(bytes) => (bytes, true),
        };
        let written = writer.write_all(&bytes).await;
        if is_last {
            break;
        }
        let news = if written.is_ok() { News::Written(connection) } else { News::Failed(connection) };
        if tell.send(news).await.is_err() || written.is_err() {
            return;
        }
    }
    writer.shutdown().await.ok();
}
