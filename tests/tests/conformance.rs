//! The rules of CNI, held against the built plugin and the reference, and the table of `docs/cni-conformance.md`.
//!
//! `hack/conformance` writes the table anew.

#![allow(clippy::unwrap_used, reason = "these are tests, though not marked so")]

use std::fs;
use std::path::PathBuf;

use twill_tests::binaries::Binaries;
use twill_tests::conformance::report::{self, Column};
use twill_tests::conformance::rule::{self, Rule};
use twill_tests::conformance::subject::Subject;
use twill_tests::conformance::{self, Candidate, Verdict, pairs};
use twill_tests::needs::{self, say_skipped};

fn twill() -> Option<Candidate> {
    if let Some(why) = needs::unmet() {
        say_skipped(&why);
        return None;
    }
    let plugin = Binaries::ready().unwrap().plugin();
    Some(Candidate::new(Subject::read("twill").unwrap(), plugin).unwrap())
}

fn column(candidate: &Candidate, rules: &[Rule]) -> Column {
    let verdicts = conformance::run(candidate, rules).expect("root was asked for").unwrap();
    Column { name: candidate.subject.name.clone(), verdicts }
}

#[test]
fn at_least_120_pairs_of_verb_and_rule_have_cases() {
    let rules = rule::all().unwrap();
    let distinct = report::distinct(&rules);
    println!("{distinct} pairs of verb and rule, {} rules", rules.len());
    assert!(distinct >= 120);
}

#[test]
fn twill_keeps_every_rule_and_the_table_is_current() {
    let Some(twill) = twill() else { return };
    let rules = rule::all().unwrap();
    let ours = column(&twill, &rules);
    assert!(ours.failures(&rules).is_empty(), "Twill:\n{}", ours.failures(&rules).join("\n"));
    assert_eq!(ours.counts().0, pairs(&rules).count(), "every rule applies to Twill");
    let Some(reference) = conformance::reference() else {
        say_skipped("ptp is not installed, hack/setup installs it");
        return;
    };
    let theirs = column(&reference.unwrap(), &rules);
    println!("Twill {:?}, ptp {:?} (pass, fail, beside)", ours.counts(), theirs.counts());
    let written = fs::read_to_string(needs::workspace().join("docs/cni-conformance.md")).unwrap();
    let current = report::markdown(&rules, &[ours, theirs]);
    let differing: Vec<_> = current.lines().filter(|line| !written.lines().any(|other| other == *line)).collect();
    assert!(
        written == current,
        "docs/cni-conformance.md is not current, run hack/conformance; new:\n{}",
        differing.join("\n")
    );
}

/// A program that is called in the plugin's place.
fn impostor(directory: &tempfile::TempDir, name: &str, script: &str) -> PathBuf {
    let path = directory.path().join(name);
    twill_testkit::write_program(&path, &format!("#!/bin/sh\n{script}\n"));
    path
}

fn verdicts_of(impostor: PathBuf, twill: &Candidate, rules: &[Rule]) -> Vec<Verdict> {
    column(&Candidate { in_its_place: Some(impostor), ..twill.clone() }, rules).verdicts
}

#[test]
fn no_rule_is_kept_by_a_program_that_does_nothing_and_says_yes_or_no() {
    let Some(twill) = twill() else { return };
    let rules = rule::all().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let yes = verdicts_of(impostor(&directory, "yes", "exit 0"), &twill, &rules);
    let no = r#"echo '{"cniVersion":"1.0.0","code":999,"msg":"no"}'; exit 1"#;
    let no = verdicts_of(impostor(&directory, "no", no), &twill, &rules);
    let kept = pairs(&rules).zip(yes.iter().zip(&no)).filter(|(_, both)| *both == (&Verdict::Pass, &Verdict::Pass));
    let kept: Vec<_> = kept.map(|((rule, verb), _)| format!("{verb} {}", rule.id)).collect();
    assert!(kept.is_empty(), "these cannot fail: {kept:?}");
}

#[test]
fn a_plugin_that_leaves_a_device_behind_fails_wherever_the_kernel_is_compared() {
    let Some(twill) = twill() else { return };
    let rules = rule::all().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let script =
        format!("{} || failed=1; ip link add litter type bridge; exit ${{failed:-0}}", twill.program.display());
    let verdicts = verdicts_of(impostor(&directory, "litterer", &script), &twill, &rules);
    // A success of ADD is looked at where it should stand, and of GC by what it is to remove.
    let compared = |rule: &Rule, verb: &str| {
        let mut cases = rule.case.iter().filter(|case| case.is_about(verb));
        cases.all(|case| match case.expect.left.as_deref() {
            Some(left) => left != "any" && left != "attached",
            None => case.expect.failure() || !matches!(verb, "ADD" | "GC"),
        })
    };
    let judged: Vec<_> = pairs(&rules).zip(&verdicts).filter(|((rule, verb), _)| compared(rule, verb)).collect();
    let passed: Vec<_> = judged.iter().filter(|(_, verdict)| **verdict == Verdict::Pass).collect();
    let passed: Vec<_> = passed.iter().map(|((rule, verb), _)| format!("{verb} {}", rule.id)).collect();
    println!("{} of {} pairs compare the kernel", judged.len(), verdicts.len());
    assert!(judged.len() > 100 && passed.is_empty(), "they did not see it: {passed:?}");
}
