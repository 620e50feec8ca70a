//! What the plugin does when the node's store or its directory is out of order, and after a reboot.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use twill_tests::cni::{Verb, code};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::kill::{self, Victim};
use twill_tests::{Lab, LabBuilder, LabError, Node, Pod, PoolSpec, Result, process, with_lab};

fn stand_alone() -> LabBuilder {
    let subnets = ["10.43.0.0/24", "fd43::/120"].map(|subnet| subnet.parse().expect("a network"));
    Lab::builder().nodes(1).stand_alone(subnets)
}

fn store(node: &Node) -> PathBuf {
    node.run_dir().join("node.db")
}

/// A device or route of a pod on the node, without the store.
fn kernel(node: &Node) -> Result<String> {
    let mut parts = vec![node.interfaces()?.join(" ")];
    for family in ["-4", "-6"] {
        parts.push(node.run(&["ip", "-N", family, "route", "show", "proto", "117"])?);
        parts.push(node.run(&["ip", family, "neigh", "show", "nud", "permanent"])?);
    }
    Ok(parts.join("\n"))
}

/// A run directory on a small file system of its own, before anything is in it.
fn mount_small(node: &Node) -> Result<()> {
    let directory = node.run_dir();
    process::run_on_host(process::command(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=1m",
        "none",
        &directory.to_string_lossy(),
    ]))
    .map(drop)
}

/// Fills the run directory to the last byte.
fn fill(node: &Node) -> Result<PathBuf> {
    let file = node.run_dir().join("filler");
    for size in [4096, 1] {
        let line = format!("dd if=/dev/zero bs={size} >>'{}' 2>/dev/null || true", file.display());
        process::run_on_host(process::command(&["sh", "-c", &line]))?;
    }
    Ok(file)
}

/// After `damage` to the store, an ADD gives no address of a living pod, and the living pods' CHECK and DEL succeed.
fn a_lost_store_is_found_again(damage: impl Fn(&Node) -> Result<()>) {
    with_lab(stand_alone(), |lab| {
        let node = lab.node(1);
        let bare = kernel(node)?;
        let pods = [node.add_pod("a")?, node.add_pod("b")?];
        let living: Vec<IpAddr> = pods.iter().map(Pod::addresses).collect::<Result<Vec<_>>>()?.concat();
        damage(node)?;
        let new = node.create_pod("new")?;
        // Every other address cools for a while, since nobody knows who had it last.
        deadline::until_some("an ADD succeeds", 2 * PATIENCE, || {
            let answer = new.call(Verb::Add)?;
            Ok(match answer.code() {
                None if answer.success => Ok(()),
                other => Err(other),
            })
        })?;
        let given = new.addresses()?;
        assert!(given.iter().all(|ip| !living.contains(ip)), "{given:?} were given, and {living:?} live");
        for pod in &pods {
            pod.call(Verb::Check)?.expect_success()?;
            pod.ping(given[0], 56)?;
        }
        for pod in pods.iter().chain([&new]) {
            pod.call(Verb::Del)?.expect_success()?;
        }
        assert_eq!(kernel(node)?, bare);
        assert_eq!(node.query_store("SELECT count(*) FROM attachment")?, "0");
        Ok(())
    });
}

#[test]
fn a_store_that_was_deleted_is_found_again_in_the_kernel() {
    a_lost_store_is_found_again(|node| {
        for name in ["node.db", "node.db-wal", "node.db-shm"] {
            fs::remove_file(node.run_dir().join(name)).or_else(|cause| match cause.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(LabError::io(name)(cause)),
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_store_that_was_truncated_is_found_again_in_the_kernel() {
    a_lost_store_is_found_again(|node| {
        let file = fs::OpenOptions::new().write(true).open(store(node)).map_err(LabError::io("the store"))?;
        file.set_len(100).map_err(LabError::io("truncating the store"))
    });
}

#[test]
fn a_store_of_a_newer_schema_is_refused_untouched_and_a_del_works_by_the_kernel() {
    with_lab(stand_alone(), |lab| {
        let node = lab.node(1);
        let bare = kernel(node)?;
        let pod = node.add_pod("a")?;
        let path = store(node);
        node.run(&["sqlite3", &path.to_string_lossy(), "PRAGMA user_version = 9000"])?;
        let rows = "PRAGMA user_version; SELECT hash, state FROM attachment; SELECT text FROM address";
        let before = (node.query_store(rows)?, kernel(node)?);
        let new = node.create_pod("new")?;
        let answer = new.call(Verb::Add)?;
        assert!(!answer.success, "it was served by a store that it cannot know");
        assert!(answer.output.to_string().contains("9000"), "the error names the version: {}", answer.output);
        assert_eq!((node.query_store(rows)?, kernel(node)?), before, "something was touched");
        pod.call(Verb::Del)?.expect_success()?;
        assert_eq!(kernel(node)?, bare, "the DEL left something");
        assert_eq!(node.query_store(rows)?, before.0, "the DEL wrote into a newer store");
        Ok(())
    });
}

/// While nothing can be written: an ADD fails before it did anything, and a DEL takes away what stands. Gives the pods that
/// were attached and deleted before that, since SQLite's log had room in itself.
fn nothing_can_be_written(node: &Node, pod: &Pod) -> Result<Vec<Pod>> {
    let mut before = kernel(node)?;
    let mut lucky = Vec::new();
    loop {
        let new = node.create_pod(&format!("new{}", lucky.len()))?;
        if !new.call(Verb::Add)?.success {
            break;
        }
        lucky.push(new);
        assert!(lucky.len() < 100, "ADDs without rows");
        before = kernel(node)?;
    }
    assert_eq!(kernel(node)?, before, "the failed ADD left something");
    for pod in &lucky {
        pod.call(Verb::Del)?.expect_success()?;
    }
    pod.call(Verb::Del)?.expect_success()?;
    let host = pod.host_interface()?;
    assert!(!node.interfaces()?.contains(&host), "the DEL left {host}");
    assert!(!kernel(node)?.contains(&host), "the DEL left something of {host}");
    assert!(!pod.namespace().run(&["ip", "-o", "link"])?.contains("eth0"), "the DEL left the pod's interface");
    Ok(lucky)
}

#[test]
fn on_a_full_file_system_add_does_nothing_and_del_works_and_the_sweep_frees_the_row_later() {
    let pools = [PoolSpec::v4(), PoolSpec::v6()];
    with_lab(Lab::builder().nodes(1).pools(pools), |lab| {
        let node = lab.node(1);
        node.stop_daemon()?;
        mount_small(node)?;
        node.start_sweeping_daemon(Duration::from_millis(300))?;
        let pod = node.create_pod("a")?;
        deadline::until("the pod is attached", PATIENCE, || Ok(pod.call(Verb::Add)?.success))?;
        let filler = fill(node)?;
        let lucky = nothing_can_be_written(node, &pod)?;
        // Whether the DELs' rows go depends on what room SQLite's log has in itself; the failed ADD's must not be there.
        let rows = node.query_store("SELECT container FROM attachment")?;
        let known = |row: &str| lucky.iter().chain([&pod]).any(|pod| row == pod.container());
        assert!(rows.lines().all(known), "the failed ADD left a row: {rows}");
        fs::remove_file(filler).map_err(LabError::io("making room"))?;
        deadline::until_some("the row is freed", PATIENCE, || {
            let rows = node.query_store("SELECT hash, state FROM attachment")?;
            Ok(if rows.is_empty() { Ok(()) } else { Err(rows) })
        })?;
        node.add_pod("later")?.check()
    });
}

#[test]
fn in_a_read_only_directory_add_does_nothing_and_del_works() {
    with_lab(stand_alone(), |lab| {
        let node = lab.node(1);
        mount_small(node)?;
        let pod = node.add_pod("a")?;
        let directory = node.run_dir();
        let directory = directory.to_string_lossy();
        process::run_on_host(process::command(&["mount", "-o", "remount,ro", &directory]))?;
        nothing_can_be_written(node, &pod)?;
        process::run_on_host(process::command(&["mount", "-o", "remount,rw", &directory]))?;
        // Its row is still there: the next ADD brings to its end what the DEL could not write.
        pod.call(Verb::Add)?.expect_success()?;
        pod.call(Verb::Check)?.expect_success()?;
        pod.call(Verb::Del)?.expect_success()?;
        assert_eq!(node.query_store("SELECT count(*) FROM attachment")?, "0");
        Ok(())
    });
}

#[test]
fn after_a_reboot_the_addresses_are_free_and_late_dels_succeed() {
    let subnets = ["10.43.0.9/32".parse().expect("a network")];
    with_lab(Lab::builder().nodes(1).stand_alone(subnets), |lab| {
        let node = lab.node(1);
        let old = node.add_pod("old")?;
        // What a reboot takes: namespaces with all that is in them. What it would leave is a store of another boot.
        old.namespace().remove()?;
        deadline::until("the kernel has cleaned up", PATIENCE, || {
            Ok(!node.interfaces()?.iter().any(|n| n.starts_with("tw")))
        })?;
        node.run(&["sqlite3", &store(node).to_string_lossy(), "UPDATE meta SET boot = 'another boot'"])?;
        fs::write(node.run_dir().join("node.boot"), "another boot").map_err(LabError::io("the mark of the boot"))?;
        let new = node.add_pod("new")?;
        assert_eq!(new.addresses()?, ["10.43.0.9".parse::<IpAddr>().expect("an address")]);
        old.call(Verb::Del)?.expect_success()?;
        new.call(Verb::Check)?.expect_success().map(drop)
    });
}

#[test]
fn the_same_container_added_by_two_at_once_is_attached_once() {
    with_lab(stand_alone(), |lab| {
        let pod = lab.node(1).create_pod("a")?;
        let answers = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| pod.call(Verb::Add))).collect();
            calls.into_iter().map(|call| call.join().expect("no panic")).collect::<Result<Vec<_>>>()
        })?;
        let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.success);
        assert_eq!((good.len(), bad.len()), (1, 7));
        bad.into_iter().try_for_each(|answer| answer.expect_code(code::EXISTS))?;
        pod.call(Verb::Check)?.expect_success().map(drop)
    });
}

/// ADDs that are killed at calls all over, of pods whose runtime is gone too.
#[test]
fn the_sweep_frees_what_killed_adds_left_where_no_del_comes() {
    with_lab(Lab::builder().nodes(1), |lab| {
        let node = lab.node(1);
        node.stop_daemon()?;
        let bare = node.attachments()?;
        let input = lab.directory().join("input");
        fs::write(&input, node.network().plugin_input(None).to_string()).map_err(LabError::io("writing the input"))?;
        let mut killed = 0;
        for at in (40..400).step_by(9) {
            let pod = node.create_pod(&format!("k{at}"))?;
            let mut command = std::process::Command::new(lab.binaries().plugin());
            command.env_clear().envs([
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", &pod.container()),
                ("CNI_IFNAME", "eth0"),
            ]);
            command.env("CNI_NETNS", pod.namespace().path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
            command.stdin(fs::File::open(&input).map_err(LabError::io("opening the input"))?);
            command.stdout(std::process::Stdio::null());
            let trace = node.namespace().enter(|| kill::run(&mut command, at, Victim::All))?;
            killed += usize::from(trace.map_err(LabError::io("tracing an ADD"))?.status.is_none());
            if at % 2 == 0 {
                pod.namespace().remove()?;
            }
        }
        let left = node.query_store("SELECT state, count(*) FROM attachment GROUP BY state")?;
        println!("{killed} ADDs were killed and left rows: {}", left.replace('\n', ", "));
        assert!(left.contains("reserved"), "nothing was left to be swept: {left}");
        // An attached pod whose namespace stands is a living one to everybody but its runtime.
        for row in node.query_store("SELECT netns FROM attachment WHERE state = 'attached'")?.lines() {
            let name = row.rsplit('/').next().unwrap_or_default();
            twill_tests::namespace::Namespace::named(name).remove()?;
        }
        node.start_sweeping_daemon(Duration::from_millis(300))?;
        deadline::until_some("all is as before", PATIENCE, || {
            node.expect_daemon()?;
            let now = node.attachments()?;
            Ok(if now == bare { Ok(()) } else { Err(now) })
        })
    });
}
