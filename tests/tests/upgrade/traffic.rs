//! What goes on while a node is replaced: pods that stay and talk, a packet a millisecond, and pods that come and go on every node.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::load::{Attached, Load};
use twill_tests::namespace::Namespace;
use twill_tests::previous::installed;
use twill_tests::probe::Probe;
use twill_tests::{Lab, LabError, Node, Result};

use super::PLUGIN;

const MILLISECOND: Duration = Duration::from_millis(1);
/// Between two pairs of ADD and DEL of a node.
const REST: Duration = Duration::from_millis(40);
/// So much goes on between two looks: answers of each pair that talks, and pairs of ADD and DEL of each node.
const A_WHILE: (u64, usize) = (200, 5);

/// What an ADD says that had no luck with the kernel in its time: on a machine so busy that it takes a second for each lock of the
/// network, whichever version it is of. With the code "try again later" (CNI specification, "Error"), and a runtime does.
const TOO_LATE: (u32, &str) = (11, ": an ADD may take 10 seconds, and they are over");
/// So many ADDs of a whole run, which are hundreds, may say that, and none may fail in any other way.
const MOST_TOO_LATE: usize = 5;

/// Where pods are to be, and the plugins that attach them: those that their nodes have installed at the moment.
pub(crate) struct Grounds {
    load: Load,
    /// ADDs that were too late.
    late: AtomicUsize,
    /// Of each node: for a pod that stays, for one that comes and goes, for one that outlives a change of versions.
    namespaces: Vec<[Namespace; 3]>,
}

impl Grounds {
    pub(crate) fn of(lab: &Lab) -> Result<Self> {
        let namespace =
            |node: &Node, what: &str| Namespace::create(format!("{}-p-{what}{}", lab.prefix(), node.name()));
        let of_node = |node: &Node| Ok([namespace(node, "s")?, namespace(node, "c")?, namespace(node, "o")?]);
        let namespaces = lab.nodes().iter().map(of_node).collect::<Result<_>>()?;
        Ok(Self { load: Load::by(|node| installed(node, PLUGIN)), late: AtomicUsize::new(0), namespaces })
    }

    fn add<'a>(&'a self, node: &'a Node, namespace: &'a Namespace) -> Result<Attached<'a>> {
        loop {
            let answer = match self.load.add(node, namespace)? {
                Ok(attached) => return Ok(attached),
                Err(answer) => answer.output,
            };
            let (code, words) = TOO_LATE;
            let is_late = answer["code"] == code && answer["msg"].as_str().is_some_and(|text| text.ends_with(words));
            if !is_late || self.late.fetch_add(1, Ordering::Relaxed) >= MOST_TOO_LATE {
                return Err(LabError::wrong(format!("an ADD on {} failed: {answer}", node.name())));
            }
            println!("{}, and once more: {answer}", node.name());
        }
    }

    /// How many ADDs were called a second time.
    pub(crate) fn late(&self) -> usize {
        self.late.load(Ordering::Relaxed)
    }
}

/// The pods that stay, one on each node.
pub(crate) struct Pods<'a> {
    grounds: &'a Grounds,
    attached: Vec<Attached<'a>>,
}

impl<'a> Pods<'a> {
    pub(crate) fn attach(lab: &'a Lab, grounds: &'a Grounds) -> Result<Self> {
        let places = lab.nodes().iter().zip(&grounds.namespaces);
        let attached = places.map(|(node, [stays, ..])| grounds.add(node, stays)).collect::<Result<_>>()?;
        Ok(Self { grounds, attached })
    }

    pub(crate) fn detach(self) -> Result<()> {
        self.attached.into_iter().try_for_each(|pod| self.grounds.load.del(pod))?;
        let left = self.grounds.load.ledger.live();
        if left.is_empty() { Ok(()) } else { Err(LabError::wrong(format!("somebody still has an address: {left:?}"))) }
    }

    /// A packet a millisecond from every node's pod to the next one's, in both families.
    fn talk(&self) -> Result<Vec<Probe>> {
        let number = self.attached.len();
        let mut probes = Vec::new();
        for (from, pod) in self.attached.iter().enumerate() {
            let to = (from + 1) % number;
            let [[near, ..], [far, ..]] = [from, to].map(|place| &self.grounds.namespaces[place]);
            // The one family one way around, the other the other way.
            for address in &self.attached[to].addresses {
                if address.is_ipv4() {
                    probes.push(Probe::start(near, far, *address, MILLISECOND)?);
                }
            }
            for address in pod.addresses.iter().filter(|address| address.is_ipv6()) {
                probes.push(Probe::start(far, near, *address, MILLISECOND)?);
            }
        }
        Ok(probes)
    }
}

/// What went on.
#[derive(Debug)]
pub(crate) struct Told {
    packets: u64,
    pairs: usize,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets, none lost; {} pods came and went", self.packets, self.pairs)
    }
}

/// What goes on now.
pub(crate) struct Traffic<'t, 'a> {
    grounds: &'a Grounds,
    probes: &'t [Probe],
    /// Of each node.
    pairs: &'t [AtomicUsize],
}

impl<'a> Traffic<'_, 'a> {
    /// Waits until everybody has gone on for a while, with what was just replaced.
    pub(crate) fn goes_on(&self) -> Result<()> {
        let (answers, pairs) = A_WHILE;
        self.probes.iter().try_for_each(|probe| probe.until_answered(answers))?;
        let now = || self.pairs.iter().map(|pairs| pairs.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = now();
        deadline::until_some("pods come and go on every node", PATIENCE, || {
            let after = now();
            let enough = before.iter().zip(&after).all(|(before, after)| before + pairs <= *after);
            Ok(if enough { Ok(()) } else { Err(format!("{before:?}, {after:?}")) })
        })
    }

    /// A pod that is to outlive what is about to be replaced on its node.
    pub(crate) fn attach(&self, node: &'a Node, number: usize) -> Result<Attached<'a>> {
        self.grounds.add(node, &self.grounds.namespaces[number - 1][2])
    }

    /// It is as it was, and goes.
    pub(crate) fn detach(&self, pod: Attached<'a>) -> Result<()> {
        self.grounds.load.check(&pod)?;
        self.grounds.load.del(pod)
    }
}

/// Does `work` while the pods talk, and others come and go on all nodes.
pub(crate) fn during<'a>(
    lab: &'a Lab,
    pods: &Pods<'a>,
    work: impl FnOnce(&Traffic<'_, 'a>) -> Result<()>,
) -> Result<Told> {
    let grounds = pods.grounds;
    let probes = pods.talk()?;
    let pairs: Vec<AtomicUsize> = lab.nodes().iter().map(|_| AtomicUsize::new(0)).collect();
    let stop = AtomicBool::new(false);
    let come_and_go = &|node: &'a Node, namespace: &'a Namespace, pairs: &AtomicUsize| -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let pod = grounds.add(node, namespace)?;
            grounds.load.del(pod)?;
            pairs.fetch_add(1, Ordering::Relaxed);
            sleep(REST);
        }
        Ok(())
    };
    let worked = std::thread::scope(|scope| {
        let callers: Vec<_> = lab
            .nodes()
            .iter()
            .zip(&grounds.namespaces)
            .zip(&pairs)
            .map(|((node, [_, comes, _]), pairs)| scope.spawn(move || come_and_go(node, comes, pairs)))
            .collect();
        let worked = work(&Traffic { grounds, probes: &probes, pairs: &pairs });
        stop.store(true, Ordering::Relaxed);
        // What a caller met comes first: the work may have failed for it.
        let called: Result<()> =
            callers.into_iter().try_for_each(|caller| caller.join().expect("a caller does not panic"));
        called.and(worked)
    });
    let mut told = Told { packets: 0, pairs: pairs.iter().map(|pairs| pairs.load(Ordering::Relaxed)).sum() };
    for probe in probes {
        let report = probe.stop()?;
        told.packets += report.sent;
        report.expect_no_loss()?;
    }
    worked.map(|()| told)
}
