//! Many processes at one store, some of them killed: what was acknowledged stays, and nothing is given twice.
//!
//! The processes are this test program itself, run again for the one test [`worker`], which does as its environment
//! says and reports on standard output, a line at once for each thing that it did.

#![allow(clippy::unwrap_used, reason = "these are tests, though their helpers are not marked so")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::{at, block, environment_of_boot, ip_of, ips, key, node, store_with};
use twill_ipam::store::{BlockState, Environment, Observed, Reservation, Role};
use twill_ipam::{BootTime, Error, Liveness, State, Store};

const TASK: &str = "TWILL_IPAM_TEST_TASK";

/// Not a test, unless it is run as a worker.
#[test]
fn worker() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<_> = task.split(' ').collect();
    let [what, run, name, rest @ ..] = &words[..] else { panic!("{task}") };
    let run = Path::new(run);
    match *what {
        "attach" => attach_many(run, name, rest[0].parse().unwrap()),
        "churn" => churn(run, name),
        "race" => race(run, name, Path::new(rest[0])),
        "hold" => hold(run, name),
        "block" => block_writers(run),
        _ => panic!("{task}"),
    }
}

/// Attaches so many pods, one process's life each as far as the store can tell.
fn attach_many(run: &Path, name: &str, count: usize) {
    for n in 0..count {
        let row = add(run, &format!("{name}-{n}"), &Environment::default()).unwrap();
        println!("@added {name}-{n} {}", row[0]);
    }
}

/// Adds and deletes three pods in turn until it is killed.
fn churn(run: &Path, name: &str) {
    for n in 0_usize.. {
        let container = format!("{name}-{}", n % 3);
        let patience = Duration::from_secs(10);
        let lock = Liveness::acquire(run, key(&container).hash(), patience).unwrap();
        let mut store = Store::open(run, Role::Plugin).unwrap();
        println!("@deleting {container}");
        if let Some(row) = store.mark_deleting(key(&container).hash(), BootTime::now()).unwrap() {
            store.release(row.id, BootTime::now()).unwrap();
        }
        println!("@deleted {container}");
        drop((store, lock));
        match add(run, &container, &Environment::default()) {
            Ok(given) => println!("@added {container} {}", given[0]),
            Err(Error::NoFreeAddress { .. }) => println!("@full"),
            Err(other) => panic!("{other}"),
        }
    }
}

/// Waits for a signal, then opens a store that others open too.
fn race(run: &Path, name: &str, boot: &Path) {
    println!("@ready");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !run.join("go").exists() {
        assert!(Instant::now() < deadline, "no signal");
        std::thread::yield_now();
    }
    let environment = Environment { boot_id: boot.to_owned(), ..Environment::default() };
    println!("@added {name} {}", add(run, name, &environment).unwrap()[0]);
}

/// Takes the lock of a key, and keeps it until it is killed.
fn hold(run: &Path, name: &str) {
    let _held = Liveness::acquire(run, key(name).hash(), Duration::ZERO).unwrap();
    println!("@held");
    wait_for_the_end();
}

/// Keeps everyone from writing until it is killed.
fn block_writers(run: &Path) {
    let plain = rusqlite::Connection::open(run.join("node.db")).unwrap();
    plain.execute_batch("BEGIN IMMEDIATE; UPDATE node SET mtu = 1").unwrap();
    println!("@held");
    wait_for_the_end();
}

/// Reads standard input, which ends with the parent at the latest.
fn wait_for_the_end() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// A whole ADD, as the plugin makes it. Stand-alone where there is no node.
fn add(run: &Path, container: &str, environment: &Environment) -> Result<Vec<IpAddr>, Error> {
    let key = key(container);
    let _lock = Liveness::acquire(run, key.hash(), Duration::from_secs(10))?;
    let mut store = Store::open_in(run, Role::Plugin, environment)?;
    let subnets = if store.node()?.is_some() { vec![] } else { vec!["10.7.0.0/24".parse().unwrap()] };
    let wanted = Reservation {
        key: &key,
        netns: Path::new("/run/netns/x"),
        pod: None,
        subnets: &subnets,
        pools: &[],
        requested: &[],
    };
    let row = store.reserve(&wanted, BootTime::now())?;
    assert!(store.still_reserved(row.id)?);
    store.confirm(row.id, BootTime::now())?;
    Ok(ips(&row))
}

/// A worker, killed with its handle.
struct Worker {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(task: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--nocapture", "--test-threads=1"])
            .env(TASK, task.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing that it reports, in words; `None` when it has ended.
    fn next(&mut self) -> Option<Vec<String>> {
        // A killed process may leave half a line; it ends with the pipe, and is no acknowledgement.
        for line in self.lines.by_ref() {
            // The test harness writes its own text before the first report, on the same line.
            if let Some((_, report)) = line.unwrap().split_once('@') {
                return Some(report.split(' ').map(str::to_owned).collect());
            }
        }
        None
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn finish(mut self) -> Vec<Vec<String>> {
        let reports = std::iter::from_fn(|| self.next()).collect();
        assert!(self.child.wait().unwrap().success());
        reports
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn run_of(store: &Store) -> &str {
    store.path().parent().unwrap().to_str().unwrap()
}

#[test]
fn sixteen_processes_at_once_get_different_addresses_and_none_is_lost() {
    let (_dir, store) = store_with(&["10.0.0.0/24", "10.0.1.0/26"]);
    let start = |n: usize| Worker::start(&["attach", run_of(&store), &format!("w{n}"), "20"]);
    let workers: Vec<_> = (0..16).map(start).collect();
    let reports: Vec<_> = workers.into_iter().flat_map(Worker::finish).collect();
    assert_eq!(reports.len(), 320);
    let given: BTreeMap<_, _> =
        reports.iter().map(|report| (key(&report[1]), report[2].clone())).map(|(k, ip)| (k.hash(), ip)).collect();
    assert_eq!(given.values().collect::<BTreeSet<_>>().len(), 320);
    let rows = store.attachments().unwrap();
    assert!(rows.iter().all(|row| row.state == State::Attached));
    assert_eq!(rows.iter().map(|row| (row.hash, ip_of(row).to_string())).collect::<BTreeMap<_, _>>(), given);
}

#[test]
fn processes_killed_at_any_moment_lose_nothing_that_was_acknowledged() {
    let (_dir, store) = store_with(&["10.0.0.0/18"]);
    let mut pods: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut lives = 0_usize;
    let deadline = Instant::now() + Duration::from_secs(8);
    while lives < 160 && (lives < 24 || Instant::now() < deadline) {
        let mut workers: Vec<_> = (0..8).map(|n| Worker::start(&["churn", run_of(&store), &format!("w{n}")])).collect();
        for (n, worker) in workers.iter_mut().enumerate() {
            // Not all at the same place: the pipe lets a worker run on while its reports wait.
            for _ in 0..(lives + 5 * n) % 37 {
                let report = worker.next().expect("a worker churns until it is killed");
                pods.insert(report.get(1).cloned().unwrap_or_default(), report);
            }
            worker.kill();
            for report in std::iter::from_fn(|| worker.next()) {
                pods.insert(report.get(1).cloned().unwrap_or_default(), report);
            }
            lives += 1;
        }
    }
    let rows = store.attachments().unwrap();
    let addresses: BTreeSet<_> = rows.iter().map(ip_of).collect();
    assert_eq!(addresses.len(), rows.len());
    for (container, last) in pods {
        let row = rows.iter().find(|row| row.hash == key(&container).hash());
        match (last[0].as_str(), row) {
            ("added", Some(row)) => {
                assert_eq!((row.state, ip_of(row).to_string()), (State::Attached, last[2].clone()), "{container}");
            }
            ("added", None) => panic!("{container} was acknowledged and lost"),
            // Killed on the way of the ADD, perhaps between its last commit and its report.
            ("deleted", None) => {}
            ("deleted", Some(row)) => assert_ne!(row.state, State::Deleting, "{container}"),
            _ => {}
        }
    }
    assert_sound(&store);
    assert!(lives >= 24);
}

/// Whether the file is whole, and its counts are those of its rows.
fn assert_sound(store: &Store) {
    let plain = rusqlite::Connection::open(store.path()).unwrap();
    let check: String = plain.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let wrong = "SELECT count(*) FROM block WHERE taken <> (SELECT count(*) FROM address WHERE block = block.id)";
    assert_eq!(plain.query_row(wrong, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let orphans = "SELECT count(*) FROM address WHERE attachment NOT IN (SELECT id FROM attachment)";
    assert_eq!(plain.query_row(orphans, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[test]
fn one_store_is_made_by_many_that_find_none_or_one_of_another_boot() {
    for old in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        if old {
            let first = environment_of_boot(dir.path(), "first");
            common::reserve_of(
                &mut Store::open_in(&run, Role::Plugin, &first).unwrap(),
                "old",
                &["10.7.0.0/24"],
                at(0),
            )
            .unwrap();
        }
        let second = environment_of_boot(dir.path(), "second");
        let boot = second.boot_id.to_str().unwrap();
        let start = |n: usize| Worker::start(&["race", run.to_str().unwrap(), &format!("w{n}"), boot]);
        let mut workers: Vec<_> = (0..16).map(start).collect();
        for worker in &mut workers {
            assert_eq!(worker.next().unwrap(), ["ready"]);
        }
        std::fs::write(run.join("go"), "").unwrap();
        let given: BTreeSet<_> = workers.into_iter().flat_map(Worker::finish).map(|report| report[2].clone()).collect();
        assert_eq!(given.len(), 16);
        let store = Store::open_in(&run, Role::Plugin, &second).unwrap();
        assert_eq!(store.attachments().unwrap().len(), 16);
        assert_sound(&store);
    }
}

#[test]
fn a_kill_frees_the_liveness_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(&["hold", dir.path().to_str().unwrap(), "a"]);
    assert_eq!(worker.next().unwrap(), ["held"]);
    assert!(Liveness::try_acquire(dir.path(), key("a").hash()).unwrap().is_none());
    assert!(Liveness::try_acquire(dir.path(), key("b").hash()).unwrap().is_some());
    worker.kill();
    assert!(Liveness::try_acquire(dir.path(), key("a").hash()).unwrap().is_some());
}

#[test]
fn a_writer_waits_for_another_and_says_so_when_it_waited_too_long() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    let mut worker = Worker::start(&["block", run_of(&store), "x"]);
    assert_eq!(worker.next().unwrap(), ["held"]);
    assert!(matches!(common::reserve(&mut store, "a", at(0)), Err(Error::Contended(_))));
    // Reading goes on meanwhile.
    assert_eq!(store.node().unwrap(), Some(node(true, false)));
    worker.kill();
    common::reserve(&mut store, "a", at(0)).unwrap();
}

#[test]
fn a_store_lost_under_load_is_rebuilt_without_giving_an_address_of_a_live_pod() {
    let (dir, store) = store_with(&["10.0.0.0/24"]);
    let worker = Worker::start(&["attach", run_of(&store), "w", "10"]);
    let pods: Vec<(String, IpAddr)> =
        worker.finish().into_iter().map(|report| (report[1].clone(), report[2].parse().unwrap())).collect();
    drop(store);
    for name in ["node.db", "node.db-wal", "node.db-shm"] {
        // The last to close the store took log and index with it.
        let _gone = std::fs::remove_file(dir.path().join(name));
    }
    let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
    let attachments = pods.iter().map(|(name, ip)| (key(name).hash(), vec![*ip])).collect();
    let pool = "default".parse().unwrap();
    store.put_block(block("10.0.0.0/24"), &pool, BlockState::Open).unwrap();
    store.set_node(&node(true, false)).unwrap();
    assert!(matches!(common::reserve(&mut store, "new", at(0)), Err(Error::NotRebuilt)));
    let observed = Observed { attachments, ..Observed::default() };
    store.rebuild(|| Ok::<_, Error>(observed.clone()), at(0)).unwrap();
    let live: BTreeSet<_> = pods.iter().map(|(_, ip)| *ip).collect();
    for n in 0..246 {
        let row = common::reserve(&mut store, &format!("new{n}"), at(30)).unwrap();
        assert!(!live.contains(&ip_of(&row)));
    }
    assert!(matches!(common::reserve(&mut store, "more", at(30)), Err(Error::NoFreeAddress { .. })));
}
