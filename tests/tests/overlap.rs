//! Two calls about one attachment at once. The first one is held at one of its system calls, in turn at all, while the
//! other one runs or waits for it; whatever the moment, both end, and nothing is half done.

#![allow(clippy::unwrap_used, reason = "these are tests, though not marked so")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twill_tests::conformance::room::Answer;
use twill_tests::scene::{PLAIN, Scene, document, twill};
use twill_tests::{LabError, Result};

/// For how long the first call is held where the other one waits for it: by then it has surely begun.
const MOMENT: Duration = Duration::from_millis(200);

/// Holds an ADD at every `stride`-th of its system calls for `play`, which gets the call's number.
fn at_every_call(stride: usize, play: impl Fn(&Scene<'_>, usize) -> Result<()> + Sync) {
    let Some(candidate) = twill() else { return };
    let candidate = candidate.unwrap();
    let probe = Scene::set(&candidate, PLAIN).unwrap();
    let calls = probe.count_calls("ADD").unwrap();
    println!("ADD makes {calls} system calls, and is held at every {stride}.");
    let next = AtomicUsize::new(0);
    let work = || {
        let scene = Scene::set(&candidate, PLAIN).unwrap();
        loop {
            let at = 1 + stride * next.fetch_add(1, Ordering::Relaxed);
            if at > calls {
                return;
            }
            play(&scene, at).unwrap_or_else(|error| panic!("held at call {at}: {error}"));
            scene.succeeds("DEL").unwrap();
            scene.nothing_is_left().unwrap_or_else(|error| panic!("held at call {at}: {error}"));
        }
    };
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(work))));
}

/// An ADD that is held while `verb` begins; both answers. `None` where it ended before that call, since it polled less
/// than the one that was counted.
fn while_add_is_held(scene: &Scene<'_>, at: usize, verb: &'static str) -> Result<Option<(bool, Value, Answer)>> {
    // What a GC gets; the others do not look at it.
    let nothing_is_valid = json!({"cni.dev/valid-attachments": []});
    let call = || scene.call_with(verb, &nothing_is_valid);
    std::thread::scope(|scope| {
        let mut other = None;
        let (trace, printed) = scene.held("ADD", at, &mut || {
            let (thread, until) = (scope.spawn(call), Instant::now() + MOMENT);
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            other = Some(thread);
        })?;
        let Some(other) = other else { return Ok(None) };
        Ok(Some((trace.status == Some(0), printed, other.join().expect("a call does not panic")?)))
    })
}

#[test]
fn a_del_that_comes_during_an_add_wins_or_comes_before_or_after_it() {
    at_every_call(4, |scene, at| {
        let Some((added, printed, del)) = while_add_is_held(scene, at, "DEL")? else { return Ok(()) };
        if !del.is_success() {
            return Err(LabError::wrong(format!("the DEL fails: {}", document(&del))));
        }
        // An ADD that the DEL overtook has undone all.
        if added {
            Ok(())
        } else {
            scene.nothing_is_left().map_err(|error| LabError::wrong(format!("{printed}: {error}")))
        }
    });
}

#[test]
fn of_two_adds_at_once_one_attaches_and_the_other_says_so() {
    at_every_call(4, |scene, at| {
        let Some((added, printed, other)) = while_add_is_held(scene, at, "ADD")? else { return Ok(()) };
        let refused = if added { document(&other) } else { printed };
        if added == other.is_success() || refused["code"] != 101 {
            return Err(LabError::wrong(format!("one ADD: {added}, the other: {}, {refused}", other.is_success())));
        }
        Ok(())
    });
}

#[test]
fn a_gc_takes_nothing_of_an_add_that_is_under_way() {
    at_every_call(4, |scene, at| {
        let Some((added, printed, gc)) = while_add_is_held(scene, at, "GC")? else { return Ok(()) };
        if !added || !gc.is_success() {
            return Err(LabError::wrong(format!("ADD: {printed}, GC: {}", document(&gc))));
        }
        let check = scene.call_with("CHECK", &json!({"prevResult": printed}))?;
        if check.is_success() {
            Ok(())
        } else {
            Err(LabError::wrong(format!("afterwards CHECK: {}", document(&check))))
        }
    });
}
