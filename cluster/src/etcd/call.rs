//! One request, with all its tries: which member gets it, when another one does, and when it is given up.
//!
//! A request that surely was not done goes to the next member, and so does one that has no effect. After each round of all
//! members there is a pause with jitter; two rounds are made, or, while a leader is being elected, as many as the deadline
//! allows.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use etcd_client::{Client, Error};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::failure::{Effect, Failure};
use super::member::{self, Member};
use super::trouble::{Asked, Trouble};
use super::{EtcdStore, handshake};
use crate::store::StoreError;

/// A request without effect goes to another member after its part of the time that it has, but not sooner than this, or half of that
/// time: one member that accepts it and never answers is not to use up the time of all.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
/// Between rounds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// etcd makes a login cost (60 ms of a processor): one that was refused is not repeated sooner than this, to twice this.
const LOGIN_AGAIN: Duration = Duration::from_secs(10);

impl EtcdStore {
    /// Sends a request, within the time that one has.
    pub(super) async fn call<T, F>(
        &self,
        effect: Effect,
        asked: Asked<'_>,
        request: impl Fn(Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.call_until(Instant::now() + self.inner.limits.request, effect, asked, request).await
    }

    /// As [`call`](Self::call), to a deadline that may come sooner.
    pub(super) async fn call_until<T, F>(
        &self,
        deadline: Instant,
        effect: Effect,
        asked: Asked<'_>,
        request: impl Fn(Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let began = Instant::now();
        let members = self.inner.members.len();
        let mut pauses = pauses();
        let mut causes = BTreeMap::new();
        let mut login_renewed = false;
        // Twice each: a transport that lost its connection reports that to the first request after it.
        let (mut tried, mut electing, mut all_silent) = (0, false, true);
        loop {
            let (index, member) = self.member();
            let failure = match self.attempt(member, deadline, effect, &request, &mut login_renewed).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            self.leave(index);
            tried += 1;
            electing |= *failure.trouble() == Trouble::NoLeader;
            all_silent &= matches!(failure.trouble(), Trouble::Silent(_));
            let again = failure.is_unsent() || (effect == Effect::None && failure.is_passing());
            let pause = if tried % members == 0 { pauses.next() } else { Some(Duration::ZERO) };
            let next = Instant::now() + pause.unwrap_or(LONGEST_PAUSE);
            let is_last = !again || next >= deadline || (tried >= 2 * members && !electing);
            let failure = if is_last { self.explained(index, failure, deadline).await } else { failure };
            let cause = failure.trouble().tell(&self.inner.conf, &self.inner.prefix, asked);
            causes.insert(index % members, cause);
            if is_last {
                // Each member had a part of the time; who waited wants to know of all of it.
                let cause = match all_silent {
                    true => Trouble::Silent(began.elapsed()).tell(&self.inner.conf, &self.inner.prefix, asked),
                    false => self.causes(&causes),
                };
                return Err(failure.into_error(effect, &self.inner.endpoints, cause));
            }
            sleep_until(next).await;
        }
    }

    /// One try with one member. A login that etcd has forgotten is renewed once, and the request is sent again: it was not
    /// even looked at.
    pub(super) async fn attempt<T, F>(
        &self,
        member: &Member,
        deadline: Instant,
        effect: Effect,
        request: &impl Fn(Client) -> F,
        login_renewed: &mut bool,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let sent = AtomicBool::new(false);
        let attempt = async {
            let client = self.client(member).await?;
            sent.store(true, Ordering::Relaxed);
            let failure = match request(client.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => Failure::of(&error),
            };
            if *failure.trouble() != Trouble::StaleLogin || std::mem::replace(login_renewed, true) {
                return Err(self.judged(member, failure).await);
            }
            sent.store(false, Ordering::Relaxed);
            self.log_in_again(member, &client).await?;
            sent.store(true, Ordering::Relaxed);
            match request(client).await {
                Ok(answer) => Ok(answer),
                Err(error) => Err(self.judged(member, Failure::of(&error)).await),
            }
        };
        let began = Instant::now();
        match timeout_at(deadline.min(began + self.patience(effect)), attempt).await {
            Ok(result) => result,
            Err(_) => Err(Failure::timeout(began.elapsed(), sent.load(Ordering::Relaxed))),
        }
    }

    /// A client of this member, with the credentials of now.
    pub(super) async fn client(&self, member: &Member) -> Result<Client, Failure> {
        let credentials = self.inner.vault.open().map_err(|bad| Failure::bad_file(&bad))?;
        if self.is_refused(credentials.version) {
            return Err(Failure::wrong_password());
        }
        match member.client(&credentials).await {
            Ok(client) => Ok(client),
            Err(error) => Err(self.judged(member, Failure::of(&error).before_sending()).await),
        }
    }

    /// Has etcd give a new token for the one that it has forgotten.
    pub(super) async fn log_in_again(&self, member: &Member, client: &Client) -> Result<(), Failure> {
        match client.refresh_token().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.judged(member, Failure::of(&error).before_sending()).await),
        }
    }

    /// Where etcd refuses the password, nobody tries it again soon, and never by the client that has it.
    async fn judged(&self, member: &Member, failure: Failure) -> Failure {
        if *failure.trouble() == Trouble::WrongPassword
            && let Ok(credentials) = self.inner.vault.open()
        {
            member.forget().await;
            let until = Instant::now() + LOGIN_AGAIN + LOGIN_AGAIN.mul_f64(member::random() as u8 as f64 / 255.0);
            let mut refused = self.inner.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = Some((credentials.version, until));
        }
        failure
    }

    /// Finds out why a connection broke, where it did so without a word.
    pub(super) async fn explained(&self, index: usize, failure: Failure, deadline: Instant) -> Failure {
        let Trouble::Broken(_) = failure.trouble() else { return failure };
        let url = self.url(index).to_owned();
        let look = async {
            match self.inner.conf.tls.clone() {
                Some(files) => handshake::refusal(url, files).await.map(Trouble::Tls),
                None => handshake::is_secure(url).await.then_some(Trouble::WantsTls),
            }
        };
        match timeout_at(deadline, look).await {
            Ok(Some(trouble)) => failure.because(trouble),
            Ok(None) | Err(_) => failure,
        }
    }

    fn is_refused(&self, version: u64) -> bool {
        let refused = self.inner.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_some_and(|(refused, until)| refused == version && Instant::now() < until)
    }

    /// How long one try may take.
    fn patience(&self, effect: Effect) -> Duration {
        let members = u32::try_from(self.inner.members.len()).unwrap_or(u32::MAX);
        let request = self.inner.limits.request;
        match effect {
            Effect::None => (request / members).max(SHORTEST_TRY.min(request / 2)),
            Effect::Possible => request,
        }
    }

    pub(super) fn member(&self) -> (usize, &Member) {
        let index = self.inner.current.load(Ordering::Relaxed);
        (index, &self.inner.members[index % self.inner.members.len()])
    }

    /// The URL of the member that [`member`](Self::member) gave with `index`.
    pub(super) fn url(&self, index: usize) -> &str {
        self.inner.members[index % self.inner.members.len()].url()
    }

    /// The next request goes to another member, unless somebody else has seen to that already.
    pub(super) fn leave(&self, index: usize) {
        let next = index.wrapping_add(1);
        self.inner.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    /// What the members that were tried had last: once, if it was the same, else each by its name.
    fn causes(&self, causes: &BTreeMap<usize, String>) -> String {
        let mut all = causes.values();
        match all.next() {
            Some(first) if all.all(|other| other == first) => first.clone(),
            _ => {
                let named =
                    causes.iter().map(|(index, cause)| format!("{}: {cause}", self.inner.members[*index].url()));
                named.collect::<Vec<_>>().join("; ")
            }
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_jitter()
        .with_jitter_seed(member::random())
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}
