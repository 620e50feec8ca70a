//! What only looks: a look is a task of its own, whose reply comes by a channel, so that what is done or asked besides waits for none
//! of them. A few go on at once; one that finds no place within a moment is refused. Each ends: what may hang has a deadline.
//!
//! What may block for long does so on threads of their own, one for a place, and not on those few of the runtime which claims, the sweep
//! and the resolver share. A look that is not waited for any longer keeps its [`Place`] for as long as its thread is at work.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use twill_cluster::inquiry::attempts::Sought;
use twill_cluster::inquiry::bgp::Question;
use twill_cluster::inquiry::desk::Letter;
use twill_cluster::inquiry::{Page, Reply, trace};

use super::machine::Machine;
use super::trace::Tracer;
use super::{past, sight};
use crate::bgp::Asked;
use crate::store::NodeStore;

/// So many go on at once, each with one thread at most.
const AT_ONCE: usize = 8;
/// How long one waits for a place.
const PLACE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the speaker of BGP may take to answer: it may have a hundred thousand routes to take in.
const SPEAKER_PATIENCE: Duration = Duration::from_secs(4);

/// What is looked at; how the daemon itself is has its own way, by `requests`.
#[derive(Debug)]
pub(super) enum Look {
    /// What is in use, behind an address.
    Addresses(Option<IpAddr>),
    /// What failed.
    Past(Sought),
    /// What the speaker of BGP knows.
    Bgp(Question),
    /// What becomes of a packet.
    Trace(trace::Question),
    /// The machine.
    Machine,
}

/// Those who look.
#[derive(Debug, Clone)]
pub(super) struct Looker {
    pub(super) store: NodeStore,
    /// To the BGP task.
    pub(super) speaker: mpsc::Sender<Asked>,
    pub(super) tracer: Tracer,
    pub(super) machine: Machine,
}

/// The places of looks that go on.
#[derive(Debug)]
pub(super) struct Looks {
    places: Arc<Semaphore>,
    patience: Duration,
    replies: mpsc::UnboundedSender<(Letter, Reply)>,
}

impl Looks {
    /// Nothing goes on yet. What is seen is sent there.
    pub(super) fn new(replies: mpsc::UnboundedSender<(Letter, Reply)>) -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)), patience: PLACE_PATIENCE, replies }
    }

    /// Begins one, once there is a place for it; its reply comes, whatever becomes of it.
    pub(super) fn begin<F>(&self, letter: Letter, look: impl FnOnce(Place) -> F + Send + 'static)
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let (places, patience, replies) = (Arc::clone(&self.places), self.patience, self.replies.clone());
        tokio::spawn(async move {
            let reply = match timeout(patience, places.acquire_owned()).await {
                Ok(Ok(permit)) => look(Place(Arc::new(permit))).await,
                Ok(Err(_)) | Err(_) => {
                    failed(format!("{AT_ONCE} others look at this node just now, and none of them has ended"))
                }
            };
            // Nobody hears it where the daemon ends.
            replies.send((letter, reply)).ok();
        });
    }
}

/// A place among those who look: free again when the look has ended, and its thread.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<OwnedSemaphorePermit>);

impl Place {
    /// Does what may block, on a thread of its own. A look does one such thing at a time. The error says why it could not be done.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let (result, done) = oneshot::channel();
        let Self(kept) = self.clone();
        let at_work = move || {
            let _kept = kept;
            // Nobody waits for it where its time is over.
            result.send(work()).ok();
        };
        let begun = thread::Builder::new().name("look".to_owned()).spawn(at_work);
        begun.map_err(|error| format!("no thread can be started: {error}"))?;
        done.await.map_err(|_| "the look has failed half-way: see its log".to_owned())
    }
}

/// It could not be done, and why.
pub(super) fn failed(cause: impl Into<String>) -> Reply {
    Reply::Failed { cause: cause.into() }
}

impl Looker {
    /// Looks.
    pub(super) async fn look(self, look: Look, place: Place) -> Reply {
        match look {
            Look::Addresses(after) => self.addresses(after, &place).await,
            Look::Past(sought) => self.past(sought, &place).await,
            Look::Bgp(question) => self.bgp(question).await,
            Look::Trace(question) => self.tracer.trace(question, &place).await,
            Look::Machine => self.machine.look(&place).await,
        }
    }

    async fn addresses(self, after: Option<IpAddr>, place: &Place) -> Reply {
        match place.run(move || sight::look(&self.store)).await {
            Ok(Ok(sight)) => Reply::Addresses(Page::cut(&sight.blocks, sight.strays, sight.addresses, after)),
            Ok(Err(error)) => failed(error.to_string()),
            Err(cause) => failed(cause),
        }
    }

    async fn past(self, sought: Sought, place: &Place) -> Reply {
        place.run(move || past::look(&self.store, &sought)).await.unwrap_or_else(failed)
    }

    async fn bgp(self, question: Question) -> Reply {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.speaker.send(Asked { question, answer }).await.ok()?;
            answered.await.ok()
        };
        match timeout(SPEAKER_PATIENCE, asked).await {
            Ok(Some(answer)) => Reply::Bgp { answer },
            Ok(None) => failed("its speaker of BGP has ended: look at its log"),
            Err(_) => failed(format!(
                "its speaker of BGP is busy, and did not answer within {} s",
                SPEAKER_PATIENCE.as_secs()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc::channel;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn letter(id: usize) -> Letter {
        Letter { id: id.to_string(), revision: 1, value: Vec::new() }
    }

    async fn hangs(_: Place) -> Reply {
        pending().await
    }

    #[tokio::test]
    async fn looks_that_hang_keep_nobody_waiting_and_as_many_as_there_are_places_refuse_the_next_one() {
        let (replies, mut heard) = mpsc::unbounded_channel();
        let looks = Looks { patience: Duration::from_millis(50), ..Looks::new(replies) };
        let mut next = async || timeout(PATIENCE, heard.recv()).await.expect("it comes").unwrap();
        for id in 1..AT_ONCE {
            looks.begin(letter(id), hangs);
        }
        looks.begin(letter(50), async |_| Reply::Drain { on: true });
        assert_eq!(next().await, (letter(50), Reply::Drain { on: true }), "a place is left");
        looks.begin(letter(51), hangs);
        looks.begin(letter(52), async |_| -> Reply { panic!("it is not begun") });
        let (refused, reply) = next().await;
        assert!(refused.id == "52" && matches!(reply, Reply::Failed { .. }), "{reply:?}");
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_look_has_ended() {
        let (replies, mut heard) = mpsc::unbounded_channel();
        let looks = Looks::new(replies);
        for id in 0..AT_ONCE * 5 {
            looks.begin(letter(id), async |_| Reply::Drain { on: false });
        }
        for _ in 0..AT_ONCE * 5 {
            let (_, reply) = timeout(PATIENCE, heard.recv()).await.expect("it comes").unwrap();
            assert_eq!(reply, Reply::Drain { on: false });
        }
    }

    #[test]
    fn looks_whose_threads_hang_take_none_of_the_runtimes_and_keep_their_places_until_those_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        runtime.unwrap().block_on(async {
            let (replies, mut heard) = mpsc::unbounded_channel();
            let looks = Looks { patience: Duration::from_millis(50), ..Looks::new(replies) };
            let mut next = async || timeout(PATIENCE, heard.recv()).await.expect("it comes").unwrap();
            let mut hanging = Vec::new();
            for id in 0..AT_ONCE {
                let (end, ended) = channel::<()>();
                hanging.push(end);
                looks.begin(letter(id), async move |place: Place| {
                    let hangs = place.run(move || ended.recv().is_err());
                    timeout(Duration::from_millis(1), hangs)
                        .await
                        .map_or(Reply::Drain { on: false }, |_| failed("it ended"))
                });
                assert_eq!(next().await.1, Reply::Drain { on: false }, "it is waited for no longer");
            }
            let other = timeout(PATIENCE, tokio::task::spawn_blocking(|| "a claim"));
            assert_eq!(other.await.expect("it has a thread").unwrap(), "a claim");
            looks.begin(letter(50), async |_| -> Reply { panic!("it is not begun") });
            assert!(matches!(next().await, (_, Reply::Failed { .. })), "each place has a thread that hangs");
            hanging.pop();
            let again = Looks { patience: PATIENCE, ..looks };
            again.begin(letter(51), async |place: Place| Reply::Drain {
                on: place.run(|| true).await.expect("a thread"),
            });
            assert_eq!(next().await, (letter(51), Reply::Drain { on: true }));
        });
    }
}
