//! How long until what a peer announces stands in the kernel: by the whole daemon and by BIRD, with the same few thousand routes; and by the
//! daemon out of a large table of which its import filter takes a part.
//!
//! Each round is a fresh session of a router that goes on: what stood is gone before the next one begins. The kernel is asked by dumps, so
//! that a time is too long by a pause and a dump at most.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use twill_linux::Netlink;
use twill_linux::table::route::{self, Filter};

use crate::bench::measure::{Samples, mebibytes, milliseconds, row};
use crate::bench::usage::{Cpu, Memory};
use crate::lab::PROTOCOL_CLUSTER;
use crate::namespace::Namespace;
use crate::routers::raw::{Feed, Introduction};
use crate::routers::{Bird, Host, Neighbour, Raw, Router as _, Settings, bird, missing};
use crate::{Lab, LabError, Result, Underlay};

/// The AS of the receivers, and that of the peer.
const SYSTEMS: [u32; 2] = [64512, 65002];
/// So many routes go into the kernel of both.
const ROUTES: usize = 4_000;
/// Of a large table the daemon takes those of this length: one of twenty.
const LENGTH: u8 = 21;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at the kernel.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a receiver rests before its memory is looked at.
const REST: Duration = Duration::from_secs(1);
/// The protocol of BIRD's routes (RTPROT_BIRD, include/uapi/linux/rtnetlink.h).
const PROTOCOL_BIRD: u8 = 12;

/// A receiver that runs.
struct Receiver<'a> {
    name: String,
    namespace: &'a Namespace,
    protocol: u8,
    address: IpAddr,
    pid: u32,
    netlink: Netlink,
    /// So many routes of that protocol stand without the peer's.
    without: usize,
}

/// What was seen in a round.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// From the first byte that was sent until the kernel has all.
    time: Duration,
    /// What the receiver used up until it rests.
    cpu: Duration,
    memory: Memory,
}

impl<'a> Receiver<'a> {
    fn new(name: &str, namespace: &'a Namespace, protocol: u8, address: IpAddr, pid: u32) -> Result<Self> {
        let netlink = namespace.enter(Netlink::open)?.map_err(kernel)?;
        let mut receiver = Self { name: name.to_owned(), namespace, protocol, address, pid, netlink, without: 0 };
        receiver.without = receiver.standing()?;
        Ok(receiver)
    }

    fn standing(&mut self) -> Result<usize> {
        let filter = Filter { protocol: Some(self.protocol), ..Filter::default() };
        route::dump(&mut self.netlink, filter).map(|routes| routes.len()).map_err(kernel)
    }

    fn until_standing(&mut self, count: usize) -> Result<()> {
        let begin = Instant::now();
        loop {
            let standing = self.standing()?;
            if standing == self.without + count {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                let what = format!("{count} routes of {} in the kernel of {}", self.name, self.namespace.name());
                return Err(LabError::Timeout { what, waited: PATIENCE, last: standing.to_string() });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// A session. After several that ended soon a speaker holds the next one off, for up to a minute (IdleHoldTime).
    fn session(&self, peer: &Host, introduction: &Introduction) -> Result<Raw> {
        let begin = Instant::now();
        loop {
            match Raw::dial(peer, self.address, introduction) {
                Err(_) if begin.elapsed() < PATIENCE => {}
                done => return done,
            }
        }
    }

    /// One session: all that `bytes` announces, of which so many go into the kernel, and its end.
    fn round(&mut self, peer: &Host, bytes: &[u8], count: usize) -> Result<Sample> {
        let introduction = Introduction::new(SYSTEMS[1], Ipv4Addr::new(10, 0, 0, 2));
        let raw = self.session(peer, &introduction)?;
        let (cpu, begin) = (Cpu::of_threads(self.pid)?, Instant::now());
        raw.send(bytes)?;
        self.until_standing(count)?;
        let time = begin.elapsed();
        std::thread::sleep(REST);
        let sample =
            Sample { time, cpu: Cpu::of_threads(self.pid)?.saturating_sub(cpu), memory: Memory::of(self.pid)? };
        if let Some(end) = raw.end() {
            return Err(LabError::wrong(format!("the session with {} has ended: {end}", self.name)));
        }
        drop(raw);
        self.until_standing(0)?;
        Ok(sample)
    }
}

fn kernel(error: twill_linux::Error) -> LabError {
    LabError::wrong(format!("the kernel's routes: {error}"))
}

/// Measures in alternating rounds. A table. `large`: so many routes has the large table.
pub(super) fn measure(rounds: usize, large: usize) -> Result<String> {
    if let Some(why) = missing(&bird::PROGRAMS) {
        return Err(LabError::wrong(why));
    }
    let lab = Lab::builder().nodes(1).underlay(Underlay::V4).build()?;
    let (peer, host) = (Host::on(&lab, "peer", 10)?, Host::on(&lab, "bird", 2)?);
    let IpAddr::V4(address) = peer.address(false) else { return Err(LabError::wrong("the wire has no IPv4")) };
    let node = lab.node(1);
    let pid = node.daemon_pid().ok_or_else(|| LabError::wrong("no daemon was started"))?;
    let mut daemon = Receiver::new("twilld", node.namespace(), PROTOCOL_CLUSTER, node.addresses()[0], pid)?;
    lab.apply_config(&lab.config_with(&configuration(address)))?;

    let neighbour = Neighbour { passive: true, ..Neighbour::new(address.into(), SYSTEMS[1]) };
    let settings = Settings::new(SYSTEMS[0], Ipv4Addr::new(10, 0, 0, 1)).with(neighbour);
    let router = Bird::start(&host, Settings { kernel: true, ..settings })?;
    let mut bird =
        Receiver::new("reference: BIRD 2", host.namespace(), PROTOCOL_BIRD, host.address(false), router.pid()?)?;

    let few = Feed::of_length(ROUTES, LENGTH, SYSTEMS[1], address).announcement();
    let many = Feed::new(large, SYSTEMS[1], address);
    let taken = many.prefixes().filter(|prefix| prefix.prefix() == LENGTH).count();
    let many = many.announcement();
    let mut seen = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        eprintln!("routes into the kernel, round {} of {rounds}", round + 1);
        seen[0].push(daemon.round(&peer, &few, ROUTES)?);
        seen[1].push(bird.round(&peer, &few, ROUTES)?);
        seen[2].push(daemon.round(&peer, &many, taken)?);
    }
    let titles = [
        format!("twilld: {ROUTES} of {ROUTES} routes"),
        format!("{}: {ROUTES} of {ROUTES} routes", bird.name),
        format!("twilld: {taken} of {large} routes, by its import filter"),
    ];
    Ok(table(&titles.into_iter().zip(seen).collect::<Vec<_>>()))
}

/// The daemon waits for the raw speaker, and takes prefixes of one length.
fn configuration(peer: Ipv4Addr) -> String {
    let [_, asn] = SYSTEMS;
    format!(
        "type = \"vxlan\"\n[bgp]\n[[bgp.peer]]\nname = \"raw\"\naddress = \"{peer}\"\nas = {asn}\npassive = true\ngtsm = false\n\
         [[bgp.peer.import]]\nprefixes = [\"0.0.0.0/0 ge {LENGTH} le {LENGTH}\"]\naction = \"accept\"\n"
    )
}

fn table(all: &[(String, Vec<Sample>)]) -> String {
    let rounds = all.first().map(|(_, samples)| samples.len()).unwrap_or_default();
    let mut text = format!("Routes of one external peer into the kernel: medians of {rounds} alternating rounds.\n\n");
    text += "| who | until the kernel has them (p90) | processor time | memory then |\n|---|---|---|---|\n";
    for (title, samples) in all {
        let times = samples.iter().map(|sample| sample.time).collect::<Samples>();
        let mut memory: Vec<_> = samples.iter().map(|sample| sample.memory.resident).collect();
        memory.sort_unstable();
        text += &row(&[
            title.clone(),
            format!("{} ({})", milliseconds(times.median()), milliseconds(times.quantile(0.9))),
            milliseconds(samples.iter().map(|sample| sample.cpu).collect::<Samples>().median()),
            mebibytes(memory.get(memory.len() / 2).copied().unwrap_or_default()),
        ]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each() {
        let sample = |millis| Sample {
            time: Duration::from_millis(millis),
            cpu: Duration::from_millis(7),
            memory: Memory { resident: 30 << 20, ..Memory::default() },
        };
        let text = table(&[("one".to_owned(), vec![sample(10), sample(30), sample(20)])]);
        assert!(text.contains("| one | 20.00 ms (30.00 ms) | 7.00 ms | 30.0 MiB |"), "{text}");
    }
}
