//! Trials: pods for a short while, and packets between them, by which an operator sees whether a network carries what it should.
//!
//! A trial has a name that whoever asks has chosen, one or two pods on each of its nodes, and an end: a node takes its pods down when
//! it is told to, and by itself when it has heard nothing of the trial for as long as was agreed. What is sent, whereto and for how long is
//! bounded here: packets that probe go anywhere, few at a time; traffic that fills the wire only to addresses of the cluster. An answer
//! comes when the work is done, so whoever asks waits for as long as that takes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::record::Told;

/// At the most so many pods on a node, of one trial.
pub const MOST_PODS: u8 = 2;
/// At the most so many addresses are probed by one request, and so often each.
pub const MOST_SHOTS: usize = 64;
/// See [`MOST_SHOTS`].
pub const MOST_ROUNDS: u8 = 10;
/// At the most so many TCP connections at once.
pub const MOST_STREAMS: u8 = 64;
/// Traffic flows for so long at the most, in seconds.
pub const LONGEST_RUN: u16 = 60;
/// A trial stands for so long at the most after the last request of it, in seconds.
pub const LONGEST_STAND: u16 = 300;
/// So long at the most is waited for the pods of all nodes, in seconds: those that stand already do so meanwhile, and for a while and a
/// measurement after it.
pub const LONGEST_OPENING: u16 = LONGEST_STAND - LONGEST_RUN - 40;
/// The least and the greatest size of a packet that probes, in bytes, with its headers: all that the answer must bear, and the longest
/// packet there is.
pub const SIZES: std::ops::RangeInclusive<u32> = 96..=65_535;
/// The UDP port at which a pod of a trial answers, and says whom it heard.
pub const PORT: u16 = 7;
/// What the IDs of containers begin with that are a trial's pods. The network has the same name.
pub const NAME: &str = "twill-trial";
/// The longest name of a trial, in bytes.
const LONGEST_NAME: usize = 40;

/// Whether a trial may be called so: letters, digits and dashes.
pub fn is_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(word)
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Task {
    /// Stand up pods, as a container runtime would.
    Open {
        /// How many.
        pods: u8,
        /// They are taken down when so many seconds have passed without a request of the trial, beside what a request itself takes.
        stand: u16,
    },
    /// Probe addresses, all at once, so often one round after the other.
    Probe {
        /// From where.
        from: Place,
        /// Which.
        shots: Vec<Shot>,
        /// How often.
        rounds: u8,
    },
    /// Be the one end of a measurement, for the one connection that comes next.
    Serve {
        /// Where.
        at: Place,
        /// At which address, which is one of that place.
        address: IpAddr,
        /// To whom alone, where that is known; else to addresses of the cluster.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<IpAddr>,
        /// As what.
        service: Service,
    },
    /// Be the other end.
    Run {
        /// Where.
        from: Place,
        /// To whom.
        to: IpAddr,
        /// To which port.
        port: u16,
        /// What is sent.
        load: Load,
        /// For how long.
        seconds: u16,
    },
    /// Say how much the machine has worked.
    Usage {},
    /// Take the pods down.
    Close {},
}

/// Where on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the node's own namespace.
    Node,
    /// In a pod of the trial, by its number from 0.
    Pod(u8),
}

/// A packet that asks for an answer. None is fragmented on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shot {
    /// Whereto.
    pub to: IpAddr,
    /// Its length in bytes, the IP header among them: one of [`SIZES`].
    pub size: u32,
    /// Who is to answer.
    pub by: By,
}

/// Who answers a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The kernel, an echo request, by a packet of the same size.
    Kernel,
    /// A pod of a trial, at [`PORT`], by a small packet that says whom it heard.
    Pod,
}

/// What serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// iperf3.
    Iperf,
    /// Sends back each message that comes by TCP.
    Answers,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// As much as so many TCP connections carry, to iperf3.
    Tcp {
        /// How many.
        streams: u8,
    },
    /// As many datagrams as one sender can, to iperf3.
    Udp {
        /// The bytes of each, without headers.
        bytes: u16,
    },
    /// One message after the other, each when the one before has come back.
    Questions {
        /// The bytes of each.
        bytes: u16,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Task::Open`]: the pods stand.
    Opened(Box<Opened>),
    /// To [`Task::Probe`]: of each shot, in their order.
    Heard {
        /// What came back.
        shots: Vec<Heard>,
    },
    /// To [`Task::Serve`].
    Serving {
        /// At which port.
        port: u16,
    },
    /// To [`Task::Run`] with TCP or UDP.
    Carried(Carried),
    /// To [`Task::Run`] with questions.
    Answered(Answered),
    /// To [`Task::Usage`].
    Usage(Usage),
    /// To [`Task::Close`]: nothing of it is left.
    Closed,
    /// It could not be done: why, and what helps.
    Refused(Told),
}

/// The pods of a trial on a node, and the conditions there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// By their numbers.
    pub pods: Vec<Pod>,
    /// The node's default gateways, without those of link-local addresses.
    pub gateways: Vec<IpAddr>,
    /// The kernel's release.
    pub kernel: String,
    /// The version of `twilld`.
    pub version: String,
    /// How many processors the machine has.
    pub processors: u32,
    /// The devices on a packet's way out of the node.
    pub devices: Vec<Device>,
}

/// A pod of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The MTU of its interface, in bytes.
    pub mtu: u32,
}

/// A device, and how it is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// What it is to the packet: `pod`, `underlay`, `tunnel`.
    pub role: String,
    /// Its name.
    pub name: String,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Those of the usual offloads that are off, by ethtool's names.
    pub off: Vec<String>,
}

/// What came back of a shot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// How often it was sent.
    pub sent: u8,
    /// Of each answer how long it took, in microseconds.
    pub micros: Vec<u32>,
    /// Whom the pod that answered heard, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saw: Option<IpAddr>,
    /// Why it never left, each time: there was no way for it. An errno, such as EINVAL of a route of the type blackhole. What a daemon
    /// of an older version has not sent, it tells like what was not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_way: Option<i32>,
    /// Why it never left, each time, though there was a way: an errno, such as EPERM of the node's own firewall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsent: Option<i32>,
}

/// What traffic arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Bytes, without headers.
    pub bytes: u64,
    /// In so many microseconds.
    pub micros: u64,
    /// Segments that had to be sent again.
    pub retransmits: u64,
    /// Datagrams; 0 of TCP.
    pub datagrams: u64,
}

/// How long answers took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// How many came.
    pub count: u64,
    /// Half of them were faster, in nanoseconds.
    pub median_nanos: u64,
    /// 99 of 100 were faster.
    pub late_nanos: u64,
}

/// How much a machine has worked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// By which a machine is known that is several nodes: its boot.
    pub machine: String,
    /// Processor time that was spent since it was started, of all processors together, in milliseconds.
    pub busy_millis: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::{Ask, LONGEST_REQUEST, RequestRecord, read_ask};

    #[test]
    fn names_of_trials_are_short_words() {
        assert!(is_name("0a1b-1") && is_name(&"a".repeat(40)));
        for bad in ["", "a/b", "A", "a b", "..", &"a".repeat(41)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_longest_task_fits_into_a_request_and_is_read_as_it_was_written() {
        let to = "fd42:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        let shots = vec![Shot { to, size: 65_535, by: By::Kernel }; MOST_SHOTS];
        let task = Task::Probe { from: Place::Pod(1), shots, rounds: MOST_ROUNDS };
        let record = RequestRecord { from: "f".repeat(128), ask: Ask::Trial { trial: "a".repeat(40), task } };
        let text = serde_json::to_vec(&record).unwrap();
        assert!(text.len() < LONGEST_REQUEST, "{}", text.len());
        assert_eq!(read_ask(&text), Ok(record));
    }

    #[test]
    fn what_was_not_sent_is_told_beside_what_older_versions_tell_and_read() {
        let older = r#"{"sent":3,"micros":[]}"#;
        let heard = Heard { sent: 3, ..Heard::default() };
        assert_eq!(serde_json::from_str::<Heard>(older).unwrap(), heard);
        assert_eq!(serde_json::to_string(&heard).unwrap(), older);
        let refused = Heard { no_way: Some(22), ..heard };
        assert_eq!(serde_json::to_string(&refused).unwrap(), r#"{"sent":3,"micros":[],"no_way":22}"#);
    }

    #[test]
    fn what_a_newer_version_asks_is_not_done_in_part() {
        let newer =
            r#"{"from":"t","ask":{"kind":"trial","trial":"a","task":{"task":"open","pods":1,"stand":9,"more":1}}}"#;
        assert!(read_ask(newer.as_bytes()).is_err());
    }
}
