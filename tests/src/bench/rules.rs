//! What rules cost a small packet, and TCP in bulk: one path on which nothing but the rules changes, from none to all of Twill's.
//!
//! The path is that of Twill's own `host-gw` between two pods, or of its `vxlan` ([`Way`]), and the rules are what its daemons made for
//! such nodes: by `host-gw` once with a tunnel that no packet takes, once without. The daemons then stop, so that nobody repairs what is
//! taken away. Each turn lays every variant down once, on both nodes, and sends packets one way by it, and then bytes by a TCP connection,
//! in an order that turns. Sender, nodes and receiver have one processor, so that its time is what the path takes and nothing else.
//!
//! A machine that others use makes most turns slower, so the best quarter of them counts. One variant stands twice among them: a
//! difference that is no greater than that of those two means nothing. Where the machine is so busy that ksoftirqd takes packets over
//! while the thread waits for its turn, their time is not counted, and the figures are too low; so an idle machine is better.
//!
//! How the rules are laid down ([`variant`]), how packets ([`stream`]) and bytes ([`bulk`]) are sent on their [`processor`], and what
//! becomes of the figures ([`report`]) know nothing of each other.

pub mod bulk;
pub mod processor;
pub mod report;
pub mod stream;
pub mod variant;

use std::net::{IpAddr, Ipv4Addr};

use twill_linux::table::link::{self, Device};
use twill_linux::table::source::{self, Sources};
use twill_linux::{IfName, Netlink};

use super::backends::{SWITCHING, switch, until_used};
use super::data::conditions::Host;
use super::data::quantity::{Quantity, Round};
use super::data::{Ends, LOOK, order};
use super::usage::Machine;
use crate::deadline::{self, PATIENCE};
use crate::lab::VXLAN;
use crate::node::Node;
use crate::pod::IFNAME;
use crate::wire::INTERFACE;
use crate::{Lab, LabError, Pod, PoolSpec, Result, Underlay};
use bulk::Bulk;
use report::{Measured, Report};
use stream::Stream;
use variant::{AtHostEnds, Tables, Variant, Way, variants};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How packets go from node to node.
    pub way: Way,
    /// How often each variant has its turn.
    pub turns: usize,
    /// How many packets are sent in each.
    pub packets: usize,
    /// How many bytes are sent in each by TCP.
    pub bytes: u64,
}

/// Sent before a turn counts, so that neighbours are known, the connection is, and the caches are warm.
const WARM_UP: usize = 2000;
/// The same by TCP, so that its windows are open too.
const WARM_UP_BYTES: u64 = 64 << 20;
/// An address that nobody has (RFC 5737).
const FORGED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Whose tunnel is there, and yet goes unused between nodes on one link.
const WITH_A_TUNNEL: &str = "type = \"vxlan\"\ndirect = true\n";

/// Both nodes, with the pods between which packets go.
struct Path {
    lab: Lab,
    pods: [Pod; 2],
    places: [Place; 2],
}

/// What of a node the variants change.
struct Place {
    tables: Tables,
    host_end: IfName,
    /// Of the pod behind it.
    address: Ipv4Addr,
}

impl Path {
    fn build(way: Way) -> Result<Self> {
        let pool = PoolSpec::v4();
        let range = pool.cidr.clone();
        let backend = match way {
            Way::Plain => WITH_A_TUNNEL,
            Way::Tunnel => way.backend().toml(),
        };
        let lab = Lab::builder().nodes(2).underlay(Underlay::V4).pools([pool]).backend(backend).build()?;
        let pods = [lab.node(1).attach("a")?, lab.node(2).attach("b")?];
        let with_a_tunnel = tables(&lab, true)?;
        let without = match way {
            Way::Plain => {
                switch(&lab, &lab.config_with(way.backend().toml()))?;
                tables(&lab, false)?.into_iter().map(Some).collect()
            }
            Way::Tunnel => vec![None; with_a_tunnel.len()],
        };
        until_used(&lab, way.backend())?;
        let mut places = Vec::new();
        for ((pod, tunnel), plain) in pods.iter().zip(with_a_tunnel).zip(without) {
            let tables = Tables { plain, tunnel, range: range.clone() };
            places.push(Place::of(pod, tables)?);
        }
        for node in lab.nodes() {
            node.stop_daemon()?;
            // The greater of what holds for all and of an interface's own holds (Documentation/networking/ip-sysctl.rst).
            let scopes: &[&str] = match way {
                Way::Plain => &["all", INTERFACE],
                Way::Tunnel => &["all", INTERFACE, VXLAN],
            };
            for scope in scopes {
                filter_reverse_paths(node, scope, false)?;
            }
        }
        // After the plugin and the daemons: neither is asked about it.
        pods[0].namespace().ip_batch(&format!("addr add {FORGED}/32 dev {IFNAME}\n"))?;
        let places = places.try_into().map_err(|_| LabError::wrong("the lab has not two nodes"))?;
        Ok(Self { lab, pods, places })
    }

    /// Has packets meet this variant from now on.
    fn lay(&self, variant: &Variant) -> Result<()> {
        for (node, place) in self.lab.nodes().iter().zip(&self.places) {
            filter_reverse_paths(node, place.host_end.as_str(), variant.at_host_ends == AtHostEnds::ReversePath)?;
            place.filter(node, variant.at_host_ends == AtHostEnds::Filter)?;
            node.run(&["nft", &variant.script(&place.tables)?])?;
        }
        Ok(())
    }

    fn ends(&self) -> Result<Ends<'_>> {
        let [from, to] = &self.pods;
        let target = to.address(false)?;
        Ok(Ends { from: from.namespace(), to: to.namespace(), target, interface: IFNAME })
    }
}

impl Place {
    fn of(pod: &Pod, tables: Tables) -> Result<Self> {
        let (host_end, address) = (pod.host_interface()?, ipv4(pod)?);
        let host_end = IfName::new(&host_end).ok_or_else(|| LabError::wrong(host_end))?;
        Ok(Self { tables, host_end, address })
    }

    /// Has the host end take packets by the pod's own addresses alone, or all.
    fn filter(&self, node: &Node, on: bool) -> Result<()> {
        take_filter(node, self.host_end.as_str())?;
        if on {
            let made = node.namespace().enter(|| self.add_filter())?;
            made.map_err(|error| LabError::wrong(format!("the filter of {}: {error}", self.host_end)))?;
        }
        Ok(())
    }

    /// As the plugin does; in the namespace of the calling thread.
    fn add_filter(&self) -> std::result::Result<(), twill_linux::Error> {
        let mut netlink = Netlink::open()?;
        let index = link::by_name(&mut netlink, &self.host_end)?.map(|seen| seen.index).unwrap_or_default();
        let sources = Sources([self.address.into()].into());
        netlink.apply(&source::limit(Device { index, name: self.host_end }, &sources))
    }
}

/// Takes the filter of a host end, with the hooks that it stands at, where there is one.
fn take_filter(node: &Node, host_end: &str) -> Result<()> {
    if node.run(&["tc", "qdisc", "show", "dev", host_end, "clsact"])?.contains("clsact") {
        node.run(&["tc", "qdisc", "del", "dev", host_end, "clsact"])?;
    }
    Ok(())
}

fn ipv4(pod: &Pod) -> Result<Ipv4Addr> {
    match pod.address(false)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(LabError::wrong(format!("the pod's IPv4 address is {address}"))),
    }
}

/// The nodes' tables, as soon as they are those of nodes with a tunnel, or without.
fn tables(lab: &Lab, tunnel: bool) -> Result<Vec<String>> {
    let patience = if tunnel { PATIENCE } else { SWITCHING };
    let what = format!("the table is that of a node {} a tunnel", if tunnel { "with" } else { "without" });
    let table = |node: &Node| {
        deadline::until_some(&what, patience, || {
            node.expect_daemon()?;
            let table = node.run(&["nft", "list", "table", "inet", variant::TABLE])?;
            Ok(if variant::has_a_tunnel(&table) == tunnel { Ok(table) } else { Err(table) })
        })
    };
    lab.nodes().iter().map(table).collect()
}

fn filter_reverse_paths(node: &Node, scope: &str, on: bool) -> Result<()> {
    let strict = if on { "1" } else { "0" };
    node.namespace().set_sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), strict)
}

/// Builds the lab, measures, and removes it.
pub fn measure(plan: Plan) -> Result<Report> {
    let host = Host::look(Machine::busy_for(LOOK)?)?;
    eprintln!("a lab of two nodes");
    let path = Path::build(plan.way)?;
    let ends = path.ends()?;
    let stream = Stream::open(ends, path.places[0].address)?;
    let forger = Stream::open(ends, FORGED)?;
    // Figures of rules that do not hold would be worth nothing.
    for variant in variants(plan.way) {
        path.lay(variant)?;
        stream.send(WARM_UP)?;
        if forger.passes_before(&stream)? == variant.refuses_forged() {
            let holds = if variant.refuses_forged() { "still passes" } else { "does not pass" };
            return Err(LabError::wrong(format!("what a pod sends by another's address {holds}: {}", variant.name)));
        }
    }
    let mut measured: Vec<_> = variants(plan.way).map(|variant| Measured { variant, turns: Vec::new() }).collect();
    for turn in 0..plan.turns {
        eprintln!("turn {} of {}", turn + 1, plan.turns);
        for place in order(turn, measured.len()) {
            let Measured { variant, turns } = &mut measured[place];
            path.lay(variant)?;
            turns.push(take_turn(plan, ends, &stream)?);
        }
    }
    Ok(Report { plan, host, measured })
}

/// Measures by the rules that are there.
fn take_turn(plan: Plan, ends: Ends<'_>, stream: &Stream) -> Result<Round> {
    stream.send(WARM_UP)?;
    let packet = stream.send(plan.packets)?.as_secs_f64() * 1e6 / plan.packets as f64;
    // A connection of the turn's own: where connections are tracked, from its first packet.
    let bulk = Bulk::open(ends)?;
    bulk.send(WARM_UP_BYTES)?;
    let gigabits = plan.bytes as f64 * 8.0 / 1e9;
    let gigabit = bulk.send(plan.bytes)?.as_secs_f64() * 1e3 / gigabits;
    Ok(Round::from([(Quantity::CostPacket, packet), (Quantity::CostOne, gigabit)]))
}
