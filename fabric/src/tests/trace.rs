//! The way of a packet, written out: each back end and family as it is told where all stands, and each fault.

mod backends;
mod faults;
mod machine;

use std::net::IpAddr;

use twill_cluster::inquiry::trace::{Answer, End, Half, Object, Outer, Packet, Port, Question, State, Transport};

use super::sample::{Sample, name};
use crate::trace::{Known, explain};
use crate::{Desired, Learned, Local, Reckoning};
use machine::Machine;

/// A node that knows its cluster, and what stands on it.
struct Node {
    sample: Sample,
    local: Local,
    desired: Desired,
    reckoning: Reckoning,
    machine: Machine,
}

impl Node {
    /// A node of the sample, with these pods, on which all stands that shall.
    fn new(sample: Sample, number: u16, pods: &[&str], learned: &Learned) -> Self {
        let local = sample.local(number, pods);
        let mut reckoning = Reckoning::default();
        let desired = reckoning.follow(&sample.view, &local, learned);
        let machine = Machine::new(&local, &desired);
        Self { sample, local, desired, reckoning, machine }
    }

    fn ask(&mut self, question: &Question) -> Answer {
        let Self { sample, local, desired, reckoning, machine } = self;
        let known = Known { view: &sample.view, local, desired, reckoning };
        explain(&known, machine, question).expect("there is a configuration")
    }

    fn sends(&mut self, source: &str, destination: &str) -> Answer {
        self.ask(&sent(source, destination))
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What begins on the node; "-" for its own.
fn sent(source: &str, destination: &str) -> Question {
    let source = (source != "-").then(|| ip(source));
    Question {
        packet: Packet { source, destination: ip(destination), port: None, size: None },
        half: Half::Sends,
        reply: false,
    }
}

fn to_port(question: Question, protocol: Transport, number: u16) -> Question {
    let port = Some(Port { protocol, number });
    Question { packet: Packet { port, ..question.packet }, ..question }
}

fn sized(question: Question, size: u32) -> Question {
    Question { packet: Packet { size: Some(size), ..question.packet }, ..question }
}

/// What comes from n2.
fn received(question: Question, outer: Option<Outer>) -> Question {
    Question { half: Half::Receives { from: name(2), outer }, ..question }
}

/// A question and its answer, a line each.
fn written(question: &Question, answer: &Answer) -> String {
    let packet = &question.packet;
    let source = packet.source.map_or_else(|| "the node".to_owned(), |source| source.to_string());
    let port = packet.port.map(|port| format!(", {port}")).unwrap_or_default();
    let size = packet.size.map(|size| format!(", {size} bytes")).unwrap_or_default();
    let half = match &question.half {
        Half::Sends => "sent",
        Half::Receives { outer: Some(_), .. } => "received through the tunnel",
        Half::Receives { outer: None, .. } => "received as it is",
    };
    let mut lines = vec![format!("{source} to {}{port}{size}, {half}:", packet.destination)];
    for (number, step) in (1..).zip(&answer.steps) {
        let device = step.device.as_deref().unwrap_or("-");
        let mtu = step.mtu.map(|mtu| format!(" [{mtu}]")).unwrap_or_default();
        lines.push(format!("  {number} {device}: {}{mtu}", step.what));
        for Object { kind, expected, found } in &step.objects {
            let found = found.as_deref().unwrap_or("none");
            lines.push(match expected {
                Some(expected) if expected != found => format!("      {kind}: {expected}, found {found}"),
                Some(_) => format!("      {kind}: {found}"),
                None => format!("      {kind} of others: {found}"),
            });
        }
        if step.state != State::Good {
            lines.push(format!("      {:?}: {}", step.state, step.cause.as_deref().unwrap_or_default()));
            lines.push(format!("      fix: {}", step.fix.as_deref().unwrap_or_default()));
        }
    }
    lines.push(match &answer.end {
        End::Delivered { to } => format!("  delivered to {to}"),
        End::Leaves { node, outer: Some(Outer { source, destination, vni, port }) } => {
            format!("  to {node}, in UDP from {source} to {destination} port {port} identifier {vni}")
        }
        End::Leaves { node, outer: None } => format!("  to {node}, as it is"),
        other => format!("  {other:?}"),
    });
    if answer.packet != question.packet {
        let after = &answer.packet;
        let source = after.source.map(|source| source.to_string()).unwrap_or_default();
        let port = after.port.map(|port| format!(", {port}")).unwrap_or_default();
        lines.push(format!("  now {source} to {}{port}", after.destination));
    }
    lines.join("\n")
}

/// Several questions with their answers.
fn all_written(node: &mut Node, questions: impl IntoIterator<Item = Question>) -> String {
    let text = |question: Question| {
        let answer = node.ask(&question);
        written(&question, &answer)
    };
    questions.into_iter().map(text).collect::<Vec<_>>().join("\n\n")
}
