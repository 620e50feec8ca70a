//! `twill`, the CNI plugin: a process for each verb, blocking, that needs nothing alive.
//!
//! Environment and standard input become a validated [`request`]; a file under [`verb`] does the work: addresses from the
//! node's store, the veth by [`attach`]; the [`result`], or the [`error`], is the one JSON document on stdout.

mod allocator;
mod attach;
mod attempt;
mod detach;
mod doorbell;
mod environment;
mod error;
mod input;
mod leftover;
mod limit;
mod publish;
mod rebuild;
mod request;
mod result;
mod run;
mod sysctl;
mod verb;
mod version;

fn main() -> std::process::ExitCode {
    run::run()
}
