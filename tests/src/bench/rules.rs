//! What rules cost a small packet: one path on which nothing but the rules changes, from none to all of Twill's.
//!
//! The path is that of Twill's own `host-gw` between two pods, and the rules are what its daemons made for such nodes: once with a
//! tunnel that no packet takes, once without. The daemons then stop, so that nobody repairs what is taken away. Each turn lays every
//! variant down once, on both nodes, and sends packets one way by it, in an order that turns. Sender, nodes and receiver
//! have one processor, so that its time is what the path takes and nothing else.
//!
//! A machine that others use makes most turns slower, so the best quarter of them counts. One variant stands twice among them: a
//! difference that is no greater than that of those two means nothing. Where the machine is so busy that ksoftirqd takes packets over
//! while the thread waits for its turn, their time is not counted, and the figures are too low; so an idle machine is better.
//!
//! How the rules are laid down ([`variant`]), how packets are sent ([`stream`]) and what becomes of the figures
//! ([`report`]) know nothing of each other.

pub mod report;
pub mod stream;
pub mod variant;

use std::net::{IpAddr, Ipv4Addr};

use super::backends::{SWITCHING, switch};
use super::data::conditions::Host;
use super::data::{Ends, LOOK, order};
use super::usage::Machine;
use crate::deadline::{self, PATIENCE};
use crate::node::Node;
use crate::pod::IFNAME;
use crate::wire::INTERFACE;
use crate::{Lab, LabError, Pod, PoolSpec, Result, Underlay};
use report::{Measured, Report};
use stream::Stream;
use variant::{Tables, VARIANTS, Variant};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often each variant has its turn.
    pub turns: usize,
    /// How many packets are sent in each.
    pub packets: usize,
}

/// Sent before a turn counts, so that neighbours are known, the connection is, and the caches are warm.
const WARM_UP: usize = 2000;
/// An address that nobody has (RFC 5737).
const FORGED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Whose tunnel is there, and yet goes unused between nodes on one link.
const WITH_A_TUNNEL: &str = "type = \"vxlan\"\ndirect = true\n";
const WITHOUT: &str = "type = \"host-gw\"\n";

/// Both nodes, with the pods between which packets go.
struct Path {
    lab: Lab,
    pods: [Pod; 2],
    places: [Place; 2],
}

/// What of a node the variants change.
struct Place {
    tables: Tables,
    host_end: String,
}

impl Path {
    fn build() -> Result<Self> {
        let pool = PoolSpec::v4();
        let range = pool.cidr.clone();
        let lab = Lab::builder().nodes(2).underlay(Underlay::V4).pools([pool]).backend(WITH_A_TUNNEL).build()?;
        let pods = [lab.node(1).attach("a")?, lab.node(2).attach("b")?];
        let with_a_tunnel = tables(&lab, true)?;
        switch(&lab, &lab.config_with(WITHOUT))?;
        let without = tables(&lab, false)?;
        let mut places = Vec::new();
        for ((pod, tunnel), plain) in pods.iter().zip(with_a_tunnel).zip(without) {
            let tables = Tables { plain, tunnel, range: range.clone() };
            places.push(Place { tables, host_end: pod.host_interface()? });
        }
        for node in lab.nodes() {
            node.stop_daemon()?;
            // The greater of what holds for all and of an interface's own holds (Documentation/networking/ip-sysctl.rst).
            for scope in ["all", INTERFACE] {
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
            filter_reverse_paths(node, &place.host_end, variant.reverse_path)?;
            node.run(&["nft", &variant.script(&place.tables)])?;
        }
        Ok(())
    }

    fn ends(&self) -> Result<Ends<'_>> {
        let [from, to] = &self.pods;
        let target = to.address(false)?;
        Ok(Ends { from: from.namespace(), to: to.namespace(), target, interface: IFNAME })
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
    let path = Path::build()?;
    let ends = path.ends()?;
    let IpAddr::V4(own) = path.pods[0].address(false)? else {
        return Err(LabError::wrong("the pod's IPv4 address is none"));
    };
    let stream = Stream::open(ends, own)?;
    let forger = Stream::open(ends, FORGED)?;
    // Figures of rules that do not hold would be worth nothing.
    for variant in &VARIANTS {
        path.lay(variant)?;
        stream.send(WARM_UP)?;
        if forger.passes_before(&stream)? == variant.refuses_forged() {
            let holds = if variant.refuses_forged() { "still passes" } else { "does not pass" };
            return Err(LabError::wrong(format!("what a pod sends by another's address {holds}: {}", variant.name)));
        }
    }
    let mut measured: Vec<_> = VARIANTS.iter().map(|variant| Measured { variant, turns: Vec::new() }).collect();
    for turn in 0..plan.turns {
        eprintln!("turn {} of {}", turn + 1, plan.turns);
        for place in order(turn, measured.len()) {
            let Measured { variant, turns } = &mut measured[place];
            path.lay(variant)?;
            stream.send(WARM_UP)?;
            turns.push(stream.send(plan.packets)?.as_secs_f64() * 1e6 / plan.packets as f64);
        }
    }
    Ok(Report { plan, host, measured })
}
