//! More happens in the kernel than the daemon's subscription has room for: what was lost is looked for.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{LabError, Node, Result, with_lab};

use crate::FEW;
use crate::damage::{
    ADDRESS_DAMAGES, Damage, END_DAMAGES, FDB_DAMAGES, FILTER_DAMAGES, FIREWALL_DAMAGES, NEIGHBOUR_DAMAGES,
    ROUTE_DAMAGES,
};
use crate::rounds::{Stage, difference, lab};
use crate::stage::show;

/// So long after its last look the daemon looks by itself.
const TIMER: Duration = Duration::from_secs(9);
/// Passes that follow each other have ended by then.
const QUIET: Duration = Duration::from_secs(1);

/// Somebody else's device, and far more changes of an entry there than a subscription has room for. They are told, and
/// are no news to the daemon: when it reads them it looks for what it has missed, and for nothing else.
const DEVICE: &str = "ip link add crowd type vxlan id 7790 dstport 4799 local 192.168.77.11";
const CROWD: &str = "
for turn in $(seq 10000); do
    for last in 1 2; do echo fdb replace 02:00:00:00:88:88 dev crowd dst 192.0.2.$last self dynamic; done
done | bridge -batch -
";

/// One of each table that is subscribed to, and of devices one that leaves what is on them.
fn damages() -> Vec<Damage> {
    let first = |all: &[Damage]| all[0];
    let tables = [ROUTE_DAMAGES, NEIGHBOUR_DAMAGES, FDB_DAMAGES, FILTER_DAMAGES, ADDRESS_DAMAGES].map(first);
    let of_ends = END_DAMAGES.iter().filter(|damage| damage.what == "a smaller MTU");
    of_ends.copied().chain(tables).collect()
}

/// The daemon, which stands still for as long as this lives.
struct Frozen(Pid);

impl Frozen {
    fn daemon_of(node: &Node) -> Result<Self> {
        let pid = node.daemon_pid().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| LabError::wrong("no daemon runs"))?;
        kill(pid, Signal::SIGSTOP).map_err(LabError::errno("stopping the daemon"))?;
        Ok(Self(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap_or_default();
    }
}

/// How many notifications of links, routes and the like the kernel has dropped, since a listener's buffer was full: by
/// netlink_native_seq_show in net/netlink/af_netlink.c, where a socket of requests has no groups.
fn dropped(node: &Node) -> Result<u64> {
    let sum = "$2 == 0 && $4 != \"00000000\" { sum += $9 } END { print sum + 0 }";
    let text = node.run(&["awk", sum, "/proc/net/netlink"])?;
    text.trim().parse().map_err(|_| LabError::wrong(format!("no number: {text}")))
}

/// Has the daemon look at everything, by a damage of which it hears. When that was at the earliest.
fn look(node: &Node, stage: &Stage<'_>) -> Result<Instant> {
    let begin = Instant::now();
    FIREWALL_DAMAGES[0].strike(node, stage.facts())?;
    stage.expect_whole()?;
    std::thread::sleep(QUIET);
    Ok(begin)
}

/// What shows these damages.
fn shown(node: &Node, damages: &[Damage]) -> Result<Vec<String>> {
    damages.iter().map(|damage| show(damage.parts, node)).collect()
}

/// Does damages of which the daemon, which stands still, will never be told, and lets it go on until all is repaired. For
/// how long it had not looked by itself then.
fn strike_unheard(node: &Node, stage: &Stage<'_>, damages: &[Damage]) -> Result<Duration> {
    let looked = look(node, stage)?;
    let whole = shown(node, damages)?;
    let frozen = Frozen::daemon_of(node)?;
    node.run(&["sh", "-euc", CROWD])?;
    for (damage, whole) in damages.iter().zip(&whole) {
        let before = dropped(node)?;
        damage.strike(node, stage.facts())?;
        assert!(dropped(node)? > before, "{}, {}: the event has found room", damage.object, damage.what);
        assert!(show(damage.parts, node)? != *whole, "{}, {}: nothing is missing", damage.object, damage.what);
    }
    drop(frozen);
    deadline::until_some("what nobody told of is repaired", PATIENCE, || {
        let now = shown(node, damages)?;
        Ok(if now == whole { Ok(()) } else { Err(difference(&whole.concat(), &now.concat())) })
    })?;
    let ago = looked.elapsed();
    stage.expect_whole()?;
    Ok(ago)
}

#[test]
fn damages_whose_events_are_lost_in_an_overrun_are_repaired_before_the_timer() {
    with_lab(lab(2), |lab| {
        let node = lab.node(1);
        let stage = Stage::set(node, lab.node(2), &damages())?;
        node.run(&["sh", "-euc", DEVICE])?;
        let round = |_| strike_unheard(node, &stage, &damages());
        let mut looks = (0..FEW).map(round).collect::<Result<Vec<Duration>>>()?;
        looks.sort_unstable();
        println!("repaired so long after the last look: {looks:?}");
        // As of other damages the median, since the machine may be busy.
        assert!(looks[FEW / 2] < TIMER, "only the timer found it: {looks:?}");
        stage.reach()
    });
}
