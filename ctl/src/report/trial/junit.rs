//! A test's result as JUnit's XML, which build servers read: a case for each way, grouped by kind and family.

use std::fmt::Write as _;

use twill_chart::page::escaped;

use super::test::{Packets, Tested, Tried, Verdict};

/// The document.
pub(crate) fn junit(tested: &Tested) -> String {
    let cases: Vec<&Tried> = tested.ways.iter().filter(|way| way.kind.is_case()).collect();
    let failed = cases.iter().filter(|way| is_failure(way.verdict)).count();
    let errors = tested.unknown.len();
    let others = tested.problems.len();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut add = |line: std::fmt::Arguments<'_>| text.write_fmt(line).expect("a string takes what is written to it");
    add(format_args!(
        "<testsuites>\n<testsuite name=\"twillctl test\" tests=\"{}\" failures=\"{}\" errors=\"{errors}\">\n",
        cases.len() + others + errors,
        failed + others,
    ));
    for way in cases {
        let seconds = f64::from(way.small.micros.unwrap_or_default()) / 1e6;
        let (class, name) = (format!("{}.{}", way.kind.words(), way.family), way.title());
        add(format_args!(
            "<testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.6}\"",
            escaped(&class),
            escaped(&name)
        ));
        match is_failure(way.verdict) {
            false => add(format_args!("/>\n")),
            true => add(format_args!("><failure message=\"{}\"/></testcase>\n", escaped(&failure(way)))),
        }
    }
    for problem in &tested.problems {
        let message = format!("{}; fix: {}", problem.what, problem.fix);
        add(format_args!(
            "<testcase classname=\"problem\" name=\"{}\"><failure message=\"{}\"/></testcase>\n",
            escaped(&problem.subject),
            escaped(&message)
        ));
    }
    for what in &tested.unknown {
        add(format_args!(
            "<testcase classname=\"unknown\" name=\"could not tell\"><error message=\"{}\"/></testcase>\n",
            escaped(&what.to_string())
        ));
    }
    add(format_args!("</testsuite>\n</testsuites>\n"));
    text
}

fn is_failure(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Passed | Verdict::Lossy)
}

fn failure(way: &Tried) -> String {
    let of = |packets: &Packets| format!("{} of {} packets of {} bytes", packets.answered, packets.sent, packets.bytes);
    let came = format!("{} and {} were answered by {}", of(&way.small), of(&way.full), way.address);
    match (way.verdict, way.source, way.saw) {
        (Verdict::WrongSource, Some(source), Some(saw)) => format!("sent by {source}, heard as {saw}"),
        _ => came,
    }
}
