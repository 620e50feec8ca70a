//! One member of the etcd cluster, and the connection to it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, KvClient};
use tokio::sync::OnceCell;
use tonic::transport::Endpoint;

/// How long a connection may take to come to be.
const CONNECT: Duration = Duration::from_secs(2);
/// A connection that carries a stream is asked for a sign of life this often. etcd breaks with who asks more than every 5 s
/// (`--grpc-keepalive-min-time`), or asks without a stream.
const PING: Duration = Duration::from_secs(6);
/// How long it may take to answer: a dead connection is noticed within nine seconds.
const PONG: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes: a page of the longest records.
const LONGEST: usize = 64 << 20;

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
    client: OnceCell<Client>,
}

impl Member {
    pub(super) fn new(url: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |cause: String| InvalidEndpoint { endpoint: url.to_owned(), cause };
        if url.starts_with("https://") {
            return Err(invalid("TLS is not supported yet: a URL begins with http://".into()));
        }
        let Some(rest) = url.strip_prefix("http://") else {
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
        Ok(Self { url: url.to_owned(), client: OnceCell::new() })
    }

    /// The client, made at the first call. Making it sends nothing.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_keep_alive(PING, PONG)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        // A client for each member, rather than one that balances: that would send every n-th request to a dead one.
        self.client.get_or_try_init(|| Client::connect([&self.url], Some(options))).await.cloned()
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
