//! `twillctl trace`: finds both ends by the records, and asks each node for its half of the way, there and back.

use std::net::IpAddr;

use twill_cluster::inquiry::client::{Client, Silence, other_answer};
use twill_cluster::inquiry::trace::{Answer, End as Ending, Half, Packet, Question};
use twill_cluster::inquiry::{Ask, Reply};
use twill_cluster::{Census, EtcdStore};
use twill_conf::NodeName;
use twill_fabric::family::Family;

use super::ipam::no_node;
use crate::access;
use crate::arguments::trace::{End, TraceFlags};
use crate::error::Error;
use crate::place::{PATIENCE, Place};
use crate::report::Report;
use crate::report::addresses::{AddressRow, Sources, narrowest};
use crate::report::trace::{Leg, Path, Spot, Trace};

pub(super) async fn trace(flags: &TraceFlags, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    let ends = [&flags.source, &flags.destination.end];
    let records = Records::read(&store, ends, flags.node.as_ref()).await?;
    let (from, to) = (records.find(ends[0])?, records.find(ends[1])?);
    let mut asking = Asking { store, client: access::client(place.patience(PATIENCE))?, records: &records };
    let mut paths = Vec::new();
    for (source, destination) in pairs(&from, &to) {
        let node = flags.node.clone().or_else(|| source.node.clone());
        let node = node.ok_or_else(|| nobody(source))?;
        let packet = Packet { source: source.ip, destination, port: flags.destination.port, size: flags.size };
        let spot = to.iter().find(|spot| spot.ip == Some(destination));
        paths.push(asking.path(node, packet, source, spot).await);
    }
    if paths.is_empty() {
        let what = "have no address of one family: a packet has no way between them";
        return Err(Error::NotFound(format!("{} and {} {what}", flags.source, flags.destination.end)));
    }
    Ok(Report::Trace(Trace::new(flags.source.to_string(), flags.destination.end.to_string(), paths)))
}

/// The source and the destination of each family that both ends have. A node sends by the address that its kernel chooses.
fn pairs<'a>(from: &'a [Spot], to: &[Spot]) -> Vec<(&'a Spot, IpAddr)> {
    let of = |spots: &'a [Spot], ipv6: bool| spots.iter().find(|spot| spot.ip.is_none_or(|ip| ip.is_ipv6() == ipv6));
    let pair = |ipv6: bool| {
        let destination = to.iter().filter_map(|spot| spot.ip).find(|ip| ip.is_ipv6() == ipv6)?;
        Some((of(from, ipv6)?, destination))
    };
    [false, true].into_iter().filter_map(pair).collect()
}

fn nobody(source: &Spot) -> Error {
    let ip = source.ip.map(|ip| ip.to_string()).unwrap_or_default();
    Error::NotFound(format!(
        "no node has {ip}, by the records ('twillctl ipam show --ip {ip}'): name the node that it is on with --node"
    ))
}

/// What etcd has of the two ends.
struct Records {
    sources: Sources,
}

impl Records {
    /// No more mirrors than are needed: those of all nodes only where a pod is named.
    async fn read(store: &EtcdStore, ends: [&End; 2], node: Option<&NodeName>) -> Result<Self, Error> {
        let mut census = access::watched(store).await?;
        if let Some(node) = node.filter(|node| !census.view.nodes.contains_key(*node)) {
            return Err(no_node(node));
        }
        let is_node = |word: &str| word.parse().is_ok_and(|name: NodeName| census.view.nodes.contains_key(&name));
        let is_pod = |end: &&End| match end {
            End::Address(_) => false,
            End::Pod(_) => true,
            End::Word(word) => !is_node(word),
        };
        if ends.iter().any(is_pod) {
            census = access::census(store).await?;
        } else {
            for end in ends {
                let End::Address(ip) = end else { continue };
                let owner = narrowest(&census.view.blocks, *ip).map(|(_, record)| record.value.node.clone());
                if let Some(owner) = owner {
                    census.look_at(store, &owner).await.map_err(Error::Etcd)?;
                }
            }
        }
        Ok(Self {
            sources: Sources { census: Some(census), store: None, boot: Default::default(), now: access::now() },
        })
    }

    fn census(&self) -> &Census {
        self.sources.census.as_ref().expect("it was read")
    }

    /// Where an end is.
    fn find(&self, end: &End) -> Result<Vec<Spot>, Error> {
        match end {
            End::Address(ip) => Ok(vec![self.at(*ip)]),
            End::Pod(name) => self.pod(name, "pod"),
            End::Word(word) => {
                match word.parse::<NodeName>().ok().filter(|name| self.census().view.nodes.contains_key(name)) {
                    Some(node) => Ok(self.node(&node)),
                    None => self.pod(word, "node or container"),
                }
            }
        }
    }

    fn at(&self, ip: IpAddr) -> Spot {
        let view = &self.census().view;
        let is_its = |ends: &twill_cluster::record::NodeRecord| {
            Family::ALL
                .into_iter()
                .any(|family| family.underlay(&ends.underlay) == Some(ip) || family.tunnel(&ends.tunnel) == Some(ip))
        };
        if let Some((node, _)) = view.nodes.iter().find(|(_, record)| is_its(&record.value)) {
            return Spot { title: format!("node {node} ({ip})"), ip: Some(ip), node: Some(node.clone()), behind: None };
        }
        let found = self.sources.of_ip(ip, Vec::new());
        let row = found.addresses.into_iter().flatten().next();
        row.map_or_else(|| Spot { title: ip.to_string(), ip: Some(ip), node: None, behind: None }, |row| spot(&row))
    }

    fn node(&self, node: &NodeName) -> Vec<Spot> {
        let view = &self.census().view;
        let ends = view.nodes.get(node).map(|record| &record.value.underlay);
        let addresses =
            ends.into_iter().flat_map(|ends| Family::ALL.into_iter().filter_map(|family| family.underlay(ends)));
        let spot = |ip: IpAddr| Spot {
            title: format!("node {node} ({ip})"),
            ip: Some(ip),
            node: Some(node.clone()),
            behind: None,
        };
        addresses.map(spot).collect()
    }

    fn pod(&self, name: &str, what: &str) -> Result<Vec<Spot>, Error> {
        let found = self.sources.of_pod(name, Vec::new());
        let rows = found.addresses.iter().flatten().filter(|row| matches!(row.state, "attached" | "reserved"));
        let spots: Vec<Spot> = rows.map(spot).collect();
        match found.unknown.first() {
            _ if !spots.is_empty() => Ok(spots),
            None => Err(Error::NotFound(format!("there is no {what} {name}, as far as the nodes have told"))),
            Some(why) => {
                Err(Error::NotFound(format!("there is no {what} {name}, as far as the nodes have told; {why}")))
            }
        }
    }
}

fn spot(row: &AddressRow) -> Spot {
    let title = match (&row.pod, row.state) {
        (Some(pod), "attached" | "reserved" | "deleting") => format!("pod {pod} ({})", row.ip),
        _ => row.ip.to_string(),
    };
    Spot { title, ip: Some(row.ip), node: row.node.clone(), behind: row.host_interface.clone() }
}

/// Whoever asks the nodes.
struct Asking<'a> {
    store: EtcdStore,
    client: Client,
    records: &'a Records,
}

impl Asking<'_> {
    /// There and, where it has arrived at a node, back.
    async fn path(&mut self, node: NodeName, packet: Packet, from: &Spot, to: Option<&Spot>) -> Path {
        let first = packet.clone();
        let (there, last) = self.way(node.clone(), packet, false, to).await;
        let back = match last {
            Some((end, Answer { packet, .. })) => {
                let Packet { source, destination, size, .. } = packet;
                let answer =
                    source.map(|source| Packet { source: Some(destination), destination: source, port: None, size });
                match answer {
                    Some(answer) => self.way(end, answer, true, Some(from)).await.0,
                    None => Vec::new(),
                }
            }
            None => Vec::new(),
        };
        Path::new(first, from, to, there, back)
    }

    /// One way: what each node on it says; and, where it has arrived, on which node, and what that one said.
    async fn way(
        &mut self,
        node: NodeName,
        packet: Packet,
        reply: bool,
        to: Option<&Spot>,
    ) -> (Vec<Leg>, Option<(NodeName, Answer)>) {
        let view = &self.records.census().view;
        let question = Question { packet, half: Half::Sends, reply };
        let mut legs = Vec::new();
        let sent = match self.ask(&node, &question).await {
            Ok(sent) => sent,
            Err(silence) => {
                let next = to.and_then(|to| to.node.clone()).filter(|next| *next != node);
                legs.push(Leg::expected_to_send(node, next.as_ref(), view, to, &silence));
                return (legs, None);
            }
        };
        legs.push(Leg::told(node.clone(), sent.clone()));
        let (next, outer) = match &sent.end {
            Ending::Delivered { .. } => return (legs, Some((node, sent))),
            Ending::Leaves { node, outer } => (node.clone(), outer.clone()),
            Ending::Outside | Ending::Lost | Ending::Unknown => return (legs, None),
        };
        let question =
            Question { packet: sent.packet, half: Half::Receives { from: node.clone(), outer: outer.clone() }, reply };
        match self.ask(&next, &question).await {
            Ok(received) => {
                legs.push(Leg::told(next.clone(), received.clone()));
                let arrived = matches!(received.end, Ending::Delivered { .. });
                (legs, arrived.then_some((next, received)))
            }
            Err(silence) => {
                legs.push(Leg::expected_to_receive(next, &node, outer.as_ref(), to, &silence));
                (legs, None)
            }
        }
    }

    async fn ask(&mut self, node: &NodeName, question: &Question) -> Result<Answer, Silence> {
        match self.client.ask_one(&self.store, node, Ask::Trace { question: question.clone() }).await? {
            Reply::Trace { answer } => Ok(*answer),
            _ => Err(other_answer()),
        }
    }
}
