//! What only the records of all nodes together tell. Pure.

use std::collections::BTreeMap;

use twill_checkup::identity::shortened_id;
use twill_cluster::inquiry::checkup::{Finding, State};
use twill_cluster::view::View;
use twill_cluster::{NodeRecord, Versioned};
use twill_conf::NodeName;
use twill_conf::cluster::vxlan_overhead;

use crate::report::pools::PoolUse;
use crate::report::problems::{self, Problem, shortened};

/// Judges the records.
pub(super) fn judge(view: &View) -> Vec<Finding> {
    let mut found = Vec::new();
    let configuration = problems::unreadable(view);
    if configuration.is_empty() {
        found.push(finding("configuration", State::Ok, "", "it stands, and all records can be read", ""));
    }
    found.extend(configuration.into_iter().map(|problem| of("configuration", State::Problem, problem)));
    found.push(versions(view));
    found.extend(identities(view));
    let of_addresses = addresses(view);
    // Records with one address are a contradiction, too, which is told once.
    let are_apart = of_addresses.iter().all(|finding| finding.state == State::Ok);
    found.extend(of_addresses);
    found.extend(mtus(view));
    found.extend(ports(view));
    if are_apart {
        let told = problems::contradictions(view)
            .map(|problem| of("records", State::Problem, Problem { subject: String::new(), ..problem }));
        found.extend(or_ok(told.collect(), "records", "none contradicts another"));
    }
    found.extend(pools(view));
    found.extend(blocks(view));
    found
}

/// A problem that `status` has too.
fn of(check: &str, state: State, problem: Problem) -> Finding {
    finding(check, state, &problem.subject, &problem.what, &problem.fix)
}

pub(super) fn finding(check: &str, state: State, subject: &str, what: &str, fix: &str) -> Finding {
    let own = str::to_owned;
    Finding { check: own(check), state, subject: own(subject), what: own(what), fix: own(fix) }
}

/// The nodes by something that their records say.
fn by<'a, K: Ord>(view: &'a View, of: impl Fn(&'a NodeRecord) -> Option<K>) -> BTreeMap<K, Vec<String>> {
    let mut nodes: BTreeMap<K, Vec<String>> = BTreeMap::new();
    for (name, record) in records(view) {
        if let Some(key) = of(&record.value) {
            nodes.entry(key).or_default().push(name.to_string());
        }
    }
    nodes
}

fn records(view: &View) -> impl Iterator<Item = (&NodeName, &Versioned<NodeRecord>)> {
    view.nodes.iter().map(|(name, record)| (name, &**record))
}

fn versions(view: &View) -> Finding {
    let versions = by(view, |record| Some(record.version.as_str()));
    let list = || {
        versions
            .iter()
            .map(|(version, nodes)| format!("{version} ({})", shortened(nodes)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match versions.len() {
        0 => finding("version", State::Ok, "", "there is no node yet", ""),
        1 => finding("version", State::Ok, "", &format!("all nodes: {}", list()), ""),
        _ => finding(
            "version",
            State::Note,
            "",
            &format!("nodes have different versions: {}", list()),
            "end the upgrade; until then the configuration can want only what the oldest can",
        ),
    }
}

fn identities(view: &View) -> Vec<Finding> {
    let same = by(view, |record| Some(record.machine_id.as_str()));
    let same = same.into_iter().filter(|(_, nodes)| nodes.len() > 1);
    let found: Vec<Finding> = same
        .map(|(id, nodes)| {
            let what = format!(
                "{} have one machine ID ({}): machines that were copied from one another; Twill tells a node that comes back from \
                 another of its name by it",
                shortened(&nodes),
                shortened_id(id)
            );
            let fix = "on all but one: stop twilld, 'rm /etc/machine-id && systemd-machine-id-setup', delete the node \
                       ('twillctl node delete'), and start twilld";
            finding("machine-id", State::Problem, "machine ID", &what, fix)
        })
        .collect();
    or_ok(found, "machine-id", "each node has its own machine ID")
}

fn addresses(view: &View) -> Vec<Finding> {
    let mut found = Vec::new();
    for ipv6 in [false, true] {
        let same = by(view, |record| record.underlay.address(ipv6));
        for (address, nodes) in same.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
            let what =
                format!("{} say that they have {address}: packets for their pods reach one of them", shortened(&nodes));
            let fix = "give each machine its own address; a node whose machine is off for good is deleted by 'twillctl node delete'";
            found.push(finding("underlay", State::Problem, &address.to_string(), &what, fix));
        }
    }
    or_ok(found, "underlay", "each node has its own underlay address")
}

fn mtus(view: &View) -> Vec<Finding> {
    let mtus = by(view, |record| record.path.map(|path| path.mtu).filter(|mtu| *mtu > 0));
    let Some((&least, narrowest)) = mtus.first_key_value() else {
        return vec![finding("mtu", State::Ok, "", "no node has said one yet", "")];
    };
    let mut found = Vec::new();
    for (name, record) in records(view) {
        let Some(path) = record.value.path else { continue };
        let overhead = match (path.tunnels, record.value.underlay.ipv4.is_some()) {
            (false, _) => 0,
            (true, ipv4) => vxlan_overhead(!ipv4),
        };
        // Records are whatever somebody wrote there.
        let outer = path.pods.saturating_add(overhead);
        if path.pods > 0 && outer > least && path.mtu > least {
            let what = format!(
                "its pods send up to {} bytes, {outer} with the tunnel, and the underlay of {} carries {least}: such packets are lost there",
                path.pods,
                shortened(narrowest)
            );
            let fix = format!(
                "raise the MTU there, or set mtu = {} in [backend] of the cluster's configuration, and restart the pods of {name}",
                least.saturating_sub(overhead)
            );
            found.push(finding("mtu", State::Problem, &format!("node {name}"), &what, &fix));
        }
    }
    if found.is_empty() && mtus.len() > 1 {
        let all: Vec<_> = mtus.iter().map(|(mtu, nodes)| format!("{mtu} ({})", shortened(nodes))).collect();
        let what = format!("the underlays of nodes have different MTUs: {}", all.join(", "));
        let fix = "give all the same, or set mtu in [backend] to what the narrowest leaves";
        found.push(finding("mtu", State::Note, "", &what, fix));
    }
    or_ok(found, "mtu", &format!("the underlay of each node carries {least} bytes"))
}

fn ports(view: &View) -> Vec<Finding> {
    let wanted = view.config.as_ref().and_then(|config| config.value.backend.kind.vxlan());
    let Some(wanted) = wanted else { return Vec::new() };
    let other = |record: &NodeRecord| {
        let end = record.vxlan.as_ref()?;
        let is = (end.vni.unwrap_or(wanted.vni), end.port.unwrap_or(wanted.port));
        (is != (wanted.vni, wanted.port)).then_some(is)
    };
    let found = by(view, other).into_iter().map(|((vni, port), nodes)| {
        let what = format!(
            "{} still receive by VNI {vni} on UDP port {port}, and the configuration has VNI {} on port {}",
            shortened(&nodes),
            wanted.vni,
            wanted.port
        );
        let fix = "wait until they have followed; if they do not, look at the log of their twilld";
        finding("tunnel", State::Note, "", &what, fix)
    });
    or_ok(found.collect(), "tunnel", &format!("all nodes receive by VNI {} on UDP port {}", wanted.vni, wanted.port))
}

fn pools(view: &View) -> Vec<Finding> {
    let pools = PoolUse::all(view);
    let used_up = pools.iter().filter_map(PoolUse::problem).map(|problem| of("pools", State::Problem, problem));
    let unused = pools.iter().filter_map(PoolUse::note).map(|note| of("pools", State::Note, note));
    or_ok(used_up.chain(unused).collect(), "pools", "none is used up")
}

fn blocks(view: &View) -> Vec<Finding> {
    let found = problems::ownerless(view).into_iter().chain(problems::outlived(view));
    let found = found.map(|problem| of("blocks", State::Problem, problem));
    or_ok(found.collect(), "blocks", "each is of a node that is registered")
}

fn or_ok(found: Vec<Finding>, check: &str, good: &str) -> Vec<Finding> {
    if found.is_empty() { vec![finding(check, State::Ok, "", good, "")] } else { found }
}
