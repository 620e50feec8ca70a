//! The section `[bgp]` as a document: its keys, for the reference and for editors.

use schemars::JsonSchema;

use super::filter::{MOST_PREPENDED, MOST_RULES as MOST_FILTER_RULES};
use super::rules::{
    HOPS, INTERVAL, MOST_ANNOUNCEMENTS, MOST_PEERS, MOST_RULES, MULTIPLIER, PORT, PREFIXES, RESTART, RETRY,
};
use crate::kind::{
    AbsolutePath, Address, AsNumber, Community, Identifier, Name, NodeName, PeerAs, Prefix, Prefixes, Selector,
};

/// The speaker of BGP on every node.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Bgp {
    /// The AS of the nodes.
    #[schemars(extend("x-default" = super::Asn::DEFAULT.number()), extend("examples" = [64512]))]
    pub r#as: Option<AsNumber>,
    /// Whether nodes of one AS speak with each other: all with all, or by way of reflectors where there are some.
    #[schemars(default = "yes")]
    pub mesh: bool,
    /// The TCP port on which nodes listen, and speak to each other.
    #[schemars(range(min = *PORT.start(), max = *PORT.end()), default = "port")]
    pub port: u16,
    /// After so many seconds of silence another node is dead: 3 or more, or 0 for never.
    #[schemars(default = "hold_time", extend("not" = { "enum": [1, 2] }))]
    pub hold_time: u16,
    /// After so many seconds a node that did not answer is called again.
    #[schemars(range(min = *RETRY.start(), max = *RETRY.end()), default = "connect_retry")]
    pub connect_retry: u16,
    /// The file, on every node, with the password that signs sessions between nodes (TCP-MD5, RFC 2385).
    #[schemars(extend("examples" = ["/etc/twill/bgp-password"]))]
    pub password_file: Option<AbsolutePath>,
    /// Whether packets tell in between that the way to another node stands (RFC 5880): `true`, `false`, or a table.
    #[schemars(extend("x-default" = false), extend("examples" = [true]))]
    pub bfd: Option<BfdSwitch>,
    /// Whether routes outlive a restart, on both sides (RFC 4724): `true`, `false`, or a table.
    #[schemars(extend("x-default" = true), extend("examples" = [true]))]
    pub graceful_restart: Option<GracefulRestartSwitch>,
    /// The nodes that pass on to the others what each of them says (RFC 4456); the others are their clients. One of `node` and
    /// `nodes` says which.
    pub reflectors: Option<Reflectors>,
    /// What is otherwise on some nodes: `as`, `router_id` or `shutdown`. Of several entries that match a node, the first that says a
    /// thing counts for that thing.
    #[schemars(length(max = MOST_RULES))]
    pub node: Option<Vec<Node>>,
    /// Routers outside of the cluster.
    #[schemars(length(max = MOST_PEERS))]
    pub peer: Option<Vec<Peer>>,
    /// What is announced to the peers beside the pools.
    #[schemars(length(max = MOST_ANNOUNCEMENTS))]
    pub announce: Option<Vec<Announce>>,
}

/// A switch, or a table for who wants to say more.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[allow(missing_docs, reason = "the two forms of one key")]
pub enum BfdSwitch {
    Switch(bool),
    Table(Bfd),
}

/// Bidirectional forwarding detection, over one hop (RFC 5881).
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Bfd {
    /// So often is a packet sent and expected, in milliseconds.
    #[schemars(range(min = *INTERVAL.start(), max = *INTERVAL.end()), default = "interval")]
    pub interval: u32,
    /// After so many that did not come the way is down.
    #[schemars(range(min = *MULTIPLIER.start(), max = *MULTIPLIER.end()), default = "multiplier")]
    pub multiplier: u8,
}

/// A switch, or a table for who wants to say more.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[allow(missing_docs, reason = "the two forms of one key")]
pub enum GracefulRestartSwitch {
    Switch(bool),
    Table(GracefulRestart),
}

/// What becomes of routes when a speaker restarts.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GracefulRestart {
    /// For so many seconds routes stay until the speaker is back.
    #[schemars(range(min = *RESTART.start(), max = *RESTART.end()), default = "restart_time")]
    pub time: u16,
}

/// The nodes that are reflectors; the others are their clients. One of `node` and `nodes` is required.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{ "required": ["node"] }, { "required": ["nodes"] }]))]
pub struct Reflectors {
    /// The one of this name.
    #[schemars(extend("examples" = ["n1"]))]
    pub node: Option<NodeName>,
    /// Those with such labels.
    #[schemars(extend("examples" = ["has(reflector)"]))]
    pub nodes: Option<Selector>,
    /// What they call themselves in a route, by which each knows what it or another of them has reflected.
    #[schemars(extend("x-default" = "each its router ID"), extend("examples" = ["10.0.0.1"]))]
    pub cluster_id: Option<Identifier>,
}

/// What is otherwise on some nodes: one of `as`, `router_id` and `shutdown` at least.
#[derive(Debug, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    extend("anyOf" = [{ "required": ["as"] }, { "required": ["router_id"] }, { "required": ["shutdown"] }],
        "not" = { "required": ["node", "nodes"] })
)]
pub struct Node {
    /// The one of this name.
    #[schemars(extend("x-default" = "all nodes"), extend("examples" = ["n1"]))]
    pub node: Option<NodeName>,
    /// Those with such labels; not beside `node`.
    #[schemars(extend("x-default" = "all nodes"), extend("examples" = ["rack == 'b'"]))]
    pub nodes: Option<Selector>,
    /// Their AS.
    #[schemars(extend("x-default" = "that of `bgp.as`"), extend("examples" = [64513]))]
    pub r#as: Option<AsNumber>,
    /// The router ID of one node, beside `node` alone.
    #[schemars(extend("x-default" = "the IPv4 address of the underlay"), extend("examples" = ["10.0.0.9"]))]
    pub router_id: Option<Identifier>,
    /// Whether peers are asked to prefer other ways, since the node is about to go (RFC 8326).
    #[schemars(default)]
    pub shutdown: bool,
}

/// A router that nodes speak with.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("not" = { "required": ["node", "nodes"] }))]
pub struct Peer {
    /// Unique among the peers.
    #[schemars(extend("examples" = ["tor-a"]))]
    pub name: Name,
    /// Its address: of one machine, and not link-local.
    #[schemars(extend("examples" = ["10.0.0.254"]))]
    pub address: Address,
    /// Its AS.
    #[schemars(extend("examples" = [65001]))]
    pub r#as: PeerAs,
    /// The node that speaks with it.
    #[schemars(extend("x-default" = "all nodes"), extend("examples" = ["n1"]))]
    pub node: Option<NodeName>,
    /// The nodes that speak with it, by their labels; not beside `node`.
    #[schemars(extend("x-default" = "all nodes"), extend("examples" = ["rack == 'a'"]))]
    pub nodes: Option<Selector>,
    /// Its TCP port.
    #[schemars(range(min = *PORT.start(), max = *PORT.end()), default = "port")]
    pub port: u16,
    /// The address of the node from which it is spoken to, of the same family.
    #[schemars(extend("x-default" = "by the route to it"), extend("examples" = ["10.0.0.1"]))]
    pub source: Option<Address>,
    /// The AS that the nodes give for their own, to a peer of another AS.
    #[schemars(extend("x-default" = "the node's"), extend("examples" = [64600]))]
    pub local_as: Option<AsNumber>,
    /// Whether it is waited for, and not called.
    #[schemars(default)]
    pub passive: bool,
    /// It is on a link of the node, and packets that crossed a router are dropped (RFC 5082). The router must send with a hop limit
    /// of 255. Not beside `multihop`.
    #[schemars(extend("x-default" = "true for a peer of another AS"), extend("examples" = [false]))]
    pub gtsm: Option<bool>,
    /// It is behind routers: the hop limit of packets to it. Not beside `gtsm` and `bfd`.
    #[schemars(range(min = *HOPS.start(), max = *HOPS.end()), extend("examples" = [4]))]
    pub multihop: Option<u8>,
    /// Whether an internal one is told this node as the next hop of all routes; else of those of external peers.
    #[schemars(default)]
    pub next_hop_self: bool,
    /// Whether an external one is also offered what the node has learned: blocks of other nodes, routes of other peers.
    #[schemars(default)]
    pub transit: bool,
    /// So many prefixes of each family may it announce; with more, the session ends.
    #[schemars(range(min = *PREFIXES.start(), max = *PREFIXES.end()), extend("x-default" = "any number"), extend("examples" = [1000]))]
    pub max_prefixes: Option<u32>,
    /// What is taken of it. Without: of an internal one what lies in the pools, of an external one nothing (RFC 8212).
    #[schemars(length(max = MOST_FILTER_RULES))]
    pub import: Option<Vec<Rule>>,
    /// What it is given. Without: an internal one all, an external one nothing (RFC 8212).
    #[schemars(length(max = MOST_FILTER_RULES))]
    pub export: Option<Vec<Rule>>,
    /// After so many seconds of silence it is dead: 3 or more, or 0 for never; the lesser of both sides counts.
    #[schemars(default = "hold_time", extend("not" = { "enum": [1, 2] }))]
    pub hold_time: u16,
    /// After so many seconds it is called again. Not beside `passive`.
    #[schemars(range(min = *RETRY.start(), max = *RETRY.end()), default = "connect_retry")]
    pub connect_retry: u16,
    /// The file, on the nodes that speak with it, with the password that signs the session (TCP-MD5, RFC 2385). The password itself
    /// never stands in the configuration.
    #[schemars(extend("examples" = ["/etc/twill/tor-a"]))]
    pub password_file: Option<AbsolutePath>,
    /// Whether packets tell in between that the way to it stands (RFC 5880): `true`, `false`, or a table.
    #[schemars(extend("x-default" = false), extend("examples" = [true]))]
    pub bfd: Option<BfdSwitch>,
}

/// A prefix that nodes announce to the peers, whatever stands behind it.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("not" = { "required": ["node", "nodes"] }))]
pub struct Announce {
    /// Neither the default route nor inside of a pool.
    #[schemars(extend("examples" = ["10.96.0.0/12"]))]
    pub prefix: Prefix,
    /// The node that announces it.
    #[schemars(extend("x-default" = "all nodes"), extend("examples" = ["n1"]))]
    pub node: Option<NodeName>,
    /// The nodes that announce it, by their labels; not beside `node`.
    #[schemars(extend("x-default" = "all nodes"), extend("examples" = ["rack == 'a'"]))]
    pub nodes: Option<Selector>,
    /// What is said with it.
    #[schemars(extend("examples" = [["64512:100"]]))]
    pub communities: Option<Vec<Community>>,
}

/// A rule of a filter. What it asks of a route must all hold; one that asks nothing is about every route. The first that accepts
/// or rejects a route decides.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Rule {
    /// The route is to one of these.
    #[schemars(length(min = 1), extend("examples" = [["10.42.0.0/16 le 26"]]))]
    pub prefixes: Option<Vec<Prefixes>>,
    /// It has this community.
    #[schemars(extend("examples" = ["64512:100"]))]
    pub community: Option<Community>,
    /// It came through this AS, or from it.
    #[schemars(extend("examples" = [65001]))]
    pub through_as: Option<AsNumber>,
    /// It began in this AS.
    #[schemars(extend("examples" = [65001]))]
    pub from_as: Option<AsNumber>,
    /// What becomes of it: `"accept"`, `"reject"`, or `"next"`, to change it and let the next rule decide. The keys below change it, and do
    /// not stand beside `"reject"`.
    #[schemars(extend("examples" = ["accept"]))]
    pub action: Action,
    /// Its preference inside of the AS becomes this.
    #[schemars(extend("examples" = [200]))]
    pub local_pref: Option<u32>,
    /// What the neighbouring AS is told of the preference among several ways into this one (MULTI_EXIT_DISC).
    #[schemars(extend("examples" = [50]))]
    pub med: Option<u32>,
    /// How often the path is made longer: by the own AS on export, by the neighbour's on import.
    #[schemars(range(min = 1, max = MOST_PREPENDED), extend("examples" = [2]))]
    pub prepend: Option<u8>,
    /// What is said with it besides.
    #[schemars(extend("examples" = [["64512:100"]]))]
    pub communities: Option<Vec<Community>>,
    /// What is not said with it any more; it comes before what is added.
    #[schemars(extend("examples" = [["no-export"]]))]
    pub remove_communities: Option<Vec<Community>>,
}

/// What becomes of a route.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the key that it is the value of says what each is")]
pub enum Action {
    Accept,
    Reject,
    Next,
}

fn yes() -> bool {
    true
}

fn port() -> u16 {
    super::PORT
}

fn hold_time() -> u16 {
    super::Link::default().hold_time
}

fn connect_retry() -> u16 {
    super::Link::default().connect_retry
}

fn interval() -> u32 {
    super::Bfd::default().interval
}

fn multiplier() -> u8 {
    super::Bfd::default().multiplier
}

fn restart_time() -> u16 {
    match super::GracefulRestart::default() {
        super::GracefulRestart::Within(seconds) => seconds,
        super::GracefulRestart::Off => 0,
    }
}
