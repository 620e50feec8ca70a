//! How fast addresses are assigned: opens the store, reserves and confirms, over and over, as the plugin does once.
//!
//! `cargo run --release -p twill-ipam --example assignments [COUNT] [DIRECTORY]`; the directory should lie on tmpfs, as
//! the run directory does. Prints assignments a second and the median and 99th percentile of one; once with a second
//! connection that stays open, as a running daemon has one, and once without.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use twill_ipam::store::{BlockState, Node, Reservation, Role};
use twill_ipam::{BootTime, Key, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().map_or(Ok(2000), |count| count.parse())?;
    let base = arguments.next().unwrap_or_else(|| "/dev/shm".to_owned());
    for daemon in [true, false] {
        let run_dir = Path::new(&base).join(format!("twill-assignments-{}", std::process::id()));
        let outcome = measure(&run_dir, count, daemon);
        std::fs::remove_dir_all(&run_dir)?;
        report(outcome?, daemon);
    }
    Ok(())
}

/// The time of each assignment.
fn measure(run_dir: &Path, count: usize, daemon: bool) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut store = Store::open(run_dir, Role::Daemon)?;
    store.set_node(&Node { name: "n1".into(), mtu: 1450, ipv4: true, ipv6: true, ..Node::default() })?;
    for (block, pool) in [("10.42.0.0/16", "v4"), ("fd42::/112", "v6")] {
        store.put_block(block.parse()?, &pool.parse()?, BlockState::Open)?;
    }
    let idle = daemon.then_some(store);
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let key = Key { network: "twill".parse()?, container: format!("c{number}").parse()?, ifname: "eth0".parse()? };
        let netns = Path::new("/run/netns/assignments");
        let begun = Instant::now();
        let mut store = Store::open(run_dir, Role::Plugin)?;
        let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &[], requested: &[] };
        let row = store.reserve(&wanted, BootTime::now())?;
        store.confirm(row.id, BootTime::now())?;
        drop(store);
        times.push(begun.elapsed());
    }
    drop(idle);
    Ok(times)
}

fn report(mut times: Vec<Duration>, daemon: bool) {
    let total: Duration = times.iter().sum();
    times.sort();
    let percentile =
        |p: usize| times.get((times.len() * p / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default();
    println!(
        "{}: {:.0} assignments a second; p50 {:.3} ms, p99 {:.3} ms",
        if daemon { "with a running daemon" } else { "stand-alone" },
        times.len() as f64 / total.as_secs_f64(),
        percentile(50).as_secs_f64() * 1e3,
        percentile(99).as_secs_f64() * 1e3,
    );
}
