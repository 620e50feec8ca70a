//! `twill-demo`: what `hack/demo` runs once everything is installed and built.

use std::process::ExitCode;

use clap::Parser;
use twill_tests::{demo, needs};

/// A cluster of three nodes in network namespaces, step by step, then a verdict.
#[derive(Debug, Parser)]
#[command(name = "hack/demo", disable_version_flag = true)]
struct Arguments {
    /// Leave the lab afterwards, and say how to enter and remove it.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(why) = needs::unmet() {
        eprintln!("hack/demo: no lab can be made here: {why}");
        return ExitCode::FAILURE;
    }
    match demo::run(arguments.keep) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nhack/demo: {error}\n\nVERDICT: the demonstration could not be finished.");
            ExitCode::FAILURE
        }
    }
}
