//! How steps and objects are put into words.

use std::fmt;

use ipnetwork::IpNetwork;
use twill_cluster::inquiry::trace::{Object, State, Step};
use twill_linux::IfName;
use twill_linux::state::{PROTOCOL_CLUSTER, PROTOCOL_POD};
use twill_linux::table::route::{Decision, SeenRoute, SeenTarget};

use super::{Kernel, Onward};

/// A thing that happens to a packet, good unless said otherwise.
pub(super) trait Words: Sized {
    /// At no interface, by no object.
    fn of(what: impl Into<String>) -> Self;
    /// At this one.
    fn at(self, device: IfName) -> Self;
    /// By this object.
    fn by(self, object: Object) -> Self;
    /// As large a packet passes.
    fn carries(self, mtu: u32) -> Self;
    /// It goes on, though that is not as it shall be.
    fn odd(self, cause: impl Into<String>, fix: impl Into<String>) -> Self;
    /// It goes no further.
    fn broken(self, cause: impl Into<String>, fix: impl Into<String>) -> Self;
}

impl Words for Step {
    fn of(what: impl Into<String>) -> Self {
        let (device, mtu, cause, fix) = (None, None, None, None);
        Self { device, what: what.into(), objects: Vec::new(), mtu, state: State::Good, cause, fix }
    }

    fn at(self, device: IfName) -> Self {
        Self { device: Some(device.to_string()), ..self }
    }

    fn by(mut self, object: Object) -> Self {
        self.objects.push(object);
        self
    }

    fn carries(self, mtu: u32) -> Self {
        Self { mtu: Some(mtu), ..self }
    }

    fn odd(self, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Odd, cause: Some(cause.into()), fix: Some(fix.into()), ..self }
    }

    fn broken(self, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Broken, ..self.odd(cause, fix) }
    }
}

/// An object that stands as it shall.
pub(super) fn stands(kind: &str, text: impl fmt::Display) -> Object {
    let text = text.to_string();
    Object { kind: kind.to_owned(), expected: Some(text.clone()), found: Some(text) }
}

/// One that shall stand, and what is found in its place.
pub(super) fn differs(kind: &str, expected: impl fmt::Display, found: Option<String>) -> Object {
    Object { kind: kind.to_owned(), expected: Some(expected.to_string()), found }
}

/// One that is nobody's of Twill.
pub(super) fn foreign(kind: &str, found: impl fmt::Display) -> Object {
    Object { kind: kind.to_owned(), expected: None, found: Some(found.to_string()) }
}

/// What is repaired where it is missing or another.
pub(super) fn repaired(what: &str) -> String {
    format!("twilld puts {what} back within 10 seconds; where that does not help, its log says what is in the way")
}

/// Who makes routes of a protocol, as `ip` names them (/etc/iproute2/rt_protos).
fn protocol(number: u8) -> String {
    let known = [(2, "kernel"), (3, "boot"), (4, "static"), (9, "ra"), (11, "zebra"), (12, "bird"), (16, "dhcp")];
    let found = known.iter().find(|(known, _)| *known == number);
    found.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

/// Whether a route is one of Twill's.
pub(super) fn is_ours(protocol: u8) -> bool {
    [PROTOCOL_CLUSTER, PROTOCOL_POD].contains(&protocol)
}

/// The route by which the kernel decides, as `ip` would show it.
pub(super) fn decided<K: Kernel>(kernel: &mut K, decision: &Decision) -> Onward<String> {
    let local = if decision.local { "local " } else { "" };
    let table =
        if decision.table == MAIN || decision.local { String::new() } else { format!(" table {}", decision.table) };
    let way = way(kernel, &decision.target)?;
    let (Decision { key, protocol: by, .. }, destination) = (decision, destination(decision.key.destination));
    Ok(format!("{local}{destination}{way} proto {} metric {}{table}", protocol(*by), key.metric))
}

/// A standing route, as `ip` would show it.
pub(super) fn standing<K: Kernel>(kernel: &mut K, route: &SeenRoute) -> Onward<String> {
    let refuses = if refuses(&route.target) { "refusing " } else { "" };
    let (way, destination) = (way(kernel, &route.target)?, destination(route.key.destination));
    Ok(format!("{refuses}{destination}{way} proto {} metric {}", protocol(route.protocol), route.key.metric))
}

/// RT_TABLE_MAIN.
pub(super) const MAIN: u32 = twill_linux::table::route::detailed::MAIN;

/// Whether a route refuses or drops: unreachable, prohibit, blackhole.
pub(super) fn refuses(target: &SeenTarget) -> bool {
    matches!(target, SeenTarget::Unreachable | SeenTarget::Other { gateway: None, index: None, .. })
}

fn destination(prefix: IpNetwork) -> String {
    if prefix.prefix() == 0 { "default".to_owned() } else { prefix.to_string() }
}

fn way<K: Kernel>(kernel: &mut K, target: &SeenTarget) -> Onward<String> {
    let mut name = |index: u32| -> Onward<String> {
        Ok(kernel.link_at(index)?.map_or_else(|| format!("#{index}"), |link| link.name.to_string()))
    };
    Ok(match target {
        SeenTarget::Unreachable => String::new(),
        SeenTarget::Device(index) => format!(" dev {}", name(*index)?),
        SeenTarget::Gateway { gateway, index, .. } => format!(" via {gateway} dev {}", name(*index)?),
        SeenTarget::Several(hops) => {
            let hops = hops.iter().map(|hop| Ok(format!(" nexthop via {} dev {}", hop.gateway, name(hop.index)?)));
            hops.collect::<Onward<Vec<_>>>()?.concat()
        }
        SeenTarget::Other { gateway, index, .. } => {
            let gateway = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            let device = index.map(|index| Ok::<_, super::Stop>(format!(" dev {}", name(index)?))).transpose()?;
            gateway + &device.unwrap_or_default()
        }
    })
}
