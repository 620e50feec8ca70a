//! The watch that goes on for ever: a snapshot, then deltas, over all breaks.
//!
//! After a break it resumes from the revision after the last one that was told, so that nothing is missed and nothing is
//! listed again; only where etcd has compacted that away a snapshot follows. One response of etcd is one delta: etcd cuts
//! its responses between revisions (fragments, which it would cut within one, are not asked for).

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use etcd_client::{ResponseHeader, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

use super::failure::Failure;
use super::trouble::{Asked, Trouble};
use super::{DEADLINE, EtcdStore, member, wire};
use crate::continuity::{Mark, Past, Verdict};
use crate::store::{Event, Range, Store, StoreError};
use crate::view::Delta;

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Of one outage so many different causes are logged.
const MOST_CAUSES: usize = 16;
/// After etcd has denied the watch: to ask again costs it a login, and only an operator can change its mind.
const DENIED_PAUSE: Duration = Duration::from_secs(10);
/// The watch ID of answers to progress requests, which etcd 3.4 sends out of order with events (etcd issue 15220).
const NO_WATCH: i64 = -1;

/// Watches until the receiver is gone.
pub(super) async fn follow(store: EtcdStore, range: Range, events: Sender<Event>) {
    let gone = events.clone();
    let follower = Follower {
        store,
        range,
        events,
        next: None,
        mark: None,
        proved: false,
        another: false,
        lost: false,
        causes: BTreeSet::new(),
        denied: false,
        pauses: pauses(),
    };
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
    /// The change that was told last: the proof that etcd's history is still the same.
    mark: Option<Mark>,
    /// A snapshot was told last, which needs no proof.
    proved: bool,
    /// etcd's history was found to be another one: a snapshot of that is due.
    another: bool,
    /// That etcd is out of reach was told last.
    lost: bool,
    /// Why it is, as far as it was told or logged since.
    causes: BTreeSet<String>,
    /// etcd has ended the last stream for want of permission or of a login. Older ones say the former where they mean the
    /// latter (`isWatchPermitted` in etcdserver/api/v3rpc/watch.go), so a new login comes before the next stream.
    denied: bool,
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
            // Whether the stream that ended was begun with a new login.
            let renewed = self.denied;
            let cause = match self.next {
                None => match self.store.read(&self.range).await {
                    Ok(snapshot) => {
                        self.next = Some(snapshot.revision + 1);
                        let known = std::mem::replace(&mut self.mark, Mark::of_snapshot(&snapshot));
                        let lost = known.is_some_and(|mark| !mark.is_in(&snapshot));
                        let another = std::mem::take(&mut self.another) || lost;
                        self.send(if another { Event::Restored(snapshot) } else { Event::Snapshot(snapshot) }).await?;
                        (self.lost, self.proved) = (false, true);
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
                Some(next) => match self.prove(next).await {
                    Err(error) => error.to_string(),
                    Ok(Verdict::Same) => match self.stream(self.next.unwrap_or(next)).await? {
                        End::Compacted => {
                            self.next = None;
                            continue;
                        }
                        End::Broken(cause) => cause,
                    },
                    Ok(verdict) => {
                        self.another |= verdict == Verdict::Another;
                        self.next = None;
                        continue;
                    }
                },
            };
            if self.denied && !renewed && self.store.inner.conf.login.is_some() {
                continue;
            }
            if !self.lost {
                self.causes = BTreeSet::from([cause.clone()]);
                self.send(Event::Lost(cause)).await?;
                self.lost = true;
            } else if self.causes.len() < MOST_CAUSES && self.causes.insert(cause.clone()) {
                // An etcd that is started again after it was stopped may be out of reach for quite another reason.
                tracing::warn!("etcd is still out of reach, and now: {cause}");
            }
            let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
            sleep(if renewed && self.denied { pause + DENIED_PAUSE } else { pause }).await;
        }
    }

    /// Whether etcd's history is the one that was told: the last change, read at its revision, is what it was. An etcd
    /// that was restored from a backup and has overtaken that revision would otherwise go on as if nothing had been.
    async fn prove(&mut self, next: i64) -> Result<Verdict, StoreError> {
        if std::mem::take(&mut self.proved) {
            return Ok(Verdict::Same);
        }
        let Some(mark) = self.mark.clone() else {
            let past = self.store.past(&self.range.start, 0, next - 1).await?;
            return Ok(if past == Past::Future { Verdict::Another } else { Verdict::Same });
        };
        let mut verdict = Verdict::Same;
        for (key, revision) in mark.readings().filter(|(_, revision)| *revision > 0) {
            if verdict == Verdict::Same {
                let past = self.store.past(key, revision, next - 1).await?;
                verdict = mark.judge((key, revision), &past);
            }
        }
        if verdict == Verdict::Same {
            // Nothing of this range lies between the mark and what was reached; in a history that was restored to a point
            // between the two there may be something.
            self.next = Some(mark.revision + 1);
        }
        Ok(verdict)
    }

    /// One stream, from its beginning to its end.
    async fn stream(&mut self, from: i64) -> Result<End, Gone> {
        let (index, _) = self.store.member();
        let (mut stream, first) = match timeout(DEADLINE, self.open(from)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(failure)) => {
                let failure = self.store.explained(index, failure, Instant::now() + DEADLINE).await;
                return Ok(self.broken(index, &failure));
            }
            Err(_) => return Ok(self.broken(index, &Failure::timeout(DEADLINE, false))),
        };
        let since = Instant::now();
        let mut response = first;
        let end = loop {
            if let ControlFlow::Break(end) = self.take(&response).await? {
                break end;
            }
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.store.inner.reconnect.notified() => break End::Broken("this node's address has changed".into()),
            };
            response = match message {
                Ok(Some(response)) => response,
                Ok(None) => break End::Broken("the watch's stream has ended".into()),
                Err(error) => break self.broken(index, &Failure::of(&error)),
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
    async fn open(&mut self, from: i64) -> Result<(WatchStream, WatchResponse), Failure> {
        let member = self.store.member().1;
        let client = self.store.client(member).await?;
        if std::mem::take(&mut self.denied) && self.store.inner.conf.login.is_some() {
            self.store.log_in_again(member, &client).await?;
        }
        let options = WatchOptions::new()
            .with_range(self.store.full_key(&self.range.end))
            .with_start_revision(from)
            .with_progress_notify();
        let mut watcher = member::watcher(&client);
        let opened = async {
            let mut stream = watcher.watch(self.store.full_key(&self.range.start), Some(options)).await?;
            match stream.message().await? {
                Some(first) => Ok((stream, first)),
                None => Err(etcd_client::Error::WatchError("the stream ended before the watch was confirmed".into())),
            }
        };
        opened.await.map_err(|error| Failure::of(&error))
    }

    async fn take(&mut self, response: &WatchResponse) -> Result<ControlFlow<End>, Gone> {
        if response.compact_revision() > 0 {
            return Ok(ControlFlow::Break(End::Compacted));
        }
        if response.canceled() {
            let reason = response.cancel_reason();
            let trouble = Trouble::of_words(reason).unwrap_or_else(|| Trouble::Other(reason.to_owned()));
            self.denied = matches!(trouble, Trouble::Denied | Trouble::StaleLogin | Trouble::Nobody);
            let cause = format!("etcd has ended the watch: {}", self.words(&trouble));
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
        let delta = Delta { revision, changes };
        self.mark = Mark::after(self.mark.take(), &delta);
        self.send(Event::Delta(delta)).await
    }

    fn broken(&self, index: usize, failure: &Failure) -> End {
        self.store.leave(index);
        End::Broken(format!("etcd at {}: {}", self.store.url(index), self.words(failure.trouble())))
    }

    fn words(&self, trouble: &Trouble) -> String {
        trouble.tell(&self.store.inner.conf, &self.store.inner.prefix, Asked::Watch(&self.range))
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
