//! What a node finds when it looks at its own machine: the wire's form of findings, bounded.

pub mod etcd;

use serde::{Deserialize, Serialize};

use crate::plain;

/// So many findings are told; of more, their number. A machine has some twenty.
pub const MOST: usize = 96;
/// So many bytes of a text are told.
const LONGEST: usize = 800;

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
    /// How many had no room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// The time of day there when it was found, in milliseconds since 1970. Older daemons do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<u64>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The name of the check, as in "sysctl".
    pub check: String,
    /// How it stands.
    pub state: State,
    /// What it is about; empty where the check's name says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// What was found, with the likely cause.
    pub what: String,
    /// What to do; empty where it is good.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Good.
    Ok,
    /// Worth a word.
    Note,
    /// Packets are lost by it, or pods cannot be served, or that is near.
    Problem,
    /// It could not be told; also what only a newer version can tell apart.
    #[serde(other)]
    Unknown,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Found {
    /// As much of it as an answer has room for; what is worst has room first.
    pub fn bounded(findings: impl IntoIterator<Item = Finding>) -> Self {
        let mut findings: Vec<Finding> = findings.into_iter().collect();
        let left_out = findings.len().saturating_sub(MOST);
        if left_out > 0 {
            let rank = |state| match state {
                State::Problem => 0,
                State::Unknown => 1,
                State::Note => 2,
                State::Ok => 3,
            };
            findings.sort_by_key(|finding| rank(finding.state));
            findings.truncate(MOST);
        }
        for finding in &mut findings {
            for text in [&mut finding.check, &mut finding.subject, &mut finding.what, &mut finding.fix] {
                plain::cut(text, LONGEST);
            }
        }
        Self { findings, left_out, now: None }
    }

    /// What was read of an answer, whoever wrote it: no longer than [`bounded`](Self::bounded) makes it, and on one line each.
    #[must_use]
    pub fn within_bounds(self) -> Self {
        let left_out = self.left_out;
        let found = Self::bounded(self.findings);
        Self { left_out: found.left_out.saturating_add(left_out), ..found }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ask, LONGEST_ANSWER, Reply, read_ask};
    use super::*;

    fn finding(state: State, what: &str) -> Finding {
        let word = |text: &str| text.to_owned();
        Finding { check: word("mtu"), state, subject: word("eth0"), what: word(what), fix: word("fix") }
    }

    #[test]
    fn an_answer_has_room_for_the_worst_and_is_never_too_long() {
        let long = "ä".repeat(4000);
        let many = (0..500).map(|i| finding(if i == 499 { State::Problem } else { State::Ok }, &long));
        let found = Found::bounded(many);
        assert_eq!((found.findings.len(), found.left_out), (MOST, 500 - MOST));
        assert_eq!(found.findings[0].state, State::Problem);
        assert!(serde_json::to_vec(&Reply::Checkup { found }).unwrap().len() < LONGEST_ANSWER);
    }

    #[test]
    fn question_and_answer_are_read_as_they_were_written_and_strange_states_are_unknown() {
        let asked = serde_json::json!({"from": "x", "ask": {"kind": "checkup"}}).to_string();
        assert_eq!(read_ask(asked.as_bytes()).unwrap().ask, Ask::Checkup {});
        let found = Found { findings: vec![finding(State::Note, "w")], ..Found::default() };
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(text, r#"{"findings":[{"check":"mtu","state":"note","subject":"eth0","what":"w","fix":"fix"}]}"#);
        assert_eq!(serde_json::from_str::<Found>(&text).unwrap(), found);
        let newer = text.replace("note", "catastrophe");
        assert_eq!(serde_json::from_str::<Found>(&newer).unwrap().findings[0].state, State::Unknown);
    }

    #[test]
    fn what_somebody_wrote_there_moves_no_terminal() {
        let found = Found { findings: vec![finding(State::Ok, "a\u{1b}[2J\nb")], ..Found::default() }.within_bounds();
        assert_eq!(found.findings[0].what, "a [2J b");
    }
}
