//! One call of the plugin, from the environment to the exit status.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;
use twill_conf::network::list::INTRODUCTION;
use twill_ipam::BootTime;

use crate::attempt;
use crate::doorbell::{self, News};
use crate::environment::{Call, Glimpse, Target, Verb};
use crate::error::Error;
use crate::input;
use crate::request::network::{Gc, Status};
use crate::request::{Request, version_for_errors};
use crate::verb;
use crate::version::{self, Version};

/// Does what the environment asks for. Writes at most one document to stdout, and that in one piece.
pub(crate) fn run() -> ExitCode {
    let begin = Begin { instant: Instant::now(), boot: BootTime::now() };
    let call = match Call::parse(|name| std::env::var_os(name)) {
        Ok(Some(call)) => call,
        Ok(None) => return introduce(),
        // The call has failed whatever comes: that is not waited for, but may say where this is to be written down.
        Err(error) => return refuse(&error, &input::glance(std::io::stdin().lock(), input::has_document), begin),
    };
    if call == Call::Version {
        let asked = version::asked(std::io::stdin().lock());
        return print(Some(version::answer(asked.as_deref())), ExitCode::SUCCESS);
    }
    let text = match input::whole() {
        Ok(text) => text,
        Err(error) => return refuse(&Error::Input(error), &[], begin),
    };
    let done = match call {
        Call::Attachment(verb, target) => attachment(verb, target, &text, begin),
        Call::Gc => gc(&text, begin),
        Call::Status => status(&text),
        Call::Version => unreachable!("VERSION was answered above"),
    };
    done.unwrap_or_else(|refused| refuse(&refused, &text, begin))
}

/// When the call began, by the two clocks that are asked.
#[derive(Debug, Clone, Copy)]
struct Begin {
    /// For durations.
    instant: Instant,
    /// For what is compared with the store's times.
    boot: BootTime,
}

fn introduce() -> ExitCode {
    // An argument, not a part of the format: so it stands whole in the program's bytes, where `twilld` looks for it.
    eprintln!("twill {}: {}{}", env!("CARGO_PKG_VERSION"), std::hint::black_box(INTRODUCTION), Version::list());
    ExitCode::SUCCESS
}

/// ADD, DEL or CHECK. The outer error is that of a request that cannot be begun.
fn attachment(verb: Verb, target: Target, text: &[u8], begin: Begin) -> Result<ExitCode, Error> {
    let request = Request::read(verb, target, text)?;
    let outcome = match verb {
        Verb::Add => verb::add::add(&request, begin.instant, begin.boot).map(Some),
        Verb::Del => verb::del::del(&request).map(|()| None),
        _ => verb::check::check(&request).map(|()| None),
    };
    // The runtime gets its answer first; a CHECK changes nothing that the daemon has to know.
    let (code, status) = answer(outcome, verb, request.version, |error| {
        if verb != Verb::Check {
            attempt::record(&request, verb, error, begin.instant);
        }
    });
    if verb != Verb::Check {
        doorbell::ring(request.run_dir(), verb, News::Ended(code), begin.instant.elapsed());
    }
    Ok(status)
}

fn gc(text: &[u8], begin: Begin) -> Result<ExitCode, Error> {
    let request = Gc::read(text)?;
    let outcome = verb::gc::gc(&request, begin.boot).map(|()| None);
    let (code, status) =
        answer(outcome, Verb::Gc, request.version, |error| attempt::record_gc(&request, error, begin.instant));
    doorbell::ring(request.run_dir(), Verb::Gc, News::Ended(code), begin.instant.elapsed());
    Ok(status)
}

fn status(text: &[u8]) -> Result<ExitCode, Error> {
    let request = Status::read(text)?;
    let outcome = verb::status::status(&request).map(|()| None);
    Ok(answer(outcome, Verb::Status, request.version, |_| {}).1)
}

/// Prints what became of a verb, then keeps a failure. Gives the CNI code, 0 for success, with the exit status.
fn answer(
    outcome: Result<Option<Value>, Error>,
    verb: Verb,
    version: Version,
    keep: impl FnOnce(&Error),
) -> (u32, ExitCode) {
    match outcome {
        Ok(result) => (0, print(result, ExitCode::SUCCESS)),
        Err(error) => {
            let status = fail(&error, Some(verb), version);
            keep(&error);
            (error.code(), status)
        }
    }
}

/// A request that cannot be begun. `text` is what there is of its standard input.
fn refuse(error: &Error, text: &[u8], begin: Begin) -> ExitCode {
    let glimpse = Glimpse::of(|name| std::env::var_os(name));
    let status = fail(error, glimpse.verb, version_for_errors(text));
    attempt::record_refused(glimpse, text, error, begin.instant);
    status
}

fn fail(error: &Error, verb: Option<Verb>, version: Version) -> ExitCode {
    print(Some(error.document(verb, version)), ExitCode::FAILURE)
}

/// One write of the whole document. A runtime that does not listen any more gets a failure, and will DEL.
fn print(document: Option<Value>, status: ExitCode) -> ExitCode {
    let Some(document) = document else { return status };
    let text = format!("{document}\n");
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => status,
        Err(_) => ExitCode::FAILURE,
    }
}
