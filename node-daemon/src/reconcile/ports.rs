//! Published ports, kept as the store's rows have them: somebody may flush all rules, or change ours.
//!
//! Plugins publish and withdraw at any time, so what the rows said a moment ago proves nothing. An owner whose ports differ
//! is repaired under his liveness lock, by his row as it is then; whom somebody works on is left to him. Elements of owners
//! without a row are for the sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use twill_attach::ports::{attached, of};
use twill_ipam::{KeyHash, Liveness, State};
use twill_linux::conntrack;
use twill_linux::ports::{self, Port, Standing};

use super::Obstacle;
use crate::store::{NodeStore, run_dir};

/// Owners that are repaired at once: each holds a lock, which is an open file.
const AT_ONCE: usize = 100;

/// What is remembered between the looks.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// How the structure looked when it was made last.
    structure: Option<String>,
    /// The addresses of services that were left out then; `None` where nothing is published.
    services: Option<BTreeSet<IpAddr>>,
}

impl Ports {
    /// Whether services have other addresses than when ports were looked at last: of that an event of the network tells, and none of nft.
    /// Where that cannot be known, a look at all will tell.
    pub(super) fn is_behind(&self) -> bool {
        self.services.as_ref().is_some_and(|known| ports::services().map_or(true, |services| services != *known))
    }

    /// Looks, and repairs what differs. Gives the ports that were published again, and whether rules were made again that
    /// had been seen to be right.
    pub(super) fn keep(&mut self, store: &NodeStore) -> Result<(Vec<Port>, bool), Obstacle> {
        let (rows, run_dir) = store.with(|store| Ok::<_, Obstacle>((store.attachments()?, run_dir(store.path()))))?;
        let wanted = attached(&rows);
        if wanted.is_empty() {
            self.services = None;
            return Ok((Vec::new(), false));
        }
        let standing = ports::standing()?.unwrap_or_default();
        let sound = standing.is_whole() && self.structure.as_deref() == Some(standing.structure());
        let differing: Vec<KeyHash> =
            wanted.iter().filter(|(hash, ports)| differs(&standing, **hash, ports)).map(|(hash, _)| *hash).collect();
        let services = ports::services()?;
        let current = standing.services == services;
        self.services = Some(services);
        if sound && current && differing.is_empty() {
            return Ok((Vec::new(), false));
        }
        // By themselves, and first: what is in the way of one owner must not keep the rules from being mended, the guard
        // least of all.
        if !sound || !current {
            ports::publish(&[])?;
        }
        let mended = !sound && self.structure.is_some();
        let standing = ports::standing()?.filter(Standing::is_whole);
        self.structure = standing.map(|standing| standing.structure().to_owned());
        let (mut repaired, mut failed) = (Vec::new(), None);
        for owners in differing.chunks(AT_ONCE) {
            match hold(store, &run_dir, owners).and_then(|held| repair(&held.wanted)) {
                Ok(ports) => repaired.extend(ports),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok((repaired, mended)), Err)
    }
}

fn differs(standing: &Standing, owner: KeyHash, wanted: &[Port]) -> bool {
    let (wrong, missing) = standing.compared(&owner.to_string(), wanted);
    !(wrong.is_empty() && missing.is_empty())
}

/// Owners whom nobody else works on as long as this is held.
struct Held {
    _locks: Vec<Liveness>,
    /// The ports of each.
    wanted: BTreeMap<KeyHash, Vec<Port>>,
}

/// Locks the owners on whom nobody works, and reads what they are to have.
fn hold(store: &NodeStore, run_dir: &Path, owners: &[KeyHash]) -> Result<Held, Obstacle> {
    let (mut locks, mut wanted) = (Vec::new(), BTreeMap::new());
    for owner in owners {
        let Some(lock) = Liveness::try_acquire(run_dir, *owner)? else { continue };
        let row = store.with(|store| store.attachment(*owner))?;
        if let Some(row) = row.filter(|row| row.state == State::Attached) {
            wanted.insert(*owner, of(&row));
            locks.push(lock);
        }
    }
    Ok(Held { _locks: locks, wanted })
}

/// Repairs the ports of owners whose locks are held: all at once, or, where something is in the way of one, each by itself.
fn repair(wanted: &BTreeMap<KeyHash, Vec<Port>>) -> Result<Vec<Port>, Obstacle> {
    let standing = ports::standing()?.unwrap_or_default();
    let (mut wrong, mut missing) = (Standing::default(), Vec::new());
    let differences: Vec<_> = wanted.iter().map(|(hash, ports)| standing.compared(&hash.to_string(), ports)).collect();
    for (one, ports) in &differences {
        wrong.join(one.clone());
        missing.extend(ports.iter().cloned());
    }
    if ports::repair(&wrong, &missing).is_err() {
        missing.clear();
        let mut refused = None;
        for (wrong, ports) in differences {
            match ports::repair(&wrong, &ports) {
                Ok(()) => missing.extend(ports),
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            return Err(error.into());
        }
    }
    // Flows that came while nothing was published would go on without the pod.
    conntrack::turn_to(&missing)?;
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn standing(node: &Fixture) -> Vec<String> {
        let standing = node.inside(|| ports::standing().unwrap().unwrap_or_default());
        let mut texts: Vec<_> = standing.ports.iter().map(|port| format!("{} {port}", port.owner)).collect();
        texts.sort();
        texts
    }

    fn wanted(rows: &[&twill_ipam::Attachment]) -> Vec<String> {
        let mut texts: Vec<_> =
            rows.iter().flat_map(|row| of(row)).map(|port| format!("{} {port}", port.owner)).collect();
        texts.sort();
        texts
    }

    #[test]
    fn a_lost_table_is_made_again_of_the_rows_and_a_changed_one_is_put_right() {
        let Some(node) = Fixture::new() else { return };
        let mut keeper = Ports::default();
        let mut keep = || node.inside(|| keeper.keep(&node.store)).unwrap();
        assert_eq!(keep(), (vec![], false));
        assert_eq!(standing(&node), [""; 0], "a node without published ports has no table");
        let (a, b) = (node.attach("a", 8080), node.attach("b", 8081));
        assert_eq!(keep().0.len(), 2);
        assert_eq!(standing(&node), wanted(&[&a, &b]));
        assert_eq!(keep(), (vec![], false), "nothing is left to do");
        let whole = node.run("nft list table inet twill_ports");
        let other = "create element inet twill_ports tcp4 { 0.0.0.0/0 . 8081 comment \"by hand\" : 10.42.0.9 . 1 }";
        let damages = [
            "nft flush ruleset",
            "nft flush map inet twill_ports tcp4",
            "nft flush set inet twill_ports hairpin4",
            "nft flush chain inet twill_ports output",
            "nft insert rule inet twill_ports prerouting accept",
            "nft delete element inet twill_ports tcp4 { 0.0.0.0/0 . 8080 }",
        ];
        for damage in damages {
            node.run(damage);
            let (ports, rules) = keep();
            assert!(rules || !ports.is_empty(), "{damage}");
            assert_eq!(sorted(&node.run("nft list table inet twill_ports")), sorted(&whole), "{damage}");
        }
        // What somebody else has beside them is his, and no reason to make ours anew each time.
        let beside = "add chain inet twill_ports theirs; add rule inet twill_ports theirs counter";
        beside.split("; ").for_each(|added| drop(node.run(&format!("nft {added}"))));
        keep();
        assert_eq!(keep(), (vec![], false));
        assert!(node.run("nft list table inet twill_ports").contains("chain theirs"));
        let handle = |node: &Fixture| node.run("nft -a list chain inet twill_ports guard");
        let before = handle(&node);
        assert_eq!((keep(), handle(&node)), ((vec![], false), before), "they are the same rules");
        // What is in the way of one pod does not keep the others from being served.
        node.run("nft flush map inet twill_ports tcp4");
        assert!(node.inside(|| std::process::Command::new("nft").arg(other).status().unwrap().success()));
        assert!(node.inside(|| keeper.keep(&node.store)).is_err());
        assert!(standing(&node).contains(&wanted(&[&a])[0]));
        // Services come and go under IPVS: that is no change of the rules.
        node.run("nft delete element inet twill_ports tcp4 { 0.0.0.0/0 . 8081 }");
        node.inside(|| keeper.keep(&node.store)).unwrap();
        node.run("ip link add kube-ipvs0 type bridge");
        for change in ["add", "del"] {
            assert!(!node.inside(|| keeper.is_behind()));
            node.run(&format!("ip addr {change} 10.96.0.10/32 dev kube-ipvs0"));
            assert!(node.inside(|| keeper.is_behind()), "no event of nft tells of it");
            assert_eq!(node.inside(|| keeper.keep(&node.store)).unwrap(), (vec![], false));
            let services = node.run("nft list set inet twill_ports services4");
            assert_eq!(services.contains("10.96.0.10"), change == "add");
        }
        node.run("nft flush map inet twill_ports tcp4");
        assert!(node.inside(|| std::process::Command::new("nft").arg(other).status().unwrap().success()));
        assert!(node.inside(|| keeper.keep(&node.store)).is_err());
        // Nor the rules from being mended.
        let guard = || node.run("nft list chain inet twill_ports guard");
        let whole = guard();
        node.run("nft flush chain inet twill_ports guard");
        assert_ne!(guard(), whole);
        assert!(node.inside(|| keeper.keep(&node.store)).is_err());
        assert_eq!(guard(), whole);
    }

    fn sorted(text: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = text.split(['\n', ',']).map(str::trim).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn ports_of_a_pod_on_which_somebody_works_are_left_to_him() {
        let Some(node) = Fixture::new() else { return };
        let (a, b) = (node.attach("a", 8080), node.attach("b", 8081));
        node.reserve("c", 8082);
        let working = Liveness::try_acquire(node.run.path(), b.hash).unwrap().unwrap();
        let mut keeper = Ports::default();
        node.inside(|| keeper.keep(&node.store)).unwrap();
        assert_eq!(standing(&node), wanted(&[&a]));
        drop(working);
        node.inside(|| keeper.keep(&node.store)).unwrap();
        assert_eq!(standing(&node), wanted(&[&a, &b]));
    }
}
