//! One call of the plugin, from the environment to the exit status.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;

use crate::attempt;
use crate::doorbell;
use crate::environment::{Call, Target, Verb};
use crate::error::Error;
use crate::request::{Request, version_for_errors};
use crate::verb;
use crate::version::{self, Version};

/// Does what the environment asks for. Writes at most one document to stdout, and that in one piece.
pub(crate) fn run() -> ExitCode {
    let begin = Instant::now();
    match Call::parse(|name| std::env::var_os(name)) {
        Ok(None) => {
            eprintln!(
                "twill {}: a CNI plugin; a container runtime calls it with CNI_COMMAND set. CNI versions: {}",
                env!("CARGO_PKG_VERSION"),
                Version::list()
            );
            ExitCode::SUCCESS
        }
        Ok(Some(Call::Version)) => {
            print(Some(version::answer(version::asked(std::io::stdin().lock()).as_deref())), ExitCode::SUCCESS)
        }
        Ok(Some(Call::Network(verb))) => fail(&Error::UnsupportedVerb(verb), Some(verb), Version::NEWEST),
        Ok(Some(Call::Attachment(verb, target))) => attachment(verb, target, begin),
        Err(error) => fail(&error, None, Version::NEWEST),
    }
}

fn attachment(verb: Verb, target: Target, begin: Instant) -> ExitCode {
    let mut text = Vec::new();
    if let Err(error) = std::io::stdin().lock().read_to_end(&mut text) {
        return fail(&Error::Input(error), Some(verb), Version::NEWEST);
    }
    let request = match Request::read(verb, target, &text) {
        Ok(request) => request,
        Err(error) => return fail(&error, Some(verb), version_for_errors(&text)),
    };
    let outcome = match verb {
        Verb::Add => verb::add::add(&request, begin).map(Some),
        Verb::Del => verb::del::del(&request).map(|()| None),
        Verb::Check => verb::check::check(&request).map(|()| None),
        Verb::Gc | Verb::Status | Verb::Version => Err(Error::UnsupportedVerb(verb)),
    };
    // The runtime gets its answer first; a CHECK changes nothing that the daemon has to know.
    let (code, status) = match outcome {
        Ok(result) => (0, print(result, ExitCode::SUCCESS)),
        Err(error) => {
            let status = fail(&error, Some(verb), request.version);
            if verb != Verb::Check {
                attempt::record(&request, verb, &error, begin);
            }
            (error.code(), status)
        }
    };
    if verb != Verb::Check {
        doorbell::ring(request.run_dir(), verb, code, begin.elapsed());
    }
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
