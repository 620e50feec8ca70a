//! What `twillctl ipam check` prints.

use super::table::{number, parts, problems};
use crate::report::check::Check;

pub(super) fn check(check: &Check) -> String {
    let fixed = check.fixed.iter().flatten().map(|what| format!("FIXED {what}\n")).collect();
    let unknown = check.unknown.iter().map(|what| format!("COULD NOT TELL: {what}\n")).collect();
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
    parts([fixed, summary, verdict, unknown])
}

fn addresses(count: usize) -> String {
    if count == 1 { "1 address".to_owned() } else { format!("{count} addresses") }
}
