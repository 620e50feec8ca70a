//! The data path: pod to pod by each back end, against the same path built by hand, and against the wire between the nodes.
//!
//! For each back end there is a lab of two nodes with Twill, and on the same bridge two nodes more, between whose pods the same
//! path is built with `ip`: the same devices, routes and neighbours of the same shape and MTU. Forwarding is all that
//! they have besides, no nftables and no daemon: what Twill's rules cost is a part of what Twill costs. Pods that
//! are to reach the outside have to be masqueraded by somebody, and the kernel tracks all connections then; so who does it is
//! a choice ([`Masquerade`]), and like can be compared with like.
//!
//! All labs stand side by side, and each round measures every path once, in an order that turns from round to round; so
//! whatever disturbs the machine disturbs all of them, and a round's figures are compared with those of the same round.
//!
//! Measuring ([`round`]), what the figures are called and mean ([`quantity`]), and how they are shown ([`report`]) know
//! nothing of each other's insides.

pub mod by_hand;
pub mod conditions;
pub mod quantity;
pub mod report;
pub mod round;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::usage::Machine;
use crate::lab::VXLAN;
use crate::namespace::Namespace;
use crate::pod::IFNAME;
use crate::wire::INTERFACE;
use crate::{Lab, Pod, PoolSpec, Result, Underlay};
use by_hand::{Pair, Shape};
use conditions::{Conditions, Device};
use quantity::Figures;
use report::{Compared, Report};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many alternating rounds.
    pub rounds: usize,
    /// How long each figure of a round takes, in whole seconds, as iperf3 has them.
    pub seconds: u64,
    /// Whose nodes masquerade.
    pub masquerade: Masquerade,
}

/// Whose nodes give their pods' packets to the outside their own address, by which the kernel tracks all connections there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Masquerade {
    /// Twill's, as they do by default; by hand there is no nftables.
    Twill,
    /// Both, by hand with one rule.
    Both,
    /// Nobody: Twill's pools have `masquerade = false`.
    Neither,
}

/// Where packets travel while something is measured.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    /// Who sends, or asks.
    pub from: &'a Namespace,
    /// Who receives, or answers.
    pub to: &'a Namespace,
    /// An address in `to`.
    pub target: IpAddr,
    /// The interface in `to` by which packets come in.
    pub interface: &'static str,
}

/// A back end, and whether by hand it takes a tunnel.
#[derive(Debug, Clone, Copy)]
struct Backend {
    name: &'static str,
    toml: &'static str,
    tunnel: bool,
}

/// The words of a back end that is spoken by BGP, with BFD at its defaults.
const BGP: &str = "type = \"bgp\"\n[bgp]\nbfd = true\n";

const BACKENDS: [Backend; 4] = [
    Backend { name: "vxlan", toml: "type = \"vxlan\"\n", tunnel: true },
    Backend { name: "vxlan, direct", toml: "type = \"vxlan\"\ndirect = true\n", tunnel: false },
    Backend { name: "host-gw", toml: "type = \"host-gw\"\n", tunnel: false },
    Backend { name: "bgp", toml: BGP, tunnel: false },
];

/// How long the machine is looked at before anything begins.
pub const LOOK: Duration = Duration::from_secs(2);

/// A back end's lab, with both paths.
struct Stage {
    backend: Backend,
    lab: Lab,
    pods: [Pod; 2],
    by_hand: Pair,
}

impl Stage {
    fn build(backend: Backend, masquerade: Masquerade) -> Result<Self> {
        eprintln!("a lab for {}", backend.name);
        let pool = PoolSpec::v4().masqueraded(masquerade != Masquerade::Neither);
        let lab = Lab::builder().nodes(2).underlay(Underlay::V4).pools([pool]).backend(backend.toml);
        let lab = lab.build()?;
        let pods = [lab.node(1).attach("a")?, lab.node(2).attach("b")?];
        let masquerade = masquerade == Masquerade::Both;
        let by_hand = Pair::build(&lab, Shape { tunnel: backend.tunnel, mtu: pods[0].mtu()?, masquerade })?;
        let stage = Self { backend, lab, pods, by_hand };
        for ends in [stage.twill()?, stage.by_hand.pods(), stage.by_hand.nodes()] {
            ends.from.run(&["ping", "-n", "-q", "-c1", "-W3", &ends.target.to_string()])?;
        }
        Ok(stage)
    }

    fn twill(&self) -> Result<Ends<'_>> {
        let [from, to] = &self.pods;
        let target = to.address(false)?;
        Ok(Ends { from: from.namespace(), to: to.namespace(), target, interface: IFNAME })
    }

    /// The devices that packets pass, with those in their place by hand.
    fn devices(&self) -> Result<Vec<Device>> {
        let (pod, node) = (&self.pods[0], self.lab.node(1).namespace());
        let (hand_pod, hand_node) = self.by_hand.first();
        let host_end = pod.host_interface()?;
        let mut devices = vec![
            Device::look("pod", (pod.namespace(), IFNAME), (hand_pod, IFNAME))?,
            Device::look("the pod's host end", (node, &host_end), (hand_node, by_hand::HOST_END))?,
            Device::look("between the nodes", (node, INTERFACE), (hand_node, INTERFACE))?,
        ];
        if self.backend.tunnel {
            devices.push(Device::look("tunnel", (node, VXLAN), (hand_node, by_hand::TUNNEL))?);
        }
        Ok(devices)
    }
}

/// What became of BGP's sessions, which BFD watches, while everything was measured.
#[derive(Debug, Clone, Copy)]
pub struct Sessions {
    /// How often one came up.
    pub up: usize,
    /// How often one went down.
    pub down: usize,
    /// In what time.
    pub time: Duration,
}

impl Sessions {
    /// By what the daemons have said.
    fn look(stages: &[Stage], time: Duration) -> Result<Self> {
        let nodes = stages.iter().filter(|stage| stage.backend.toml == BGP).flat_map(|stage| stage.lab.nodes());
        let (mut up, mut down) = (0, 0);
        for node in nodes {
            node.expect_daemon()?;
            let log = node.daemon_log();
            let said = |what: &str| {
                log.lines().filter(|line| line.contains("the session with") && line.contains(what)).count()
            };
            up += said(" is up");
            down += said(" is down");
        }
        Ok(Self { up, down, time })
    }
}

/// The paths of a round. Who comes first may have it better or worse than the others, so it is somebody else each time; and
/// of two neighbours, which are compared, each is as often before the other.
pub fn order(round: usize, paths: usize) -> Vec<usize> {
    let turned = (round / 2..round / 2 + paths).map(|place| place % paths);
    if round.is_multiple_of(2) { turned.collect() } else { turned.rev().collect() }
}

/// Builds the labs, measures, and removes them.
pub fn measure(plan: Plan) -> Result<Report> {
    let others = Machine::busy_for(LOOK)?;
    let stages =
        BACKENDS.into_iter().map(|backend| Stage::build(backend, plan.masquerade)).collect::<Result<Vec<_>>>()?;
    let devices = stages.iter().map(|stage| Ok((stage.backend.name, stage.devices()?))).collect::<Result<Vec<_>>>()?;
    let conditions = Conditions::look(others, devices)?;

    let mut paths = Vec::new();
    for stage in &stages {
        paths.extend([stage.by_hand.pods(), stage.twill()?]);
    }
    // All labs have the same wire.
    paths.push(stages[0].by_hand.nodes());
    let mut measured = vec![Figures::default(); paths.len()];
    let begin = Instant::now();
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        for part in round::PARTS {
            for place in order(round, paths.len()) {
                measured[place].add(part(paths[place], plan.seconds, stages[0].lab.directory())?);
            }
        }
    }
    let sessions = Sessions::look(&stages, begin.elapsed())?;
    let nodes = measured.pop().unwrap_or_default();
    let pairs = stages.iter().zip(measured.chunks_exact(2));
    let compared = |(stage, pair): (&Stage, &[Figures])| Compared {
        name: stage.backend.name,
        by_hand: pair[0].clone(),
        twill: pair[1].clone(),
    };
    Ok(Report { plan, conditions, sessions, nodes, compared: pairs.map(compared).collect() })
}
