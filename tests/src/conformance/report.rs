//! The table of `docs/cni-conformance.md`: a row for each verb of each rule, a column for each plugin.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::rule::Rule;
use super::{Verdict, pairs};

/// What was found of one plugin.
#[derive(Debug, Clone)]
pub struct Column {
    /// What the table calls it.
    pub name: String,
    /// A verdict for each pair of verb and rule.
    pub verdicts: Vec<Verdict>,
}

impl Column {
    /// How many passed, failed, and do not apply.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is_meant: fn(&Verdict) -> bool| self.verdicts.iter().filter(|v| is_meant(v)).count();
        (
            count(|v| matches!(v, Verdict::Pass)),
            count(|v| matches!(v, Verdict::Fail(_))),
            count(|v| matches!(v, Verdict::Beside(_))),
        )
    }

    /// What failed: verb, rule and what was seen.
    pub fn failures<'a>(&'a self, rules: &'a [Rule]) -> Vec<String> {
        let failed = pairs(rules).zip(&self.verdicts).filter_map(|((rule, verb), verdict)| match verdict {
            Verdict::Fail(seen) => Some(format!("{verb} {}: {seen} ({})", rule.id, rule.text)),
            _ => None,
        });
        failed.collect()
    }
}

/// How many different (verb, rule) pairs there are.
pub fn distinct(rules: &[Rule]) -> usize {
    pairs(rules).map(|(rule, verb)| (verb, rule.text.as_str())).collect::<BTreeSet<_>>().len()
}

/// The document.
pub fn markdown(rules: &[Rule], columns: &[Column]) -> String {
    let mut text = HEAD.replace("{count}", &distinct(rules).to_string());
    let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    text += "| | pass | fail | does not apply |\n|---|---|---|---|\n";
    for column in columns {
        let (passed, failed, beside) = column.counts();
        writeln!(text, "| {} | {passed} | {failed} | {beside} |", column.name).expect("a text takes everything");
    }
    let mut chapter = "";
    for (number, (rule, verb)) in pairs(rules).enumerate() {
        if rule.chapter != chapter {
            chapter = &rule.chapter;
            let dashes = "---|".repeat(names.len());
            write!(text, "\n## {chapter}\n\n| verb | rule | from | {} |\n|---|---|---|{dashes}\n", names.join(" | "))
                .expect("a text takes everything");
        }
        let verb = if verb == "none" { "–" } else { verb };
        let cells: Vec<_> = columns.iter().map(|column| cell(&column.verdicts[number])).collect();
        writeln!(text, "| {verb} | {} | {} | {} |", escape(&rule.text), escape(&rule.source), cells.join(" | "))
            .expect("a text takes everything");
    }
    text
}

const HEAD: &str = "# What a CNI plugin must do, and what Twill does

Made by `hack/conformance`; do not edit. {count} pairs of a verb and a rule, each played against the built program in network
namespaces of its own: environment and standard input as given, then code and shape of the answer, and links, addresses,
routes, neighbours, policy rules, nftables and the rows of the store before and after. The rules and their cases are data, in
`tests/conformance`. A rule that is played in several versions counts once.

**pass**: all cases of the rule, in all of its versions. **fail**: what was seen in the first one that went wrong. **–**:
the rule does not apply, and why: the plugin does not speak that version, leaves the feature to another plugin of the chain,
or the rule is a promise of Twill's own, beyond the specification and the conventions.

In the third column, *CNI* is the CNI specification 1.1.0 with the section, *conventions* its document CONVENTIONS.md,
*libcni* the behaviour of the library that runtimes call plugins by, *runtimes* what was observed with containerd, CRI-O and
podman, *Twill* what Twill promises by itself. The reference is `ptp` with `host-local`, of Debian's package
containernetworking-plugins 1.1.1.

";

fn cell(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "pass".into(),
        Verdict::Fail(seen) => format!("**fail**: {}", escape(seen)),
        Verdict::Beside(why) => format!("– {}", escape(why)),
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}
