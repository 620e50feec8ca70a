//! ADD and DEL for which one of their system calls fails, in turn each: an ADD that says that it failed has undone all, and
//! after a DEL that failed the next one finds nothing that it cannot remove.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use serde_json::Value;
use twill_tests::scene::{FURTHER, Kind, PLAIN, Scene, twill};
use twill_tests::{LabError, Result};

/// How a call ended for which another one failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It did without.
    Succeeded,
    /// It said why not.
    Refused,
    /// It died of it, or could not even say so: as if it had been killed.
    Died,
}

/// One failure with what follows; how it ended. `None` where the program did not make so many calls.
fn play(scene: &Scene<'_>, verb: &str, at: usize, errno: Errno) -> Result<Option<Ending>> {
    if verb == "DEL" {
        scene.succeeds("ADD")?;
    }
    let (trace, printed) = scene.failing(verb, at, errno)?;
    let ending = match (trace.status, &printed) {
        (Some(0), _) => Ending::Succeeded,
        (Some(_), Value::Object(document)) if document.contains_key("code") => Ending::Refused,
        _ => Ending::Died,
    };
    if verb == "ADD" && ending == Ending::Refused {
        scene.nothing_is_left().map_err(|error| LabError::wrong(format!("{printed}, but {error}")))?;
    }
    scene.succeeds("DEL")?;
    scene.nothing_is_left()?;
    scene.succeeds("ADD").map_err(|error| LabError::wrong(format!("the address does not come back: {error}")))?;
    scene.succeeds("DEL")?;
    Ok((trace.calls >= at).then_some(ending))
}

/// Lets every `stride`-th system call fail.
fn fail_everywhere(kind: Kind, verb: &'static str, errno: Errno, stride: usize) {
    let Some(candidate) = twill() else { return };
    let candidate = candidate.unwrap();
    let calls = Scene::set(&candidate, kind).unwrap().count_calls(verb).unwrap();
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut endings, mut wrong) = (Vec::new(), Vec::new());
        let mut scene = Scene::set(&candidate, kind).unwrap();
        loop {
            let at = 1 + stride * next.fetch_add(1, Ordering::Relaxed);
            if at > calls {
                return (endings, wrong);
            }
            match play(&scene, verb, at, errno) {
                Ok(ending) => endings.extend(ending),
                Err(error) => {
                    wrong.push(format!("{verb} whose call {at} fails with {errno}: {error}"));
                    scene = Scene::set(&candidate, kind).unwrap();
                }
            }
        }
    };
    let (endings, wrong): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a scene does not panic")).unzip()
    });
    let (endings, wrong) = (endings.concat(), wrong.concat());
    let count = |wanted| endings.iter().filter(|ending| **ending == wanted).count();
    println!(
        "{}: {verb} makes {calls} system calls; of {} that failed with {errno} it did without {}, gave {} as its error, died of {}",
        kind.name,
        endings.len(),
        count(Ending::Succeeded),
        count(Ending::Refused),
        count(Ending::Died),
    );
    let shown: Vec<_> = wrong.iter().take(12).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} times something was left:\n{}", wrong.len(), shown.join("\n"));
    assert!(count(Ending::Refused) > 0, "no failure was an error of the plugin's: it was not struck");
}

#[test]
fn an_add_whose_system_calls_fail_leaves_nothing() {
    fail_everywhere(PLAIN, "ADD", Errno::EIO, 1);
}

#[test]
fn a_del_whose_system_calls_fail_leaves_nothing_that_the_next_one_cannot_remove() {
    fail_everywhere(PLAIN, "DEL", Errno::EIO, 1);
}

#[test]
#[ignore = "takes long"]
fn an_add_of_a_further_interface_leaves_nothing_without_memory_space_or_permission() {
    for errno in [Errno::ENOMEM, Errno::ENOSPC, Errno::EPERM] {
        fail_everywhere(FURTHER, "ADD", errno, 1);
        fail_everywhere(FURTHER, "DEL", errno, 1);
    }
}
