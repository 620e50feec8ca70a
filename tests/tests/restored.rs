//! etcd restored from a backup while the nodes run: they find out, close their blocks, put back what is theirs, claim
//! nothing for ten minutes, and say so; who took somebody's block meanwhile stops giving addresses of it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use twill_tests::cni::{Verb, code};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::etcd::{BlockEntry, DEFAULT_TOKEN};
use twill_tests::probe::Probe;
use twill_tests::{Lab, LabBuilder, LabError, Pod, PoolSpec, Result, with_lab};

/// So long an address is nobody's after a DEL.
const COOLING: Duration = Duration::from_secs(30);

/// Blocks of four addresses: three pods and the tunnel fill a node's first one.
fn small_blocks(pool: &str, nodes: u8) -> LabBuilder {
    Lab::builder().nodes(nodes).pools([PoolSpec::new("v4", pool, Some(30))])
}

fn blocks_of(lab: &Lab, node: &str) -> Result<BTreeSet<String>> {
    Ok(lab.etcd().blocks_of(node)?.iter().map(ToString::to_string).collect())
}

/// So many pods on n1, until one has an address of a second block: that one, and all.
fn until_second_block(lab: &Lab) -> Result<Vec<Pod>> {
    let pods = (0..5).map(|n| lab.node(1).attach(&format!("a{n}"))).collect::<Result<Vec<_>>>()?;
    let blocks = lab.etcd().blocks_of("n1")?;
    let used =
        |block: &ipnetwork::IpNetwork| pods.iter().any(|pod| pod.address(false).is_ok_and(|ip| block.contains(ip)));
    assert!(blocks.len() >= 2 && blocks.iter().filter(|block| used(block)).count() >= 2, "{blocks:?}");
    Ok(pods)
}

/// n1 claims a block, and n3 joins, after the backup; then the backup is restored, with this token. With the time at which
/// the loss was found out.
fn lose_what_came_after(lab: &mut Lab, token: &str) -> Result<(Vec<Pod>, Pod, Instant)> {
    let far = lab.node(2).attach("far")?;
    lab.etcd().back_up()?;
    let pods = until_second_block(lab)?;
    lab.join()?;
    lab.converged()?;
    let late = lab.node(3).attach("late")?;
    // One has an address that etcd knows, one that it is about to forget, and one on a node that it is about to forget, and
    // that has nobody to say so.
    let probe =
        |pod: &Pod| Probe::start(far.namespace(), pod.namespace(), pod.address(false)?, Duration::from_millis(2));
    let probes = [&pods[0], &pods[4], &late].map(probe);
    lab.saved()?;
    lab.node(3).kill_daemon()?;
    let before: Vec<_> = ["n1", "n2", "n3"].iter().map(|name| blocks_of(lab, name)).collect::<Result<_>>()?;
    lab.etcd().restore(token)?;
    let found = Instant::now();
    lab.nodes()[..2].iter().try_for_each(|node| node.says("etcd has lost history"))?;
    deadline::until("n1 has put back its blocks", PATIENCE, || Ok(blocks_of(lab, "n1")? == before[0]))?;
    far.ping(late.address(false)?, 56)?;
    lab.node(3).start_daemon()?;
    lab.node(3).says("etcd has lost history")?;
    deadline::until_some("each node has put back its own blocks", PATIENCE, || {
        let now: Vec<_> = ["n1", "n2", "n3"].iter().map(|name| blocks_of(lab, name)).collect::<Result<_>>()?;
        Ok(if now == before { Ok(()) } else { Err(format!("before: {before:?}; now: {now:?}")) })
    })?;
    lab.converged()?;
    for probe in probes {
        let probe = probe?;
        probe.until_answered(50)?;
        probe.stop()?.expect_no_loss()?;
    }
    for pod in pods.iter().chain([&late, &far]) {
        pod.call(Verb::Check)?.expect_success()?;
        far.ping(pod.address(false)?, 56)?;
    }
    Ok((pods, late, found))
}

/// Uses up what n1 has, and yields a pod whose ADD finds nothing, though the pool has blocks that are free.
fn nothing_is_claimed(lab: &Lab) -> Result<Pod> {
    let before: Vec<BlockEntry> = lab.etcd().blocks()?;
    for n in 0..16 {
        let pod = lab.node(1).create_pod(&format!("h{n}"))?;
        let answer = pod.call(Verb::Add)?;
        if !answer.success {
            answer.expect_code(code::LATER)?;
            assert_eq!(lab.etcd().blocks()?, before, "somebody claimed during the hold");
            assert!(before.len() < 16, "the pool has no block to be claimed: {before:?}");
            return Ok(pod);
        }
    }
    Err(LabError::wrong("n1 gives more addresses than it has blocks for: it claimed during the hold"))
}

fn a_restored_snapshot(token: &str, then: impl FnOnce(&Lab, &Pod, Instant) -> Result<()>) {
    with_lab(small_blocks("10.42.0.0/26", 2), |lab| {
        let (pods, _, found) = lose_what_came_after(lab, token)?;
        let waiting = nothing_is_claimed(lab)?;
        // The others claim nothing either, and what there is is given on.
        let status = lab.node(1).daemon_log();
        assert!(status.contains("claims no others for 600 s"), "an operator is told of the hold:\n{status}");
        pods[0].call(Verb::Del)?.expect_success()?;
        then(lab, &waiting, found)
    });
}

#[test]
fn a_snapshot_restored_as_another_cluster_is_found_out_and_every_block_comes_back() {
    a_restored_snapshot("another", |_, _, _| Ok(()));
}

#[test]
fn a_snapshot_restored_as_the_same_cluster_is_found_out_and_every_block_comes_back() {
    a_restored_snapshot(DEFAULT_TOKEN, |_, _, _| Ok(()));
}

#[test]
#[ignore = "takes long"]
fn ten_minutes_after_a_snapshot_was_restored_blocks_are_claimed_again() {
    a_restored_snapshot("another", |lab, waiting, found| {
        // The address of the pod that went away is cool by then; it has to be somebody's.
        let next = lab.node(1).create_pod("next")?;
        let succeeds = |pod: &Pod, within| {
            deadline::until_some("an ADD succeeds", within, || {
                let answer = pod.call(Verb::Add)?;
                Ok(if answer.success { Ok(()) } else { Err(answer.output) })
            })
        };
        succeeds(&next, COOLING + PATIENCE)?;
        let hold = Duration::from_secs(600);
        succeeds(waiting, hold + 2 * PATIENCE)?;
        // By the daemon's clock the hold began a little later than by ours, never earlier.
        assert!(found.elapsed() >= hold, "it claimed after {:?}", found.elapsed());
        Ok(())
    });
}

#[test]
fn who_took_a_block_that_a_restored_etcd_had_lost_gives_no_address_of_it() {
    // Two blocks: the second is n2's, and once etcd has lost that, the only one that is free.
    with_lab(small_blocks("10.42.0.0/29", 1), |lab| {
        let near = lab.node(1).attach("near")?;
        lab.etcd().back_up()?;
        lab.join()?;
        lab.converged()?;
        let pod = lab.node(2).attach("pod")?;
        lab.saved()?;
        let lost = blocks_of(lab, "n2")?;
        lab.node(2).kill_daemon()?;
        lab.etcd().restore("another")?;
        // A node that never saw the old etcd has nothing to find out by.
        lab.join()?;
        deadline::until_some("n3 has taken n2's block", PATIENCE, || {
            let now = blocks_of(lab, "n3")?;
            Ok(if now == lost { Ok(()) } else { Err(now) })
        })?;
        lab.node(2).start_daemon()?;
        lab.node(2).says("and now belongs to n3")?;
        lab.node(3).says("was n2's before, which still has pods in it")?;
        let disputes = lab.etcd().read("nodes/n2")?[0].1["disputes"].to_string();
        assert!(lost.iter().all(|block| disputes.contains(block.as_str())), "{disputes}");
        for number in [2, 3] {
            let refused = lab.node(number).create_pod(&format!("r{number}"))?.call(Verb::Add)?;
            assert!(matches!(refused.code(), Some(code::LATER | code::NO_ADDRESS)), "{}", refused.output);
        }
        // The pod itself was not touched, and the nodes' own ones serve on.
        pod.call(Verb::Check)?.expect_success()?;
        lab.node(2).run(&["ping", "-n", "-c1", "-W3", &pod.address(false)?.to_string()])?;
        let next: IpAddr = lab.node(1).attach("next")?.address(false)?;
        near.ping(next, 56)
    });
}
