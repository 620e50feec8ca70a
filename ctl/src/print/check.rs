//! What `twillctl ipam check` prints.

use super::table::{number, parts, problems};
use crate::report::check::Check;

pub(super) fn check(check: &Check) -> String {
    let line = |word: &'static str| move |what: &String| format!("{word} {what}\n");
    let mended = check
        .mending
        .iter()
        .flat_map(|mending| mending.fixed.iter().map(line("FIXED")).chain(mending.left.iter().map(line("NOT FIXED"))));
    let unknown = super::table::unknown(&check.unknown);
    let summary = format!(
        "revision {}: {} of {} answered, with {} in use; {} in etcd\n",
        check.revision,
        check.answered,
        number(check.nodes, "node"),
        addresses(check.addresses),
        number(check.blocks, "block"),
    );
    let good = check.problems.is_empty() && check.unknown.is_empty();
    let verdict = if good { "no problems\n".to_owned() } else { problems(&check.problems) };
    parts([mended.collect(), summary, verdict, unknown])
}

fn addresses(count: usize) -> String {
    if count == 1 { "1 address".to_owned() } else { format!("{count} addresses") }
}
