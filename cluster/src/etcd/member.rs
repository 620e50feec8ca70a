//! One member of the etcd cluster, and the connection to it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, KvClient};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;

use super::credentials::Credentials;

/// How long a connection may take to come to be, and the TLS handshake after it.
const CONNECT: Duration = Duration::from_secs(2);
/// A connection that carries a stream is asked for a sign of life this often. etcd breaks with who asks more than every 5 s
/// (`--grpc-keepalive-min-time`), or asks without a stream.
const PING: Duration = Duration::from_secs(6);
/// How long it may take to answer: a dead connection is noticed within nine seconds.
const PONG: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes: a page of the longest records.
const LONGEST: usize = 64 << 20;
/// While an older connection is good, how long a new one may take that shall replace it, and how long it is left at that
/// where it does not come to be.
const REPLACEMENT: Duration = Duration::from_secs(1);
const REPLACED_AGAIN: Duration = Duration::from_secs(10);

/// An address of etcd that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("etcd endpoint {endpoint:?}: {cause}")]
pub struct InvalidEndpoint {
    /// The endpoint as it was given.
    pub endpoint: String,
    /// What is wrong with it, and what would be right.
    pub cause: String,
}

/// A member. Connects at the first request, and by itself again after a break.
pub(super) struct Member {
    url: String,
    made: Mutex<Option<Made>>,
}

/// A client, and by which credentials it was made.
struct Made {
    client: Client,
    version: u64,
    /// Which credentials made none, and until when it is left at that.
    failed: Option<(u64, Instant)>,
}

impl Made {
    fn serves(&self, version: u64) -> bool {
        let waits = |(failed, until): (u64, Instant)| failed == version && Instant::now() < until;
        self.version == version || self.failed.is_some_and(waits)
    }
}

impl Member {
    pub(super) fn new(url: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |cause: String| InvalidEndpoint { endpoint: url.to_owned(), cause };
        let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
            return Err(invalid("a URL as in http://10.0.0.1:2379 is expected".into()));
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() {
            return Err(invalid("the host is missing, as in http://10.0.0.1:2379".into()));
        }
        if authority.contains(['/', '?', '#']) {
            return Err(invalid("a path has no meaning here: host and port only, as in http://10.0.0.1:2379".into()));
        }
        let checked = Endpoint::from_shared(url.to_owned()).map_err(|error| invalid(format!("not a URL: {error}")))?;
        if checked.uri().host().is_none_or(str::is_empty) {
            return Err(invalid("the host is missing, as in http://10.0.0.1:2379".into()));
        }
        Ok(Self { url: url.to_owned(), made: Mutex::new(None) })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The client for these credentials. Without a user nothing is sent by making it; with one, it logs in. Where that does
    /// not succeed, and there is one of older credentials, that goes on.
    pub(super) async fn client(&self, credentials: &Credentials) -> Result<Client, Error> {
        let version = credentials.version;
        let mut made = self.made.lock().await;
        let Some(old) = made.as_mut() else {
            let client = self.make(credentials).await?;
            *made = Some(Made { client: client.clone(), version, failed: None });
            return Ok(client);
        };
        if !old.serves(version) {
            let cause = match timeout(REPLACEMENT, self.make(credentials)).await {
                Ok(Ok(client)) => {
                    *old = Made { client, version, failed: None };
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer".to_owned()),
            };
            if let Some(cause) = cause {
                tracing::warn!("{}: what the files hold now cannot be used, the old connection is: {cause}", self.url);
                old.failed = Some((version, Instant::now() + REPLACED_AGAIN));
            }
        }
        Ok(old.client.clone())
    }

    /// The next request has a client made anew.
    pub(super) async fn forget(&self) {
        *self.made.lock().await = None;
    }

    async fn make(&self, credentials: &Credentials) -> Result<Client, Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_keep_alive(PING, PONG)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(tls) = credentials.tls.clone() {
            options = options.with_tls(tls.timeout(CONNECT));
        }
        // A client for each member, rather than one that balances: that would send every n-th request to a dead one.
        let mut client = Client::connect([&self.url], Some(options)).await?;
        if let Some(login) = credentials.login.clone() {
            client.update_user(Some(login)).await?;
        }
        Ok(client)
    }
}

/// For reads and transactions.
pub(super) fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(LONGEST)
}

/// For watches.
pub(super) fn watcher(client: &Client) -> etcd_client::WatchClient {
    client.watch_client().max_decoding_message_size(LONGEST)
}

/// Spreads nodes over members and retries over time; nothing rests on its quality.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
