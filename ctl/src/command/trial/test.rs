//! `twillctl test`: pods stand up on the nodes, packets go between all of them, and the pods go again.

use std::collections::BTreeMap;
use std::time::Duration;

use twill_cluster::inquiry::client::{Silence, other_answer};
use twill_cluster::inquiry::trial::{Answer, Heard, Opened, Task};
use twill_conf::NodeName;
use twill_fabric::family::Family;

use super::file::Target;
use super::{Chosen, Session, choose, patience, with_pods};
use crate::access::{self, Picture};
use crate::arguments::trial::{TestFlags, Version};
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::trial::Failure;
use crate::report::trial::blame;
use crate::report::trial::junit::junit;
use crate::report::trial::plan::{Ground, ROUNDS, Result as Came, Volley, Way, results, volleys};
use crate::report::trial::test::{Evidence, Tested};

/// So many nodes are chosen where none are named: the packets grow with the square of it.
const USUAL: usize = 8;
/// How long the probes of a request take where nothing comes back, and some more.
const PROBING: Duration = Duration::from_secs(5);

pub(in crate::command) async fn test(flags: &TestFlags, place: &Place) -> Result<Report, Error> {
    patience(place)?;
    let store = access::connect(place)?;
    let (picture, alive) = (access::picture(&store).await?, access::alive(&store).await?);
    let most = if flags.all { usize::MAX } else { USUAL };
    let chosen = choose(&picture, &alive, &flags.nodes, most)?;
    if chosen.living.is_empty() && chosen.dead.is_empty() {
        let cause = "no node is registered: start twilld on the nodes, 'twillctl status' shows them";
        return Err(Error::NotFound(cause.to_owned()));
    }
    let target = flags.junit.as_deref().map(Target::open).transpose()?;
    let gathered = with_pods(&store, place, async |session| gather(session, &picture, &chosen, flags).await);
    let (evidence, left) = gathered.await?;
    let mut tested = Tested::new(&Evidence { left, ..evidence });
    if let Some(target) = target {
        let text = junit(&tested);
        tested.unknown.extend(target.write(&text).err());
    }
    Ok(Report::Tested(tested))
}

async fn gather(
    session: &mut Session<'_>,
    picture: &Picture,
    chosen: &Chosen,
    flags: &TestFlags,
) -> Result<Evidence, Error> {
    let mut failures = chosen.failures();
    let mut opened: BTreeMap<NodeName, Opened> = BTreeMap::new();
    for (node, told) in session.open(&chosen.living, 2, 0).await {
        match told {
            Ok(pods) => drop(opened.insert(node, pods)),
            Err(failure) => failures.push((node, failure)),
        }
    }
    let ground = ground(picture, flags);
    let families: Vec<Family> = match flags.family.map(Version::is_ipv6) {
        None => Family::ALL.into(),
        Some(false) => vec![Family::V4],
        Some(true) => vec![Family::V6],
    };
    let plan = Ground {
        opened: &opened,
        underlays: &ground.underlays,
        families: &families,
        size: flags.size,
        outside: flags.outside,
    };
    fits(&plan)?;
    let ways = plan.ways();
    let came = fire(session, &ways, &mut failures).await;
    // What a node's pods do not answer whose daemon has gone meanwhile, says nothing of the way there.
    let has_failed = |node: &NodeName| failures.iter().any(|(failed, _)| failed == node);
    let result = |(number, way): (usize, Way)| {
        let is_known = ![Some(&way.from), way.to.as_ref()].into_iter().flatten().any(has_failed);
        let came = came.get(&number).filter(|_| is_known).cloned();
        (way, came)
    };
    let ways = ways.into_iter().enumerate().map(result).collect();
    Ok(Evidence {
        ground,
        nodes: opened.into_keys().collect(),
        left_out: chosen.left_out,
        failures,
        ways,
        left: Vec::new(),
        asked_outside: flags.outside.is_some(),
    })
}

/// Refuses a size that pods would not even send: it says nothing of the network that such packets do not arrive.
fn fits(plan: &Ground<'_>) -> Result<(), Error> {
    match (plan.size, plan.too_small()) {
        (Some(size), Some((node, mtu))) => {
            let right =
                format!("at most {mtu}, the MTU in bytes of the pods on {node}: they send nothing that is longer");
            Err(Error::Usage(twill_conf::Error::value("--size", size, right)))
        }
        _ => Ok(()),
    }
}

/// Has all ways tried, each node one request at a time.
async fn fire(
    session: &mut Session<'_>,
    ways: &[Way],
    failures: &mut Vec<(NodeName, Failure)>,
) -> BTreeMap<usize, Came> {
    let mut came = BTreeMap::new();
    for mut round in volleys(ways) {
        round.retain(|volley| !failures.iter().any(|(failed, _)| *failed == volley.node));
        let task = |volley: &Volley| {
            let task = Task::Probe { from: volley.from, shots: volley.shots.clone(), rounds: ROUNDS };
            (volley.node.clone(), task)
        };
        let mut told = session.ask(round.iter().map(task).collect(), PROBING).await;
        for volley in &round {
            match told.remove(&volley.node).map(|answer| answer.and_then(heard)) {
                Some(Ok(heard)) => match results(volley, &heard) {
                    Some(results) => came.extend(results),
                    None => failures.push((volley.node.clone(), Failure::silent(&other_answer()))),
                },
                Some(Err(failure)) => failures.push((volley.node.clone(), failure)),
                None => failures.push((volley.node.clone(), Failure::silent(&Silence::Timeout(PROBING)))),
            }
        }
    }
    came
}

fn heard(answer: Answer) -> Result<Vec<Heard>, Failure> {
    match answer {
        Answer::Heard { shots } => Ok(shots),
        _ => Err(Failure::silent(&other_answer())),
    }
}

fn ground(picture: &Picture, flags: &TestFlags) -> blame::Ground {
    let view = &picture.view;
    let backend = view.config.as_ref().map(|config| &config.value.backend.kind);
    let nodes = view.nodes.iter();
    blame::Ground {
        backend: backend.map_or("none", |kind| kind.name()),
        vxlan: backend.and_then(|kind| kind.vxlan().cloned()),
        underlays: nodes.map(|(name, record)| (name.clone(), record.value.underlay.clone())).collect(),
        asked_size: flags.size.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use twill_cluster::inquiry::trial::Pod;

    use super::*;
    use crate::report::Verdict;

    #[test]
    fn a_size_that_pods_do_not_send_is_refused_with_the_greatest_that_they_do() {
        let opened = Opened {
            pods: vec![Pod { addresses: vec!["10.42.0.7".parse().unwrap()], mtu: 1450 }],
            gateways: Vec::new(),
            kernel: String::new(),
            version: String::new(),
            processors: 1,
            devices: Vec::new(),
        };
        let opened = BTreeMap::from([("n1".parse().unwrap(), opened)]);
        let nobody = BTreeMap::new();
        let plan = |size| Ground { opened: &opened, underlays: &nobody, families: &[], size, outside: None };
        let refused = fits(&plan(Some(1500))).unwrap_err();
        let wanted = "--size: \"1500\" is not valid: at most 1450, the MTU in bytes of the pods on n1: they send nothing that is longer";
        assert_eq!((refused.to_string().as_str(), refused.verdict()), (wanted, Verdict::Unknown));
        assert!(fits(&plan(Some(1450))).is_ok() && fits(&plan(None)).is_ok());
    }
}
