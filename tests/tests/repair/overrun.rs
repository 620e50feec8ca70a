//! More happens in the kernel than the daemon's subscription has room for: what was lost is looked for.

use std::time::{Duration, Instant};

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::overrun::{Crowd, Frozen, dropped};
use twill_tests::{Node, Result, with_lab};

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

/// One of each table that is subscribed to, and of devices one that leaves what is on them.
fn damages() -> Vec<Damage> {
    let first = |all: &[Damage]| all[0];
    let tables = [ROUTE_DAMAGES, NEIGHBOUR_DAMAGES, FDB_DAMAGES, FILTER_DAMAGES, ADDRESS_DAMAGES].map(first);
    let of_ends = END_DAMAGES.iter().filter(|damage| damage.what == "a smaller MTU");
    of_ends.copied().chain(tables).collect()
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
fn strike_unheard(node: &Node, stage: &Stage<'_>, damages: &[Damage], crowd: Crowd<'_>) -> Result<Duration> {
    let looked = look(node, stage)?;
    let whole = shown(node, damages)?;
    let frozen = Frozen::daemon_of(node)?;
    crowd.fill()?;
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
        let crowd = Crowd::on(node)?;
        let round = |_| strike_unheard(node, &stage, &damages(), crowd);
        let mut looks = (0..FEW).map(round).collect::<Result<Vec<Duration>>>()?;
        looks.sort_unstable();
        println!("repaired so long after the last look: {looks:?}");
        // As of other damages the median, since the machine may be busy.
        assert!(looks[FEW / 2] < TIMER, "only the timer found it: {looks:?}");
        stage.reach()
    });
}
