//! Many speakers in one process, over simulated links: what they tell each other until all have all routes, and when a node fails, in
//! a full mesh and with two reflectors.
//!
//! The clock of the simulation jumps from timer to timer, so the time that is measured is what the speakers of all nodes together
//! reckon. The time on the simulation's clock is told beside it: it is that of timers alone, since links take none.

use std::time::{Duration, Instant};

use twill_bgp::bfd;
use twill_bgp::path::{Attributes, Origin};
use twill_bgp::rib::Kind;
use twill_bgp::simulation::{Network, address, block, config, internal};
use twill_bgp::speaker::{Begin, Input};

use crate::bench::measure::{Samples, milliseconds, row};
use crate::{LabError, Result};

/// So many reflectors, each of which is a node with a block too.
const REFLECTORS: usize = 2;
/// On the simulation's clock: longer than anything here takes.
const LONG: Duration = Duration::from_mins(10);

/// Who has sessions with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topology {
    /// Each with each.
    Mesh,
    /// Each with the reflectors, and they with each other (RFC 4456).
    Reflectors,
}

/// A part of a history.
#[derive(Debug, Clone, Copy, Default)]
struct Phase {
    /// On a real clock.
    reckoned: Duration,
    /// On that of the simulation.
    simulated: Duration,
    messages: u64,
    bytes: u64,
}

/// What happens in a history, in this order.
const PHASES: [&str; 2] = ["all start, until all have all routes", "BFD has lost one node, until nobody has its route"];

impl Topology {
    fn name(self, speakers: usize) -> String {
        match self {
            Self::Mesh => "a full mesh".to_owned(),
            Self::Reflectors => format!("{REFLECTORS} reflectors, {} clients", speakers - REFLECTORS),
        }
    }

    /// The peers of a node, and what they are to it.
    fn peers(self, node: usize, speakers: usize) -> Vec<(usize, Kind)> {
        let others = (0..speakers).filter(|other| *other != node);
        let of = |other: usize| match self {
            Self::Mesh => Some((other, Kind::Internal)),
            Self::Reflectors if other < REFLECTORS => Some((other, Kind::Internal)),
            Self::Reflectors if node < REFLECTORS => Some((other, Kind::Client)),
            Self::Reflectors => None,
        };
        others.filter_map(of).collect()
    }

    fn sessions(self, speakers: usize) -> usize {
        (0..speakers).map(|node| self.peers(node, speakers).len()).sum::<usize>() / 2
    }
}

/// Plays the phases, and fails where one does not come to its end.
fn play(topology: Topology, speakers: usize, seed: u64) -> Result<[Phase; 2]> {
    let mut network = Network::new(speakers, seed);
    let all_start = phase(&mut network, PHASES[0], |network| {
        for node in 0..speakers {
            let peers = topology.peers(node, speakers).into_iter().map(|(other, kind)| internal(other, kind));
            network.start(node, config(node, peers), Begin::Cold);
            network.step(node, Input::Originate(block(node), Attributes::new(Origin::Igp)));
        }
        let sessions = 2 * topology.sessions(speakers);
        network.run(LONG, |network| {
            network.nodes.iter().all(|node| node.kernel.len() == speakers - 1) && network.established() == sessions
        })
    })?;
    let lost = speakers - 1;
    let one_is_lost = phase(&mut network, PHASES[1], |network| {
        let peers = topology.peers(lost, speakers);
        peers.iter().for_each(|(peer, _)| network.cut(*peer, lost));
        let change =
            bfd::Change { from: bfd::State::Up, to: bfd::State::Down, why: bfd::Why::Expired, independent: false };
        peers.iter().for_each(|(peer, _)| network.step(*peer, Input::Bfd(address(lost), change)));
        let survivors = 0..speakers - 1;
        network
            .run(LONG, |network| survivors.clone().all(|node| !network.nodes[node].kernel.contains_key(&block(lost))))
    })?;
    let is_whole = |node: usize| network.nodes[node].kernel.len() == speakers - 2;
    if !(0..lost).all(is_whole) {
        return Err(LabError::wrong("more is gone than the route of the node that was lost"));
    }
    Ok([all_start, one_is_lost])
}

fn phase(network: &mut Network, what: &str, run: impl FnOnce(&mut Network) -> bool) -> Result<Phase> {
    let (started, now, figures) = (Instant::now(), network.now, network.figures);
    let is_done = run(network);
    let reckoned = started.elapsed();
    if !is_done {
        return Err(LabError::wrong(format!("after {LONG:?} of the simulation still not: {what}")));
    }
    Ok(Phase {
        reckoned,
        simulated: network.now - now,
        messages: network.figures.messages - figures.messages,
        bytes: network.figures.bytes - figures.bytes,
    })
}

/// Measures in alternating rounds, each with another seed. A table.
pub(super) fn measure(rounds: usize, speakers: usize) -> Result<String> {
    if speakers <= REFLECTORS {
        return Err(LabError::wrong(format!("{speakers} speakers must be more than the {REFLECTORS} reflectors")));
    }
    let topologies = [Topology::Mesh, Topology::Reflectors];
    let mut seen = topologies.map(|_| Vec::new());
    for round in 0..rounds {
        eprintln!("{speakers} speakers, round {} of {rounds}", round + 1);
        for (topology, seen) in topologies.into_iter().zip(&mut seen) {
            seen.push(play(topology, speakers, round as u64 + 1)?);
        }
    }
    Ok(table(speakers, &topologies.into_iter().zip(seen).collect::<Vec<_>>()))
}

fn table(speakers: usize, all: &[(Topology, Vec<[Phase; 2]>)]) -> String {
    let rounds = all.first().map(|(_, played)| played.len()).unwrap_or_default();
    let mut text = format!("{speakers} speakers in one process: medians of {rounds} alternating rounds.\n\n");
    text += "| what | who | sessions | messages | bytes | timers | reckoned (p90) |\n|---|---|---|---|---|---|---|\n";
    for (at, what) in PHASES.into_iter().enumerate() {
        for (topology, played) in all {
            let times = |of: fn(&Phase) -> Duration| played.iter().map(|phases| of(&phases[at])).collect::<Samples>();
            let number = |of: fn(&Phase) -> u64| median(played.iter().map(|phases| of(&phases[at])).collect());
            let reckoned = times(|phase| phase.reckoned);
            text += &row(&[
                what.to_owned(),
                topology.name(speakers),
                topology.sessions(speakers).to_string(),
                number(|phase| phase.messages).to_string(),
                format!("{:.1} KiB", number(|phase| phase.bytes) as f64 / 1024.0),
                format!("{:.1} s", times(|phase| phase.simulated).median().as_secs_f64()),
                format!("{} ({})", milliseconds(reckoned.median()), milliseconds(reckoned.quantile(0.9))),
            ]);
        }
    }
    text
}

fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_network_converges_in_both_topologies_and_reflectors_save_sessions() {
        for (topology, sessions) in [(Topology::Mesh, 28), (Topology::Reflectors, 13)] {
            let [start, loss] = play(topology, 8, 1).unwrap();
            assert_eq!(topology.sessions(8), sessions);
            // Each end of each session says OPEN, KEEPALIVE, a route, and the ends of two families.
            assert!(start.messages >= 2 * 5 * sessions as u64, "{start:?}");
            // In a mesh each has noticed by itself; clients are told.
            assert_eq!(
                (loss.messages > 0, loss.simulated),
                (topology == Topology::Reflectors, Duration::ZERO),
                "{loss:?}"
            );
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_topology_and_phase() {
        let text = measure(1, 4).unwrap();
        assert_eq!(text.lines().count(), 4 + 4, "{text}");
        assert!(text.contains("| 2 reflectors, 2 clients | 5 |"), "{text}");
        assert!(measure(1, 2).unwrap_err().to_string().contains("2 speakers"));
    }
}
