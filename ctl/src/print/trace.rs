//! How the way of a packet looks: a block for each node, numbered steps, and below each the objects that it goes by.

use twill_cluster::inquiry::trace::{Object, State, Step};

use super::table::{notes, parts, problems, unknown};
use crate::report::trace::{Leg, Path, Trace};

/// The column of devices is no wider: names are shorter, and what records promise is whatever somebody wrote there.
const WIDEST: usize = 15;

/// The whole report.
pub(super) fn trace(trace: &Trace) -> String {
    let of_paths = trace.paths.iter().map(path);
    parts(of_paths.chain([problems(&trace.problems), notes(&trace.notes), unknown(&trace.unknown)]))
}

fn path(path: &Path) -> String {
    let size = path.packet.size.map(|size| format!(", {size} bytes")).unwrap_or_default();
    let heading = format!("From {} to {}{size}:\n", path.from, path.to);
    let device = |step: &Step| step.device.as_ref().map_or(1, |device| device.chars().count());
    let steps = || path.legs.iter().chain(&path.back_legs).flat_map(|leg| &leg.steps);
    let width = steps().map(device).max().unwrap_or(1).min(WIDEST);
    let mut number = 0;
    let mut blocks = |legs: &[Leg]| -> Vec<String> { legs.iter().map(|leg| block(leg, width, &mut number)).collect() };
    let there = blocks(&path.legs);
    let back = blocks(&path.back_legs);
    let of_reply = path.back.map(|_| "The reply:\n".to_owned()).into_iter().chain(back);
    let back_ends = path.back.map(|outcome| ends("the reply", outcome, None)).into_iter();
    let ends = [ends("the packet", path.there, path.mtu)];
    parts([heading].into_iter().chain(there).chain(ends).chain(of_reply).chain(back_ends))
}

fn block(leg: &Leg, width: usize, number: &mut usize) -> String {
    let silent = leg.expected.as_ref().map(|silence| format!(", as is expected of it: {silence}")).unwrap_or_default();
    let steps = leg.steps.iter().map(|step| {
        *number += 1;
        self::step(step, width, *number)
    });
    format!("node {}{silent}\n", leg.node) + &steps.collect::<String>()
}

fn step(step: &Step, width: usize, number: usize) -> String {
    let device = step.device.as_deref().unwrap_or("-");
    let mtu = step.mtu.map(|mtu| format!(", up to {mtu} bytes")).unwrap_or_default();
    let mark = match step.state {
        State::Good => "",
        State::Odd => "  (ODD)",
        State::Broken => "  (BROKEN)",
        State::Unknown => "  (UNKNOWN)",
    };
    let what = &step.what;
    let mut text = format!("{number:>4}  {device:<width$}  {what}{mtu}{mark}\n");
    let indent = " ".repeat(width + 8);
    for object in &step.objects {
        for line in lines(object) {
            text += &format!("{indent}  {line}\n");
        }
    }
    if step.state != State::Good {
        text += &step.cause.as_ref().map(|cause| format!("{indent}  {cause}\n")).unwrap_or_default();
    }
    text
}

fn lines(Object { kind, expected, found }: &Object) -> Vec<String> {
    match (expected, found) {
        (Some(expected), Some(found)) if expected == found => vec![format!("{kind} {found}")],
        (Some(expected), found) => {
            let found = found.as_deref().unwrap_or("none");
            vec![format!("{kind} expected: {expected}"), format!("{kind} found:    {found}")]
        }
        (None, Some(found)) => vec![format!("{kind} {found}")],
        (None, None) => Vec::new(),
    }
}

fn ends(what: &str, outcome: &str, mtu: Option<u32>) -> String {
    let most = mtu.map(|mtu| format!("; packets of up to {mtu} bytes pass")).unwrap_or_default();
    match outcome {
        "arrives" => format!("As far as both ends can tell {what} arrives{most}\n"),
        "leaves the cluster" => format!("As far as its node can tell {what} leaves the cluster{most}\n"),
        "lost" => format!("{} does not arrive\n", capital(what)),
        _ => format!("It cannot be told whether {what} arrives\n"),
    }
}

fn capital(what: &str) -> String {
    let mut letters = what.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
