//! What is answered to tasks, with a plugin that a shell plays.

use std::path::Path;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use super::keeper::LEFT;
use super::*;

/// How long an answer may take while the machine is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// It attaches a pod as far as a trial needs it, and detaches none.
const PLUGIN: &str = r#"#!/bin/sh
if [ "$CNI_COMMAND" = ADD ]; then
    nsenter --net="$CNI_NETNS" sh -c 'ip link add eth0 type veth peer name end && ip address add 10.42.0.7/32 dev eth0 && ip link set eth0 up' >&2
    echo '{ "ips": [{ "address": "10.42.0.7/32" }] }'
else
    echo '{ "code": 5, "msg": "the store is locked" }'
    exit 1
fi
"#;

fn trials(directory: &Path) -> (Trials, UnboundedReceiver<(Letter, Answer)>) {
    let plugin = directory.join("plugin");
    twill_testkit::write_program(&plugin, PLUGIN);
    let means = Means::for_tests(plugin, watch::channel(None).1, watch::channel(None).1);
    let (answers, answered) = unbounded_channel();
    (Trials::new(means, answers), answered)
}

fn letter(id: &str) -> Letter {
    Letter { id: id.into(), revision: 1, value: Vec::new() }
}

/// The next answer, which is to this letter.
fn next(answered: &mut UnboundedReceiver<(Letter, Answer)>, id: &str) -> Answer {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match answered.try_recv() {
            Ok((to, answer)) => {
                assert_eq!(to.id, id);
                return answer;
            }
            Err(_) if std::time::Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => panic!("no answer to {id}: {error}"),
        }
    }
}

/// Stands a trial of one pod up that ends by itself, and waits for that.
fn ended(trials: &mut Trials, answered: &mut UnboundedReceiver<(Letter, Answer)>, name: &str) {
    trials.set_about(letter(name), name.to_owned(), Task::Open { pods: 1, stand: 1 });
    let opened = next(answered, name);
    assert!(matches!(opened, Answer::Opened(_)), "{opened:?}");
    assert!(trials.means.standing.wait(PATIENCE), "it ends by its own time");
}

#[test]
fn who_ends_a_trial_that_has_ended_by_itself_is_told_what_it_has_left() {
    if !twill_testkit::is_root("making network namespaces") || !twill_testkit::has_program("nsenter") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut trials, mut answered) = trials(directory.path());
    ended(&mut trials, &mut answered, "t");
    let left = refused("its pod twill-trial-t-0 is not detached: the store is locked", LEFT);
    for id in ["once", "twice"] {
        trials.set_about(letter(id), "t".to_owned(), Task::Close {});
        assert_eq!(next(&mut answered, id), left);
    }
    trials.set_about(letter("other"), "other".to_owned(), Task::Close {});
    assert_eq!(next(&mut answered, "other"), Answer::Closed, "of one that never was nothing is left");
    // What has ended takes no place of one that stands.
    for number in 0..=MOST {
        ended(&mut trials, &mut answered, &format!("more-{number}"));
    }
    assert_eq!(trials.keepers.len(), MOST + 2);
}

#[test]
fn no_more_ended_trials_are_remembered_than_may_be() {
    let directory = tempfile::tempdir().unwrap();
    let (mut trials, _answered) = trials(directory.path());
    for number in 0..3 * MOST_REMEMBERED {
        trials.keepers.insert(format!("t-{number}"), Keeper::that_left("something"));
    }
    trials.keepers.insert("clean".to_owned(), Keeper::that_left(""));
    trials.forget();
    assert_eq!(trials.keepers.len(), MOST_REMEMBERED);
    let newest = format!("t-{}", 3 * MOST_REMEMBERED - 1);
    assert!(trials.keepers.contains_key(&newest) && !trials.keepers.contains_key("t-0"), "the newest are kept");
}
