//! What a key was at a revision: the proof that etcd's history is the one that was seen.

use etcd_client::{GetOptions, ResponseHeader};

use super::failure::Effect;
use super::trouble::Asked;
use super::{EtcdStore, member, wire};
use crate::continuity::Past;
use crate::store::{Range, StoreError};

impl EtcdStore {
    /// Two linearizable reads: the first tells how far etcd is. It must have come as far as `reached`.
    pub(super) async fn past(&self, key: &str, revision: i64, reached: i64) -> Result<Past, StoreError> {
        let (_, now) = self.key_at(key, 0).await?;
        if now < revision.max(reached) {
            return Ok(Past::Future);
        }
        match self.key_at(key, revision).await {
            Ok((entry, _)) => Ok(Past::Found(entry)),
            Err(StoreError::Compacted(_)) => Ok(Past::Compacted),
            Err(error) => Err(error),
        }
    }

    /// A key at a revision (0: now), and the revision that etcd is at.
    async fn key_at(&self, key: &str, revision: i64) -> Result<(Option<crate::view::Entry>, i64), StoreError> {
        let range = Range::key(key);
        let (key, options) = (self.full_key(key), GetOptions::new().with_revision(revision));
        let answer = self
            .call(Effect::None, Asked::Read(&range), |client| {
                let (key, options) = (key.clone(), options.clone());
                async move { member::kv(&client).get(key, Some(options)).await }
            })
            .await?;
        let entry = answer.kvs().first().map(|kv| wire::entry(&self.inner.prefix, kv));
        Ok((entry, answer.header().map_or(0, ResponseHeader::revision)))
    }
}
