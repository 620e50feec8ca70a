//! Prints what is desired a line an object, as `ip` would, so that a golden file can be read and searched.

use twill_linux::state::{Hop, KernelState, LinkKind, Target};

use super::Desired;

/// All of it, but of the firewall only its sets: few things change its rules.
pub(super) fn print(desired: &Desired) -> String {
    let mut lines = objects(&desired.state);
    let members = desired.state.firewall.as_ref().map(|ruleset| ruleset.members.clone()).unwrap_or_default();
    let sets = firewall(desired).into_iter().filter_map(|object| {
        let set = object.get("set")?;
        let name = set["name"].as_str().unwrap();
        Some(match members.get(name) {
            Some(members) => format!("set {name} {members:?}"),
            None => format!("set {name} {}", set.get("elem").map(ToString::to_string).unwrap_or_default()),
        })
    });
    lines.extend(sets);
    lines.push(format!("ours {:?} {:?}", desired.ours.devices, desired.ours.pods));
    lines.extend(desired.problems.iter().map(|problem| format!("problem: {problem}")));
    lines.join("\n")
}

/// The state but for the firewall.
pub(super) fn objects(state: &KernelState) -> Vec<String> {
    let mut lines = Vec::new();
    for link in state.links.values() {
        let LinkKind::Vxlan { vni, port, local } = link.kind;
        let (name, mac, mtu) = (link.name, link.mac, link.mtu);
        lines.push(format!("link {name} address {mac} mtu {mtu} vxlan id {vni} dstport {port} local {local}"));
    }
    lines.extend(state.ends.values().map(|end| format!("end {end}")));
    lines.extend(
        state.offloads.iter().map(|(device, on)| format!("offload {device} tx {}", if *on { "on" } else { "off" })),
    );
    lines.extend(state.addresses.iter().map(|address| format!("address {} dev {}", address.cidr, address.device)));
    for route in state.routes.values() {
        let hop = |Hop { gateway, device, onlink }: &Hop| {
            format!("via {gateway} dev {device}{}", if *onlink { " onlink" } else { "" })
        };
        let target = match route.target.clone() {
            Target::Unreachable => "unreachable".to_owned(),
            Target::Device(device) => format!("dev {device}"),
            Target::Gateway { gateway, device, onlink } => hop(&Hop { gateway, device, onlink }),
            Target::Several(hops) => {
                hops.iter().map(|one| format!("nexthop {}", hop(one))).collect::<Vec<_>>().join(" ")
            }
        };
        let source = route.source.map(|source| format!(" src {source}")).unwrap_or_default();
        let key = route.key;
        lines
            .push(format!("route {} {target} proto {} metric {}{source}", key.destination, route.protocol, key.metric));
    }
    lines.extend(state.neighbours.values().map(|n| format!("neighbour {} lladdr {} dev {}", n.ip, n.mac, n.device)));
    lines
        .extend(state.fdb.values().map(|entry| format!("fdb {} dev {} dst {}", entry.mac, entry.device, entry.remote)));
    lines.extend(state.sysctls.iter().map(|(path, value)| format!("sysctl {path} = {value}")));
    lines
}

/// The firewall's objects as JSON.
pub(super) fn firewall(desired: &Desired) -> Vec<serde_json::Value> {
    let ruleset = desired.state.firewall.as_ref();
    let json = |object| {
        let mut value = serde_json::to_value(object).unwrap();
        sort_flags(&mut value);
        value
    };
    ruleset.map(|ruleset| ruleset.objects.iter().map(json).collect()).unwrap_or_default()
}

/// The crate keeps flags in hash sets, which print in any order.
fn sort_flags(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(sort_flags),
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    serde_json::Value::Array(flags) if key == "flags" => flags.sort_by_key(ToString::to_string),
                    _ => sort_flags(field),
                }
            }
        }
        _ => {}
    }
}
