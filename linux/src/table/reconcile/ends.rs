//! Host ends of pods: the plugin makes and removes them, and here they are kept as they shall be. One that is missing is its pod's end,
//! of which the routes to it tell.

use std::collections::BTreeMap;

use super::links::{device, settings};
use crate::IfName;
use crate::netlink::Request;
use crate::state::HostEnd;
use crate::table::change::{Action, Change};
use crate::table::link::{self, Details, Ipv4Setting};

/// How many of them stand, and what brings those that differ to what they shall be.
pub(super) fn plan(desired: &BTreeMap<IfName, HostEnd>, all: &[Details]) -> (usize, Vec<Change>) {
    // Whatever else has such a name is somebody else's.
    let veths = all.iter().filter(|seen| seen.link.kind.as_deref() == Some("veth"));
    let standing: Vec<_> = veths.filter_map(|seen| Some((desired.get(&seen.link.name)?, seen))).collect();
    let changes = standing.iter().map(|(wanted, seen)| Change {
        table: "link",
        action: Action::Changed,
        object: wanted.to_string(),
        was: Some(seen.to_string()),
        requests: adjust(wanted, seen),
    });
    (standing.len(), changes.filter(|change| !change.requests.is_empty()).collect())
}

/// `up` comes last: the device takes packets as it shall from then on.
fn adjust(wanted: &HostEnd, seen: &Details) -> Vec<Request> {
    let stops = seen.ipv4_forwarding == Some(false);
    let forward = stops.then(|| link::set_ipv4(device(seen), &[(Ipv4Setting::Forwarding, 1)]));
    let up = (!seen.link.up).then(|| link::set_up(device(seen)));
    settings(seen, wanted.mac, wanted.mtu).chain(forward).chain(up).collect()
}
