//! The edge: etcd as `twillctl` reads it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use twill_cluster::inquiry::client::Client;
use twill_cluster::record::{AliveRecord, Told};
use twill_cluster::store::{Range, Store};
use twill_cluster::view::{Entry, Snapshot};
use twill_cluster::{Census, EtcdStore, View, key};
use twill_conf::NodeName;

use crate::error::Error;
use crate::place::Place;

/// The cluster at one revision.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Decoded, with what is wrong.
    pub(crate) view: View,
    /// `config` as it stands there, if it does.
    pub(crate) config: Option<Entry>,
}

/// Connects; nothing is sent yet.
pub(crate) fn connect(place: &Place) -> Result<EtcdStore, Error> {
    EtcdStore::open_within(place.etcd()?, &place.prefix, place.limits()).map_err(Error::Endpoint)
}

/// Reads configuration, nodes and blocks.
pub(crate) async fn picture(store: &impl Store) -> Result<Picture, Error> {
    let snapshot = store.read(&Range::watched()).await.map_err(Error::Etcd)?;
    Ok(Picture::new(&snapshot))
}

/// Who is alive, with what they tell of themselves.
pub(crate) type Alive = BTreeMap<NodeName, Vec<Told>>;

/// Reads who is alive. (A little later than [`picture`]: it decides nothing.)
pub(crate) async fn alive(store: &impl Store) -> Result<Alive, Error> {
    let snapshot = store.read(&Range::prefix("alive/")).await.map_err(Error::Etcd)?;
    let told = |entry: &Entry| {
        Some((entry.key.strip_prefix("alive/")?.parse().ok()?, AliveRecord::read(&entry.value).problems))
    };
    Ok(snapshot.entries.iter().filter_map(told).collect())
}

/// Reads everything at one revision.
pub(crate) async fn census(store: &impl Store) -> Result<Census, Error> {
    Census::read(store).await.map_err(Error::Etcd)
}

/// Reads what nodes watch, and what one node says: of the others no more, since each may write as much as it likes.
pub(crate) async fn census_of(store: &impl Store, node: &NodeName) -> Result<Census, Error> {
    let mut census = watched(store).await?;
    census.look_at(store, node).await.map_err(Error::Etcd)?;
    Ok(census)
}

/// Reads what nodes watch: no mirrors.
pub(crate) async fn watched(store: &impl Store) -> Result<Census, Error> {
    Census::watched(store).await.map_err(Error::Etcd)
}

/// Whoever asks nodes, for so long each time.
pub(crate) fn client(patience: Duration) -> Result<Client, Error> {
    let path = std::path::PathBuf::from("/proc/sys/kernel/random/uuid");
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    let word = std::fs::read_to_string(&path).map_err(|cause| Error::File { what: "read", path, cause })?;
    let word = word.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    let host = read("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(Client::new(word, format!("twillctl {} on {host}", env!("CARGO_PKG_VERSION")), patience))
}

/// The time of day, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Picture {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let mut view = View::default();
        view.replace(snapshot);
        let config = snapshot.entries.iter().find(|entry| entry.key == key::CONFIG).cloned();
        Self { view, config }
    }

    /// The mod_revision of the configuration; 0 where there is none.
    pub(crate) fn config_revision(&self) -> i64 {
        self.config.as_ref().map_or(0, |entry| entry.modified)
    }
}

#[cfg(test)]
impl Picture {
    /// A cluster of keys and values, each at the revision of its place in the list, from 1.
    pub(crate) fn of(entries: &[(&str, &str)]) -> Self {
        let entry = |(i, (key, value)): (i64, &(&str, &str))| {
            let value = value.as_bytes().to_vec();
            Entry { key: (*key).to_owned(), value, created: i, modified: i }
        };
        let entries: Vec<_> = (1..).zip(entries).map(entry).collect();
        Self::new(&Snapshot { revision: 20, entries })
    }
}

/// The record of a node by its number, with these fields besides, or in the place of those.
#[cfg(test)]
pub(crate) fn node_record(number: u8, more: serde_json::Value) -> serde_json::Value {
    let mut record = serde_json::json!({
        "machine_id": format!("m{number}"), "nonce": "x", "version": "0.1.0",
        "underlay": { "ipv4": format!("192.0.2.{number}/24") }, "vxlan": { "mac": format!("02:00:00:00:00:0{number}") },
    });
    for (field, value) in more.as_object().unwrap() {
        record[field] = value.clone();
    }
    record
}
