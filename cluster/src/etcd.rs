//! The cluster's store on etcd, over the network.
//!
//! Nothing here decides anything: reads are linearizable and of one revision, transactions are sent once, and a failure says
//! whether the request can have had an effect. Every call ends within [`DEADLINE`], a read, which has as many pages as it
//! needs, within [`READ_DEADLINE`]. One member is used at a time; a call that fails makes the next one go to another member. Called by the daemon and by `twillctl`.

mod failure;
mod member;
mod watch;
mod wire;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, Error, GetOptions, KeyValue, ResponseHeader};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use self::failure::{Effect, Failure};
use self::member::Member;
use crate::store::{Event, Range, Store, StoreError};
use crate::txn::{Outcome, Txn};
use crate::view::{Entry, Snapshot};

/// How long one request may take, all its tries together. A read is one request for each of its pages.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How long a read may take, all its pages and beginnings together.
pub const READ_DEADLINE: Duration = Duration::from_secs(30);

/// A request without effect goes to another member after its part of [`DEADLINE`], but not sooner than this: one member
/// that accepts it and never answers is not to use up the time of all.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
/// Keys in one page of a read.
const PAGE: i64 = 1000;
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
    /// All URLs, for errors.
    endpoints: String,
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
        let members: Vec<Member> = endpoints.iter().map(|url| Member::new(url)).collect::<Result<_, _>>()?;
        if members.is_empty() {
            return Err(InvalidEndpoint {
                endpoint: String::new(),
                cause: "there must be at least one, as in http://10.0.0.1:2379".into(),
            });
        }
        let current = AtomicUsize::new(member::random() as usize % members.len());
        let inner = Inner { members, current, prefix: prefix.to_owned(), endpoints: endpoints.join(",") };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sends a request. One that was surely not sent is sent again, to the next member; one that has no effect, too.
    async fn call<T, F>(&self, effect: Effect, request: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.call_until(Instant::now() + DEADLINE, effect, request).await
    }

    /// As [`call`](Self::call), to a deadline that may come sooner than [`DEADLINE`].
    async fn call_until<T, F>(
        &self,
        deadline: Instant,
        effect: Effect,
        request: impl Fn(Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let patience = self.patience(effect);
        // Twice each: a transport that lost its connection reports that to the first request after it.
        let mut tries = 2 * self.inner.members.len();
        loop {
            let (index, member) = self.member();
            let attempt = async { request(member.client().await?).await };
            let began = Instant::now();
            let failure = match timeout_at(deadline.min(began + patience), attempt).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failure::of(&error),
                Err(_) => Failure::timeout(began.elapsed()),
            };
            self.leave(index);
            tries -= 1;
            let again = failure.is_unsent() || (effect == Effect::None && failure.is_passing());
            if !again || tries == 0 || Instant::now() >= deadline {
                return Err(failure.into_error(effect, &self.inner.endpoints));
            }
        }
    }

    /// How long one try may take.
    fn patience(&self, effect: Effect) -> Duration {
        let members = u32::try_from(self.inner.members.len()).unwrap_or(u32::MAX);
        match effect {
            Effect::None => (DEADLINE / members).max(SHORTEST_TRY),
            Effect::Possible => DEADLINE,
        }
    }

    fn member(&self) -> (usize, &Member) {
        let index = self.inner.current.load(Ordering::Relaxed);
        (index, &self.inner.members[index % self.inner.members.len()])
    }

    /// The next request goes to another member, unless somebody else has seen to that already.
    fn leave(&self, index: usize) {
        let next = index.wrapping_add(1);
        self.inner.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed).ok();
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
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(snapshot.revision);
            let page = self
                .call_until(deadline.min(Instant::now() + DEADLINE), Effect::None, |client| {
                    let (start, options) = (start.clone(), options.clone());
                    async move { member::kv(&client).get(start, Some(options)).await }
                })
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
        let deadline = Instant::now() + READ_DEADLINE;
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
            .call(Effect::Possible, |client| {
                let request = request.clone();
                async move { member::kv(&client).txn(request).await }
            })
            .await?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        Ok(if answer.succeeded() { Outcome::Done(revision) } else { Outcome::Refused(revision) })
    }

    async fn grant(&self, ttl: Duration) -> Result<i64, StoreError> {
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let answer = self
            .call(Effect::Possible, |client| async move { client.lease_client().grant(seconds, None).await })
            .await?;
        Ok(answer.id())
    }

    async fn renew(&self, lease: i64) -> Result<bool, StoreError> {
        // One message on a stream of its own: a stream that is kept would have to be resumed after every break.
        self.call(Effect::None, |client| async move {
            match client.lease_client().keep_alive(lease).await {
                Ok(_) => Ok(true),
                Err(Error::LeaseKeepAliveError(text)) if text.contains("not found") => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
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
            ("https://10.0.0.1:2379", "http://"),
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
