//! Addresses and blocks of this node, and its claims.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use twill_cluster::request::Answer;
use twill_ipam::Family as AddressFamily;
use twill_ipam::store::{BlockState, BlockUse};

use super::board::Board;

const CLAIMS: [&str; 4] = ["done", "refused", "unavailable", "unknown"];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Labels {
    pool: String,
    family: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Claim {
    outcome: &'static str,
}

/// The block task's handle.
#[derive(Debug, Clone)]
pub struct Addresses {
    addresses: Board<Labels>,
    blocks: Board<Labels>,
    claims: Family<Claim, Counter>,
    given_back: Counter,
    registered: Gauge,
}

impl Addresses {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let help = "Addresses of this node's blocks. Counts beyond 2^53, as of large IPv6 blocks, are not exact";
        let addresses = Board::register(registry, "addresses", help);
        let blocks = Board::register(registry, "blocks", "Blocks of addresses that this node has");
        let claims = Family::<Claim, Counter>::default();
        for outcome in CLAIMS {
            drop(claims.get_or_create(&Claim { outcome }));
        }
        let help =
            "Claims of a block for this node, by what etcd answered; one that is refused is tried again elsewhere";
        registry.register("block_claims", help, claims.clone());
        let given_back = Counter::default();
        registry.register(
            "blocks_given_back",
            "Blocks that this node gave back, since they were empty",
            given_back.clone(),
        );
        let registered = Gauge::default();
        let help = "Whether this node's record stands in etcd as far as this run knows: 1 or 0";
        registry.register("node_registered", help, registered.clone());
        Self { addresses, blocks, claims, given_back, registered }
    }

    /// The blocks of the node's store with their use, as they are now.
    pub fn stand(&self, blocks: &[BlockUse]) {
        self.addresses.replace(blocks.iter().flat_map(|block| {
            let (used, own) = (block.assigned, block.tunnel.iter().len() as u64);
            let free = open(block);
            let closed = block.free() - free;
            let states = [("free", free), ("used", used), ("cooling", block.cooling), ("reserved", block.reserved)];
            let more = [("tunnel", own), ("closed", closed)];
            states.into_iter().chain(more).map(|(state, count)| (labels(block, state), count))
        }));
        self.blocks.replace(blocks.iter().flat_map(|block| {
            let is_open = block.state == BlockState::Open;
            [("open", is_open), ("closing", !is_open)].map(|(state, is)| (labels(block, state), u64::from(is)))
        }));
    }

    /// A claim was answered.
    pub fn claimed(&self, answer: &Answer) {
        let outcome = match answer {
            Answer::Done(_) => "done",
            Answer::Refused(_) => "refused",
            Answer::Unavailable => "unavailable",
            // No claim is answered by what is found; it would leave it open what became of it.
            Answer::Unknown | Answer::Found { .. } => "unknown",
        };
        self.claims.get_or_create(&Claim { outcome }).inc();
    }

    /// A block was given back.
    pub fn gave_back(&self) {
        self.given_back.inc();
    }

    /// The node is registered, or is not any more.
    pub fn registered(&self, is: bool) {
        self.registered.set(is.into());
    }
}

/// What a pod could be given of a block now.
pub fn open(block: &BlockUse) -> u64 {
    match block.state {
        BlockState::Open => block.free(),
        BlockState::Closing => 0,
    }
}

fn labels(block: &BlockUse, state: &'static str) -> Labels {
    let family = match block.block.family() {
        AddressFamily::V4 => "ipv4",
        AddressFamily::V6 => "ipv6",
    };
    Labels { pool: block.pool.as_ref().map(ToString::to_string).unwrap_or_default(), family, state }
}
