//! `twillctl`, the operator's tool.
//!
//! A command ([`command`]) reads what it needs – etcd, the node's own store, files – and hands back a report
//! ([`report`]): plain data, made by pure functions, with the problems in it. How a report looks is [mod@print]'s affair,
//! as text or as JSON. The exit status is 0 where all is good, 1 where problems were found or a request was refused, and
//! 2 where it could not be told, bad usage among it. What fails is told on standard error: as text, or with `-o json` as
//! `{"error": "…"}`, and `"fix"` beside it where the words do not say what to do.

mod access;
mod arguments;
mod command;
mod error;
mod place;
mod print;
mod report;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use arguments::{Arguments, Output};
use report::Verdict;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
    let output = arguments.output;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime of one thread needs an epoll instance and a pipe only");
    let (text, status) = match runtime.block_on(command::run(&arguments)) {
        Ok(report) => {
            complain(print::aside(&report, output), output);
            let text = print::coloured(print::render(&report, output), output, &std::io::stdout());
            (text, exit_code(report.verdict()))
        }
        Err(error) => {
            complain(print::error(&error, output), output);
            (String::new(), exit_code(error.verdict()))
        }
    };
    // Nobody is left to tell when the reader of a pipe has gone.
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(print::failure(&format!("cannot write the report: {cause}"), None, output), output);
            exit_code(Verdict::Unknown)
        }
        _ => status,
    }
}

/// On standard error.
fn complain(text: String, output: Output) {
    eprint!("{}", print::coloured(text, output, &std::io::stderr()));
}

/// A command line that cannot be understood, or one that asks for help.
fn misused(error: &clap::Error) -> ExitCode {
    // As far as it can be understood, it says how errors are wanted.
    let as_far = Arguments::command().ignore_errors(true).try_get_matches();
    let output = as_far.ok().and_then(|matches| matches.get_one::<Output>("output").copied());
    if error.use_stderr() && output == Some(Output::Json) {
        eprint!("{}", print::failure(&one_line(error), None, Output::Json));
    } else if error.print().is_err() {
        return exit_code(Verdict::Unknown);
    }
    exit_code(if error.use_stderr() { Verdict::Unknown } else { Verdict::Good })
}

/// What is wrong with a command line, without what clap says of the usage in general.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let general = text.find("\n\nUsage:").or_else(|| text.find("\n\nFor more information"));
    let text = &text[..general.unwrap_or(text.len())];
    text.strip_prefix("error: ").unwrap_or(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn exit_code(verdict: Verdict) -> ExitCode {
    ExitCode::from(match verdict {
        Verdict::Good => 0,
        Verdict::Problems => 1,
        Verdict::Unknown => 2,
    })
}
