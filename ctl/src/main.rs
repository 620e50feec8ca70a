//! `twillctl`, the operator's tool.
//!
//! A command ([`command`]) reads what it needs – etcd, the node's own store, files – and hands back a report
//! ([`report`]): plain data, made by pure functions, with the problems in it. How a report looks is [mod@print]'s affair,
//! as text or as JSON. The exit status is 0 where all is good, 1 where problems were found or a request was refused, and
//! 2 where it could not be told, bad usage among it.

mod access;
mod arguments;
mod command;
mod error;
mod place;
mod print;
mod report;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::Arguments;
use report::Verdict;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime of one thread needs an epoll instance and a pipe only");
    let (text, status) = match runtime.block_on(command::run(&arguments)) {
        Ok(report) => (print::render(&report, arguments.output), exit_code(report.verdict())),
        Err(error) => {
            eprintln!("twillctl: {}", print::harmless(error.to_string()));
            (String::new(), exit_code(error.verdict()))
        }
    };
    // Nobody is left to tell when the reader of a pipe has gone.
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("twillctl: cannot write the report: {cause}");
            exit_code(Verdict::Unknown)
        }
        _ => status,
    }
}

fn exit_code(verdict: Verdict) -> ExitCode {
    ExitCode::from(match verdict {
        Verdict::Good => 0,
        Verdict::Problems => 1,
        Verdict::Unknown => 2,
    })
}
