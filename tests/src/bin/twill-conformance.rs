//! `twill-conformance`: plays the rules of `tests/conformance` against plugins, and writes the table.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use twill_tests::binaries::Binaries;
use twill_tests::conformance::report::{self, Column};
use twill_tests::conformance::subject::Subject;
use twill_tests::conformance::{self, Candidate, rule};
use twill_tests::{LabError, Result, needs};

/// Holds CNI plugins to the rules in tests/conformance, and writes docs/cni-conformance.md.
#[derive(Debug, Parser)]
#[command(name = "hack/conformance", disable_version_flag = true)]
struct Arguments {
    /// Another plugin than Twill and the reference: its program. Then only what failed is printed
    #[arg(long, value_name = "PROGRAM", requires = "subject")]
    plugin: Option<PathBuf>,
    /// What describes it: a file in tests/conformance/subjects, without .toml
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Only rules whose name contains this; prints what failed, and writes nothing
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hack/conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing failed of the plugin that was named, or of Twill.
fn run(arguments: &Arguments) -> Result<bool> {
    let mut rules = rule::all()?;
    if let Some(only) = &arguments.only {
        rules.retain(|rule| rule.id.contains(only.as_str()));
    }
    let mut candidates = Vec::new();
    match (&arguments.plugin, &arguments.subject) {
        (Some(plugin), Some(name)) => candidates.push(Candidate::new(Subject::read(name)?, plugin.clone())?),
        _ => {
            let binaries = Binaries::ready_visibly()?;
            candidates.push(Candidate::new(Subject::read("twill")?, binaries.plugin())?);
            candidates
                .push(conformance::reference().ok_or_else(|| LabError::wrong("ptp is not installed: hack/setup"))??);
        }
    }
    let mut columns = Vec::new();
    for candidate in &candidates {
        let verdicts = conformance::run(candidate, &rules);
        let verdicts = verdicts.ok_or_else(|| LabError::wrong("it makes network namespaces: run it as root"))??;
        let column = Column { name: candidate.subject.name.clone(), verdicts };
        let (passed, failed, beside) = column.counts();
        println!("{}: {passed} pass, {failed} fail, {beside} do not apply", column.name);
        column.failures(&rules).iter().for_each(|line| println!("  {line}"));
        columns.push(column);
    }
    if arguments.plugin.is_none() && arguments.only.is_none() {
        let path = needs::workspace().join("docs/cni-conformance.md");
        std::fs::write(&path, report::markdown(&rules, &columns))
            .map_err(LabError::io(format!("writing {}", path.display())))?;
        println!("written: docs/cni-conformance.md, {} pairs of verb and rule", report::distinct(&rules));
    }
    Ok(columns.first().is_none_or(|column| column.counts().1 == 0))
}
