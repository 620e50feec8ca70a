//! Assignments a second, by one process and by sixteen: the store is opened, an address reserved and confirmed, as the
//! plugin does for each pod.
//!
//! There are two references. What SQLite can do at all: a transaction that writes one row, with the settings of the
//! store. And what others do: `host-local` of the reference plugins, which keeps a file for each address; it runs as a
//! process each time, so that is what a runtime gets of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use serde_json::json;
use twill_ipam::store::{BlockState, Node, Reservation, Role};
use twill_ipam::{BootTime, Key, Store};

use super::super::measure::{row, run};
use super::rate;
use crate::{LabError, Result, process};

/// How many processes work at once, in one row of the table each.
const CALLERS: [usize; 2] = [1, 16];
/// The reference plugin.
const HOST_LOCAL: &str = "/usr/lib/cni/host-local";

/// Who assigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    /// The node store.
    Twill,
    /// A bare SQLite transaction.
    Sqlite,
    /// `host-local`, a process for each.
    HostLocal,
}

impl Contender {
    const ALL: [Self; 3] = [Self::Twill, Self::HostLocal, Self::Sqlite];

    fn name(self) -> &'static str {
        match self {
            Self::Twill => "Twill: open, reserve, confirm",
            Self::Sqlite => "reference: open, one row in a bare SQLite transaction",
            Self::HostLocal => "reference: host-local, a process each",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Twill => "twill",
            Self::Sqlite => "sqlite",
            Self::HostLocal => "host-local",
        }
    }

    /// What has to be there before any process works.
    fn prepare(self, directory: &Path) -> Result<Option<Store>> {
        std::fs::create_dir_all(directory).map_err(LabError::io(format!("making {}", directory.display())))?;
        match self {
            // It stays open, as the daemon's does.
            Self::Twill => prepare_store(directory).map(Some).map_err(|error| LabError::wrong(error.to_string())),
            Self::Sqlite => {
                let made = open_bare(directory).and_then(|bare| bare.execute_batch("CREATE TABLE row (text TEXT)"));
                made.map(|()| None).map_err(|error| LabError::wrong(error.to_string()))
            }
            Self::HostLocal => Ok(None),
        }
    }
}

fn prepare_store(directory: &Path) -> std::result::Result<Store, twill_ipam::Error> {
    let mut store = Store::open(directory, Role::Daemon)?;
    store.set_node(&Node {
        name: "n1".into(),
        mtu: 1450,
        ipv4: true,
        ipv6: false,
        exhausted: Vec::new(),
        pools: None,
        drain: None,
    })?;
    let (block, pool) = ("10.64.0.0/10", "bench");
    store.put_block(block.parse().expect("a block"), &pool.parse().expect("a name"), BlockState::Open)?;
    Ok(store)
}

/// The settings of the node store (`addresses.md`): a log in shared memory, nothing waits for a disk.
fn open_bare(directory: &Path) -> rusqlite::Result<Connection> {
    let bare = Connection::open(directory.join("bare.db"))?;
    bare.busy_timeout(Duration::from_secs(5))?;
    bare.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA mmap_size = 0;")?;
    Ok(bare)
}

/// What one process does: assigns until the time is over, and says how often.
pub fn work(contender: Contender, directory: &Path, worker: usize, time: Duration) -> Result<usize> {
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < time {
        let name = format!("w{worker}c{count}");
        match contender {
            Contender::Twill => assign(directory, &name).map_err(|error| LabError::wrong(error.to_string()))?,
            Contender::Sqlite => bare(directory, &name).map_err(|error| LabError::wrong(error.to_string()))?,
            Contender::HostLocal => host_local(directory, &name)?,
        }
        count += 1;
    }
    Ok(count)
}

fn assign(directory: &Path, name: &str) -> std::result::Result<(), twill_ipam::Error> {
    let word = "the name is a word";
    let key = Key {
        network: "bench".parse().expect(word),
        container: name.parse().expect(word),
        ifname: "eth0".parse().expect(word),
    };
    let mut store = Store::open(directory, Role::Plugin)?;
    let netns = Path::new("/run/netns/bench");
    let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &[], requested: &[] };
    let row = store.reserve(&wanted, BootTime::now())?;
    store.confirm(row.id, BootTime::now())
}

fn bare(directory: &Path, name: &str) -> rusqlite::Result<()> {
    let mut bare = open_bare(directory)?;
    let transaction = bare.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("INSERT INTO row VALUES (?1)", [name])?;
    transaction.commit()
}

fn host_local(directory: &Path, name: &str) -> Result<()> {
    let ipam = json!({ "type": "host-local", "dataDir": directory, "ranges": [[{ "subnet": "10.64.0.0/10" }]] });
    let input = json!({ "cniVersion": "1.0.0", "name": "bench", "type": "ptp", "ipam": ipam });
    let mut command = Command::new(HOST_LOCAL);
    command.env_clear().env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", name).env("CNI_NETNS", "/run/netns/bench");
    command.env("CNI_IFNAME", "eth0").env("CNI_PATH", "/usr/lib/cni");
    let (output, _) = run(&mut command, input.to_string().as_bytes()).map_err(LabError::io(HOST_LOCAL))?;
    process::expect_success(&command, "the host", output).map(drop)
}

/// Measures so many slices of that length for each contender, in turn. `program` is this program, which is called as
/// `assign CONTENDER DIRECTORY WORKER MILLISECONDS` to [`work`], and prints the count.
pub fn measure(program: &Path, directory: &Path, slices: usize, slice: Duration) -> Result<String> {
    let mut text = format!("Assignments a second: medians of {slices} alternating slices of {slice:?}.\n\n");
    text += &row(&["processes", "who", "assignments/s", "× host-local"]);
    text += "|---|---|---|---|\n";
    for callers in CALLERS {
        let mut rates = Contender::ALL.map(|_| Vec::new());
        for number in 0..slices {
            for (contender, rates) in Contender::ALL.into_iter().zip(&mut rates) {
                let place = directory.join(format!("{}-{callers}-{number}", contender.word()));
                let idle = contender.prepare(&place)?;
                rates.push(rate(at_once(program, contender, &place, callers, slice)?, slice));
                drop(idle);
                std::fs::remove_dir_all(&place).map_err(LabError::io(format!("removing {}", place.display())))?;
            }
        }
        let medians = rates.map(|mut rates| {
            rates.sort_unstable_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        let host_local = medians[1];
        for (contender, median) in Contender::ALL.into_iter().zip(medians) {
            let ratio = format!("{:.1}", median / host_local);
            text += &row(&[&callers.to_string(), contender.name(), &format!("{median:.0}"), &ratio]);
        }
    }
    Ok(text)
}

fn at_once(program: &Path, contender: Contender, place: &Path, callers: usize, slice: Duration) -> Result<usize> {
    let start = |worker: usize| {
        let mut command = Command::new(program);
        command.args(["assign", contender.word()]).arg(PathBuf::from(place));
        command.args([worker.to_string(), slice.as_millis().to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(LabError::io("starting a process that assigns"))?;
        Ok((command, child))
    };
    let children = (0..callers).map(start).collect::<Result<Vec<_>>>()?;
    let mut sum = 0;
    for (command, child) in children {
        let output = child.wait_with_output().map_err(LabError::io("waiting for a process that assigns"))?;
        let said = process::expect_success(&command, "the host", output)?;
        sum += said.parse::<usize>().map_err(|error| LabError::wrong(format!("{said}: {error}")))?;
    }
    Ok(sum)
}
