//! `addresses/<node>/…`: the mirror of what a node gave out of one block, for reports and checks. It comes to be with the
//! block, and goes with it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use twill_ipam::guard::{Guard, stands};
use twill_ipam::store::{Inventory, Occupant};
use twill_ipam::{Attachment, Block, BootTime, State};

/// A mirror is written up to this length, in bytes; what does not fit is counted. etcd takes 1.5 MiB in one request, and
/// keeps every version until it is compacted.
pub const LONGEST_MIRROR: usize = 256 << 10;
/// An address as text, with quotes and a comma, has no more bytes.
const AROUND_AN_ADDRESS: usize = 64;
/// All else of a record has no more bytes.
const AROUND_ALL: usize = 1024;
/// Seconds by which a time may differ before it counts as another: the time of day is adjusted while a node runs.
const SAME_TIME: u64 = 5;

/// The value of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorRecord {
    /// The owner's epoch.
    pub epoch: i64,
    /// Fresh at every write.
    pub nonce: String,
    /// What is in the block.
    #[serde(flatten)]
    pub content: Content,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// What is in a block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The addresses that are not free.
    #[serde(default)]
    pub addresses: BTreeMap<IpAddr, Holder>,
    /// So many more are not free: they did not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Until then (in seconds since 1970) all others cool too: it is not known who had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cools_until: Option<u64>,
    /// When this was taken, no new pod could get an address on the node, since it was being drained: the drain's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<String>,
}

/// Why an address is not free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What it is used for.
    pub state: Use,
    /// Since when, in seconds since 1970.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub since: u64,
    /// For one that cools: when it is free again, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// `namespace/name` of the pod, where the runtime told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The container, absent for an attachment that was rebuilt from the kernel, as the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The interface in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// The host end of the attachment that has it, or had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// What an address is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// An ADD has it, and is not done.
    Reserved,
    /// A pod has it.
    Attached,
    /// A DEL has begun.
    Deleting,
    /// It was given back; nobody else gets it yet.
    Cooling,
    /// The node's tunnel.
    Tunnel,
    /// The node itself, or two that claim it.
    Withheld,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

impl Use {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Attached => "attached",
            Self::Deleting => "deleting",
            Self::Cooling => "cooling",
            Self::Tunnel => "tunnel",
            Self::Withheld => "withheld",
            Self::Unknown => "unknown",
        }
    }

    /// Whether an attachment has it.
    pub fn is_attachments(self) -> bool {
        matches!(self, Self::Reserved | Self::Attached | Self::Deleting)
    }
}

impl Holder {
    /// What the store says of the address at this place of the inventory. `boot` is when the machine booted, since 1970.
    pub fn of(inventory: &Inventory, by: Occupant, boot: Duration) -> Self {
        let day = |time: BootTime| (boot + time.0).as_secs();
        match by {
            Occupant::Attachment(place) => Self::of_attachment(&inventory.attachments[place], boot),
            Occupant::Cooling { since, until, owner } => Self {
                until: Some(day(until)),
                interface: owner.map(|owner| owner.host_ifname()),
                ..Self::bare(Use::Cooling, day(since))
            },
            Occupant::Tunnel => Self::bare(Use::Tunnel, 0),
            Occupant::Withheld => Self::bare(Use::Withheld, 0),
        }
    }

    fn of_attachment(row: &Attachment, boot: Duration) -> Self {
        let state = match row.state {
            State::Reserved => Use::Reserved,
            State::Attached => Use::Attached,
            State::Deleting => Use::Deleting,
        };
        let key = row.key.as_ref();
        Self {
            pod: row.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            container: key.map(|key| key.container.to_string()),
            network: key.map(|key| key.network.to_string()),
            ifname: key.map(|key| key.ifname.to_string()),
            interface: Some(row.hash.host_ifname()),
            ..Self::bare(state, (boot + row.created.0).as_secs())
        }
    }

    fn bare(state: Use, since: u64) -> Self {
        Self { state, since, until: None, pod: None, container: None, network: None, ifname: None, interface: None }
    }

    /// Whether it is in use at `now`, in seconds since 1970: what has cooled is free.
    pub fn holds(&self, now: u64) -> bool {
        self.state != Use::Cooling || self.until.is_none_or(|until| now < until)
    }

    fn says(&self, wanted: &Self) -> bool {
        let timeless = |holder: &Self| Self { since: 0, until: None, ..holder.clone() };
        self.since.abs_diff(wanted.since) <= SAME_TIME && timeless(self) == timeless(wanted)
    }
}

impl Content {
    /// What the inventory has of a block.
    pub fn of(inventory: &Inventory, block: Block, boot: Duration) -> Self {
        let cools = inventory.cooling.iter().find(|(cools, _)| *cools == block);
        let mut content = Self {
            cools_until: cools.map(|(_, until)| (boot + until.0).as_secs()),
            drain: inventory.node.as_ref().and_then(|node| node.drain.clone()),
            ..Self::default()
        };
        let mut length = AROUND_ALL;
        for occupied in inventory.addresses.iter().filter(|occupied| occupied.block == Some(block)) {
            let holder = Holder::of(inventory, occupied.by, boot);
            length += holder.length() + AROUND_AN_ADDRESS;
            if length > LONGEST_MIRROR {
                content.left_out += 1;
            } else {
                content.addresses.insert(occupied.ip, holder);
            }
        }
        content
    }

    /// Whether a reader of this learns what `wanted` says. What has cooled in the meantime he knows to be free.
    pub fn says(&self, wanted: &Self) -> bool {
        let cools = |holder: &Holder| holder.state == Use::Cooling;
        let told = |(ip, holder): (&IpAddr, &Holder)| self.addresses.get(ip).is_some_and(|known| known.says(holder));
        let gone = |(ip, holder): (&IpAddr, &Holder)| cools(holder) || wanted.addresses.contains_key(ip);
        let until = |content: &Self| content.cools_until.unwrap_or(0);
        self.left_out == wanted.left_out
            && self.drain == wanted.drain
            && (wanted.cools_until.is_none() || until(self).abs_diff(until(wanted)) <= SAME_TIME)
            && wanted.addresses.iter().all(told)
            && self.addresses.iter().all(gone)
    }

    /// Whether it proves that no pod has an address of the block, and that none gets one during this drain: taken while the
    /// node refused new pods for it, and nothing in it but the tunnel's address. One that is withheld may be a pod's: two links claim it.
    pub fn is_vacated(&self, drain: &str, now: u64) -> bool {
        let node_s = |holder: &Holder| holder.state == Use::Tunnel || !holder.holds(now);
        let cools = self.cools_until.is_some_and(|until| now < until);
        let in_this_drain = self.drain.as_deref() == Some(drain) || !stands(Guard::DrainWord);
        in_this_drain && self.left_out == 0 && !cools && self.addresses.values().all(node_s)
    }
}

impl Content {
    /// About its length as JSON, in bytes; no less.
    pub fn length(&self) -> usize {
        self.addresses.values().map(|holder| holder.length() + AROUND_AN_ADDRESS).sum::<usize>() + AROUND_ALL
    }
}

impl Holder {
    fn length(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |json| json.len())
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
