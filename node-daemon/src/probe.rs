//! The path probe: whether packets of this node reach the others and come back, small and as long as pods may send them.
//!
//! A thread of its own, since it waits for packets. One node is asked in each turn, so the traffic is the same in a cluster of
//! any size: a few packets each ten seconds. [`schedule`] says whose turn it is; [`judge`] what the answers mean. The kernel of
//! the other node answers, whatever runs there, so a node of another version is asked like any other, and one whose daemon is
//! down too. Nothing hangs on what is found but the log and what `twillctl` shows ([`Troubles`]).

mod judge;
mod schedule;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use twill_cluster::record::Told;
use twill_conf::NodeName;
use twill_fabric::mtu::Mtus;
use twill_fabric::path::{Target, targets};
use twill_fabric::{Reckoning, Underlay};
use twill_linux::echo::{How, Outcome, Question, answers};

use crate::identity;
use crate::metrics::Probes;
use crate::picture::Pictures;
use crate::troubles::Troubles;
use judge::Judgements;
use schedule::Schedule;
pub use twill_fabric::path::verdict::{FINDINGS, GOOD};
use twill_fabric::path::verdict::{Heard, NoWay, Through};

/// Between two turns, unless a test has it otherwise.
pub const TURN: Duration = Duration::from_secs(10);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(700);
/// How often a question is put before it counts as not answered: packets are lost now and then.
const TRIES: u16 = 3;
/// Where a node answers again the next turn comes so many times earlier: what was broken for many may be mended for all.
const HURRY: u32 = 20;
/// The size of a small packet, in bytes.
const SMALL: u32 = 64;
/// By which the board knows what is found here.
const FINDER: &str = "probe";

/// What the probe knows and whom it tells.
#[derive(Debug)]
pub struct Probe {
    /// This node.
    pub name: NodeName,
    /// The cluster.
    pub pictures: Pictures,
    /// Whom this node reaches, as the reconciler has it.
    pub reckoning: Arc<Mutex<Reckoning>>,
    /// This node's underlay.
    pub underlays: watch::Receiver<Option<Underlay>>,
    /// Between two turns.
    pub turn: Duration,
    /// Where it is told.
    pub troubles: Troubles,
    /// Where it is counted.
    pub metrics: Probes,
}

impl Probe {
    /// Asks one node after the other for as long as the process lives.
    pub fn run(self) {
        let mut schedule = Schedule::new(self.name.clone());
        let mut judgements = Judgements::new(self.name.clone());
        let mut mtus = Mtus::default();
        let mut pause = self.turn;
        loop {
            let word = fresh_word();
            // Nodes that were started in one moment do not go on in step.
            std::thread::sleep(pause.mul_f64(0.75 + f64::from(word[7]) / 512.0));
            let (picture, underlay) = (self.pictures.borrow().clone(), self.underlays.borrow().clone());
            let (Some(picture), Some(underlay)) = (picture, underlay) else { continue };
            let mtu = mtus.follow(&picture.reach, &self.name, &underlay).pods;
            let targets = targets(&self.reckoning.lock().expect("reckoning does not panic"));
            judgements.keep(|node| targets.iter().any(|target| target.node == *node));
            let names: Vec<&NodeName> = targets.iter().map(|target| &target.node).collect();
            pause = self.turn;
            if let Some(place) = schedule.next(&names, |name| judgements.suspects(name)) {
                let looked = look(&targets[place], mtu, word);
                if let Ok(heard) = &looked {
                    self.metrics.found(heard.verdict().word());
                }
                match looked {
                    Ok(heard) if judgements.take(&targets[place], mtu, &heard) => {
                        schedule.hurry();
                        pause = self.turn / HURRY;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        self.troubles.set(FINDER, vec![without_sockets(&error)]);
                        continue;
                    }
                }
            }
            self.metrics.stand(targets.len(), judgements.faults());
            self.troubles.set(FINDER, judgements.told());
        }
    }
}

/// Asks a node in all ways at once.
fn look(target: &Target, mtu: u32, word: [u8; 8]) -> std::io::Result<Heard> {
    let inner = target.inner.map(|inner| inner.address);
    let addresses: Vec<IpAddr> = [Some(target.outer), inner].into_iter().flatten().collect();
    let all = [How::Ping(SMALL), How::Ping(mtu), How::Refusal];
    let questions: Vec<Question> = addresses.iter().flat_map(|to| all.map(|how| Question { to: *to, how })).collect();
    let outcomes = answers(&questions, word, TRIES, PATIENCE)?;
    Ok(heard(&addresses, &outcomes))
}

/// What the outcomes of three questions to each address mean: a small ping, a large one, a datagram to a closed port. The first address
/// is that of the underlay.
fn heard(addresses: &[IpAddr], outcomes: &[Outcome]) -> Heard {
    let each = outcomes.chunks_exact(3);
    let is_answered = |outcome: Outcome| outcome.answer().is_some();
    let through = |outcomes: &[Outcome]| {
        let [small, full, refusal] = [0, 1, 2].map(|place| is_answered(outcomes[place]));
        Through { small, full, refusal }
    };
    let mut ways = each.clone().map(through);
    let outer = ways.next().expect("a node has an underlay address");
    // That nothing is sent to an address is said where none of the small packets was: a large one may be silent for its size, and where
    // one went out, what has become of it says more.
    let no_way = |(to, outcomes): (&IpAddr, &[Outcome])| {
        let unsent = |outcome: &Outcome| NoWay::of(*to, outcome.no_way(), outcome.unsent());
        let [small, _, refusal] = outcomes else { return None };
        unsent(small).filter(|_| unsent(refusal).is_some() && !outcomes.iter().any(|outcome| is_answered(*outcome)))
    };
    // Who cannot be reached beside the tunnel is not reached through it either, so that comes first.
    let no_way = addresses.iter().zip(each).find_map(no_way);
    Heard { outer, inner: ways.next(), no_way }
}

fn without_sockets(error: &std::io::Error) -> Told {
    Told {
        what: format!("the paths to other nodes cannot be probed: the kernel gives no sockets for pings: {error}"),
        fix: "let twilld have CAP_NET_RAW; packets flow without it".to_owned(),
    }
}

/// What no earlier question had. Without randomness of the kernel's there is still the time.
pub(crate) fn fresh_word() -> [u8; 8] {
    let word = identity::run_word().ok().and_then(|word| u64::from_str_radix(&word, 16).ok());
    word.unwrap_or_else(|| twill_ipam::BootTime::now().0.subsec_nanos().into()).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use twill_fabric::path::verdict::{Verdict, Why};
    use twill_linux::echo::Answer;

    use super::*;

    const ANSWERED: Outcome = Outcome::Answered(Answer { time: Duration::from_micros(1), heard: None });
    /// As a firewall of the node itself has it.
    const KEPT: Outcome = Outcome::Unsent(1);

    fn verdict(outer: [Outcome; 3], inner: [Outcome; 3]) -> Verdict {
        let addresses = ["192.0.2.2", "10.42.0.1"].map(|text| text.parse::<IpAddr>().unwrap());
        heard(&addresses, &[outer, inner].concat()).verdict()
    }

    #[test]
    fn a_firewall_that_keeps_back_pings_alone_is_not_why_the_tunnel_carries_nothing() {
        let silent = [Outcome::Silence; 3];
        assert_eq!(verdict([KEPT, KEPT, ANSWERED], silent), Verdict::NotThrough);
        let kept = |to: &str| NoWay { to: to.parse().unwrap(), errno: 1, why: Why::NotLetOut };
        assert_eq!(verdict([KEPT; 3], silent), Verdict::NotLetOut(kept("192.0.2.2")));
        assert_eq!(verdict([KEPT, Outcome::Silence, KEPT], silent), Verdict::NotLetOut(kept("192.0.2.2")));
        assert_eq!(verdict([KEPT, KEPT, Outcome::Silence], silent), Verdict::Silent);
        assert_eq!(verdict([ANSWERED; 3], [KEPT; 3]), Verdict::NotLetOut(kept("10.42.0.1")));
        assert_eq!(verdict([KEPT; 3], [ANSWERED; 3]), Verdict::Good);
        let nowhere = NoWay { to: "10.42.0.1".parse().unwrap(), errno: 22, why: Why::NoRoute };
        assert_eq!(verdict([ANSWERED; 3], [Outcome::NoWay(22); 3]), Verdict::NoRoute(nowhere));
    }
}
