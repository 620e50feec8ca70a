//! `twill-bench`: the benchmarks behind `hack/bench`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand};
use twill_tests::bench::bgp::{self, receiver};
use twill_tests::bench::cni::{self, Contender};
use twill_tests::bench::data;
use twill_tests::bench::heap::Counting;
use twill_tests::bench::ipam::{assignments, cluster, view};
use twill_tests::bench::pairs::{self, CALLERS};
use twill_tests::bench::rules;
use twill_tests::bench::scale;
use twill_tests::{Lab, LabError, PoolSpec, Result, needs, process};

/// For `scale`, which counts what one change allocates, and for `bgp`, which counts what routes hold.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Benchmarks: ratios against a reference, in one run.
#[derive(Debug, Parser)]
#[command(name = "hack/bench", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// ADD, CHECK, DEL and VERSION as whole processes, and pairs of ADD and DEL a second, against the reference plugin
    /// `ptp`.
    Cni {
        /// How many alternating rounds of single calls.
        #[arg(long, default_value_t = 200)]
        rounds: usize,
        /// How many alternating slices of two seconds, for each number of callers.
        #[arg(long, default_value_t = 5)]
        slices: usize,
    },
    /// The address manager: assignments a second, the time of a claim, many nodes that join one etcd, and the view of them
    Ipam {
        /// How many alternating slices of two seconds, for each number of processes.
        #[arg(long, default_value_t = 5)]
        slices: usize,
        /// How many claims.
        #[arg(long, default_value_t = 200)]
        claims: usize,
        /// How many nodes join.
        #[arg(long, default_value_t = 5000)]
        nodes: usize,
        /// How many of them at once.
        #[arg(long, default_value_t = 100)]
        batch: usize,
    },
    /// One daemon in a cluster of many nodes: a cold start, changes, rest.
    Scale {
        /// How many other nodes in the large cluster; the small one has a tenth.
        #[arg(long, default_value_t = 5000)]
        nodes: usize,
        /// How many changes in a burst, and at most one by one.
        #[arg(long, default_value_t = 1000)]
        changes: usize,
        /// How many seconds the daemon is watched at rest.
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        rest: u64,
    },
    /// The data path: each back end, pod to pod, against the same path built by hand and the wire between the nodes.
    Data {
        /// How many alternating rounds, each of which takes 28 times --seconds.
        #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// How many seconds each figure of a round takes.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Whose nodes masquerade what pods send to the outside: the kernel tracks all connections there.
        #[arg(long, value_enum, default_value_t = data::Masquerade::Twill)]
        masquerade: data::Masquerade,
        /// Also writes a plot there, as SVG.
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
    },
    /// What rules cost a small packet and TCP in bulk: Twill's own, in parts and as a whole, against none and one that masquerades.
    Rules {
        /// How packets go from node to node.
        #[arg(long = "path", value_name = "PATH", value_enum, default_value_t = rules::variant::Way::Plain)]
        way: rules::variant::Way,
        /// How many alternating turns, of which the best quarter counts.
        #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(4..))]
        turns: u16,
        /// How many packets each turn sends.
        #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
        packets: u32,
        /// How many MiB each turn sends by one TCP connection.
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=65_536))]
        megabytes: u64,
    },
    /// BGP: a mesh and reflectors of many speakers in one process, and a large table of one peer, beside BIRD and GoBGP.
    Bgp {
        /// How many alternating rounds.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// How many speakers in one network.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(3..=1000))]
        speakers: u16,
        /// How many routes in the table.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=500_000))]
        routes: u32,
    },
    /// The speaker that takes the table for `bgp`.
    #[command(hide = true)]
    Receive {
        /// Its address.
        local: IpAddr,
        /// Its AS.
        asn: u32,
        /// Its peer's address.
        peer: IpAddr,
        /// Its peer's AS.
        peer_asn: u32,
        /// How many routes it expects.
        expected: usize,
    },
    /// One of the processes that assign addresses for `ipam`; prints how many it assigned.
    #[command(hide = true)]
    Assign {
        /// Who assigns.
        contender: assignments::Contender,
        /// Where its state is.
        directory: PathBuf,
        /// Which of the processes this is.
        worker: usize,
        /// For how long.
        milliseconds: u64,
    },
}

fn main() -> ExitCode {
    if let Some(why) = needs::unmet() {
        eprintln!("hack/bench: no lab can be made here: {why}");
        return ExitCode::FAILURE;
    }
    let done = match Arguments::parse().what {
        What::Cni { rounds, slices } => bench_cni(rounds, slices),
        What::Ipam { slices, claims, nodes, batch } => bench_ipam(slices, cluster::Plan { claims, nodes, batch }),
        What::Scale { nodes, changes, rest } => {
            scale::measure(scale::Plan { nodes, changes, rest: Duration::from_secs(rest) })
        }
        What::Data { rounds, seconds, masquerade, plot } => {
            bench_data(data::Plan { rounds: rounds.into(), seconds, masquerade }, plot.as_deref())
        }
        What::Rules { way, turns, packets, megabytes } => {
            let (turns, packets) = (turns.into(), packets as usize);
            rules::measure(rules::Plan { way, turns, packets, bytes: megabytes << 20 }).map(|report| report.markdown())
        }
        What::Bgp { rounds, speakers, routes } => {
            bgp::measure(bgp::Plan { rounds: rounds.into(), speakers: speakers.into(), routes: routes as usize })
        }
        What::Receive { local, asn, peer, peer_asn, expected } => {
            receiver::serve(receiver::Seat { local, asn, peer, peer_asn }, expected)
        }
        What::Assign { contender, directory, worker, milliseconds } => {
            let time = Duration::from_millis(milliseconds);
            assignments::work(contender, &directory, worker, time).map(|count| count.to_string())
        }
    };
    match done {
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

/// How long a contender has its turn.
const SLICE: Duration = Duration::from_secs(2);

fn bench_cni(rounds: usize, slices: usize) -> Result<String> {
    // Blocks so large that what cools never makes an ADD wait.
    let pool = PoolSpec::new("bench", "10.128.0.0/10", Some(16));
    let lab = Lab::builder().nodes(1).pools([pool]).build()?;
    let node = lab.node(1);
    let pods =
        (0..CALLERS[CALLERS.len() - 1]).map(|n| node.create_pod(&format!("bench{n}"))).collect::<Result<Vec<_>>>()?;
    let pods: Vec<_> = pods.iter().map(|pod| pod.namespace()).collect();
    let plugin = lab.binaries().plugin();
    let alone = lab.directory().join("alone");
    std::fs::create_dir_all(&alone).map_err(LabError::io("making a run directory"))?;
    let mut contenders = [
        Contender::stand_alone(&plugin, &alone),
        Contender::with_daemon(&plugin, &node.run_dir()),
        Contender::reference(&lab.directory().join("host-local")),
    ];
    let empty = empty_program(lab.directory())?;
    node.namespace().enter(|| {
        let single = cni::measure(&mut contenders, pods[0], rounds, &empty)?.markdown();
        let pairs = pairs::measure(&contenders, &pods, slices, SLICE)?.markdown();
        Ok(format!("{single}\n{pairs}"))
    })?
}

fn bench_ipam(slices: usize, plan: cluster::Plan) -> Result<String> {
    let lab = Lab::builder().nodes(0).build()?;
    let program = std::env::current_exe().map_err(LabError::io("looking for the running program"))?;
    let assigned = assignments::measure(&program, lab.directory(), slices, SLICE)?;
    let place = lab.etcd().members()[0].namespace();
    let (clustered, seen) = place.enter(|| cluster::measure(lab.etcd(), plan))??;
    Ok(format!("{assigned}\n{clustered}\n{}", view::measure(&seen)?))
}

fn bench_data(plan: data::Plan, plot: Option<&Path>) -> Result<String> {
    let report = data::measure(plan)?;
    if let Some(file) = plot {
        std::fs::write(file, report.svg()?).map_err(LabError::io(format!("writing {}", file.display())))?;
    }
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
