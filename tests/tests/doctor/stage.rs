//! What the tests have in common: daemons that look soon, and what `twillctl doctor` says.

use serde_json::Value;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::golden::{is_golden, problems_of};
use twill_tests::{LabError, Node, Result};

/// A probe that hurries.
const FLAGS: [&str; 2] = ["--probe-turn-ms", "100"];

/// Starts the node's daemon.
pub fn start(node: &Node) -> Result<()> {
    node.start_daemon_with(&FLAGS)
}

/// Starts one that hears of no change in the kernel: it repairs by its timer alone.
pub fn start_deaf(node: &Node) -> Result<()> {
    node.start_daemon_with(&[&FLAGS[..], &["--deaf"]].concat())
}

/// Starts it in a mount namespace that a script has changed.
pub fn start_behind(node: &Node, script: &str) -> Result<()> {
    node.start_daemon_behind(script, &FLAGS)
}

/// What it says, with its exit status.
pub fn look(node: &Node, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let told = node.twillctl_told(&[&["doctor", "-o", "json"], arguments].concat())?;
    let value = serde_json::from_str(&told.stdout).map_err(|_| LabError::wrong(format!("{arguments:?}: {told:?}")))?;
    Ok((told.status, value))
}

/// The problem with these words, whoever has it.
pub fn problem<'a>(said: &'a Value, words: &str) -> Option<&'a Value> {
    let problems = said["problems"].as_array().into_iter().flatten();
    problems.into_iter().find(|one| one["what"].as_str().is_some_and(|what| what.contains(words)))
}

/// Until it tells this problem of whom it concerns, with what to do, and exits with 1.
pub fn comes_to_tell(node: &Node, subject: &str, what: &str, fix: &str) -> Result<Value> {
    deadline::until_some(&format!("doctor tells of {what:?}"), PATIENCE, || {
        let (status, said) = look(node, &[])?;
        let is_it = problem(&said, what).is_some_and(|one| {
            one["subject"].as_str().is_some_and(|text| text.contains(subject))
                && one["fix"].as_str().is_some_and(|text| text.contains(fix))
        });
        Ok(if is_it && status == Some(1) { Ok(said) } else { Err(said["problems"].clone()) })
    })
}

/// Until it tells problems with these words, which are then as the golden file of this name has them.
pub fn comes_to_be_golden(node: &Node, name: &str, words: &[&str]) -> Result<()> {
    let text = deadline::until_some(&format!("doctor tells of {words:?}"), PATIENCE, || {
        let told = node.twillctl_told(&["doctor", "--timeout", "3"])?;
        let found = problems_of(&told.stdout, words);
        Ok(if found.is_empty() { Err(told) } else { Ok(found) })
    })?;
    is_golden("doctor", name, &text);
    Ok(())
}

/// On these a lab has no influence: which programs run on the machine, and whether one keeps its clock.
const OF_THE_MACHINE: [&str; 2] = ["managers", "clock"];

/// What it prints where nothing is wrong and nothing worth a note, but for what is the machine's.
pub fn comes_to_print_all_good(node: &Node) -> Result<String> {
    deadline::until_some("doctor finds nothing to note", PATIENCE, || {
        let told = node.twillctl_told(&["doctor"])?;
        let (checks, _) = told.stdout.split_once("no problems\n").unwrap_or_default();
        let rows = checks
            .lines()
            .filter(|row| !row.split_whitespace().nth(1).is_some_and(|check| OF_THE_MACHINE.contains(&check)));
        let rows: Vec<&str> = rows.collect();
        let is_good = |row: &&str| row.split_whitespace().nth(2) == Some("ok");
        let all = rows.iter().skip(1).take_while(|row| !row.is_empty()).all(is_good);
        Ok(if told.status == Some(0) && all { Ok(format!("{}\nno problems\n", rows.join("\n"))) } else { Err(told) })
    })
}

/// Until `twillctl status` tells a problem with these words, which is then as the golden file of this name has it, after "status-".
pub fn status_comes_to_be_golden(node: &Node, name: &str, words: &[&str]) -> Result<()> {
    let text = deadline::until_some(&format!("status tells of {words:?}"), PATIENCE, || {
        let told = node.twillctl_told(&["status"])?;
        let found = problems_of(&told.stdout, words);
        Ok(if found.is_empty() { Err(told) } else { Ok(found) })
    })?;
    is_golden("doctor", &format!("status-{name}"), &text);
    Ok(())
}

/// Until it finds nothing wrong, and exits with 0.
pub fn comes_to_be_good(node: &Node) -> Result<Value> {
    deadline::until_some("doctor finds nothing wrong", PATIENCE, || {
        let (status, said) = look(node, &[])?;
        let why = (status, said["problems"].clone(), said["unknown"].clone());
        Ok(if status == Some(0) { Ok(said) } else { Err(why) })
    })
}
