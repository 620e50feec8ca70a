//! What a daemon says of itself: how it stands with etcd, with the kernel and with the other nodes.
//!
//! It is for people and for programs that look, and decides nothing. What is long is cut where it is told and where it is read
//! ([`State::within_bounds`]): a cluster may have thousands of nodes, and nobody keeps more of one than fits on a screen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use twill_conf::NodeName;

use crate::plain;
use crate::record::Told;

/// So many of anything are told; of pools, so many.
const MOST: usize = 16;
const MOST_POOLS: usize = 256;
/// So many bytes of a text.
const LONGEST: usize = 600;

/// How a daemon is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Its version.
    pub version: String,
    /// The identity of its machine.
    pub machine_id: String,
    /// For how long it runs, in seconds.
    pub uptime_seconds: u64,
    /// Why a pod that came now could not be served, a sentence each, as /readyz has it. Empty where it could.
    pub not_ready: Vec<String>,
    /// The configuration that it follows.
    pub config: Followed,
    /// How it sends to other nodes, and what it receives by.
    pub backend: Backend,
    /// The other nodes.
    pub peers: Peers,
    /// Its BGP sessions; absent where it speaks none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<Sessions>,
    /// Its addresses, by pool.
    pub pools: Vec<PoolState>,
    /// What it put right that somebody else had changed.
    pub repairs: Repairs,
    /// How it stands with etcd.
    pub etcd: Etcd,
    /// How it stands with the kernel.
    pub passes: Passes,
    /// What is wrong with the node, as far as only the node can know.
    pub troubles: Vec<Told>,
    /// A second machine that goes by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival: Option<RivalRecord>,
}

/// A configuration by the mod_revision of its key; absent where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Followed {
    /// The newest that it has heard of and can read.
    pub known: Option<i64>,
    /// The one of the last pass after which all stood in the kernel that shall.
    pub applied: Option<i64>,
}

/// The way of packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backend {
    /// What the configuration calls it: `vxlan`, `host-gw` or `bgp`.
    pub kind: Option<String>,
    /// Whether some of its packets to other nodes' pods go encapsulated, or may.
    pub sends_tunnelled: bool,
    /// The tunnel that it receives by, with its identifier and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receives: Option<TunnelEnd>,
    /// What of it is still that of another back end: a switch is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switching: Option<String>,
}

/// The end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelEnd {
    /// The network identifier.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
}

/// Other nodes, by the way to their pods. One with blocks that are reached differently counts by the worst of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peers {
    /// All in its view that have blocks.
    pub nodes: u64,
    /// Encapsulated.
    pub tunnel: u64,
    /// By plain routes over the nodes' subnet.
    pub plain: u64,
    /// By routes that BGP has learned.
    pub bgp: u64,
    /// Not at all.
    pub unreached: u64,
    /// Their names, the first ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreached_nodes: Vec<NodeName>,
    /// Those to which the path probe finds the way not good, the first ones by name, with the word for it: `silent`, `not_through`,
    /// `small_only`, `checksums` or `no_route`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub faulty: BTreeMap<NodeName, String>,
    /// All of them.
    pub faulty_nodes: u64,
}

/// BGP sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// All that shall be.
    pub total: u64,
    /// Those that are established.
    pub up: u64,
}

/// The addresses that a node has of one pool, of its blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolState {
    /// Its name; empty for blocks of none.
    pub pool: String,
    /// Whether they are of IPv6.
    pub ipv6: bool,
    /// How many blocks.
    pub blocks: u64,
    /// What a pod could be given now.
    pub free: u64,
    /// What pods have.
    pub used: u64,
    /// What was given back and is given to nobody yet.
    pub cooling: u64,
    /// All addresses of the blocks.
    pub total: u64,
}

/// Repairs since the daemon began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repairs {
    /// By what was repaired: `route`, `firewall` and so on, as in the metrics. What was never repaired is absent.
    pub by_kind: BTreeMap<String, u64>,
    /// Objects that are repaired again and again, since somebody else undoes it.
    pub contested: u64,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Repair>,
}

/// A repair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repair {
    /// How long ago.
    pub seconds_ago: u64,
    /// What was done to what, and as what it was found.
    pub what: String,
}

/// etcd, as the node finds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Etcd {
    /// Whether it follows what happens there.
    pub connected: bool,
    /// The revision up to which it knows the cluster.
    pub revision: i64,
    /// How long the last request took that was answered, in microseconds; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_micros: Option<u64>,
    /// The median of the last ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_micros: Option<u64>,
    /// Times that it went out of reach since the daemon began.
    pub losses: u64,
}

/// The reconciler's passes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Passes {
    /// How the last one ended: `settled`, `incomplete`, `idle` or `obstructed`; empty before the first.
    pub last: String,
    /// How long ago the last one ended after which all stood that shall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_seconds_ago: Option<u64>,
    /// How long it took from the last change of the cluster until all stood that follows from it, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converged_millis: Option<u64>,
    /// What stands in the way: why no pass could be made, or what the kernel refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
}

/// `answers/<node>/rival`, on a lease: what a machine tells that goes by the name of a node which another machine has. It serves no pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RivalRecord {
    /// Its identity.
    pub machine_id: String,
    /// What it calls itself.
    pub hostname: String,
}

impl State {
    /// As much of it as may be told, and no text that moves a terminal or has several lines.
    #[must_use]
    pub fn within_bounds(mut self) -> Self {
        self.pools.truncate(MOST_POOLS);
        self.troubles.truncate(MOST);
        self.not_ready.truncate(MOST);
        self.passes.obstacles.truncate(MOST);
        self.peers.unreached_nodes.truncate(MOST);
        let last = self.peers.faulty.keys().nth(MOST).cloned();
        if let Some(last) = last {
            self.peers.faulty.split_off(&last);
        }
        while self.repairs.by_kind.len() > MOST {
            self.repairs.by_kind.pop_last();
        }
        let rival = self.rival.iter_mut().flat_map(|rival| [&mut rival.machine_id, &mut rival.hostname]);
        let texts = self.troubles.iter_mut().flat_map(|told| [&mut told.what, &mut told.fix]);
        let texts = texts.chain(&mut self.not_ready).chain(&mut self.passes.obstacles).chain(rival);
        let texts = texts.chain(self.repairs.last.iter_mut().map(|repair| &mut repair.what));
        let texts = texts.chain(self.peers.faulty.values_mut()).chain(self.pools.iter_mut().map(|pool| &mut pool.pool));
        let texts = texts.chain(self.backend.kind.iter_mut()).chain(self.backend.switching.iter_mut());
        texts.chain([&mut self.version, &mut self.machine_id, &mut self.passes.last]).for_each(plain);
        self
    }

    /// Whether it follows a configuration of this revision, all that follows from it done; 0 where there is none.
    pub fn follows(&self, revision: i64) -> bool {
        revision == 0 || (self.config.known >= Some(revision) && self.config.applied >= Some(revision))
    }
}

impl RivalRecord {
    /// Reads it, whatever somebody wrote there; `None` where it is none.
    pub fn read(value: &[u8]) -> Option<Self> {
        let mut record: Self = serde_json::from_slice(value).ok()?;
        [&mut record.machine_id, &mut record.hostname].into_iter().for_each(plain);
        Some(record)
    }
}

/// One line of bounded length.
fn plain(text: &mut String) {
    plain::cut(text, LONGEST);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_node_writes_is_read_in_bounds_and_on_one_line() {
        let long = "\u{1b}[2J\n".repeat(1000);
        let told = Told { what: long.clone(), fix: long.clone() };
        let names = (0..100).map(|number| (format!("n{number:03}").parse().unwrap(), long.clone()));
        let state = State {
            version: long.clone(),
            not_ready: vec![long.clone(); 100],
            pools: vec![PoolState { pool: long.clone(), ..PoolState::default() }; 1000],
            troubles: vec![told; 100],
            peers: Peers { faulty: names.collect(), faulty_nodes: 100, ..Peers::default() },
            repairs: Repairs {
                by_kind: (0..100).map(|number| (number.to_string(), 1)).collect(),
                last: Some(Repair { seconds_ago: 1, what: long.clone() }),
                ..Repairs::default()
            },
            ..State::default()
        };
        let state = state.within_bounds();
        assert!(!state.version.contains(['\u{1b}', '\n']) && state.version.len() == LONGEST);
        assert_eq!((state.troubles.len(), state.not_ready.len(), state.pools.len()), (MOST, MOST, MOST_POOLS));
        assert_eq!(
            (state.peers.faulty.len(), state.peers.faulty_nodes, state.repairs.by_kind.len()),
            (MOST, 100, MOST)
        );
        let json = serde_json::to_vec(&state).unwrap();
        assert!(json.len() < crate::inquiry::LONGEST_ANSWER, "{} bytes", json.len());
        assert_eq!(serde_json::from_slice::<State>(&json).unwrap(), state);
    }

    #[test]
    fn a_newer_daemon_may_tell_more_and_an_older_one_less() {
        let told: State = serde_json::from_str(r#"{"version":"9","config":{"known":7},"more":{"of":"it"}}"#).unwrap();
        assert_eq!((told.version.as_str(), told.config.known, told.config.applied), ("9", Some(7), None));
        assert!(!told.follows(7) && told.follows(0), "it has not brought it about");
        let applied = State { config: Followed { known: Some(8), applied: Some(7) }, ..State::default() };
        assert!(applied.follows(7) && !applied.follows(8));
        assert_eq!(RivalRecord::read(b"[1"), None);
        assert_eq!(RivalRecord::read(br#"{"machine_id":"m\u0007"}"#).unwrap().machine_id, "m ");
    }
}
