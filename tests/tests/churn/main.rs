//! Eight nodes whose pods come and go all the time, on an etcd of three members that are killed, paused and cut off one
//! after another, and that forgets its past every second: no address is given twice or out of another's block, no packet
//! between living pods is lost, and nothing is left at the end.

mod audit;
mod faults;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use twill_tests::cni::code;
use twill_tests::deadline;
use twill_tests::load::Load;
use twill_tests::namespace::Namespace;
use twill_tests::probe::Probe;
use twill_tests::{Lab, LabError, Node, PoolSpec, Result, with_lab};

const NODES: u8 = 8;
/// Pods of each node that come and go at once.
const CALLERS: usize = 3;
/// So many pairs of ADD and DEL a second there are at least, in all.
const PACE: u64 = 20;
/// Between two pairs of a caller; on the one node that is busy there is no rest.
const REST: Duration = Duration::from_millis(400);
/// So long a node is the busy one.
const BUSY: Duration = Duration::from_secs(7);
/// A block of each family, in bits: small, so that claims go on while etcd suffers.
const BLOCK: [u8; 2] = [28, 124];
/// Addresses of such a block that a pod may have, at least.
const USABLE: usize = 14;
/// An address is free again after so long.
const COOLING: Duration = Duration::from_secs(30);

/// When an address was in use, on a node.
type Uses = Mutex<Vec<(Instant, Instant)>>;

struct Churn<'a> {
    lab: &'a Lab,
    load: Load,
    /// Of each node.
    uses: Vec<Uses>,
    /// ADDs that were told to try again, since the node had no free address and could claim no block.
    later: AtomicUsize,
    begin: Instant,
    stop: AtomicBool,
}

impl Churn<'_> {
    /// Calls ADD and DEL in turn until it is told to stop. Every tenth pod is checked.
    fn call(&self, number: usize, pod: &Namespace) -> Result<()> {
        let node = &self.lab.nodes()[number];
        let mut calls = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            match self.load.add(node, pod)? {
                Ok(pod) => {
                    calls += 1;
                    if calls % 10 == 0 {
                        self.load.check(&pod)?;
                    }
                    self.load.del(pod)?;
                    let uses = &self.uses[number];
                    uses.lock().expect("nobody panics with it").push((begin, Instant::now() + COOLING));
                }
                Err(refusal) => {
                    refusal.expect_code(code::LATER)?;
                    self.later.fetch_add(1, Ordering::Relaxed);
                }
            }
            let turn = self.begin.elapsed().as_secs() / BUSY.as_secs();
            if turn as usize % usize::from(NODES) != number {
                sleep(REST);
            }
        }
        Ok(())
    }

    /// How many addresses of a family a node used at once, at most.
    fn peak(&self, number: usize) -> usize {
        let uses = self.uses[number].lock().expect("nobody panics with it");
        let during = |at: Instant| uses.iter().filter(|(from, to)| *from <= at && at <= *to).count();
        uses.iter().map(|(from, _)| during(*from)).max().unwrap_or(0)
    }

    /// Until the time is over, and as many pairs were done as the pace calls for.
    fn wait(&self, time: Duration) -> Result<()> {
        sleep(time);
        let wanted = usize::try_from(time.as_secs() * PACE).expect("a few thousand");
        deadline::until_some(&format!("{wanted} pairs"), 3 * time, || {
            let pairs = self.load.pairs();
            // One of the others may have ended with an error.
            Ok(if pairs >= wanted || self.stop.load(Ordering::Relaxed) { Ok(()) } else { Err(pairs) })
        })
    }
}

/// Everything at once for so long; the first error ends all of it.
fn churn(lab: &Lab, time: Duration) -> Result<()> {
    let living = (lab.node(1).add_pod("a")?, lab.node(8).add_pod("b")?);
    let pods: Vec<_> = (0..usize::from(NODES) * CALLERS)
        .map(|n| {
            let node = &lab.nodes()[n / CALLERS];
            Ok((n / CALLERS, node.create_pod(&format!("c{n}"))?.namespace().clone()))
        })
        .collect::<Result<_>>()?;
    let before = lab.nodes().iter().map(Node::attachments).collect::<Result<Vec<_>>>()?;
    let first_blocks = lab.etcd().blocks()?.len();
    let churn = Churn {
        lab,
        load: Load::on(lab),
        uses: (0..NODES).map(|_| Uses::default()).collect(),
        later: AtomicUsize::new(0),
        begin: Instant::now(),
        stop: AtomicBool::new(false),
    };
    let probe =
        Probe::start(living.0.namespace(), living.1.namespace(), living.1.address(false)?, Duration::from_millis(5))?;
    let over = AtomicBool::new(false);
    let stopping = |result: Result<()>| {
        if result.is_err() {
            churn.stop.store(true, Ordering::Relaxed);
        }
        result
    };
    let (counts, looks) = std::thread::scope(|scope| {
        let (churn, over, stopping) = (&churn, &over, &stopping);
        let callers: Vec<_> =
            pods.iter().map(|(node, pod)| scope.spawn(move || stopping(churn.call(*node, pod)))).collect();
        let faults = scope.spawn(|| faults::inject(lab, &churn.stop));
        let auditor = scope.spawn(move || {
            let looks = audit::audit(lab, &churn.load, over);
            stopping(looks.as_ref().map(drop).map_err(|error| LabError::wrong(error.to_string())))?;
            looks
        });
        let waited = churn.wait(time);
        churn.stop.store(true, Ordering::Relaxed);
        let called: Vec<Result<()>> = callers.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        let counts = faults.join().expect("no panic");
        over.store(true, Ordering::Relaxed);
        let looks = auditor.join().expect("no panic");
        LabError::join(called)?;
        waited?;
        Ok::<_, LabError>((counts?, looks?))
    })?;
    let took = churn.begin.elapsed().as_secs_f64();
    let (pairs, later) = (churn.load.pairs(), churn.later.load(Ordering::Relaxed));
    println!("{pairs} pairs in {took:.0} s, {:.0} a second; {later} ADDs were told to try again", pairs as f64 / took);
    println!("faults: {counts:?}");
    let compactions: Vec<usize> = lab
        .etcd()
        .members()
        .iter()
        .map(|member| member.log().matches("finished scheduled compaction").count())
        .collect();
    println!("compactions by member: {compactions:?}; {looks} looks at etcd");
    let logs: Vec<String> = lab.nodes().iter().map(Node::daemon_log).collect();
    let in_logs = |word: &str| logs.iter().map(|log| log.matches(word).count()).sum::<usize>();
    println!(
        "blocks: {first_blocks} before, {} after; {} claims done, {} refused; etcd out of reach {} times",
        lab.etcd().blocks()?.len(),
        in_logs(" claimed "),
        in_logs("was not to be had"),
        in_logs("etcd is out of reach"),
    );
    assert!(compactions.iter().any(|count| *count as f64 > took / 10.0), "etcd does not forget: {compactions:?}");
    assert_eq!(in_logs("has lost history"), 0, "no backup was restored");

    probe.stop()?.expect_no_loss()?;
    lab.converged()?;
    for (node, before) in lab.nodes().iter().zip(&before) {
        deadline::until_some(&format!("{} is as before", node.name()), deadline::PATIENCE, || {
            node.expect_daemon()?;
            let now = node.attachments()?;
            Ok(if now == *before { Ok(()) } else { Err(format!("before:\n{before}\nnow:\n{now}")) })
        })?;
    }
    let peak = (0..NODES.into()).map(|number| churn.peak(number)).max().unwrap_or(0);
    // The low mark is a quarter of a block, one address is the tunnel's, and two blocks are for what is on its way.
    let most = (peak + USABLE / 4 + 1).div_ceil(USABLE) + 2;
    println!("at most {peak} addresses of a family were in use or cooled on a node: {most} blocks are enough");
    audit::nothing_is_leaked(lab, most)
}

fn cluster() -> twill_tests::LabBuilder {
    let pools =
        [PoolSpec::new("v4", "10.42.0.0/16", Some(BLOCK[0])), PoolSpec::new("v6", "fd42::/104", Some(BLOCK[1]))];
    let forgetful = ["--auto-compaction-mode=periodic", "--auto-compaction-retention=1s"];
    Lab::builder().nodes(NODES).members(3).etcd_words(&forgetful).pools(pools)
}

#[test]
fn a_minute_of_coming_and_going_on_an_etcd_that_suffers_gives_nothing_twice_and_leaves_nothing() {
    with_lab(cluster(), |lab| churn(lab, Duration::from_secs(60)));
}

#[test]
#[ignore = "takes long"]
fn ten_minutes_of_coming_and_going_on_an_etcd_that_suffers_give_nothing_twice_and_leave_nothing() {
    with_lab(cluster(), |lab| churn(lab, Duration::from_secs(600)));
}
