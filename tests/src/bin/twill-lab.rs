//! `twill-lab`: labs for experiments, behind `hack/lab`; and the guard that removes a lab when its owner has ended.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use twill_tests::bench::backends::{self, Backend, Plan};
use twill_tests::binaries::Binaries;
use twill_tests::cleanup::{self, Guard};
use twill_tests::namespace::Namespace;
use twill_tests::{Lab, LabError, Result, Underlay, etcd, needs};

/// Clusters of network namespaces for experiments.
#[derive(Debug, Parser)]
#[command(name = "hack/lab", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a lab that stays.
    Up {
        /// The lab's name: its namespaces are called NAME-n1, NAME-etcd and so on.
        #[arg(long, default_value = "lab")]
        name: String,
        /// How many nodes.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=250))]
        nodes: u8,
        /// How many pods on each node. They are called after it: n1-a, n1-b and so on.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=26))]
        pods: u8,
        /// The families of the wire between the nodes.
        #[arg(long, value_enum, default_value = "dual")]
        underlay: Underlay,
    },
    /// Removes a lab and all that belongs to it.
    Down {
        /// The lab's name.
        #[arg(long, default_value = "lab")]
        name: String,
    },
    /// Runs a command, or a shell, in the namespace of a node (n1), a pod (n1-a), etcd, the wire or the host outside
    /// (out).
    Enter {
        /// The lab's name.
        #[arg(long, default_value = "lab")]
        name: String,
        /// Where.
        place: String,
        /// What to run; a shell by default.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Makes a lab of two nodes, measures back ends on it one after the other by `twillctl bench`, and removes it.
    Bench {
        /// Which back ends, and in which order.
        #[arg(long, value_enum, value_delimiter = ',', default_values_t = Backend::ALL)]
        backends: Vec<Backend>,
        /// How many rounds for each.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
        repeat: u8,
        /// How many seconds for each figure of a round.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=60))]
        seconds: u8,
        /// How many TCP connections several are.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(2..=64))]
        streams: u8,
        /// The families of the wire between the nodes.
        #[arg(long, value_enum, default_value = "dual")]
        underlay: Underlay,
        /// Where the plot goes, as SVG.
        #[arg(long, value_name = "FILE", default_value = "backends.svg")]
        plot: PathBuf,
        /// Also write a page there, in HTML, with the figures and the plot.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Lists the labs and their namespaces.
    Status,
    /// Builds the programs under test, which every lab does first.
    #[command(hide = true)]
    Programs,
    /// Makes a small lab, prints its prefix, and removes it when standard input ends. Tests kill it before.
    #[command(hide = true)]
    Hold,
    /// Waits until standard input ends, then removes a lab that is not kept.
    #[command(hide = true)]
    Guard {
        /// The lab's prefix.
        prefix: String,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Up { name, nodes, pods, underlay } => up(&name, nodes, pods, underlay),
        Verb::Down { name } => down(&name),
        Verb::Enter { name, place, command } => enter(&name, &place, &command),
        Verb::Bench { backends, repeat, seconds, streams, underlay, plot, html } => {
            bench(&backends, Plan { repeat, seconds, streams }, underlay, (&plot, html.as_ref()))
        }
        Verb::Status => status(),
        Verb::Programs => Binaries::ready().map(|binaries| println!("{}", binaries.directory().display())),
        Verb::Hold => hold(),
        Verb::Guard { prefix } => Guard::stand(&prefix),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hack/lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn up(name: &str, nodes: u8, pods: u8, underlay: Underlay) -> Result<()> {
    if let Some(why) = needs::unmet() {
        return Err(LabError::wrong(format!("no lab can be made here: {why}")));
    }
    // A dash would make it the beginning of another lab's names, and names of namespaces are short.
    if name.is_empty() || name.len() > 20 || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Err(LabError::wrong(format!("--name {name}: it must be 1 to 20 lower-case letters and digits")));
    }
    cleanup::expect_free(name)?;
    Binaries::ready_visibly()?;
    let lab = Lab::builder().name(name).nodes(nodes).underlay(underlay).build()?;
    for node in lab.nodes() {
        for letter in ('a'..='z').take(pods.into()) {
            let pod = node.create_pod(&format!("{}-{letter}", node.name()))?;
            let added = pod.add()?;
            let addresses: Vec<_> = added.addresses.iter().map(|a| a.ip().to_string()).collect();
            println!("{}  {}  added in {:.1} ms", pod.name(), addresses.join("  "), added.took.as_secs_f64() * 1e3);
        }
    }
    println!("etcd  {}", lab.etcd().endpoints());
    println!("enter it: hack/lab enter --name {name} n1; remove it: hack/lab down --name {name}");
    lab.keep()
}

fn bench(backends: &[Backend], plan: Plan, underlay: Underlay, files: (&PathBuf, Option<&PathBuf>)) -> Result<()> {
    if let Some(why) = needs::unmet() {
        return Err(LabError::wrong(format!("no lab can be made here: {why}")));
    }
    Binaries::ready_visibly()?;
    let lab = Lab::builder().nodes(2).underlay(underlay).build()?;
    let compared = backends::compare(&lab, backends, plan)?;
    print!("{}", compared.markdown());
    let (plot, html) = files;
    compared.write(plot, html)?;
    println!("\nplot: {}", plot.display());
    Ok(())
}

fn hold() -> Result<()> {
    let subnet = "10.42.0.0/24".parse().expect("a network");
    let lab = Lab::builder().nodes(1).stand_alone([subnet]).build()?;
    println!("{}", lab.prefix());
    let read = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    read.map(drop).map_err(LabError::io("waiting for the end of standard input"))
}

fn down(name: &str) -> Result<()> {
    if !cleanup::directory(name).exists() && cleanup::namespaces_of(name)?.is_empty() {
        return Err(LabError::wrong(format!("there is no lab {name}; hack/lab status lists them")));
    }
    cleanup::remove(name)
}

fn enter(name: &str, place: &str, command: &[String]) -> Result<()> {
    let candidates = [format!("{name}-{place}"), format!("{name}-p-{place}")].map(Namespace::named);
    let found = candidates.into_iter().find(Namespace::exists);
    let namespace =
        found.ok_or_else(|| LabError::wrong(format!("the lab {name} has no {place}; see hack/lab status")))?;
    let shell = [std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into())];
    let words = if command.is_empty() { &shell[..] } else { command };
    let binaries = Binaries::ready()?;
    let path = std::env::var("PATH").unwrap_or_default();
    // A pod's node is the first part of its name.
    let node = place.split('-').next().unwrap_or(place);
    let directory = cleanup::directory(name).join(node);
    let mut run = Command::new("ip");
    // `ip netns exec` shows the namespace's own /sys too, which a person looks into.
    run.args(["netns", "exec", namespace.name()]).args(words);
    let tools = binaries.cnitool().parent().unwrap_or(binaries.directory());
    run.env("PATH", format!("{}:{}:{path}", binaries.directory().display(), tools.display()));
    run.env("CNI_PATH", binaries.directory()).env("NETCONFPATH", directory.join("net.d"));
    run.env("TWILL_RUN_DIR", directory.join("run")).env("ETCDCTL_API", "3");
    if let Ok(endpoints) = std::fs::read_to_string(cleanup::directory(name).join("endpoints")) {
        run.env("TWILL_ETCD", &endpoints).env("ETCDCTL_ENDPOINTS", &endpoints);
    }
    Err(LabError::io(words.join(" "))(run.exec()))
}

fn status() -> Result<()> {
    let labs = cleanup::labs()?;
    if labs.is_empty() {
        println!("there is no lab; hack/lab up makes one");
    }
    for (prefix, kept) in labs {
        println!("{prefix}{}", if kept { "" } else { "  (of a running test)" });
        for namespace in cleanup::namespaces_of(&prefix)? {
            println!("  {}", namespace.name());
        }
        println!("  keys in etcd begin with {}", etcd::PREFIX);
    }
    Ok(())
}
