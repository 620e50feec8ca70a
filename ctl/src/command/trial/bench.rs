//! `twillctl bench`: the same traffic between two pods and between their nodes, round by round.

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use twill_cluster::inquiry::client::other_answer;
use twill_cluster::inquiry::trial::{Answer, Load, Opened, Place as Where, Service, Task, Usage};
use twill_conf::NodeName;
use twill_fabric::family::Family;

use super::file::Target;
use super::{ON_ITS_WAY, Session, choose, patience, with_pods};
use crate::access::{self, Picture};
use crate::arguments::trial::{BenchFlags, Version};
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::trial::Failure;
use crate::report::trial::bench::{Benched, Conditions, Path, Rounds, SMALL, spent};
use crate::report::untold::Untold;

/// How long iperf3 may take beside its traffic.
const AROUND: Duration = Duration::from_secs(15);

pub(in crate::command) async fn bench(flags: &BenchFlags, place: &Place) -> Result<Report, Error> {
    patience(place)?;
    let store = access::connect(place)?;
    let (picture, alive) = (access::picture(&store).await?, access::alive(&store).await?);
    let chosen = choose(&picture, &alive, &flags.nodes, 2)?;
    if !flags.nodes.is_empty() && chosen.living.len() + chosen.dead.len() != 2 {
        let cause = "it is measured between two nodes: name two different ones, --nodes n1,n2";
        return Err(Error::NotFound(cause.to_owned()));
    }
    let dead = chosen.failures();
    let [from, to] = match <[NodeName; 2]>::try_from(chosen.living) {
        Ok(both) => both,
        Err(_) if dead.is_empty() => {
            let cause = "it is measured between two nodes, and fewer are registered: 'twillctl status' shows them";
            return Err(Error::NotFound(cause.to_owned()));
        }
        Err(living) => {
            let unmeasured = Measured { failures: dead, ..Measured::default() };
            return Ok(Report::Benched(Box::new(unmeasured.report(flags, &picture, living, &[]))));
        }
    };
    let target = |file: &Option<PathBuf>| file.as_deref().map(Target::open).transpose();
    let (plot, html) = (target(&flags.plot)?, target(&flags.html)?);
    let plan = Plan { flags, picture: &picture, from, to };
    let (mut measured, left) = with_pods(&store, place, async |session| plan.measure(session).await).await?;
    measured.failures.extend(dead);
    let mut benched = measured.report(flags, &picture, vec![plan.from, plan.to], &left);
    if !benched.figures.is_empty() {
        let drawn = |text: Result<String, String>| text.map_err(|cause| Untold::of("", &Error::Drawing(cause)));
        let written = |target: Option<Target>, text: &dyn Fn() -> Result<String, String>| {
            target.map_or(Ok(()), |target| target.write(&drawn(text())?)).err()
        };
        let lacks = [written(plot, &|| benched.svg()), written(html, &|| benched.html())];
        benched.unknown.extend(lacks.into_iter().flatten());
    }
    Ok(Report::Benched(Box::new(benched)))
}

struct Plan<'a> {
    flags: &'a BenchFlags,
    picture: &'a Picture,
    from: NodeName,
    to: NodeName,
}

/// A path, and the address at its far end.
#[derive(Clone, Copy)]
struct Way {
    path: Path,
    place: Where,
    to: IpAddr,
    /// By which address the near end sends, where it is not its kernel's choice.
    peer: Option<IpAddr>,
}

#[derive(Default)]
struct Measured {
    family: Option<Family>,
    conditions: Vec<Conditions>,
    rounds: Rounds,
    one_machine: bool,
    failures: Vec<(NodeName, Failure)>,
}

impl Plan<'_> {
    async fn measure(&self, session: &mut Session<'_>) -> Result<Measured, Error> {
        let mut measured = Measured::default();
        let nodes = [self.from.clone(), self.to.clone()];
        let mut opened: Vec<Opened> = Vec::new();
        let mut told = session.open(&nodes, 1, self.flags.seconds).await;
        for node in nodes {
            match told.remove(&node) {
                Some(Ok(pods)) => {
                    measured.conditions.push(Conditions::new(&node, &pods));
                    opened.push(pods);
                }
                Some(Err(failure)) => measured.failures.push((node, failure)),
                None => measured.failures.push((node, Failure::silent(&other_answer()))),
            }
        }
        let [near, far] = opened.as_slice() else { return Ok(measured) };
        let (family, ways) = self.ways(near, far)?;
        measured.family = Some(family);
        if let Err(failed) = self.rounds(session, ways, &mut measured).await {
            measured.failures.push(failed);
        }
        Ok(measured)
    }

    /// Both paths.
    fn ways(&self, near: &Opened, far: &Opened) -> Result<(Family, [Way; 2]), Error> {
        let wanted: Vec<Family> = match self.flags.family.map(Version::is_ipv6) {
            None => Family::ALL.into(),
            Some(ipv6) => Family::ALL.into_iter().filter(|family| (*family == Family::V6) == ipv6).collect(),
        };
        let of = |opened: &Opened, family: &Family| {
            let addresses = opened.pods.iter().flat_map(|pod| &pod.addresses);
            addresses.copied().find(|address| Family::of(*address) == *family)
        };
        let pod = wanted.iter().find_map(|family| Some((*family, of(near, family)?, of(far, family)?)));
        let (family, peer, pod) =
            pod.ok_or_else(|| Error::NotFound("the pods have no address of that family".to_owned()))?;
        let ends = |node: &NodeName| self.picture.view.nodes.get(node).map(|record| record.value.underlay.clone());
        let node =
            ends(&self.from).zip(ends(&self.to)).and_then(|(near, far)| Family::common(&near, &far)?.underlay(&far));
        let none = || Error::NotFound(format!("{} and {} have no addresses of one family", self.from, self.to));
        let pods = Way { path: Path::Pods, place: Where::Pod(0), to: pod, peer: Some(peer) };
        let nodes = Way { path: Path::Nodes, place: Where::Node, to: node.ok_or_else(none)?, peer: None };
        Ok((family, [pods, nodes]))
    }

    /// Each round measures both paths by each load, in turn who comes first: whatever disturbs the machines disturbs both.
    async fn rounds(
        &self,
        session: &mut Session<'_>,
        ways: [Way; 2],
        measured: &mut Measured,
    ) -> Result<(), (NodeName, Failure)> {
        let loads = [
            Load::Tcp { streams: 1 },
            Load::Tcp { streams: self.flags.streams },
            Load::Udp { bytes: SMALL },
            Load::Questions { bytes: SMALL },
        ];
        for round in 0..self.flags.repeat {
            if std::io::stderr().is_terminal() {
                eprintln!("round {} of {}", round + 1, self.flags.repeat);
            }
            for load in loads {
                for place in [usize::from(round % 2), usize::from((round + 1) % 2)] {
                    self.one(session, ways[place], load, measured).await?;
                }
            }
        }
        Ok(())
    }

    async fn one(
        &self,
        session: &mut Session<'_>,
        way: Way,
        load: Load,
        measured: &mut Measured,
    ) -> Result<(), (NodeName, Failure)> {
        let service = if matches!(load, Load::Questions { .. }) { Service::Answers } else { Service::Iperf };
        let serve = Task::Serve { at: way.place, address: way.to, peer: way.peer, service };
        let port = match session.ask_one(&self.to, serve, ON_ITS_WAY).await {
            Ok(Answer::Serving { port }) => port,
            other => return Err((self.to.clone(), failure(other))),
        };
        let before = self.usage(session).await?;
        let seconds = self.flags.seconds;
        let run = Task::Run { from: way.place, to: way.to, port, load, seconds };
        let answer = session.ask_one(&self.from, run, Duration::from_secs(seconds.into()) + AROUND).await;
        let answer = match answer {
            Ok(answer @ (Answer::Carried(_) | Answer::Answered(_))) => answer,
            other => return Err((self.from.clone(), failure(other))),
        };
        let after = self.usage(session).await?;
        measured.one_machine = after[0].machine == after[1].machine;
        measured.rounds.add(way.path, load, &answer, spent(&before, &after));
        Ok(())
    }

    /// Of both nodes.
    async fn usage(&self, session: &mut Session<'_>) -> Result<[Usage; 2], (NodeName, Failure)> {
        let tasks = [&self.from, &self.to].map(|node| (node.clone(), Task::Usage {})).into();
        let mut told = session.ask(tasks, ON_ITS_WAY).await;
        let mut of = |node: &NodeName| match told.remove(node) {
            Some(Ok(Answer::Usage(usage))) => Ok(usage),
            Some(other) => Err((node.clone(), failure(other))),
            None => Err((node.clone(), Failure::silent(&other_answer()))),
        };
        Ok([of(&self.from)?, of(&self.to)?])
    }
}

fn failure(answer: Result<Answer, Failure>) -> Failure {
    answer.err().unwrap_or_else(|| Failure::silent(&other_answer()))
}

impl Measured {
    fn report(
        self,
        flags: &BenchFlags,
        picture: &Picture,
        nodes: Vec<NodeName>,
        left: &[(NodeName, Failure)],
    ) -> Benched {
        let config = picture.view.config.as_ref();
        let benched = Benched {
            backend: config.map_or("none", |config| config.value.backend.kind.name()),
            config_revision: picture.config_revision(),
            family: self.family.map_or_else(|| "-".to_owned(), |family| family.to_string()),
            nodes,
            rounds: flags.repeat,
            seconds: flags.seconds,
            streams: flags.streams,
            conditions: self.conditions,
            one_machine: self.one_machine,
            figures: self.rounds.figures(),
            problems: Vec::new(),
            notes: Vec::new(),
            unknown: Vec::new(),
        };
        benched.with(&self.failures, left)
    }
}
