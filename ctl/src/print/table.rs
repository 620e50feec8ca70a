//! Tables without lines: a heading, columns that align, nothing at the end of a row.

use comfy_table::{Table, presets};

use crate::report::pools::PoolUse;
use crate::report::problems::Problem;
use crate::report::untold::Untold;

/// A table with its heading; empty where it has no rows.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty().set_header(heading).add_rows(rows);
    if table.is_empty() {
        return String::new();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// Parts of a report with an empty line between them; what is empty is left out.
pub(super) fn parts(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// What could not be told: a line each, and one for what to do.
pub(super) fn unknown(unknown: &[Untold]) -> String {
    unknown.iter().map(|Untold { what, fix }| format!("COULD NOT TELL: {what}\n{}", self::fix(fix))).collect()
}

/// What to do about the line before.
pub(super) fn fix(fix: &str) -> String {
    format!("    fix: {fix}\n")
}

/// "-" for what is not there.
pub(super) fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}

/// Several in one cell.
pub(super) fn list<T: ToString>(items: &[T]) -> String {
    match items {
        [] => "-".to_owned(),
        items => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

/// The pools with their use.
pub(super) fn pools(pools: &[PoolUse]) -> String {
    let row = |pool: &PoolUse| {
        [
            pool.name.to_string(),
            pool.cidr.to_string(),
            format!("/{}", pool.block),
            format!("{} of {}", pool.used, blocks(pool)),
            pool.nodes.to_string(),
            if pool.masquerade { "yes" } else { "no" }.to_owned(),
            remarks(pool),
        ]
    };
    table(["POOL", "CIDR", "BLOCK", "BLOCKS", "NODES", "MASQUERADE", "REMARKS"], pools.iter().map(row))
}

/// What few pools have.
fn remarks(pool: &PoolUse) -> String {
    let selector = pool.selector.as_ref().map(|selector| format!("for nodes with {selector}"));
    let reserved = (!pool.reserved.is_empty()).then(|| format!("reserved {}", list(&pool.reserved)));
    let words = [
        pool.disabled.then(|| "DISABLED".to_owned()),
        pool.announce.then(|| "announced".to_owned()),
        selector,
        reserved,
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// All its blocks, written out where that can be read.
fn blocks(pool: &PoolUse) -> String {
    let bits = pool.block - pool.cidr.prefix();
    if bits <= 20 { pool.total.to_string() } else { count(bits) }
}

/// In the largest unit of which there are two.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// As in "1 block" and "2 blocks".
pub(super) fn number(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// 2 to the power of `bits`, written out where that can be read.
pub(super) fn count(bits: u8) -> String {
    if bits <= 20 { (1u32 << bits).to_string() } else { format!("2^{bits}") }
}

/// A line for what is wrong, and one for what to do.
pub(super) fn problems(problems: &[Problem]) -> String {
    told("PROBLEM", problems)
}

/// The same for what is worth a word only.
pub(super) fn notes(notes: &[Problem]) -> String {
    told("NOTE", notes)
}

fn told(word: &str, problems: &[Problem]) -> String {
    let line = |problem: &Problem| format!("{word} {}: {}\n{}", problem.subject, problem.what, fix(&problem.fix));
    problems.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_rows_end_without_spaces() {
        let rows = [["a".to_owned(), "b".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(table(["ONE", "TWO"], rows), "ONE   TWO\na     b\nlong\n");
        assert_eq!(table(["ONE"], []), "");
    }

    #[test]
    fn an_age_has_one_unit() {
        assert_eq!([0, 119, 120, 7_199, 7_200, 172_800].map(age), ["0s", "119s", "2m", "119m", "2h", "2d"]);
    }

    #[test]
    fn large_powers_are_not_written_out() {
        assert_eq!([0, 10, 20, 21, 74].map(count), ["1", "1024", "1048576", "2^21", "2^74"]);
    }
}
