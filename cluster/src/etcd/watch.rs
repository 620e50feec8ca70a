//! The watch that goes on for ever: a snapshot, then deltas, over all breaks.
//!
//! After a break it resumes from the revision after the last one that was told, so that nothing is missed and nothing is
//! listed again; only where etcd has compacted that away a snapshot follows. One response of etcd is one delta: etcd cuts
//! its responses between revisions (fragments, which it would cut within one, are not asked for).

use std::ops::ControlFlow;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use etcd_client::{ResponseHeader, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

use super::failure::Failure;
use super::{DEADLINE, EtcdStore, member, wire};
use crate::store::{Event, Range, Store};
use crate::view::Delta;

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The watch ID of answers to progress requests, which etcd 3.4 sends out of order with events (etcd issue 15220).
const NO_WATCH: i64 = -1;

/// Watches until the receiver is gone.
pub(super) async fn follow(store: EtcdStore, range: Range, events: Sender<Event>) {
    let gone = events.clone();
    let follower = Follower { store, range, events, next: None, lost: false, pauses: pauses() };
    tokio::select! {
        () = gone.closed() => {}
        _ = follower.run() => {}
    }
}

struct Follower {
    store: EtcdStore,
    range: Range,
    events: Sender<Event>,
    /// The first revision that was not told yet; `None`: a snapshot is due.
    next: Option<i64>,
    /// That etcd is out of reach was told last.
    lost: bool,
    pauses: ExponentialBackoff,
}

/// How a stream ended.
enum End {
    /// Its revision was compacted away.
    Compacted,
    /// In another way.
    Broken(String),
}

/// The receiver is gone.
struct Gone;

impl Follower {
    async fn run(mut self) -> Result<(), Gone> {
        loop {
            let cause = match self.next {
                None => match self.store.read(&self.range).await {
                    Ok(snapshot) => {
                        self.next = Some(snapshot.revision + 1);
                        self.send(Event::Snapshot(snapshot)).await?;
                        self.lost = false;
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
                Some(next) => match self.stream(next).await? {
                    End::Compacted => {
                        self.next = None;
                        continue;
                    }
                    End::Broken(cause) => cause,
                },
            };
            if !self.lost {
                self.send(Event::Lost(cause)).await?;
                self.lost = true;
            }
            sleep(self.pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    }

    /// One stream, from its beginning to its end.
    ///
    /// Before a watch is resumed is the place to compare the last seen key, read at its revision, with what was seen: an
    /// etcd that was restored from a backup and has overtaken that revision would otherwise go on as if nothing had been.
    async fn stream(&mut self, from: i64) -> Result<End, Gone> {
        let (index, _) = self.store.member();
        let (mut stream, first) = match timeout(DEADLINE, self.open(from)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Ok(self.broken(index, Failure::of(&error))),
            Err(_) => return Ok(self.broken(index, Failure::timeout(DEADLINE))),
        };
        let since = Instant::now();
        let mut response = first;
        let end = loop {
            if let ControlFlow::Break(end) = self.take(&response).await? {
                break end;
            }
            response = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => break End::Broken("the watch's stream has ended".into()),
                Err(error) => break self.broken(index, Failure::of(&error)),
            };
        };
        if since.elapsed() > LONGEST_PAUSE {
            self.pauses = pauses();
        }
        if matches!(end, End::Broken(_)) {
            self.store.leave(index);
        }
        Ok(end)
    }

    /// A stream with its first response, by which etcd confirms the watch.
    async fn open(&self, from: i64) -> Result<(WatchStream, WatchResponse), etcd_client::Error> {
        let client = self.store.member().1.client().await?;
        let options = WatchOptions::new()
            .with_range(self.store.full_key(&self.range.end))
            .with_start_revision(from)
            .with_progress_notify();
        let mut stream = member::watcher(&client).watch(self.store.full_key(&self.range.start), Some(options)).await?;
        match stream.message().await? {
            Some(first) => Ok((stream, first)),
            None => Err(etcd_client::Error::WatchError("the stream ended before the watch was confirmed".into())),
        }
    }

    async fn take(&mut self, response: &WatchResponse) -> Result<ControlFlow<End>, Gone> {
        if response.compact_revision() > 0 {
            return Ok(ControlFlow::Break(End::Compacted));
        }
        if response.canceled() {
            let cause = format!("etcd has ended the watch: {}", response.cancel_reason());
            return Ok(ControlFlow::Break(End::Broken(cause)));
        }
        let next = self.next.expect("a stream is opened after a snapshot");
        if response.created() {
            if self.lost {
                // Tells that etcd is back, and that nothing was missed.
                self.send(Event::Delta(Delta { revision: next - 1, changes: Vec::new() })).await?;
                self.lost = false;
            }
        } else if response.events().is_empty() {
            // All is quiet here, but elsewhere revisions go by: resume after them, lest they be compacted.
            if response.watch_id() != NO_WATCH {
                let reached = response.header().map_or(0, ResponseHeader::revision);
                self.next = Some(next.max(reached + 1));
            }
            return Ok(ControlFlow::Continue(()));
        }
        self.tell(response, next).await?;
        Ok(ControlFlow::Continue(()))
    }

    async fn tell(&mut self, response: &WatchResponse, next: i64) -> Result<(), Gone> {
        let revision_of = |event: &etcd_client::Event| event.kv().map_or(0, etcd_client::KeyValue::mod_revision);
        let new = response.events().iter().filter(|event| revision_of(event) >= next);
        let Some(revision) = new.clone().map(revision_of).max() else { return Ok(()) };
        let changes = new.filter_map(|event| wire::change(&self.store.inner.prefix, event)).collect();
        self.next = Some(revision + 1);
        self.send(Event::Delta(Delta { revision, changes })).await
    }

    fn broken(&self, index: usize, failure: Failure) -> End {
        self.store.leave(index);
        End::Broken(failure.into_cause())
    }

    async fn send(&self, event: Event) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}

/// From a tenth of a second to five, with jitter: after a break all nodes come back, but not in one moment.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_jitter()
        .with_jitter_seed(member::random())
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}
