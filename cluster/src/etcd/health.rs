//! How each member of etcd is, one by one: for `twillctl doctor`, not for the data path.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::EtcdStore;
use super::failure::Effect;
use super::trouble::{Asked, Trouble};
use crate::key;
use crate::store::Range;

/// What became of asking one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The endpoint, as it was configured.
    pub url: String,
    /// What it says of itself, or why it says nothing.
    pub status: Result<Status, Silence>,
}

/// Why a member says nothing of itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Silence {
    /// It does not answer.
    Away(String),
    /// It answers, and does not say it to this user. Which versions ask for a role differs.
    Denied(String),
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Its version, as in "3.5.17".
    pub version: String,
    /// How long it took to answer, over a connection that stood.
    pub latency: Duration,
    /// Whether it knows a leader: without one there is no quorum.
    pub has_leader: bool,
    /// The size of its database, in bytes.
    pub size: u64,
    /// Its own complaints, as in "memberID:… alarm:NOSPACE". etcd before 3.4 has none.
    pub complaints: Vec<String>,
}

impl EtcdStore {
    /// Asks all endpoints at once, each within `patience`. In the order of the configuration.
    pub async fn members(&self, patience: Duration) -> Vec<Member> {
        let mut asked = JoinSet::new();
        for index in 0..self.inner.members.len() {
            let store = self.clone();
            asked.spawn(async move { (index, store.member_status(index, Instant::now() + patience).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(index, _)| *index);
        let url = |index: usize| self.inner.members[index].url().to_owned();
        answers.into_iter().map(|(index, status)| Member { url: url(index), status }).collect()
    }

    async fn member_status(&self, index: usize, deadline: Instant) -> Result<Status, Silence> {
        let member = &self.inner.members[index];
        let mut login_renewed = false;
        let request = |client: etcd_client::Client| async move {
            // The first answer has a connection to wait for.
            client.maintenance_client().status().await?;
            let began = Instant::now();
            let status = client.maintenance_client().status().await?;
            Ok((status, began.elapsed()))
        };
        match self.attempt(member, deadline, Effect::None, &request, &mut login_renewed).await {
            Ok((status, latency)) => Ok(Status {
                version: status.version().to_owned(),
                latency,
                has_leader: status.leader() != 0,
                size: u64::try_from(status.db_size()).unwrap_or(0),
                complaints: status.errors().to_vec(),
            }),
            Err(failure) => {
                let failure = self.explained(index, failure, deadline).await;
                let asked = Range::key(key::CONFIG);
                let why = failure.trouble().tell(&self.inner.conf, &self.inner.prefix, Asked::Read(&asked));
                Err(match failure.trouble() {
                    Trouble::Denied => Silence::Denied(why),
                    _ => Silence::Away(why),
                })
            }
        }
    }
}
