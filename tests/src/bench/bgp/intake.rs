//! How long a receiver takes for a large table of one external peer, and what that takes of its memory: Twill's speaker, BIRD and GoBGP, on
//! the same machine, in alternating rounds, with the same bytes.
//!
//! Each receiver is a fresh process in a namespace of its own, and puts nothing into the kernel. The peer is the raw speaker, whose
//! messages are made before the clock starts. The clock runs from the first byte that is sent until the receiver says that it has
//! accepted all; BIRD and GoBGP are asked for that again and again by their own programs, so that their times are those of the
//! first answer that says so.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::receiver::{Heap, READY};
use crate::bench::measure::{Samples, mebibytes, milliseconds, row};
use crate::bench::usage::{Cpu, Memory};
use crate::routers::raw::{Feed, Introduction};
use crate::routers::{Bird, Gobgp, Host, Neighbour, Raw, Router, Settings, bird, gobgp, missing};
use crate::{Lab, LabError, Result, Underlay};

/// The AS of all receivers, and that of the peer.
const SYSTEMS: [u32; 2] = [65001, 65002];
/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long a receiver rests before its memory is looked at.
const REST: Duration = Duration::from_secs(1);

/// Who receives. The whole daemon is one more of these: what starts it with the raw speaker as its peer, its process ID, and how it is
/// asked what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    /// `bgp` alone, in a process of this program's.
    Speaker,
    Bird,
    Gobgp,
}

const CONTENDERS: [Contender; 3] = [Contender::Speaker, Contender::Bird, Contender::Gobgp];
/// What the others are compared with.
const REFERENCE: Contender = Contender::Bird;

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Speaker => "twill-bgp, with the least of a transport",
            Self::Bird => "reference: BIRD 2",
            Self::Gobgp => "GoBGP",
        }
    }

    /// Of its host on the wire.
    fn host(self) -> (&'static str, u8) {
        match self {
            Self::Speaker => ("speaker", 1),
            Self::Bird => ("bird", 2),
            Self::Gobgp => ("gobgp", 3),
        }
    }

    /// A fresh process, that waits for the peer's connection.
    fn start(self, host: &Host, peer: IpAddr, expected: usize) -> Result<Box<dyn Taker>> {
        let neighbour = Neighbour { passive: true, ..Neighbour::new(peer, SYSTEMS[1]) };
        let settings = Settings::new(SYSTEMS[0], Ipv4Addr::new(10, 0, 0, 1)).with(neighbour);
        Ok(match self {
            Self::Speaker => Box::new(SpeakerProcess::start(host, peer, expected)?),
            Self::Bird => {
                Box::new(Asked { router: Bird::start(host, settings)?, peer, pace: Duration::from_millis(2) })
            }
            Self::Gobgp => {
                Box::new(Asked { router: Gobgp::start(host, settings)?, peer, pace: Duration::from_millis(50) })
            }
        })
    }
}

/// A receiver that runs.
trait Taker {
    fn pid(&self) -> Result<u32>;

    /// Waits until it has so many routes. What they hold of its heap, where it knows.
    fn until_all(&mut self, count: usize) -> Result<Option<Heap>>;
}

/// A router that is asked.
struct Asked<R> {
    router: R,
    peer: IpAddr,
    /// Between two questions, so that they do not take the processor that the answer needs: `birdc` takes a millisecond or two,
    /// `gobgp` twenty.
    pace: Duration,
}

impl<R: Router> Taker for Asked<R> {
    fn pid(&self) -> Result<u32> {
        self.router.pid()
    }

    fn until_all(&mut self, count: usize) -> Result<Option<Heap>> {
        let started = Instant::now();
        loop {
            let session = self.router.session(self.peer)?;
            if session.imported == count {
                return Ok(None);
            }
            if started.elapsed() > PATIENCE {
                let what = format!("{} has {count} routes", self.router.name());
                return Err(LabError::Timeout { what, waited: PATIENCE, last: format!("{session:?}") });
            }
            std::thread::sleep(self.pace);
        }
    }
}

/// The process of `receiver`, which tells by itself.
struct SpeakerProcess {
    child: Child,
    lines: Receiver<String>,
}

impl SpeakerProcess {
    fn start(host: &Host, peer: IpAddr, expected: usize) -> Result<Self> {
        let program = std::env::current_exe().map_err(LabError::io("looking for the running program"))?;
        let mut command = Command::new(program);
        command.args(["receive", &host.address(false).to_string(), &SYSTEMS[0].to_string()]);
        command.args([&peer.to_string(), &SYSTEMS[1].to_string(), &expected.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = host.namespace().start(&mut command)?;
        let out = BufReader::new(child.stdout.take().expect("it was piped"));
        let (sender, lines) = channel();
        // It ends with the process, or when nobody listens any more.
        std::thread::spawn(move || {
            for line in out.lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let process = Self { child, lines };
        match process.line()?.as_str() {
            READY => Ok(process),
            other => Err(LabError::wrong(format!("the receiver says {other:?} instead of {READY:?}"))),
        }
    }

    fn line(&self) -> Result<String> {
        let line = self.lines.recv_timeout(PATIENCE);
        line.map_err(|error| LabError::wrong(format!("the receiver says nothing: {error}")))
    }
}

impl Taker for SpeakerProcess {
    fn pid(&self) -> Result<u32> {
        Ok(self.child.id())
    }

    fn until_all(&mut self, _count: usize) -> Result<Option<Heap>> {
        let line = self.line()?;
        let unreadable = |error: serde_json::Error| LabError::Unreadable {
            what: "the receiver".into(),
            cause: error.to_string(),
            text: line.clone(),
        };
        serde_json::from_str(&line).map(Some).map_err(unreadable)
    }
}

impl Drop for SpeakerProcess {
    fn drop(&mut self) {
        // It may have ended by itself, since its peer has gone.
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}

/// What was seen of a receiver in a round.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// From the first byte that was sent.
    time: Duration,
    /// What it used up from then on, until it rests.
    cpu: Duration,
    /// When it rests.
    memory: Memory,
    /// Before the first route.
    before: Memory,
    heap: Option<Heap>,
}

/// Measures in alternating rounds. A table.
pub(super) fn measure(rounds: usize, routes: usize) -> Result<String> {
    if let Some(why) = missing(&[bird::PROGRAMS, gobgp::PROGRAMS].concat()) {
        return Err(LabError::wrong(why));
    }
    let anything = "10.42.0.0/24".parse().expect("a network");
    let lab = Lab::builder().nodes(0).stand_alone([anything]).underlay(Underlay::V4).build()?;
    let peer = Host::on(&lab, "peer", 10)?;
    let IpAddr::V4(address) = peer.address(false) else { return Err(LabError::wrong("the wire has no IPv4")) };
    let bytes = Feed::new(routes, SYSTEMS[1], address).announcement();
    let hosts = CONTENDERS.map(|contender| {
        let (name, number) = contender.host();
        Host::on(&lab, name, number)
    });
    let mut seen = CONTENDERS.map(|_| Vec::new());
    for round in 0..rounds {
        eprintln!("{routes} routes, round {} of {rounds}", round + 1);
        for ((contender, host), seen) in CONTENDERS.into_iter().zip(&hosts).zip(&mut seen) {
            let host = host.as_ref().map_err(|error| LabError::wrong(error.to_string()))?;
            seen.push(sample(contender, host, &peer, &bytes, routes)?);
        }
    }
    Ok(table(routes, bytes.len(), &CONTENDERS.into_iter().zip(seen).collect::<Vec<_>>()))
}

fn sample(contender: Contender, host: &Host, peer: &Host, bytes: &[u8], routes: usize) -> Result<Sample> {
    let mut taker = contender.start(host, peer.address(false), routes)?;
    let introduction = Introduction::new(SYSTEMS[1], Ipv4Addr::new(10, 0, 0, 2));
    let raw = Raw::dial(peer, host.address(false), &introduction)?;
    let pid = taker.pid()?;
    let (before, cpu, started) = (Memory::of(pid)?, Cpu::of_threads(pid)?, Instant::now());
    raw.send(bytes)?;
    let heap = taker.until_all(routes)?;
    let time = started.elapsed();
    std::thread::sleep(REST);
    let (memory, cpu) = (Memory::of(pid)?, Cpu::of_threads(pid)?.saturating_sub(cpu));
    if let Some(end) = raw.end() {
        return Err(LabError::wrong(format!("the session with {} has ended: {end}", contender.name())));
    }
    Ok(Sample { time, cpu, memory, before, heap })
}

fn table(routes: usize, bytes: usize, all: &[(Contender, Vec<Sample>)]) -> String {
    let rounds = all.first().map(|(_, samples)| samples.len()).unwrap_or_default();
    let mut text = format!(
        "{routes} IPv4 routes of one external peer, {} of messages: medians of {rounds} alternating rounds.\n\n",
        mebibytes(bytes as u64)
    );
    text += "| who | until it has all (p90) | × reference | processor time | memory then | more than before the routes | of its heap |\n";
    text += "|---|---|---|---|---|---|---|\n";
    let time = |samples: &[Sample]| samples.iter().map(|sample| sample.time).collect::<Samples>();
    let base = all.iter().find(|(contender, _)| *contender == REFERENCE);
    let base = base.map(|(_, samples)| time(samples).median().as_secs_f64()).unwrap_or_default();
    for (contender, samples) in all {
        let times = time(samples);
        let middle = |of: fn(&Sample) -> u64| {
            let mut numbers: Vec<_> = samples.iter().map(of).collect();
            numbers.sort_unstable();
            numbers.get(numbers.len() / 2).copied().unwrap_or_default()
        };
        let held = samples.iter().find_map(|sample| sample.heap);
        text += &row(&[
            contender.name().to_owned(),
            format!("{} ({})", milliseconds(times.median()), milliseconds(times.quantile(0.9))),
            format!("{:.2}", times.median().as_secs_f64() / base),
            milliseconds(samples.iter().map(|sample| sample.cpu).collect::<Samples>().median()),
            mebibytes(middle(|sample| sample.memory.resident)),
            mebibytes(middle(|sample| sample.memory.resident.saturating_sub(sample.before.resident))),
            held.map(|heap| of_heap(heap, routes)).unwrap_or_default(),
        ]);
    }
    text
}

fn of_heap(heap: Heap, routes: usize) -> String {
    let each = |number: f64| number / routes as f64;
    let held = mebibytes(u64::try_from(heap.held).unwrap_or_default());
    format!("{held}, {:.0} B a route; asked for {:.1} pieces a route", each(heap.held as f64), each(heap.count as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_compares_with_the_reference_and_tells_the_heap_where_it_is_known() {
        let sample = |millis: u64, heap| Sample {
            time: Duration::from_millis(millis),
            cpu: Duration::from_millis(7),
            memory: Memory { resident: 30 << 20, ..Memory::default() },
            before: Memory { resident: 10 << 20, ..Memory::default() },
            heap,
        };
        let heap = Heap { held: 1000, count: 30, bytes: 5000 };
        let all = [
            (Contender::Speaker, vec![sample(100, Some(heap)); 3]),
            (Contender::Bird, vec![sample(200, None), sample(250, None), sample(900, None)]),
        ];
        let text = table(10, 1 << 20, &all);
        let line = "| twill-bgp, with the least of a transport | 100.00 ms (100.00 ms) | 0.40 | 7.00 ms | 30.0 MiB | 20.0 MiB | \
                    0.0 MiB, 100 B a route; asked for 3.0 pieces a route |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("| reference: BIRD 2 | 250.00 ms (900.00 ms) | 1.00 |"), "{text}");
    }
}
