//! The cluster's store on etcd, over the network.
//!
//! Nothing here decides anything: reads are linearizable and of one revision, transactions are sent once, and a failure says
//! whether the request can have had an effect. Every call ends within [`DEADLINE`], a read, which has as many pages as it
//! needs, within [`READ_DEADLINE`], or within the [`Limits`] that somebody else sets. One member is used at a time; a call that fails makes the next one go to another member.
//! Certificates, keys and passwords are read again when their files change, by requests that come after that. Called by the
//! daemon and by `twillctl`.

mod call;
mod certificate;
mod credentials;
mod failure;
mod handshake;
pub mod health;
mod member;
mod past;
mod trouble;
mod watch;
mod wire;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{Error, GetOptions, KeyValue, ResponseHeader};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use twill_conf::node::EtcdConf;

use self::credentials::Vault;
use self::failure::Effect;
use self::member::Member;
use self::trouble::Asked;
use crate::store::{Event, Range, Store, StoreError};
use crate::txn::{Outcome, Txn};
use crate::view::{Entry, Snapshot};

/// How long one request may take, all its tries together. A read is one request for each of its pages.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How long a read may take, all its pages and beginnings together.
pub const READ_DEADLINE: Duration = Duration::from_secs(30);

/// How long requests may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One request, all its tries together.
    pub request: Duration,
    /// A read, all its pages and beginnings together.
    pub read: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request: DEADLINE, read: READ_DEADLINE }
    }
}

impl Limits {
    /// Nothing takes longer than that.
    pub fn of(longest: Duration) -> Self {
        Self { request: longest, read: longest }
    }
}

/// Keys in one page of a read, and of one of mirrors, which are long: none is longer than what is read as one answer.
const PAGE: i64 = 1000;
const PAGE_OF_MIRRORS: i64 = 200;
/// A read whose revision was compacted away between two pages begins again, so many times.
const READS: u32 = 3;
/// What a read may bring, in bytes of memory. The longest records of 5,000 nodes and 10,000 blocks are less; more is
/// somebody's mistake, or malice, and would take every node's memory.
const LARGEST_READ: usize = 256 << 20;
/// Events that wait for the daemon; then etcd waits.
const EVENTS: usize = 64;

pub use self::member::InvalidEndpoint;

/// etcd, as one node uses it. Cheap to clone.
#[derive(Clone)]
pub struct EtcdStore {
    inner: Arc<Inner>,
}

struct Inner {
    members: Vec<Member>,
    /// Which member is used; counts on for ever.
    current: AtomicUsize,
    prefix: String,
    conf: EtcdConf,
    /// All URLs, for errors.
    endpoints: String,
    vault: Vault,
    /// Of which version etcd has refused the password, and until when it is not tried again.
    refused: Mutex<Option<(u64, Instant)>>,
    /// Told when streams are to be opened anew.
    reconnect: Notify,
    limits: Limits,
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdStore({} under {})", self.inner.endpoints, self.inner.prefix)
    }
}

impl EtcdStore {
    /// Prepares connections to `endpoints` (URLs, `http://` only); all keys get `prefix`, which ends with '/'.
    ///
    /// Nothing is sent yet, so it does not matter whether etcd can be reached.
    pub fn connect(endpoints: &[String], prefix: &str) -> Result<Self, InvalidEndpoint> {
        Self::open(&EtcdConf::plain(endpoints.to_owned()), prefix)
    }

    /// As [`connect`](Self::connect), with TLS and a user as configured. No file is read yet either.
    pub fn open(conf: &EtcdConf, prefix: &str) -> Result<Self, InvalidEndpoint> {
        Self::open_within(conf, prefix, Limits::default())
    }

    /// As [`open`](Self::open), for somebody who waits longer or less long than the daemon.
    pub fn open_within(conf: &EtcdConf, prefix: &str, limits: Limits) -> Result<Self, InvalidEndpoint> {
        let members: Vec<Member> = conf.endpoints.iter().map(|url| Member::new(url)).collect::<Result<_, _>>()?;
        if members.is_empty() {
            return Err(InvalidEndpoint {
                endpoint: String::new(),
                cause: "there must be at least one, as in http://10.0.0.1:2379".into(),
            });
        }
        if let Some(url) = conf.endpoints.iter().find(|url| url.starts_with("https://") != conf.tls.is_some()) {
            let cause = "https:// wants the file of a CA, and the file of a CA wants https://".into();
            return Err(InvalidEndpoint { endpoint: url.clone(), cause });
        }
        let inner = Inner {
            current: AtomicUsize::new(member::random() as usize % members.len()),
            members,
            prefix: prefix.to_owned(),
            conf: conf.clone(),
            endpoints: conf.endpoints.join(","),
            vault: Vault::new(conf),
            refused: Mutex::new(None),
            reconnect: Notify::new(),
            limits,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.inner.prefix)
    }

    /// All pages of a range at one revision.
    async fn read_once(&self, range: &Range, deadline: Instant) -> Result<Snapshot, StoreError> {
        let end = self.full_key(&range.end);
        let mut snapshot = Snapshot { revision: 0, entries: Vec::new() };
        // Bytes, as etcd orders them: somebody may have written a key that is no text.
        let mut start = self.full_key(&range.start).into_bytes();
        let mut size = 0;
        let limit = if range.start.starts_with("addresses/") { PAGE_OF_MIRRORS } else { PAGE };
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(limit).with_revision(snapshot.revision);
            let page = self
                .call_until(
                    deadline.min(Instant::now() + self.inner.limits.request),
                    Effect::None,
                    Asked::Read(range),
                    |client| {
                        let (start, options) = (start.clone(), options.clone());
                        async move { member::kv(&client).get(start, Some(options)).await }
                    },
                )
                .await?;
            if snapshot.revision == 0 {
                snapshot.revision = page.header().map_or(0, ResponseHeader::revision);
            }
            snapshot.entries.extend(page.kvs().iter().map(|kv| wire::entry(&self.inner.prefix, kv)));
            size += page.kvs().iter().map(weight).sum::<usize>();
            if size > LARGEST_READ {
                let cause = format!("more than {} MiB lie from {} to {end}", LARGEST_READ >> 20, range.start);
                return Err(self.unusable(cause));
            }
            if !page.more() {
                return Ok(snapshot);
            }
            let next = page.kvs().last().map(|last| [last.key(), b"\0"].concat());
            start = next
                .filter(|next| *next > start)
                .ok_or_else(|| self.unusable("a page does not go on from the one before it".into()))?;
        }
    }

    fn unusable(&self, cause: String) -> StoreError {
        StoreError::Unavailable { endpoints: self.inner.endpoints.clone(), cause }
    }
}

/// What an entry takes of memory, in bytes.
fn weight(kv: &KeyValue) -> usize {
    size_of::<Entry>() + kv.key().len() + kv.value().len()
}

impl Store for EtcdStore {
    async fn read(&self, range: &Range) -> Result<Snapshot, StoreError> {
        let deadline = Instant::now() + self.inner.limits.read;
        let mut tries = READS;
        loop {
            tries -= 1;
            match self.read_once(range, deadline).await {
                Err(StoreError::Compacted(_)) if tries > 0 => {}
                result => return result,
            }
        }
    }

    async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        let request = wire::transaction(&self.inner.prefix, txn);
        let answer = self
            .call(Effect::Possible, Asked::Write(txn), |client| {
                let request = request.clone();
                async move { member::kv(&client).txn(request).await }
            })
            .await?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        Ok(if answer.succeeded() { Outcome::Done(revision) } else { Outcome::Refused(revision) })
    }

    async fn grant(&self, ttl: Duration) -> Result<i64, StoreError> {
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let answer =
            self.call(Effect::Possible, Asked::Lease, |client| async move {
                client.lease_client().grant(seconds, None).await
            })
            .await?;
        Ok(answer.id())
    }

    async fn renew(&self, lease: i64) -> Result<bool, StoreError> {
        // One message on a stream of its own: a stream that is kept would have to be resumed after every break.
        self.call(Effect::None, Asked::Lease, |client| async move {
            match client.lease_client().keep_alive(lease).await {
                Ok(_) => Ok(true),
                Err(Error::LeaseKeepAliveError(text)) if text.contains("not found") => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn reconnect(&self) {
        for member in &self.inner.members {
            member.forget().await;
        }
        self.inner.reconnect.notify_waiters();
    }

    fn watch(&self, range: Range) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        tokio::spawn(watch::follow(self.clone(), range, sender));
        receiver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(url: &str) -> Result<EtcdStore, InvalidEndpoint> {
        EtcdStore::connect(&[url.to_owned()], "/twill/v1/")
    }

    #[test]
    fn an_endpoint_that_cannot_be_used_is_refused_with_what_would_be_right() {
        for (url, word) in [
            ("https://10.0.0.1:2379", "CA"),
            ("10.0.0.1:2379", "http://"),
            ("ftp://10.0.0.1", "http://"),
            ("http://", "host"),
            ("http://a b", "not a URL"),
            ("http://10.0.0.1:2379/path", "path"),
        ] {
            let text = connect(url).unwrap_err().to_string();
            assert!(text.contains(url) && text.contains(word), "{text}");
        }
        assert!(EtcdStore::connect(&[], "/").is_err());
        assert!(connect("http://[fd00::1]:2379/").is_ok());
    }

    #[tokio::test]
    async fn where_nobody_listens_nothing_was_done() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let store = connect(&url).unwrap();
        assert!(matches!(store.commit(&Txn::default()).await, Err(StoreError::Unavailable { .. })));
        let text = store.read(&Range::watched()).await.unwrap_err().to_string();
        assert!(text.contains(&url) && text.contains("refused"), "{text}");
        assert!(matches!(store.grant(DEADLINE).await, Err(StoreError::Unavailable { .. })));
        assert!(matches!(store.renew(1).await, Err(StoreError::Unavailable { .. })));
    }

    #[tokio::test]
    async fn who_gets_no_answer_is_told_how_long_all_members_together_were_waited_for() {
        // The kernel accepts for them.
        let silent: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let endpoints: Vec<_> = silent.iter().map(|s| format!("http://{}", s.local_addr().unwrap())).collect();
        let store = EtcdStore::connect(&endpoints, "/twill/v1/").unwrap();
        let text = store.read(&Range::watched()).await.unwrap_err().to_string();
        assert_eq!(text, format!("etcd at {}: no answer within 5.0 s", endpoints.join(",")));
    }

    #[tokio::test]
    async fn who_waits_less_long_is_told_so_and_each_member_gets_its_part_of_the_time() {
        let silent: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let endpoints = silent.iter().map(|s| format!("http://{}", s.local_addr().unwrap())).collect();
        let limits = Limits::of(Duration::from_millis(600));
        let store = EtcdStore::open_within(&EtcdConf::plain(endpoints), "/twill/v1/", limits).unwrap();
        let begun = Instant::now();
        let member = || store.inner.current.load(std::sync::atomic::Ordering::Relaxed);
        let first = member();
        let text = store.read(&Range::watched()).await.unwrap_err().to_string();
        assert!(text.ends_with(": no answer within 0.6 s"), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(member() >= first + 2, "it went from member to member");
    }

    #[tokio::test]
    async fn where_the_connection_breaks_after_the_request_the_outcome_is_unknown() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = connect(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        // The server's side of HTTP/2 (an empty SETTINGS frame); the end when the request's DATA frame is there.
        let server = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            stream.read_exact(&mut [0; 24]).await.unwrap();
            let mut header = [0; 9];
            while stream.read_exact(&mut header).await.is_ok() && header[3] != 0 {
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
            }
        });
        assert!(matches!(store.commit(&Txn::default()).await, Err(StoreError::Unknown { .. })));
        server.await.unwrap();
    }
}
