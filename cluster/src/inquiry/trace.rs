//! What a node is asked about the way of a packet, and how it answers: step by step what it does with it, by which objects, and whether
//! these stand.
//!
//! Each node tells its own half: the one that sends, and the one that receives. What leaves the one (`Leaves`) is what the other
//! is asked about. `twillctl` joins the halves. The words of a step are for people; its [`State`] and the [`End`] are for programs.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use twill_conf::NodeName;

use crate::plain;

/// The largest packet that IP has, in bytes.
pub const LARGEST: u32 = 65_535;

/// An answer with more steps is none: a node has a dozen at the most.
pub const MOST_STEPS: usize = 64;
/// So many objects of a step are read.
const MOST_OBJECTS: usize = 32;
/// So many bytes of a text.
const LONGEST: usize = 600;
/// So many of a device's name: IFNAMSIZ without the zero (include/uapi/linux/if.h).
const LONGEST_DEVICE: usize = 15;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The packet as it comes to this node, or as it begins there.
    pub packet: Packet,
    /// Which half of the way.
    pub half: Half,
    /// It answers a packet that went the other way: connection tracking decides on its addresses, rules for new connections do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reply: bool,
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packet {
    /// Who sends it; absent where the node itself does, by the address that its kernel chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Whom it is for.
    pub destination: IpAddr,
    /// With which protocol and to which port; absent for a ping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Its length with the IP header, in bytes; absent for one that is small. It is not to be fragmented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

/// What a packet is for at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The protocol.
    pub protocol: Transport,
    /// The port.
    pub number: u16,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.protocol.as_str(), self.number)
    }
}

/// Which half of the way a node tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Half {
    /// The packet begins here.
    Sends,
    /// It comes from another node.
    Receives {
        /// Which.
        from: NodeName,
        /// What is around it; absent where it comes as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outer: Option<Outer>,
    },
}

/// The header around a packet in a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outer {
    /// The address of the node that sends.
    pub source: IpAddr,
    /// The address of the node that receives.
    pub destination: IpAddr,
    /// The identifier of the network.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// In their order; nothing follows one that is [broken](State::Broken).
    pub steps: Vec<Step>,
    /// What becomes of it.
    pub end: End,
    /// The packet as it is then: its addresses may have been translated.
    pub packet: Packet,
    /// etcd's revision that the node follows.
    pub revision: i64,
}

impl Answer {
    /// What was read of an answer: names of devices and texts are no longer than a node makes them. How many steps are read at all is
    /// [`MOST_STEPS`].
    #[must_use]
    pub(super) fn within_bounds(mut self) -> Self {
        for step in &mut self.steps {
            step.objects.truncate(MOST_OBJECTS);
            step.device.iter_mut().for_each(|device| plain::cut(device, LONGEST_DEVICE));
            let texts = step.cause.iter_mut().chain(&mut step.fix).chain([&mut step.what]);
            texts.for_each(|text| plain::cut(text, LONGEST));
            for Object { kind, expected, found } in &mut step.objects {
                expected.iter_mut().chain(found).chain([kind]).for_each(|text| plain::cut(text, LONGEST));
            }
        }
        if let End::Delivered { to } = &mut self.end {
            plain::cut(to, LONGEST);
        }
        self
    }
}

/// What becomes of a packet on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum End {
    /// It is there.
    Delivered {
        /// To whom, as in "a pod behind tw0123456789abc" or "the node itself".
        to: String,
    },
    /// It goes to another node.
    Leaves {
        /// Which.
        node: NodeName,
        /// What is around it; absent where it goes as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outer: Option<Outer>,
    },
    /// It goes to somebody who is no node: what becomes of it no node knows.
    Outside,
    /// It goes no further.
    Lost,
    /// Something that a newer version knows.
    #[serde(other)]
    Unknown,
}

/// One thing that happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// At which interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What happens.
    pub what: String,
    /// By which objects of the kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<Object>,
    /// How large a packet may be here, with its IP header as the pod sent it, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether it goes on.
    pub state: State,
    /// Why it does not, or what is odd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Whether a packet goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It does.
    Good,
    /// It does, though something is not as it shall be.
    Odd,
    /// It does not.
    Broken,
    /// It could not be looked at, or a newer version knows.
    #[serde(other)]
    Unknown,
}

/// An object of the kernel: what shall stand, and what does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// "route", "neighbour", "fdb", "link", "firewall", "port".
    pub kind: String,
    /// As it shall be; absent for what is nobody's of Twill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// As it is; absent where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_json_and_says_only_what_it_has_to() {
        let packet = Packet { source: None, destination: [10, 42, 0, 1].into(), port: None, size: None };
        let question = Question { packet, half: Half::Sends, reply: false };
        let json = serde_json::to_string(&question).unwrap();
        assert_eq!(json, r#"{"packet":{"destination":"10.42.0.1"},"half":{"is":"sends"}}"#);
        assert_eq!(serde_json::from_str::<Question>(&json).unwrap(), question);
        let outer = Outer { source: [192, 0, 2, 1].into(), destination: [192, 0, 2, 2].into(), vni: 1, port: 4789 };
        let half = Half::Receives { from: "n1".parse().unwrap(), outer: Some(outer) };
        let port = Some(Port { protocol: Transport::Tcp, number: 80 });
        let question = Question { half, packet: Packet { port, ..question.packet }, reply: true };
        let json = serde_json::to_string(&question).unwrap();
        assert_eq!(serde_json::from_str::<Question>(&json).unwrap(), question);
    }

    #[test]
    fn a_newer_nodes_words_are_read_as_unknown() {
        let answer = r#"{"steps":[{"what":"x","state":"curious","more":1}],"end":{"is":"elsewhere","at":"x"},
            "packet":{"destination":"10.42.0.1"},"revision":7}"#;
        let answer: Answer = serde_json::from_str(answer).unwrap();
        assert_eq!((answer.end, answer.steps[0].state), (End::Unknown, State::Unknown));
    }
}
