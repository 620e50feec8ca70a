//! What `twillctl test` and `twillctl bench` print.

use comfy_table::{Table, presets};
use twill_chart::figures::HEADING;
use twill_conf::NodeName;

use super::table::{list, notes, number, parts, problems, table, unknown};
use crate::report::trial::bench::Benched;
use crate::report::trial::plan::Kind;
use crate::report::trial::test::{Tested, Tried, Verdict};

pub(super) fn tested(tested: &Tested) -> String {
    let mut shown =
        vec![format!("{}, back end {}: {}\n", number(tested.nodes.len(), "node"), tested.backend, list(&tested.nodes))];
    for kind in [Kind::PodToPod, Kind::PodToNode, Kind::NodeToPod, Kind::PodToOutside] {
        for family in ["IPv4", "IPv6"] {
            let ways: Vec<&Tried> = tested.ways.iter().filter(|way| way.kind == kind && way.family == family).collect();
            shown.push(matrix(kind, family, &ways));
        }
    }
    shown.extend([problems(&tested.problems), notes(&tested.notes), unknown(&tested.unknown)]);
    let cases: Vec<&Tried> = tested.ways.iter().filter(|way| way.kind.is_case()).collect();
    let passed = cases.iter().filter(|way| way.verdict == Verdict::Passed).count();
    let all_is_good = tested.problems.is_empty() && tested.unknown.is_empty();
    let counted = format!("{passed} of {} ways carry small and full-size packets", cases.len());
    shown.push(if all_is_good { format!("{counted}; no problems\n") } else { format!("{counted}\n") });
    parts(shown)
}

/// From whom in rows, to whom in columns: how long small packets take there and back.
fn matrix(kind: Kind, family: &str, ways: &[&Tried]) -> String {
    let mut from: Vec<&NodeName> = ways.iter().map(|way| &way.from).collect();
    from.dedup();
    let mut to: Vec<String> = Vec::new();
    for name in ways.iter().map(|way| column(way)) {
        if !to.contains(&name) {
            to.push(name);
        }
    }
    if from.is_empty() {
        return String::new();
    }
    let cell = |row: &NodeName, name: &String| {
        let way = ways.iter().find(|way| way.from == *row && column(way) == *name);
        way.map_or_else(|| "-".to_owned(), |way| word(way))
    };
    let mut shown = Table::new();
    let heading = [format!("{}, {family}", kind.words())].into_iter().chain(to.iter().cloned());
    shown.load_style(presets::NOTHING).force_no_tty().set_header(heading);
    for row in from {
        shown.add_row([row.to_string()].into_iter().chain(to.iter().map(|name| cell(row, name))));
    }
    for column in shown.column_iter_mut() {
        column.set_padding((0, 2));
    }
    shown.trim_fmt() + "\n"
}

fn column(way: &Tried) -> String {
    way.to.as_ref().map_or_else(|| way.address.to_string(), ToString::to_string)
}

fn word(way: &Tried) -> String {
    let time = || way.small.micros.or(way.full.micros).map(|micros| format!("{:.2} ms", f64::from(micros) / 1e3));
    match way.verdict {
        Verdict::Passed => time().unwrap_or_else(|| "-".to_owned()),
        Verdict::Lossy => format!("{} LOSSY", time().unwrap_or_default()),
        Verdict::WrongSource => "SOURCE".to_owned(),
        Verdict::SmallOnly => "SMALL ONLY".to_owned(),
        Verdict::Nothing => "NOTHING".to_owned(),
    }
}

pub(super) fn benched(benched: &Benched) -> String {
    parts([
        benched.summary() + "\n",
        benched.conditions().iter().map(|line| format!("{line}\n")).collect(),
        table(HEADING, benched.rows()),
        problems(&benched.problems),
        notes(&benched.notes),
        unknown(&benched.unknown),
    ])
}
