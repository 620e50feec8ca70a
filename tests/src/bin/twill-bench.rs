//! `twill-bench`: the benchmarks behind `hack/bench`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use twill_tests::bench::cni::{self, Contender};
use twill_tests::{Lab, LabError, Result, needs, process};

/// Benchmarks: ratios against a reference, in one run.
#[derive(Debug, Parser)]
#[command(name = "hack/bench", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// ADD, CHECK, DEL and VERSION as whole processes, against the reference plugin `ptp`.
    Cni {
        /// How many alternating rounds.
        #[arg(long, default_value_t = 200)]
        rounds: usize,
    },
}

fn main() -> ExitCode {
    let What::Cni { rounds } = Arguments::parse().what;
    if let Some(why) = needs::unmet() {
        eprintln!("hack/bench: no lab can be made here: {why}");
        return ExitCode::FAILURE;
    }
    match bench_cni(rounds) {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hack/bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench_cni(rounds: usize) -> Result<String> {
    let lab = Lab::builder().nodes(1).pools([twill_tests::PoolSpec::new("bench", "10.97.0.0/16", Some(24))]).build()?;
    let node = lab.node(1);
    let pod = node.create_pod("bench")?;
    let plugin = lab.binaries().plugin();
    let alone = lab.directory().join("alone");
    std::fs::create_dir_all(&alone).map_err(LabError::io("making a run directory"))?;
    let contenders = vec![
        Contender::stand_alone(&plugin, &alone),
        Contender::with_daemon(&plugin, &node.run_dir()),
        Contender::reference(&lab.directory().join("host-local")),
    ];
    let empty = empty_program(lab.directory())?;
    let report = node.namespace().enter(|| cni::measure(contenders, pod.namespace(), rounds, &empty))??;
    Ok(report.markdown())
}

/// Compiles a static program that does nothing: what any process costs.
fn empty_program(directory: &Path) -> Result<PathBuf> {
    let (source, program) = (directory.join("empty.c"), directory.join("empty"));
    std::fs::write(&source, "int main(void) { return 0; }\n").map_err(LabError::io("writing empty.c"))?;
    let mut compile = Command::new("musl-gcc");
    compile.args(["-static", "-O2", "-o"]).arg(&program).arg(&source);
    process::run_on_host(compile)?;
    Ok(program)
}
