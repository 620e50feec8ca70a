//! Requests to a node: what an operator may ask a daemon, through etcd, and what it answers.
//!
//! The fixed list of [`Ask`] is all that can be asked: no request carries a command, a path or code. A request is a key
//! `requests/<node>/<id>` on a lease, so that it is forgotten where nobody answers; the answer a key
//! `answers/<node>/<id>` on a lease of its own. A node answers only while the request stands, once, and acts only after it has
//! read the request once more: one whose time is over does nothing. What is long is asked for page by page, so that no
//! answer is longer than [`LONGEST_ANSWER`].
//!
//! Versions may differ: a daemon that does not know a kind, or a field of one, answers [`Reply::Unsupported`] and does
//! nothing. [`desk`] has the rules of the daemon's side, [`client`] is the side of `twillctl`. What the speaker of BGP is asked is in [`bgp`],
//! what is asked of the way of a packet in [`trace`], what a daemon says of itself in [`state`], what a node has of a pod in
//! [`attempts`], and what pods do that try the network in [`trial`].

pub mod attempts;
pub mod bgp;
pub mod checkup;
pub mod client;
pub mod desk;
mod page;
pub mod state;
pub mod trace;
pub mod trial;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use twill_conf::NodeName;

use crate::plain;
use crate::store::Range;

pub use page::{Fault, LiveAddress, LiveBlock, Page, Stray};

/// A longer request is not read, in bytes.
pub const LONGEST_REQUEST: usize = 16 << 10;
/// An answer is no longer, in bytes. etcd takes 1.5 MiB.
pub const LONGEST_ANSWER: usize = 256 << 10;
/// No more is told of what a parser says, in bytes.
const LONGEST_COMPLAINT: usize = 200;
/// So many rows or links are mended by one request.
pub const MOST_MENDED: usize = 256;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// What is in use here, by the node store and the kernel: a page of it.
    Addresses {
        /// Begin behind this address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<IpAddr>,
    },
    /// What failed here of late, and what is attached.
    Attempts(attempts::Sought),
    /// What its speaker of BGP knows.
    Bgp {
        /// What of that.
        question: bgp::Question,
    },
    /// What the machine offers, and what stands in the way.
    Checkup {},
    /// Drain the node, or end that.
    Drain {
        /// Which of the two.
        on: bool,
    },
    /// Mend what [`Ask::Addresses`] showed to be wrong, under the lock of each attachment, and only where it is so still.
    Mend {
        /// Rows of attachments whose link is missing, or whose ADD or DEL was killed half-way, by number.
        #[serde(default)]
        rows: Vec<i64>,
        /// Host ends without a row: they are taken over.
        #[serde(default)]
        links: Vec<String>,
    },
    /// What it does with a packet.
    Trace {
        /// Which, and in which half of its way.
        question: trace::Question,
    },
    /// How the daemon is. With braces, since of a variant without any a field of a newer version would be passed over.
    State {},
    /// Do a part of a trial. The answer comes when that is done.
    Trial {
        /// Which trial: [`trial::is_name`].
        trial: String,
        /// Which part.
        task: trial::Task,
    },
}

impl Ask {
    /// Whether it changes nothing: then it needs no second look whether it stands still.
    pub fn only_looks(&self) -> bool {
        !matches!(self, Self::Drain { .. } | Self::Mend { .. } | Self::Trial { .. })
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Ask::Addresses`].
    Addresses(Page),
    /// To [`Ask::Attempts`].
    Attempts(attempts::History),
    /// To [`Ask::Bgp`].
    Bgp {
        /// What the speaker says.
        answer: bgp::Answer,
    },
    /// To [`Ask::Checkup`].
    Checkup {
        /// What was found.
        found: checkup::Found,
    },
    /// To [`Ask::Drain`]: the record in etcd says so now.
    Drain {
        /// Whether the node is being drained.
        on: bool,
    },
    /// To [`Ask::Mend`].
    Mend {
        /// What was mended, a sentence each.
        done: Vec<String>,
        /// What was left, and why.
        left: Vec<String>,
    },
    /// To [`Ask::Trace`].
    Trace {
        /// The steps.
        answer: Box<trace::Answer>,
    },
    /// To [`Ask::State`].
    State(Box<state::State>),
    /// To [`Ask::Trial`].
    Trial {
        /// What became of it.
        answer: trial::Answer,
    },
    /// This version does not know what was asked, and did nothing.
    Unsupported {
        /// What was not understood.
        cause: String,
    },
    /// It could not be done.
    Failed {
        /// Why not.
        cause: String,
    },
}

/// The value of a request's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Who asks, for the log.
    pub from: String,
    /// What.
    pub ask: Ask,
}

/// The value of an answer's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// The version of the daemon.
    pub version: String,
    /// What it says.
    pub reply: Reply,
}

/// `requests/<node>/<id>`.
pub fn request_key(node: &NodeName, id: &str) -> String {
    format!("requests/{node}/{id}")
}

/// `answers/<node>/<id>`.
pub fn answer_key(node: &NodeName, id: &str) -> String {
    format!("answers/{node}/{id}")
}

/// Where a second machine tells of itself that goes by the name of a node: no request has this ID.
pub fn rival_key(node: &NodeName) -> String {
    answer_key(node, "rival")
}

/// All requests to a node.
pub fn requests_to(node: &NodeName) -> Range {
    Range::prefix(&format!("requests/{node}/"))
}

/// All answers of a node.
pub fn answers_of(node: &NodeName) -> Range {
    Range::prefix(&format!("answers/{node}/"))
}

/// Reads what was asked, or says what is to be answered instead.
pub fn read_ask(value: &[u8]) -> Result<RequestRecord, Reply> {
    if value.len() > LONGEST_REQUEST {
        let cause = format!("the request has {} bytes, at most {LONGEST_REQUEST} are read", value.len());
        return Err(Reply::Failed { cause });
    }
    serde_json::from_slice(value).map_err(|error| Reply::Unsupported { cause: unread(&error) })
}

impl Reply {
    /// No more of it than a daemon tells, whoever wrote it. That no text has several lines, or is very long, is seen to before.
    fn within_bounds(self) -> Self {
        match self {
            Self::State(state) => Self::State(Box::new(state.within_bounds())),
            Self::Checkup { found } => Self::Checkup { found: found.within_bounds() },
            Self::Attempts(history) => Self::Attempts(history.within_bounds()),
            Self::Trace { answer } => Self::Trace { answer: Box::new(answer.within_bounds()) },
            Self::Mend { mut done, mut left } => {
                // A row and a link may each have one.
                done.truncate(2 * MOST_MENDED);
                left.truncate(2 * MOST_MENDED);
                Self::Mend { done, left }
            }
            // Pages have their bound in the length of an answer.
            Self::Addresses(_) | Self::Bgp { .. } | Self::Drain { .. } | Self::Trial { .. } => self,
            Self::Unsupported { .. } | Self::Failed { .. } => self,
        }
    }
}

/// What a parser says, which repeats what it found.
fn unread(error: &serde_json::Error) -> String {
    plain::line(&error.to_string(), LONGEST_COMPLAINT)
}

#[cfg(test)]
mod tests;
