//! The connections: TCP with the keys (RFC 2385) and the hop limits (RFC 5082) that the speaker's peers are to have.
//!
//! Each connection has two small tasks, one that reads and one that writes; they tell the speaker's task what happens, over one channel.
//! Reading stops while that task has not taken what came, so the kernel slows the peer down; and what is to be written is asked of the
//! speaker only when the peer has taken what was given before. So no peer costs memory by being fast or slow.

mod listeners;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use twill_bgp::speaker::{Connection, Endpoint, Password};
use twill_cluster::record::Told;
use twill_linux::tcp::{self, Md5Key, Reach};

use self::listeners::Listeners;

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
    listeners: Listeners,
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

impl Lines {
    /// None yet; the other end tells what happens.
    pub fn new() -> (Self, mpsc::Receiver<News>) {
        let (tell, news) = mpsc::channel(WAITING);
        (Self { tell, lines: HashMap::new(), listeners: Listeners::default(), writers: JoinSet::new() }, news)
    }

    /// Listens at this port for these peers, with a key for each that has a password. What of that cannot be done; it is to be asked
    /// again then.
    pub fn listen(&mut self, port: u16, peers: impl Iterator<Item = (IpAddr, Option<Password>)>) -> Vec<Told> {
        // A password has at most as many bytes as a key may; one that had more would be refused when its peer's connection is settled.
        let key = |password: Password| Md5Key::new(password.reveal()).ok();
        self.listeners.keep(port, peers.map(|(peer, password)| (peer, password.and_then(key))), &self.tell)
    }

    /// Whether a connection that came from this peer must not be taken: it may be unsigned, and the peer has a password.
    pub fn refuse(&self, peer: IpAddr) -> bool {
        self.listeners.refuse(peer)
    }

    /// Stops listening.
    pub fn shut(&mut self) {
        self.listeners = Listeners::default();
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
        tcp::settle(&stream, reach(endpoint), key(endpoint)?.as_ref()).map_err(io::Error::other)?;
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

async fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let key = key(endpoint)?;
    let peer = SocketAddr::new(endpoint.address, endpoint.port);
    let stream = tcp::dial(peer, endpoint.source, reach(endpoint), key.as_ref()).map_err(io::Error::other)?;
    let stream = TcpStream::from_std(stream)?;
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(stream), Err)
}

fn key(endpoint: &Endpoint) -> io::Result<Option<Md5Key>> {
    let key = endpoint.password.as_ref().map(|password| Md5Key::new(password.reveal()));
    key.transpose().map_err(io::Error::other)
}

fn reach(endpoint: &Endpoint) -> Option<Reach> {
    let hops = |least: u8| NonZeroU8::new(u8::MAX - least + 1);
    match (endpoint.ttl, endpoint.least_ttl) {
        (_, Some(least)) => hops(least).map(Reach::Security),
        (ttl, None) => ttl.and_then(NonZeroU8::new).map(Reach::Hops),
    }
}

async fn read(connection: Connection, reader: OwnedReadHalf, tell: mpsc::Sender<News>) {
    loop {
        let news = match next(&reader).await {
            Ok(bytes) if bytes.is_empty() => News::Failed(connection),
            Ok(bytes) => News::Received(connection, bytes),
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

/// What has come, or nothing at the end. There is memory for it only once there is something: most connections are idle most of the
/// time, and there are as many as nodes.
async fn next(reader: &OwnedReadHalf) -> io::Result<Vec<u8>> {
    loop {
        reader.readable().await?;
        let mut bytes = Vec::with_capacity(READ);
        match reader.try_read_buf(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => {
                read?;
                bytes.shrink_to_fit();
                return Ok(bytes);
            }
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
