//! Many pods: 200 that come and go at once, and thousands one after another, after which all is as before.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use twill_ipam::address::COOLING;
use twill_tests::cni::{Answer, Call, Verb};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::VXLAN;
use twill_tests::namespace::Namespace;
use twill_tests::{Lab, LabError, Node, Pod, PoolSpec, Result, with_lab};

/// Runs `work` for each pod at once.
fn at_once(pods: &[Pod], work: impl Fn(&Pod) -> Result<Answer> + Sync) -> Result<Vec<Answer>> {
    std::thread::scope(|scope| {
        let started: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
        started.into_iter().map(|thread| thread.join().expect("a call does not panic")).collect()
    })
}

fn addresses(answers: Vec<Answer>) -> Result<Vec<IpAddr>> {
    let mut all = Vec::new();
    for answer in answers {
        let result = answer.expect_success()?;
        for ip in result["ips"].as_array().into_iter().flatten() {
            let text = ip["address"].as_str().and_then(|text| text.split('/').next()).unwrap_or_default();
            all.push(text.parse().map_err(|e| LabError::wrong(format!("{text}: {e}")))?);
        }
    }
    Ok(all)
}

#[test]
fn two_hundred_pods_come_at_once_and_go_at_once() {
    // Blocks of 64: the daemon claims while the pods wait.
    with_lab(Lab::builder().nodes(1), |lab| {
        let node = lab.node(1);
        deadline::until("the node has its tunnel", PATIENCE, || {
            Ok(node.interfaces()?.iter().any(|name| name == VXLAN))
        })?;
        let before = node.attachments()?;
        let pods = (0..200).map(|n| node.create_pod(&format!("p{n}"))).collect::<Result<Vec<_>>>()?;
        let given = addresses(at_once(&pods, |pod| pod.call(Verb::Add))?)?;
        let distinct: BTreeSet<_> = given.iter().collect();
        assert_eq!((given.len(), distinct.len()), (400, 400), "two addresses for each, none twice");
        for pod in pods.iter().step_by(20) {
            pod.call(Verb::Check)?.expect_success()?;
            pod.ping(pods[199].address(false)?, 56)?;
        }
        for answer in at_once(&pods, |pod| pod.call(Verb::Del))? {
            answer.expect_success()?;
        }
        deadline::until_some("nothing is left", PATIENCE, || {
            let now = node.attachments()?;
            Ok(if now == before { Ok(()) } else { Err(now) })
        })
    });
}

/// What must not grow.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    links: usize,
    routes: usize,
    rules: usize,
    neighbours: usize,
    firewall: usize,
    rows: usize,
    descriptors: usize,
}

fn count(node: &Node, daemon: u32) -> Result<Counts> {
    let lines = |words: &[&str]| Ok::<_, LabError>(node.run(words)?.lines().count());
    let both = |words: [&str; 4]| {
        Ok::<_, LabError>(lines(&[&["ip", "-4"][..], &words].concat())? + lines(&[&["ip", "-6"][..], &words].concat())?)
    };
    let rows = "SELECT id FROM attachment; SELECT text FROM address WHERE cooling IS NULL; SELECT id FROM block";
    Ok(Counts {
        links: lines(&["ip", "-o", "link", "show"])?,
        routes: both(["route", "show", "table", "all"])?,
        rules: lines(&["ip", "-4", "rule", "show"])? + lines(&["ip", "-6", "rule", "show"])?,
        neighbours: lines(&["ip", "neigh", "show", "nud", "permanent"])?,
        firewall: lines(&["nft", "--stateless", "list", "ruleset"])?,
        rows: node.query_store(rows)?.lines().count(),
        descriptors: descriptors(daemon)?,
    })
}

/// The least number of the daemon's open files within a second: while it asks `nft`, it has three pipes more.
fn descriptors(daemon: u32) -> Result<usize> {
    let mut least = usize::MAX;
    for _ in 0..20 {
        let open = fs::read_dir(format!("/proc/{daemon}/fd")).map_err(LabError::io("the daemon's descriptors"))?;
        least = least.min(open.count());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(least)
}

/// The daemon's own memory, in KiB (proc(5), smaps_rollup): its heap and stacks. The pages of its program are shared with whatever other
/// daemons run at the moment, so its share of them grows as those end.
fn memory(daemon: u32) -> Result<u64> {
    let text =
        fs::read_to_string(format!("/proc/{daemon}/smaps_rollup")).map_err(LabError::io("reading smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| LabError::wrong("smaps_rollup has no Anonymous"))
}

/// How many pairs of ADD and DEL go on at once.
const AT_ONCE: usize = 8;

/// So many ADDs, each with its DEL, with a new container ID each, begun `every` so often.
fn pairs(lab: &Lab, pods: &[Namespace], first: usize, count: usize, every: Duration) -> Result<()> {
    let (node, plugin) = (lab.node(1), lab.binaries().plugin());
    let input = node.network().plugin_input(None);
    let (next, begin) = (AtomicUsize::new(first), Instant::now());
    let work = |pod: &Namespace| -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= first + count {
                return Ok(());
            }
            let due = begin + every * u32::try_from(number - first).expect("fewer pairs than 2³²");
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let container = format!("c{number}");
            let call = |verb, input: &Value| {
                let call =
                    Call { plugin: &plugin, verb, container: &container, netns: pod.path(), ifname: "eth0", input };
                call.run_in(node.namespace())?.expect_success()
            };
            let result = call(Verb::Add, &input)?;
            call(Verb::Del, &node.network().plugin_input(Some(&result)))?;
        }
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
        started.into_iter().try_for_each(|thread| thread.join().expect("a worker does not panic"))
    })
}

/// After `warm` pairs, `many` more change no count, and the daemon's memory by less than 1 MiB. The first ones take as long as an address
/// cools, and the others go on at that pace: what cools has its line in the store, in the mirror and on its way to etcd, and so as many
/// do at both looks.
fn endure(warm: usize, many: usize) {
    // Blocks that hold what cools meanwhile: how many of them a node has depends on its pace else.
    let pools = [PoolSpec::new("v4", "10.48.0.0/14", Some(16)), PoolSpec::new("v6", "fd42::/104", Some(112))];
    with_lab(Lab::builder().nodes(1).pools(pools), |lab| {
        let node = lab.node(1);
        let daemon = node.daemon_pid().ok_or_else(|| LabError::wrong("no daemon"))?;
        let pods: Vec<_> = (0..AT_ONCE)
            .map(|n| node.create_pod(&format!("w{n}")).map(|pod| pod.namespace().clone()))
            .collect::<Result<_>>()?;
        let every = COOLING / u32::try_from(warm).expect("fewer pairs than 2³²");
        pairs(lab, &pods, 0, warm, every)?;
        let quiet = || {
            deadline::until("no attachment is left", PATIENCE, || {
                Ok(node.query_store("SELECT count(*) FROM attachment")? == "0")
            })
        };
        quiet()?;
        let (before, kib) = (count(node, daemon)?, memory(daemon)?);
        pairs(lab, &pods, warm, many, every)?;
        quiet()?;
        let after = deadline::until_some("the counts are as before", PATIENCE, || {
            let now = count(node, daemon)?;
            Ok(if now == before { Ok(now) } else { Err((now, "before:", count(node, daemon)?)) })
        });
        let now = memory(daemon)?;
        println!("{many} pairs after {warm}: {before:?}; memory {kib} KiB, then {now} KiB");
        after.map_err(|error| LabError::wrong(format!("{error}; before: {before:?}")))?;
        node.expect_daemon()?;
        assert!(now < kib + 1024, "the daemon's memory grew from {kib} to {now} KiB");
        Ok(())
    });
}

#[test]
fn three_hundred_pairs_after_as_many_leave_all_as_it_was() {
    endure(300, 300);
}

#[test]
#[ignore = "takes long"]
fn ten_thousand_pairs_after_a_thousand_leave_all_as_it_was() {
    endure(1_000, 10_000);
}

/// Long enough for many sweeps with the grace period of these tests.
const GRACE: Duration = Duration::from_millis(300);

/// Two pods that live, and one whose namespace is gone without a DEL, with its host end. The sweep frees the one, and the
/// others for no reason: their addresses stay theirs, and they answer.
fn only_the_forgotten_pod_is_freed(start: impl Fn(&Node) -> Result<()>) {
    with_lab(Lab::builder().nodes(1), |lab| {
        let node = lab.node(1);
        node.stop_daemon()?;
        let pods = [node.add_pod("a")?, node.add_pod("b")?];
        let forgotten = node.add_pod("forgotten")?;
        let hash = forgotten.host_interface()?;
        let living = "SELECT hash, state FROM attachment ORDER BY hash";
        forgotten.namespace().remove()?;
        start(node)?;
        let gone = format!("SELECT count(*) FROM attachment WHERE 'tw' || hash = '{hash}'");
        deadline::until("the forgotten pod's row is freed", PATIENCE, || {
            node.expect_daemon()?;
            Ok(node.query_store(&gone)? == "0")
        })?;
        let rows = node.query_store(living)?;
        assert_eq!(rows.lines().count(), 2, "{rows}");
        // A second forgotten pod, as the measure that several sweeps have passed.
        let another = node.add_pod("another")?;
        another.namespace().remove()?;
        let gone = format!("SELECT count(*) FROM attachment WHERE 'tw' || hash = '{}'", another.host_interface()?);
        deadline::until("the second one's row is freed", PATIENCE, || Ok(node.query_store(&gone)? == "0"))?;
        assert_eq!(node.query_store(living)?, rows, "a living pod was freed");
        for pod in &pods {
            pod.check()?;
            node.run(&["ping", "-n", "-q", "-c1", "-W3", &pod.address(false)?.to_string()])?;
        }
        Ok(())
    });
}

#[test]
fn a_sweep_frees_what_the_runtime_forgot_and_no_living_pod() {
    only_the_forgotten_pod_is_freed(|node| node.start_sweeping_daemon(GRACE));
}

#[test]
fn a_sweep_that_sees_no_namespaces_path_frees_no_living_pod() {
    only_the_forgotten_pod_is_freed(|node| {
        node.start_blind_daemon(GRACE)?;
        let pid = node.daemon_pid().ok_or_else(|| LabError::wrong("no daemon"))?;
        deadline::until("the daemon sees no namespace", PATIENCE, || {
            let listing = fs::read_dir(format!("/proc/{pid}/root/run/netns"));
            Ok(listing.map_err(LabError::io("looking with the daemon's eyes"))?.next().is_none())
        })
    });
}
