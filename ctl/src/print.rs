//! How reports look.

mod about;
mod addresses;
mod attempts;
mod bgp;
mod bundle;
mod check;
mod colour;
mod config;
mod doctor;
mod ipam;
mod node;
mod status;
mod table;
mod trace;
mod trial;
mod why;

use anstream::stream::RawStream;
use twill_cluster::plain::is_obeyed;

use crate::arguments::Output;
use crate::error::Error;
use crate::report::Report;

/// The report as it goes to standard output.
pub(crate) fn render(report: &Report, output: Output) -> String {
    if let Report::Watched(_) = report {
        return String::new();
    }
    harmless(match output {
        Output::Json => {
            let text = serde_json::to_string_pretty(report).expect("reports have string keys and finite numbers");
            text + "\n"
        }
        Output::Text => match report {
            Report::Made(made) => config::made(made),
            Report::Valid(valid) => config::valid(valid),
            Report::Applied(applied) => config::applied(applied),
            Report::Shown(shown) => config::shown(shown),
            Report::Compared(outlook) => config::compared(outlook),
            Report::Rehearsed(outlook) => config::rehearsed(outlook),
            Report::Status(status) => status::status(status),
            Report::LocalStatus(alone) => status::alone(alone),
            Report::Watched(_) => String::new(),
            Report::WhyPod(found) => why::pod(found),
            Report::WhyIp(found) => why::ip(found),
            Report::WhyNode(found) => why::node(found),
            Report::Ipam(ipam) => ipam::ipam(ipam),
            Report::Attempts(attempts) => attempts::attempts(attempts),
            Report::Addresses(found) => addresses::addresses(found),
            Report::Check(found) => check::check(found),
            Report::Peers(found) => bgp::peers(found),
            Report::Routes(found) => bgp::routes(found),
            Report::Explained(explained) => bgp::explained(explained),
            Report::Trace(found) => trace::trace(found),
            Report::Doctor(found) => doctor::doctor(found),
            Report::Nodes(nodes) => node::nodes(nodes),
            Report::Node(shown) => node::shown(shown),
            Report::Drained(drained) => node::drained(drained),
            Report::Deleted(deleted) => node::deleted(deleted),
            Report::Bundle(written) => bundle::bundle(written),
            Report::Version(version) => about::version(version),
            // Of our own making, and meant for a shell.
            Report::Script(script) => return script.script.clone(),
            Report::Pages(pages) => about::pages(pages),
            Report::Tested(tested) => trial::tested(tested),
            Report::Benched(benched) => trial::benched(benched),
        },
    })
}

/// What goes to standard error beside a report: what a change brings about and may not be meant. In JSON the report has it.
pub(crate) fn aside(report: &Report, output: Output) -> String {
    match (report, output) {
        (Report::Applied(applied), Output::Text) => harmless(table::notes(&applied.notes)),
        _ => String::new(),
    }
}

/// A failure, as it goes to standard error, with what to do where the text does not say it.
pub(crate) fn failure(text: &str, fix: Option<&str>, output: Output) -> String {
    harmless(match (output, fix) {
        (Output::Text, None) => format!("twillctl: {text}\n"),
        (Output::Text, Some(fix)) => format!("twillctl: {text}\n{}", table::fix(fix)),
        (Output::Json, None) => serde_json::json!({ "error": text }).to_string() + "\n",
        (Output::Json, Some(fix)) => serde_json::json!({ "error": text, "fix": fix }).to_string() + "\n",
    })
}

/// The same of an error.
pub(crate) fn error(error: &Error, output: Output) -> String {
    failure(&error.to_string(), error.fix().as_deref(), output)
}

/// What one of these has made, as a stream is to have it: people get colours on a terminal, programs get none anywhere.
pub(crate) fn coloured(text: String, output: Output, stream: &impl RawStream) -> String {
    match output {
        Output::Text => colour::for_stream(text, stream),
        Output::Json => text,
    }
}

/// Text without what a terminal obeys rather than shows. Keys and values in etcd, which errors and problems repeat, may be
/// anybody's. The escapes are JSON's, where such characters stand in strings only.
pub(crate) fn harmless(text: String) -> String {
    let obeyed = |c: char| c != '\n' && is_obeyed(c);
    if !text.contains(obeyed) {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if obeyed(c) { clean.push_str(&format!("\\u{:04x}", u32::from(c))) } else { clean.push(c) }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn what_a_terminal_obeys_is_shown_instead() {
        let hostile = "blocks/\u{1b}[2J\u{9b}31m\r\u{202e}\n".to_owned();
        assert_eq!(harmless(hostile), "blocks/\\u001b[2J\\u009b31m\\u000d\\u202e\n");
        assert_eq!(harmless("Zürich\n".to_owned()), "Zürich\n");
    }

    #[test]
    fn the_escapes_are_jsons() {
        let hostile = "\u{1b}\u{9b}\u{7f}\u{202e}".to_owned();
        let json = harmless(serde_json::to_string(&hostile).unwrap());
        assert!(json.is_ascii());
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
    }
}
