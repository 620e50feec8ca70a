//! An attachment: one interface of one container in one network, and the states it passes through.
//!
//! [`step`] is the whole table of transitions, pure; the store asks it inside each transaction.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use twill_conf::{ContainerId, IfName, NetworkName, digest::digest};

use crate::{Block, BootTime, Error, Extras};

/// What identifies an attachment (CNI specification 1.1.0, "Attachment parameters").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The network's name.
    pub network: NetworkName,
    /// CNI_CONTAINERID.
    pub container: ContainerId,
    /// CNI_IFNAME.
    pub ifname: IfName,
}

impl Key {
    /// The digest by which store, host interface and alias know it.
    pub fn hash(&self) -> KeyHash {
        let digest = digest(&[self.network.as_str(), self.container.as_str(), self.ifname.as_str()]);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        KeyHash(u64::from_be_bytes(bytes) >> 12)
    }
}

/// 52 bits of a key's digest: 13 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The name of the host end of the veth: `tw` and 13 digits, 15 bytes, which is all that the kernel takes.
    pub fn host_ifname(self) -> String {
        format!("tw{self}")
    }

    /// The key whose host end has this name; `None` where that is no name of a host end.
    pub fn of_host_ifname(name: &str) -> Option<Self> {
        Self::parse(name.strip_prefix("tw")?)
    }

    /// The name of the device by which what the pod sends is limited: `bw` and 13 digits. Not `tw`: whatever begins so is
    /// the host end of a pod.
    pub fn ifb_name(self) -> String {
        format!("bw{self}")
    }

    /// The key whose limiting device has this name.
    pub fn of_ifb_name(name: &str) -> Option<Self> {
        Self::parse(name.strip_prefix("bw")?)
    }

    /// Reads 13 hexadecimal digits.
    pub fn parse(digits: &str) -> Option<Self> {
        let hash = Self(u64::from_str_radix(digits, 16).ok()?);
        (hash.to_string() == digits).then_some(hash)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:013x}", self.0)
    }
}

/// A row's number. Never used again for another attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId(pub i64);

/// Where an attachment stands. `free` is the absence of a row; `cooling` is a state of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Addresses are set aside; an ADD is building the interface, or was killed while it did.
    Reserved,
    /// The interface stands and the runtime was, or is about to be, told so.
    Attached,
    /// A DEL has begun. Only the way to `cooling` leads from here.
    Deleting,
}

/// What somebody wants to do with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// ADD sets addresses aside. Its process holds the liveness lock.
    Reserve,
    /// ADD, still holding the lock, says that the interface stands.
    Confirm,
    /// DEL says that the attachment is to go. Needs no lock: an ADD that still runs sees the mark at its next step.
    Delete,
    /// The row goes and its addresses cool: by a DEL, by an ADD that undoes its work, or by the sweep. Whoever does it
    /// holds the liveness lock, and has seen that the link is gone.
    Free,
}

/// What a step leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The row stays, in this state.
    Row(State),
    /// As [`Next::Row`], but as a new row: whatever process knows the old one has lost it.
    NewRow,
    /// No row; its addresses cool.
    Gone,
}

/// Where `step` leads from `state`, `None` being `free`: the absence of a row.
///
/// [`Error::Exists`] where an ADD meets a row that is not a killed ADD's, [`Error::Overtaken`] where it lost its own.
pub fn step(state: Option<State>, step: Step) -> Result<Next, Error> {
    use State::{Attached, Deleting, Reserved};
    match (state, step) {
        (None, Step::Reserve) => Ok(Next::NewRow),
        // The lock is ours, so the ADD that made this row is dead; should it live after all, its confirmation fails.
        (Some(Reserved), Step::Reserve) => Ok(Next::NewRow),
        (Some(state @ (Attached | Deleting)), Step::Reserve) => Err(Error::Exists { state }),
        (Some(Reserved), Step::Confirm) => Ok(Next::Row(Attached)),
        (None | Some(Attached | Deleting), Step::Confirm) => Err(Error::Overtaken),
        (Some(Reserved | Attached | Deleting), Step::Delete) => Ok(Next::Row(Deleting)),
        // Attached is left through deleting; with lock and missing link at hand both steps are one.
        (Some(Reserved | Attached | Deleting), Step::Free) => Ok(Next::Gone),
        (None, Step::Delete | Step::Free) => Ok(Next::Gone),
    }
}

/// One attachment as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The row.
    pub id: AttachmentId,
    /// Always known, also after a rebuild from the kernel.
    pub hash: KeyHash,
    /// Absent for a row that was rebuilt from the kernel, which knows only the hash.
    pub key: Option<Key>,
    /// CNI_NETNS to the letter.
    pub netns: Option<PathBuf>,
    /// The pod, where the runtime told.
    pub pod: Option<Pod>,
    /// Where it stands.
    pub state: State,
    /// When it was reserved.
    pub created: BootTime,
    /// When its state last changed.
    pub changed: BootTime,
    /// Its addresses with the block of each, IPv4 first.
    pub addresses: Vec<(IpAddr, Block)>,
    /// What it has beyond link and addresses.
    pub extras: Extras,
}

impl Attachment {
    /// Whose it is, for a person: "the pod shop/till-0", "the container c1", "the pod behind tw0000000000001".
    pub fn title(&self) -> String {
        match (&self.pod, &self.key) {
            (Some(pod), _) => format!("the pod {}/{}", pod.namespace, pod.name),
            (None, Some(key)) => format!("the container {}", key.container),
            (None, None) => format!("the pod behind {}", self.hash.host_ifname()),
        }
    }

    /// Whether it is the row that `seen` was read from, and nothing has happened to it since.
    pub fn is_still(&self, seen: &Self) -> bool {
        (self.id, self.state, self.changed) == (seen.id, seen.state, seen.changed)
    }
}

/// A Kubernetes pod, as CNI_ARGS names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// K8S_POD_NAMESPACE.
    pub namespace: String,
    /// K8S_POD_NAME.
    pub name: String,
}

/// The MAC of every host end on every node: the pod's gateway keeps its MAC wherever and whenever a pod is made, so no neighbour
/// entry in a pod ever goes stale. Locally administered.
pub const HOST_MAC: [u8; 6] = [0x02, 0x74, 0x77, 0x00, 0x00, 0x01];

impl KeyHash {
    /// The MAC of the pod's interface, where the runtime asks for none: derived, so that a pod that is made again keeps
    /// it, and its neighbours' entries stay right.
    pub fn pod_mac(self) -> [u8; 6] {
        let [.., a, b, c, d, e] = self.0.to_be_bytes();
        [0x02, a, b, c, d, e]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Attached, Deleting, Reserved};

    const ALL: [Option<State>; 4] = [None, Some(Reserved), Some(Attached), Some(Deleting)];

    #[test]
    fn only_a_reserved_row_becomes_attached() {
        for state in ALL {
            let next = step(state, Step::Confirm);
            match state {
                Some(Reserved) => assert_eq!(next.unwrap(), Next::Row(Attached)),
                _ => assert!(matches!(next, Err(Error::Overtaken)), "{state:?}"),
            }
        }
    }

    #[test]
    fn from_deleting_only_the_way_out_leads_on() {
        assert!(matches!(step(Some(Deleting), Step::Reserve), Err(Error::Exists { state: Deleting })));
        assert_eq!(step(Some(Deleting), Step::Delete).unwrap(), Next::Row(Deleting));
        assert_eq!(step(Some(Deleting), Step::Free).unwrap(), Next::Gone);
    }

    #[test]
    fn a_reservation_takes_over_a_killed_one_and_no_other_row() {
        assert_eq!(step(Some(Reserved), Step::Reserve).unwrap(), Next::NewRow);
        assert!(matches!(step(Some(Attached), Step::Reserve), Err(Error::Exists { state: Attached })));
    }

    #[test]
    fn deleting_what_is_not_there_succeeds() {
        assert_eq!(step(None, Step::Delete).unwrap(), Next::Gone);
        assert_eq!(step(None, Step::Free).unwrap(), Next::Gone);
    }

    #[test]
    fn the_derived_names_never_change() {
        let key = Key {
            network: "twill".parse().unwrap(),
            container: "c0ffee".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        assert_eq!(key.hash().host_ifname(), "tw540450feddca0");
        assert_eq!(KeyHash(1).host_ifname(), "tw0000000000001");
        assert_eq!(KeyHash((1 << 52) - 1).host_ifname().len(), 15);
        assert_eq!(KeyHash(0x1_2345_6789_abcd).pod_mac(), [0x02, 0x45, 0x67, 0x89, 0xab, 0xcd]);
    }
}
