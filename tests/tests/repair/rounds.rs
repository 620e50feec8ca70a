//! Rounds of damage and repair, each timed from the moment when the damage is done, while the pod talks.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::probe::{Probe, Report};
use twill_tests::{Lab, LabBuilder, LabError, Node, Pod, Result, Underlay};

use crate::damage::{BRIDGE, Damage, Harm};
use crate::stage::{Facts, Part, show};

/// The configuration that all damages are made for.
const BACKEND: &str = "type = \"vxlan\"\nchecksum_offload = \"off\"\n";
/// So many answers in each family tell that the pods reach each other again.
const ANSWERS: u64 = 5;
/// A damage that was repaired before the first look is done again, at most so often in a row: what nobody saw is no round.
const AGAIN: usize = 10;
/// In a storm one of so many damages may meet nothing, since a repair goes on at the same time.
const MISSED: usize = 10;
/// For so long the daemon gathers events.
const CALM: Duration = Duration::from_millis(40);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Nodes that can be damaged.
pub fn lab(nodes: u8) -> LabBuilder {
    Lab::builder().nodes(nodes).backend(BACKEND)
}

/// Two nodes with the tunnel between IPv6 addresses.
pub fn lab_over_ipv6() -> LabBuilder {
    lab(2).underlay(Underlay::V6)
}

/// Two nodes without a tunnel, by this back end.
pub fn lab_without_tunnel(backend: &str) -> LabBuilder {
    Lab::builder().nodes(2).backend(backend)
}

/// A node with a pod, and what stands there while nothing is damaged.
pub struct Stage<'a> {
    node: &'a Node,
    facts: Facts,
    whole: String,
    pod: Pod,
    other: Pod,
}

/// Makes the bridge that devices are put into. One that has had a device has other limits than a new one.
fn bridge() -> String {
    format!(
        "ip link add {BRIDGE} address 02:00:00:00:77:07 type bridge
         ip link add first type veth peer name second
         ip link set first master {BRIDGE}
         ip link del first"
    )
}

/// What the rounds of one damage gave.
pub struct Measured {
    damage: Damage,
    times: Vec<Duration>,
    /// The longest gap among the pods' packets, where they were counted.
    gap: Option<Duration>,
}

impl<'a> Stage<'a> {
    /// Attaches a pod, with a filter where one of these damages is about it, and one on another node.
    pub fn set(node: &'a Node, other: &Node, damages: &[Damage]) -> Result<Self> {
        node.run(&["sh", "-euc", &bridge()])?;
        let filtered = damages.iter().any(|damage| damage.parts.contains(&Part::Filters));
        let pod = node.create_pod(&format!("on-{}", node.name()))?;
        pod.add_with_keys(&json!({ "hostEndFilter": filtered }))?.expect_success()?;
        let far = other.attach(&format!("for-{}", node.name()))?;
        Self::settle(node)?;
        let facts = Facts::of(node, &pod, other, &far)?;
        Ok(Self { node, facts, whole: show(Part::ALL, node)?, pod, other: far })
    }

    /// The same stage, where something else stands by now.
    pub fn again(mut self) -> Result<Self> {
        Self::settle(self.node)?;
        self.whole = show(Part::ALL, self.node)?;
        Ok(self)
    }

    /// Waits until nothing changes any more of what stands: a node that has just joined gets its blocks one by one.
    fn settle(node: &Node) -> Result<()> {
        let mut last = (show(Part::ALL, node)?, Instant::now());
        deadline::until("nothing changes any more", PATIENCE, || {
            let now = show(Part::ALL, node)?;
            if now != last.0 {
                last = (now, Instant::now());
            }
            Ok(last.1.elapsed() >= Duration::from_secs(1))
        })
    }

    /// Does a damage so many times, with a pause for the daemon between two, while the pod talks.
    pub fn play(&self, damage: Damage, rounds: usize) -> Result<Measured> {
        let probe =
            |ipv6| Probe::start(self.pod.namespace(), self.other.namespace(), self.other.address(ipv6)?, MILLISECOND);
        let probes = [probe(false)?, probe(true)?];
        let mut times = Vec::new();
        while times.len() < rounds {
            let ready = || probes.iter().try_for_each(|probe| probe.until_answered(ANSWERS));
            let took = self.strike_until_seen(damage, ready)?;
            times.push(took);
            sleep(pause(took));
        }
        let reports = probes.into_iter().map(Probe::stop).collect::<Result<Vec<Report>>>()?;
        if damage.harm == Harm::None {
            for report in &reports {
                report.expect_no_loss().map_err(|error| named(damage, &error))?;
            }
        }
        let gap = reports.iter().map(|report| report.longest_gap).max();
        Ok(Measured { damage, times, gap })
    }

    /// Does a damage once, until it was seen, whatever happens to packets; how long the repair took.
    pub fn play_unheard(&self, damage: Damage) -> Result<Measured> {
        Ok(Measured { damage, times: vec![self.strike_until_seen(damage, || Ok(()))?], gap: None })
    }

    /// Does a damage, again where it was repaired before anybody saw it, each time after `ready`. How long the repair took of which
    /// the damage was seen.
    fn strike_until_seen(&self, damage: Damage, ready: impl Fn() -> Result<()>) -> Result<Duration> {
        for _ in 0..AGAIN {
            ready()?;
            let (took, seen) = self.strike(damage).map_err(|error| named(damage, &error))?;
            self.expect_whole().map_err(|error| named(damage, &error))?;
            if seen {
                return Ok(took);
            }
        }
        Err(LabError::wrong(format!("{}, {}: nothing was ever missing", damage.object, damage.what)))
    }

    /// Does a damage, and waits until what shows it is as before. How long that took, and whether it was seen to be otherwise.
    fn strike(&self, damage: Damage) -> Result<(Duration, bool)> {
        let before = show(damage.parts, self.node)?;
        damage.strike(self.node, &self.facts)?;
        let begin = Instant::now();
        let mut seen = false;
        deadline::until_some("it is as before", PATIENCE, || {
            self.node.expect_daemon()?;
            // Where a device is missing, the look itself fails.
            let now = show(damage.parts, self.node).unwrap_or_else(|error| error.to_string());
            seen |= now != before;
            Ok(if now == before { Ok(()) } else { Err(difference(&before, &now)) })
        })?;
        Ok((begin.elapsed(), seen))
    }

    /// Waits until all is as it was at first.
    pub fn expect_whole(&self) -> Result<()> {
        deadline::until_some("all is as at first", PATIENCE, || {
            let now = show(Part::ALL, self.node)?;
            Ok(if now == self.whole { Ok(()) } else { Err(difference(&self.whole, &now)) })
        })
    }

    /// The pods reach each other, with small packets and with the largest.
    pub fn reach(&self) -> Result<()> {
        for ipv6 in [false, true] {
            self.pod.ping_small_and_full(self.other.address(ipv6)?)?;
            self.other.ping_small_and_full(self.pod.address(ipv6)?)?;
        }
        Ok(())
    }

    /// Does all of the damages at once, without a look between them, and waits for the end. What an earlier one or its
    /// repair has taken away cannot be damaged: what takes away most comes last, and all but a few must strike.
    pub fn storm(&self, damages: &[Damage]) -> Result<()> {
        let mut damages = damages.to_vec();
        damages.sort_by_key(Damage::sweep);
        let strike = |damage: &Damage| damage.strike(self.node, &self.facts).map_err(|error| named(*damage, &error));
        let missed = damages.iter().filter_map(|damage| strike(damage).err());
        let missed: Vec<String> = missed.map(|error| error.to_string()).collect();
        let told = format!("{} of {} damages met nothing:\n{}", missed.len(), damages.len(), missed.join("\n"));
        println!("{told}");
        if missed.len() * MISSED > damages.len() {
            return Err(LabError::wrong(told));
        }
        self.expect_whole()
    }

    /// What the damages name.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Between two rounds: passes of the reconciler take a tenth of a processor at most, and one that follows many is put off.
/// What is measured is a node where nothing else happens.
fn pause(took: Duration) -> Duration {
    (took.saturating_sub(CALM) * 10).clamp(300 * MILLISECOND, 3_000 * MILLISECOND)
}

fn named(damage: Damage, error: &LabError) -> LabError {
    LabError::wrong(format!("{}, {}: {error}", damage.object, damage.what))
}

/// The lines that only one of two texts has.
pub fn difference(before: &str, now: &str) -> String {
    let lacks = |one: &str, other: &str, sign: char| {
        let lines = one.lines().filter(|line| !other.lines().any(|other| other == *line));
        lines.map(|line| format!("\n{sign} {line}")).collect::<String>()
    };
    lacks(before, now, '-') + &lacks(now, before, '+')
}

impl Measured {
    /// The median of the times to repair.
    pub fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// The longest time to repair.
    pub fn maximum(&self) -> Duration {
        self.times.iter().max().copied().unwrap_or_default()
    }

    /// What it was that was measured.
    pub fn name(&self) -> String {
        format!("{}, {}", self.damage.object, self.damage.what)
    }
}

/// The table, as the documentation has it.
pub fn table(all: &[Measured]) -> String {
    let mut table = String::from("| object | damage | rounds | median | maximum | longest gap in traffic |\n");
    table += "|---|---|---|---|---|---|\n";
    for measured in all {
        let Damage { object, what, harm, .. } = measured.damage;
        let gap = match (measured.gap, harm) {
            (None, _) => "not measured".to_owned(),
            (Some(_), Harm::None) => "no packet lost".to_owned(),
            (Some(gap), Harm::Cut) => format!("{} ms", gap.as_millis()),
        };
        let (median, maximum) = (measured.median().as_millis(), measured.maximum().as_millis());
        let rounds = measured.times.len();
        writeln!(table, "| {object} | {what} | {rounds} | {median} ms | {maximum} ms | {gap} |").unwrap_or_default();
    }
    table
}
