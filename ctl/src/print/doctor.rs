//! What `twillctl doctor` prints: a row for each check, then what is wrong, with what to do.

use twill_cluster::inquiry::checkup::{Finding, State};

use super::table::{notes, number, parts, problems, table, unknown};
use crate::report::doctor::{Doctor, Place, Row};

pub(super) fn doctor(found: &Doctor) -> String {
    let good = found.problems.is_empty() && found.unknown.is_empty();
    let summary = match found.nodes {
        0 => String::new(),
        nodes => format!("{} of {} answered\n", found.answered, number(nodes, "node")),
    };
    parts([
        table(["NODE", "CHECK", "STATE", "WHAT"], found.checks.iter().map(row)),
        summary,
        if good { "no problems\n".to_owned() } else { problems(&found.problems) },
        notes(&found.notes),
        unknown(&found.unknown),
    ])
}

fn row(Row { place, node, finding }: &Row) -> [String; 4] {
    let whose = match (node, place) {
        (Some(node), _) => node.to_string(),
        (None, Place::Machine) => "(here)".to_owned(),
        (None, Place::Cluster | Place::Node) => "(cluster)".to_owned(),
    };
    let Finding { check, state, subject, what, .. } = finding;
    let state = match state {
        State::Ok => "ok",
        State::Note => "note",
        State::Problem => "PROBLEM",
        State::Unknown => "unknown",
    };
    let about = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
    [whose, check.clone(), state.to_owned(), format!("{about}{what}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &str, state: State, subject: &str, what: &str, fix: &str) -> Finding {
        let own = str::to_owned;
        Finding { check: own(check), state, subject: own(subject), what: own(what), fix: own(fix) }
    }

    #[test]
    fn a_table_comes_first_and_then_what_is_wrong_with_what_to_do() {
        let found = Doctor::of_machine(vec![
            finding("nft", State::Ok, "", "nft 1.0.6", ""),
            finding("kernel", State::Unknown, "features", "they can be tried out by root only", "run it as root"),
            finding("managers", State::Note, "NetworkManager", "it runs here", "tell it"),
            finding("tunnel", State::Problem, "UDP port 4789", "named (process 8) has it", "end it"),
        ]);
        let wanted = "\
NODE    CHECK     STATE    WHAT
(here)  nft       ok       nft 1.0.6
(here)  kernel    unknown  features: they can be tried out by root only
(here)  managers  note     NetworkManager: it runs here
(here)  tunnel    PROBLEM  UDP port 4789: named (process 8) has it

PROBLEM this machine: UDP port 4789: named (process 8) has it
    fix: end it

NOTE this machine: NetworkManager: it runs here
    fix: tell it

COULD NOT TELL: this machine, kernel: features: they can be tried out by root only
    fix: run it as root
";
        assert_eq!(doctor(&found), wanted);
        let good = Doctor::of_machine(vec![finding("nft", State::Ok, "", "nft 1.0.6", "")]);
        assert!(doctor(&good).ends_with("\n\nno problems\n"), "{}", doctor(&good));
    }
}
