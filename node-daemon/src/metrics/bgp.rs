//! BGP's sessions, as the speaker reports them at its reviews: ten seconds apart at most.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use twill_bgp::path::Family;
use twill_bgp::rib::Kind;
use twill_bgp::session::State;
use twill_bgp::speaker::PeerReport;

use super::board::Board;

const KINDS: [&str; 3] = ["internal", "client", "external"];
const STATES: [&str; 6] = ["idle", "connect", "active", "open_sent", "open_confirm", "established"];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Session {
    kind: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Prefixes {
    family: &'static str,
    way: &'static str,
}

/// BGP's handle.
#[derive(Debug, Clone)]
pub struct Peers {
    speaks: Gauge,
    sessions: Board<Session>,
    prefixes: Board<Prefixes>,
}

impl Peers {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let speaks = Gauge::default();
        registry.register("bgp_speaking", "Whether this node speaks BGP: 1 or 0", speaks.clone());
        let help = "BGP sessions by the kind of the peer and the state of the session (RFC 4271, 8.2.2)";
        let sessions = Board::register(registry, "bgp_sessions", help);
        let help =
            "Prefixes of all BGP sessions together: received, accepted by the import of those received, and sent";
        let prefixes = Board::register(registry, "bgp_prefixes", help);
        Self { speaks, sessions, prefixes }
    }

    /// How the peers stand; `None` where no BGP is spoken.
    pub fn stand(&self, peers: Option<Vec<PeerReport>>) {
        self.speaks.set(peers.is_some().into());
        let Some(peers) = peers else {
            self.sessions.replace([]);
            self.prefixes.replace([]);
            return;
        };
        // All of them, so that what there is none of is zero.
        let none = KINDS.into_iter().flat_map(|kind| STATES.map(|state| (Session { kind, state }, 0)));
        let some = peers.iter().map(|peer| (Session { kind: kind(peer.kind), state: state(peer.state) }, 1));
        self.sessions.replace(none.chain(some));
        let none = Family::ALL.into_iter().flat_map(|family| prefixes(family, [0; 3]));
        let of_peer = |peer: &PeerReport| peer.families.clone();
        let some = peers.iter().flat_map(of_peer).flat_map(|(family, summary)| {
            prefixes(family, [summary.received.into(), summary.accepted.into(), summary.sent as u64])
        });
        self.prefixes.replace(none.chain(some));
    }
}

impl Peers {
    /// How many sessions there are to be, and how many of them are up; `None` where no BGP is spoken.
    pub fn sessions(&self) -> Option<(u64, u64)> {
        if self.speaks.get() == 0 {
            return None;
        }
        let (mut total, mut up) = (0.0, 0.0);
        for (session, count) in self.sessions.samples() {
            total += count;
            up += if session.state == STATES[5] { count } else { 0.0 };
        }
        Some((whole(total), whole(up)))
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a count before")]
fn whole(count: f64) -> u64 {
    count as u64
}

fn prefixes(family: Family, counts: [u64; 3]) -> [(Prefixes, u64); 3] {
    let family = match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    let [received, accepted, sent] = counts;
    [("received", received), ("accepted", accepted), ("sent", sent)]
        .map(|(way, count)| (Prefixes { family, way }, count))
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Internal => KINDS[0],
        Kind::Client => KINDS[1],
        Kind::External(_) => KINDS[2],
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Idle => STATES[0],
        State::Connect => STATES[1],
        State::Active => STATES[2],
        State::OpenSent => STATES[3],
        State::OpenConfirm => STATES[4],
        State::Established => STATES[5],
    }
}
