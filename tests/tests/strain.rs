//! The node's store full, or lost again and again, while pods come and go: what is promised of a quiet node holds of a busy
//! one too.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use twill_tests::cni::Answer;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::load::Load;
use twill_tests::namespace::Namespace;
use twill_tests::{Lab, LabError, Node, PoolSpec, Result, process, with_lab};

/// Pods that come and go at once.
const CALLERS: usize = 4;
/// How long one lives.
const LIFE: Duration = Duration::from_millis(60);
/// The sweep's.
const GRACE: Duration = Duration::from_millis(300);

/// Has pods come and go on a node while `meanwhile` goes on, and yields what ADD refused. A refused ADD has left nothing
/// in its pod.
fn under_load<T>(
    load: &Load,
    node: &Node,
    pods: &[Namespace],
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<(Vec<Answer>, T)> {
    let (stop, refused) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let call = |pod: &Namespace| -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            match load.add(node, pod)? {
                Ok(attached) => {
                    sleep(LIFE);
                    load.del(attached)?;
                }
                Err(answer) => {
                    let links = pod.run(&["ip", "-o", "link"])?;
                    if links.contains("eth0") {
                        return Err(LabError::wrong(format!("{} left an interface: {links}", answer.output)));
                    }
                    refused.lock().expect("nobody panics with it").push(answer);
                    sleep(LIFE);
                }
            }
        }
        Ok(())
    };
    let done = std::thread::scope(|scope| {
        let callers: Vec<_> = pods.iter().map(|pod| scope.spawn(|| call(pod))).collect();
        let done = meanwhile();
        stop.store(true, Ordering::Relaxed);
        LabError::join(callers.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>())?;
        done
    })?;
    Ok((refused.into_inner().expect("nobody panics with it"), done))
}

fn places(node: &Node) -> Result<Vec<Namespace>> {
    (0..CALLERS).map(|n| Ok(node.create_pod(&format!("s{n}"))?.namespace().clone())).collect()
}

/// So many pairs more.
fn goes_on(load: &Load, more: usize) -> Result<()> {
    let goal = load.pairs() + more;
    deadline::until_some(&format!("{more} pairs more"), 4 * PATIENCE, || {
        let pairs = load.pairs();
        Ok(if pairs >= goal { Ok(()) } else { Err(format!("{pairs} of {goal}")) })
    })
}

fn is_as_before(node: &Node, before: &str) -> Result<()> {
    deadline::until_some("all is as before", PATIENCE, || {
        node.expect_daemon()?;
        let now = node.attachments()?;
        Ok(if now == before { Ok(()) } else { Err(format!("before:\n{before}\nnow:\n{now}")) })
    })
}

#[test]
fn on_a_file_system_that_fills_up_under_load_adds_fail_dels_work_and_all_is_freed_in_the_end() {
    with_lab(Lab::builder().nodes(1), |lab| {
        let node = lab.node(1);
        node.stop_daemon()?;
        let directory = node.run_dir();
        let mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", &directory.to_string_lossy()].map(str::to_owned);
        process::run_on_host(process::command(&mount))?;
        node.start_sweeping_daemon(GRACE)?;
        let stays = node.attach("stays")?;
        let (before, pods, load) = (node.attachments()?, places(node)?, Load::on(lab));
        let (refused, served) = under_load(&load, node, &pods, || {
            goes_on(&load, 20)?;
            let filler = fill(&directory)?;
            sleep(Duration::from_secs(3));
            let served = load.pairs();
            fs::remove_file(filler).map_err(LabError::io("making room"))?;
            goes_on(&load, 20)?;
            Ok(served)
        })?;
        let full = refused.iter().filter(|answer| answer.output.to_string().contains("full")).count();
        println!(
            "{} pairs, {served} of them before there was room again; {} ADDs refused, {full} for want of room",
            load.pairs(),
            refused.len()
        );
        assert!(full > 10, "the file system was not full: {:?}", refused.first());
        stays.check()?;
        is_as_before(node, &before)
    });
}

/// Fills a directory's file system to the last byte, and again, as others give room back.
fn fill(directory: &std::path::Path) -> Result<PathBuf> {
    let file = directory.join("filler");
    for _ in 0..3 {
        let line = format!("dd if=/dev/zero bs=4096 >>'{}' 2>/dev/null || true", file.display());
        process::run_on_host(process::command(&["sh", "-c", &line]))?;
    }
    Ok(file)
}

#[test]
fn a_store_that_is_deleted_again_and_again_under_load_gives_no_address_twice() {
    // Of a store that was lost all addresses cool but those of living pods: each time another block is claimed.
    let pools = [PoolSpec::new("v4", "10.42.0.0/18", Some(24)), PoolSpec::new("v6", "fd42::/110", Some(120))];
    with_lab(Lab::builder().nodes(1).pools(pools), |lab| {
        let node = lab.node(1);
        node.stop_daemon()?;
        node.start_sweeping_daemon(GRACE)?;
        let living = [node.attach("a")?, node.attach("b")?];
        let addresses: Vec<std::net::IpAddr> =
            living.iter().map(|pod| pod.addresses()).collect::<Result<Vec<_>>>()?.concat();
        let (before, pods, load) = (node.attachments()?, places(node)?, Load::on(lab));
        let (refused, ()) = under_load(&load, node, &pods, || {
            for _ in 0..5 {
                goes_on(&load, 10)?;
                for name in ["node.db", "node.db-wal", "node.db-shm"] {
                    match fs::remove_file(node.run_dir().join(name)) {
                        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                            return Err(LabError::io(name)(cause));
                        }
                        _ => {}
                    }
                }
            }
            goes_on(&load, 10)
        })?;
        let given = load.ledger.fresh();
        let twice: Vec<_> = given.iter().filter(|(ip, _)| addresses.contains(ip)).collect();
        assert_eq!(twice, Vec::<&_>::new(), "addresses of living pods were given");
        println!(
            "{} pairs, 5 losses, {} ADDs refused, {} blocks",
            load.pairs(),
            refused.len(),
            lab.etcd().blocks()?.len()
        );
        let codes: std::collections::BTreeMap<_, usize> =
            refused.iter().fold(Default::default(), |mut codes, answer| {
                *codes.entry(answer.code()).or_default() += 1;
                codes
            });
        println!(
            "refusals by code: {codes:?}; the first: {:?}",
            refused.first().map(|answer| answer.output.to_string())
        );
        for pod in &living {
            pod.call(twill_tests::cni::Verb::Check)?.expect_success()?;
        }
        is_as_before(node, &before)
    });
}
