//! What a node has of a pod: its attachments, and the ADDs, DELs and GCs that failed, for `twillctl why`.

mod remedy;

pub use remedy::remedy;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::LONGEST_ANSWER;

/// So many of each are told.
const MOST: usize = 64;
/// What stands around them, in bytes.
const AROUND: usize = 1024;

/// Which attempts and attachments are asked for: what is absent is not compared, and GCs, which name no pod, are told where
/// neither pod nor container is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sought {
    /// `namespace/name` of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The ID of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The name of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Failures, newest first.
    pub attempts: Vec<AttemptRecord>,
    /// What the node store has.
    pub attachments: Vec<AttachmentRecord>,
    /// So many of both did not fit.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

/// A failed ADD, DEL or GC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptRecord {
    /// How long ago.
    pub age_seconds: u64,
    /// CNI_COMMAND as it was given.
    pub verb: String,
    /// `namespace/name` where the runtime told.
    pub pod: Option<String>,
    /// Absent, as the next two, where the request did not name an attachment.
    pub container: Option<String>,
    /// The network.
    pub network: Option<String>,
    /// The interface in the container.
    pub interface: Option<String>,
    /// Which step failed.
    pub step: String,
    /// Why, as the runtime was told.
    pub cause: String,
    /// The CNI code.
    pub code: u32,
}

/// An attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachmentRecord {
    /// How long ago it was reserved.
    pub age_seconds: u64,
    /// `reserved`, `attached` or `deleting`.
    pub state: String,
    /// `namespace/name` where the runtime told.
    pub pod: Option<String>,
    /// Absent, as the next two, for one that was rebuilt from the kernel.
    pub container: Option<String>,
    /// The network.
    pub network: Option<String>,
    /// The interface in the container.
    pub interface: Option<String>,
    /// The host end.
    pub host_interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Sought {
    /// Whether something of this pod, container and network is asked for.
    pub fn is_met(&self, pod: Option<&str>, container: Option<&str>, network: Option<&str>) -> bool {
        let agrees = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        agrees(&self.pod, pod) && agrees(&self.container, container) && agrees(&self.network, network)
    }
}

impl History {
    /// As many of these as there is room for.
    pub fn fill(attempts: Vec<AttemptRecord>, attachments: Vec<AttachmentRecord>) -> Self {
        let all = attempts.len() + attachments.len();
        let mut room = LONGEST_ANSWER - AROUND;
        // Attachments first: they are short, and say where the pod is.
        let attachments = fitting(attachments, &mut room);
        let attempts = fitting(attempts, &mut room);
        Self { left_out: all - attempts.len() - attachments.len(), attempts, attachments }
    }
}

impl History {
    /// What was read of an answer: no more than [`fill`](Self::fill) tells.
    #[must_use]
    pub(super) fn within_bounds(mut self) -> Self {
        let over = self.attempts.len().saturating_sub(MOST) + self.attachments.len().saturating_sub(MOST);
        self.attempts.truncate(MOST);
        self.attachments.truncate(MOST);
        self.left_out = self.left_out.saturating_add(over);
        self
    }
}

fn fitting<T: Serialize>(items: Vec<T>, room: &mut usize) -> Vec<T> {
    let mut fits = |item: &T| {
        let length = serde_json::to_vec(item).map_or(usize::MAX - 1, |json| json.len()) + 1;
        let rest = room.checked_sub(length);
        rest.map(|rest| *room = rest).is_some()
    };
    items.into_iter().take(MOST).take_while(|item| fits(item)).collect()
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_compared_and_nothing_else() {
        let sought = Sought { pod: Some("shop/till".into()), ..Sought::default() };
        assert!(
            sought.is_met(Some("shop/till"), Some("c1"), Some("net")) && sought.is_met(Some("shop/till"), None, None)
        );
        assert!(!sought.is_met(Some("shop/till-1"), None, None) && !sought.is_met(None, Some("c1"), None));
        assert!(Sought::default().is_met(None, None, None));
    }

    #[test]
    fn an_answer_has_what_fits_and_says_how_much_does_not() {
        let attempt = AttemptRecord { cause: "x".repeat(2048 * 6), ..AttemptRecord::default() };
        let history = History::fill(vec![attempt; 256], vec![AttachmentRecord::default(); 100]);
        let json = serde_json::to_vec(&history).unwrap();
        assert!(json.len() <= LONGEST_ANSWER, "{} bytes", json.len());
        assert_eq!(history.attachments.len(), MOST);
        assert!(!history.attempts.is_empty());
        assert_eq!(history.left_out, 356 - MOST - history.attempts.len());
        assert_eq!(serde_json::from_slice::<History>(&json).unwrap(), history);
    }
}
