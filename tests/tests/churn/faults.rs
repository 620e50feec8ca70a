//! What befalls etcd and the daemons during the churn, one thing after another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::etcd::Member;
use twill_tests::{Lab, Result};

/// How long a fault lasts.
const LAST: Duration = Duration::from_millis(2500);
/// How long all is well between two.
const CALM: Duration = Duration::from_millis(1500);

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Killed, as by a power failure.
    Killed,
    /// Stopped in the middle of whatever it did: connections stand, and nothing is answered.
    Paused,
    /// Off the wire.
    CutOff,
}

/// What is befallen.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Member,
    /// Two of three members: nobody can write.
    Majority,
    /// The daemons of two nodes.
    Daemons,
}

/// The faults in their order, which begins again at its end.
const FAULTS: [(&str, Victim, Kind); 7] = [
    ("a member killed", Victim::Member, Kind::Killed),
    ("a member paused", Victim::Member, Kind::Paused),
    ("a member cut off", Victim::Member, Kind::CutOff),
    ("daemons killed", Victim::Daemons, Kind::Killed),
    ("a majority paused", Victim::Majority, Kind::Paused),
    ("a majority killed", Victim::Majority, Kind::Killed),
    ("a majority cut off", Victim::Majority, Kind::CutOff),
];

/// Injects one fault after another until it is told to stop, and leaves all well. How often there was each.
pub fn inject(lab: &Lab, stop: &AtomicBool) -> Result<BTreeMap<&'static str, usize>> {
    let mut counts = BTreeMap::new();
    for (turn, (name, victim, kind)) in FAULTS.iter().cycle().enumerate() {
        rest(CALM, stop);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Also on to other victims when the faults begin again: there are seven of them.
        match victim {
            Victim::Member => befall(lab, *kind, &[turn % 3], stop)?,
            Victim::Majority => befall(lab, *kind, &[turn % 3, (turn + 1) % 3], stop)?,
            Victim::Daemons => {
                let nodes = [turn, turn + 3].map(|n| &lab.nodes()[n % lab.nodes().len()]);
                nodes.iter().try_for_each(|node| node.kill_daemon())?;
                rest(LAST, stop);
                nodes.iter().try_for_each(|node| node.start_daemon())?;
            }
        }
        *counts.entry(*name).or_default() += 1;
    }
    Ok(counts)
}

fn befall(lab: &Lab, kind: Kind, victims: &[usize], stop: &AtomicBool) -> Result<()> {
    let members: Vec<&Member> = victims.iter().map(|number| &lab.etcd().members()[*number]).collect();
    for member in &members {
        match kind {
            Kind::Killed => member.kill()?,
            Kind::Paused => member.pause()?,
            Kind::CutOff => lab.wire().set_port(member.name(), false)?,
        }
    }
    rest(LAST, stop);
    for member in &members {
        match kind {
            Kind::Killed => lab.etcd().start_member(member)?,
            Kind::Paused => member.resume()?,
            Kind::CutOff => lab.wire().set_port(member.name(), true)?,
        }
    }
    // A member that is still away when the next one goes would make one fault of two.
    for member in &members {
        let endpoint = format!("--endpoints={}", member.clients()[0]);
        deadline::until(&format!("{} answers", member.name()), PATIENCE, || {
            Ok(lab.etcd().etcdctl(&["get", "anything", &endpoint]).is_ok())
        })?;
    }
    Ok(())
}

fn rest(time: Duration, stop: &AtomicBool) {
    let until = Instant::now() + time;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(20));
    }
}
