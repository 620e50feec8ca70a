//! What only looks: a look is a task of its own, whose reply comes by a channel, so that what is done or asked besides waits for none
//! of them. A few go on at once; one that finds no place within a moment is refused. Each ends: what may hang has a deadline.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
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

/// So many go on at once.
const AT_ONCE: usize = 4;
/// How long one waits for a place.
const PLACE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the speaker of BGP may take to answer: it may have a hundred thousand routes to take in.
const SPEAKER_PATIENCE: Duration = Duration::from_secs(4);

/// What is looked at.
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

    /// Begins one; its reply comes, whatever becomes of it.
    pub(super) fn begin(&self, letter: Letter, look: impl Future<Output = Reply> + Send + 'static) {
        let (places, patience, replies) = (Arc::clone(&self.places), self.patience, self.replies.clone());
        tokio::spawn(async move {
            let reply = match timeout(patience, places.acquire_owned()).await {
                Ok(Ok(_place)) => look.await,
                Ok(Err(_)) | Err(_) => {
                    let cause = format!("{AT_ONCE} others look at this node just now, and none of them has ended");
                    Reply::Failed { cause }
                }
            };
            // Nobody hears it where the daemon ends.
            replies.send((letter, reply)).ok();
        });
    }
}

impl Looker {
    /// Looks.
    pub(super) async fn look(self, look: Look) -> Reply {
        match look {
            Look::Addresses(after) => self.addresses(after).await,
            Look::Past(sought) => self.past(sought).await,
            Look::Bgp(question) => self.bgp(question).await,
            Look::Trace(question) => self.tracer.trace(question).await,
            Look::Machine => self.machine.look().await,
        }
    }

    async fn addresses(self, after: Option<IpAddr>) -> Reply {
        let seen = tokio::task::spawn_blocking(move || sight::look(&self.store)).await.expect("looking does not panic");
        match seen {
            Ok(sight) => Reply::Addresses(Page::cut(&sight.blocks, sight.strays, sight.addresses, after)),
            Err(error) => Reply::Failed { cause: error.to_string() },
        }
    }

    async fn past(self, sought: Sought) -> Reply {
        tokio::task::spawn_blocking(move || past::look(&self.store, &sought)).await.expect("looking does not panic")
    }

    async fn bgp(self, question: Question) -> Reply {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.speaker.send(Asked { question, answer }).await.ok()?;
            answered.await.ok()
        };
        match timeout(SPEAKER_PATIENCE, asked).await {
            Ok(Some(answer)) => Reply::Bgp { answer },
            Ok(None) => Reply::Failed { cause: "its speaker of BGP has ended: look at its log".to_owned() },
            Err(_) => {
                let cause =
                    format!("its speaker of BGP is busy, and did not answer within {} s", SPEAKER_PATIENCE.as_secs());
                Reply::Failed { cause }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn letter(id: usize) -> Letter {
        Letter { id: id.to_string(), revision: 1, value: Vec::new() }
    }

    #[tokio::test]
    async fn looks_that_hang_keep_nobody_waiting_and_as_many_as_there_are_places_refuse_the_next_one() {
        let (replies, mut heard) = mpsc::unbounded_channel();
        let looks = Looks { patience: Duration::from_millis(50), ..Looks::new(replies) };
        let mut next = async || timeout(Duration::from_secs(20), heard.recv()).await.expect("it comes").unwrap();
        for id in 1..AT_ONCE {
            looks.begin(letter(id), pending());
        }
        looks.begin(letter(50), async { Reply::Drain { on: true } });
        assert_eq!(next().await, (letter(50), Reply::Drain { on: true }), "a place is left");
        looks.begin(letter(51), pending());
        looks.begin(letter(52), async { panic!("it is not begun") });
        let (refused, reply) = next().await;
        assert!(refused.id == "52" && matches!(reply, Reply::Failed { .. }), "{reply:?}");
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_look_has_ended() {
        let (replies, mut heard) = mpsc::unbounded_channel();
        let looks = Looks::new(replies);
        for id in 0..AT_ONCE * 5 {
            looks.begin(letter(id), async { Reply::Drain { on: false } });
        }
        for _ in 0..AT_ONCE * 5 {
            let (_, reply) = timeout(Duration::from_secs(20), heard.recv()).await.expect("it comes").unwrap();
            assert_eq!(reply, Reply::Drain { on: false });
        }
    }
}
