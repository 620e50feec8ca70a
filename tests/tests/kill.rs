//! ADD and DEL killed at each of their system calls in turn: the DEL or the ADD that follows leaves nothing over, and the
//! address comes back. Each network has one address of each family, so that a leaked one fails the next ADD.

#![allow(clippy::unwrap_used, reason = "these are tests, though not marked so")]

use std::sync::atomic::{AtomicUsize, Ordering};

use twill_tests::kill::Victim;
use twill_tests::scene::{FURTHER, Kind, PLAIN, PUBLISHED, Scene, document, twill};
use twill_tests::{LabError, Result};

/// What is killed, and what follows.
#[derive(Clone, Copy, Debug)]
struct Plot {
    killed: &'static str,
    then: &'static str,
    victim: Victim,
}

const fn plot(killed: &'static str, then: &'static str, victim: Victim) -> Plot {
    Plot { killed, then, victim }
}

/// The four pairs, and who dies: that a lone process dies, and that all do, changes from pair to pair.
const PLOTS: [Plot; 4] = [
    plot("ADD", "DEL", Victim::Caller),
    plot("ADD", "ADD", Victim::All),
    plot("DEL", "DEL", Victim::Caller),
    plot("DEL", "ADD", Victim::All),
];
/// The other way round.
const OTHER_PLOTS: [Plot; 4] = [
    plot("ADD", "DEL", Victim::All),
    plot("ADD", "ADD", Victim::Caller),
    plot("DEL", "DEL", Victim::All),
    plot("DEL", "ADD", Victim::Caller),
];

/// One kill with what follows. Whether the program made so many calls that it was killed.
fn play(scene: &Scene<'_>, plot: Plot, at: usize) -> Result<bool> {
    if plot.killed == "DEL" {
        scene.succeeds("ADD")?;
    }
    let trace = scene.killed(plot.killed, at, plot.victim)?;
    if plot.then == "ADD" {
        // The attachment may stand whole: then, and only then, it has to be said so.
        let stands = scene.is_attached()?;
        let answer = scene.call("ADD")?;
        if answer.is_success() == stands || (stands && document(&answer)["code"] != 101) {
            return Err(LabError::wrong(format!("attached: {stands}, and the next ADD says {}", document(&answer))));
        }
    }
    scene.succeeds("DEL")?;
    scene.nothing_is_left()?;
    if plot.then == "DEL" {
        scene.succeeds("ADD").map_err(|error| LabError::wrong(format!("the address does not come back: {error}")))?;
        scene.succeeds("DEL")?;
        scene.nothing_is_left()?;
    }
    Ok(trace.calls >= at)
}

/// Kills at every `stride`-th system call, in each plot at others.
fn kill_everywhere(kind: Kind, plots: &[Plot], stride: usize) {
    let Some(candidate) = twill() else { return };
    let candidate = candidate.unwrap();
    let probe = Scene::set(&candidate, kind).unwrap();
    let (adds, dels) = (probe.count_calls("ADD").unwrap(), probe.count_calls("DEL").unwrap());
    println!("{}: ADD makes {adds} system calls, DEL {dels}", kind.name);
    let mut jobs = Vec::new();
    for (number, plot) in plots.iter().enumerate() {
        let last = if plot.killed == "ADD" { adds } else { dels };
        jobs.extend((1..=last).filter(|at| at % stride == number % stride).map(|at| (*plot, at)));
    }
    let (next, killed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut wrong = Vec::new();
        let mut scene = Scene::set(&candidate, kind).unwrap();
        while let Some((plot, at)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match play(&scene, *plot, *at) {
                Ok(was_killed) => drop(killed.fetch_add(usize::from(was_killed), Ordering::Relaxed)),
                Err(error) => {
                    let Plot { killed, then, victim } = plot;
                    wrong.push(format!("{killed} killed ({victim:?}) at call {at}, then {then}: {error}"));
                    // What one left must not be taken for what the next one leaves.
                    scene = Scene::set(&candidate, kind).unwrap();
                }
            }
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a scene does not panic")).collect()
    });
    println!("{}: killed {} times", kind.name, killed.into_inner());
    let shown: Vec<_> = wrong.iter().take(12).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} times something was left:\n{}", wrong.len(), shown.join("\n"));
}

#[test]
fn nothing_is_left_of_a_dual_stack_pod_wherever_add_and_del_are_killed() {
    kill_everywhere(PLAIN, &PLOTS, 1);
}

#[test]
fn nothing_is_left_of_a_further_interface_wherever_add_and_del_are_killed() {
    kill_everywhere(FURTHER, &PLOTS, 5);
}

#[test]
fn nothing_is_left_of_published_ports_and_limits_wherever_add_and_del_are_killed() {
    kill_everywhere(PUBLISHED, &PLOTS, 23);
}

#[test]
#[ignore = "takes long"]
fn nothing_is_left_of_published_ports_and_limits_whoever_of_the_plugins_processes_is_killed() {
    kill_everywhere(PUBLISHED, &PLOTS, 1);
    kill_everywhere(PUBLISHED, &OTHER_PLOTS, 1);
}

#[test]
#[ignore = "takes long"]
fn nothing_is_left_of_a_dual_stack_pod_whoever_of_the_plugins_processes_is_killed() {
    kill_everywhere(PLAIN, &OTHER_PLOTS, 1);
}

#[test]
#[ignore = "takes long"]
fn nothing_is_left_of_a_further_interface_whoever_of_the_plugins_processes_is_killed() {
    kill_everywhere(FURTHER, &PLOTS, 1);
    kill_everywhere(FURTHER, &OTHER_PLOTS, 1);
}
