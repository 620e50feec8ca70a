//! `twill`, the CNI plugin: a process for each verb, blocking, that needs nothing alive.
//!
//! Environment and standard input become a validated [`request`]; a file under [`verb`] hands it to its course in
//! `twill-attach`, which does the work; the [`result`], or the [`error`], is the one JSON document on stdout.

mod allocator;
mod attempt;
mod doorbell;
mod environment;
mod error;
mod input;
mod request;
mod result;
mod run;
mod verb;
mod version;

fn main() -> std::process::ExitCode {
    run::run()
}
