//! The sweep: frees what a runtime forgot or a killed process left half-way, and never a living pod's address.
//!
//! The rule is `ipam::sweep`, which wants two observations a grace period apart, the order that of `ipam::removal`, by which
//! the plugin's GC removes too; here are the eyes and the hands. Whether
//! the path of a pod's namespace can be seen is not asked: the daemon may live in another mount namespace, and that
//! proves nothing.

mod beyond;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{MissedTickBehavior, interval};
use twill_ipam::alias::{self, HostEnd, Proof};
use twill_ipam::removal::{self, Failure, Removal};
use twill_ipam::sweep::{Observation, Suspicion, Verdict, judge};
use twill_ipam::{Attachment, AttachmentId, BootTime, KeyHash, Liveness};
use twill_linux::table::{self, Device, SeenLink, link, rule};
use twill_linux::{IfName, Netlink};

use crate::store::{NodeStore, run_dir};

#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Kernel(#[from] twill_linux::Error),
    #[error(transparent)]
    Store(#[from] twill_ipam::Error),
    #[error(transparent)]
    Removal(#[from] Failure<twill_linux::Error>),
}

type Suspicions = BTreeMap<AttachmentId, Suspicion>;

/// Sweeps until the daemon ends, every half a grace period: a forgotten row is freed one and a half to two of them after
/// its link went.
pub async fn keep(store: &NodeStore, grace: Duration) {
    let mut turn = interval(grace / 2);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut suspicions = Suspicions::new();
    loop {
        turn.tick().await;
        let (store, before) = (store.clone(), suspicions.clone());
        let swept = tokio::task::spawn_blocking(move || sweep(&store, &before, grace)).await;
        match swept.expect("the sweep does not panic") {
            Ok(swept) => {
                suspicions = swept.suspicions;
                for (row, error) in swept.failed {
                    tracing::warn!("sweep: {}: {error}", row.host_ifname());
                }
            }
            // Nothing was seen: what was suspected before is so still.
            Err(error) => tracing::warn!("sweep: {error}"),
        }
    }
}

/// What one look at all rows leaves.
#[derive(Debug, Default)]
struct Swept {
    /// What the next one must remember.
    suspicions: Suspicions,
    /// The rows that could not be judged or freed. What was suspected of them is remembered.
    failed: Vec<(KeyHash, SweepError)>,
}

fn sweep(store: &NodeStore, before: &Suspicions, grace: Duration) -> Result<Swept, SweepError> {
    let at = BootTime::now();
    let mut netlink = Netlink::open()?;
    let ends = host_ends(&mut netlink)?;
    let (rows, run_dir) = store.with(|store| {
        store.checkpoint()?;
        Ok::<_, twill_ipam::Error>((store.attachments()?, run_dir(store.path())))
    })?;
    let mut swept = Swept::default();
    for row in rows {
        let known = before.get(&row.id).copied();
        let mut one = || {
            let lock_free = Liveness::try_acquire(&run_dir, row.hash)?.is_some();
            let verdict = judge(&row, known, Observation { at, link: ends.contains(&row.hash), lock_free }, grace);
            if matches!(verdict, Verdict::Free | Verdict::Finish) {
                free(store, &run_dir, &mut netlink, &row, verdict)?;
            }
            Ok(verdict)
        };
        match one() {
            Ok(Verdict::Suspect(suspicion)) => swept.suspicions.extend([(row.id, suspicion)]),
            Ok(Verdict::Live | Verdict::Free | Verdict::Finish) => {}
            Err(error) => {
                swept.suspicions.extend(known.map(|known| (row.id, known)));
                swept.failed.push((row.hash, error));
            }
        }
    }
    match beyond::leftovers(store, &run_dir, &mut netlink) {
        Ok(failed) => swept.failed.extend(failed),
        Err(error) => tracing::warn!("sweep: {error}"),
    }
    Ok(swept)
}

/// Frees a row under its lock, after a last look that its link is gone; to finish, removes the link of a half-made row
/// first.
fn free(
    store: &NodeStore,
    run_dir: &Path,
    netlink: &mut Netlink,
    row: &Attachment,
    verdict: Verdict,
) -> Result<(), SweepError> {
    let finish = verdict == Verdict::Finish;
    if removal::remove(run_dir, &mut store.clone(), row, || clear(netlink, row, finish))? == Removal::Done {
        let addresses: Vec<String> = row.addresses.iter().map(|(ip, _)| ip.to_string()).collect();
        let name = row.hash.host_ifname();
        tracing::info!("freed {}: its interface {name} is gone and nobody asked to", addresses.join(", "));
    }
    Ok(())
}

/// Takes an attachment out of the kernel, as the plugin's `detach` does; `false` where its link stands and must stay.
fn clear(netlink: &mut Netlink, row: &Attachment, finish: bool) -> Result<bool, twill_linux::Error> {
    let end = seen_end(netlink, row.hash)?;
    if end.is_some() && !finish {
        return Ok(false);
    }
    beyond::clear(netlink, row)?;
    let Some(end) = end else { return Ok(true) };
    // The path may not be there in the daemon's mount namespace. Then they stay, and lead to an empty table.
    rule::forget(row.netns.as_deref(), &alias::ruled(end.alias.as_deref(), row.hash));
    remove(netlink, Device { index: end.index, name: end.name }).map(|()| true)
}

/// Removes a host end by its number, which was looked up a moment ago: nobody else's device of that name can be hit.
fn remove(netlink: &mut Netlink, device: Device) -> Result<(), twill_linux::Error> {
    match netlink.apply(&[link::delete(device)]) {
        // It went away meanwhile, with the pod's namespace.
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
        done => done,
    }
}

/// The attachments whose host ends stand.
fn host_ends(netlink: &mut Netlink) -> Result<BTreeSet<KeyHash>, twill_linux::Error> {
    let links = table::links(netlink)?;
    let hash = |link: &SeenLink| KeyHash::of_host_ifname(link.name.as_str()).filter(|hash| is_host_end(link, *hash));
    Ok(links.iter().filter_map(hash).collect())
}

/// The host end of one attachment, if it stands.
fn host_end(netlink: &mut Netlink, hash: KeyHash) -> Result<Option<Device>, twill_linux::Error> {
    Ok(seen_end(netlink, hash)?.map(|link| Device { index: link.index, name: link.name }))
}

fn seen_end(netlink: &mut Netlink, hash: KeyHash) -> Result<Option<SeenLink>, twill_linux::Error> {
    let name = IfName::new(&hash.host_ifname()).expect("'tw' and 13 digits are a valid interface name");
    Ok(link::by_name(netlink, &name)?.filter(|link| is_host_end(link, hash)))
}

/// The store has a row of it, so its name is proof enough; but what is no veth is somebody else's.
fn is_host_end(link: &SeenLink, hash: KeyHash) -> bool {
    let (ifname, kind, alias) = (link.name.as_str(), link.kind.as_deref(), link.alias.as_deref());
    HostEnd { ifname, kind, alias, routes: Vec::new() }.foreign(hash, Proof::Name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use twill_ipam::store::Reservation;
    use twill_ipam::{Key, State};
    use twill_linux::NetNs;

    /// A network namespace that goes with the test.
    struct Namespace(String);

    impl Namespace {
        fn new(test: &str) -> Option<Self> {
            if !nix::unistd::geteuid().is_root() {
                eprintln!("skipped: network namespaces need root");
                return None;
            }
            let name = format!("tws{}{test}", std::process::id());
            assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
            Some(Self(name))
        }

        fn ip(&self, command: &str) {
            let mut ip = Command::new("ip");
            ip.args(["-n", &self.0]).args(command.split_whitespace());
            assert!(ip.status().unwrap().success(), "{command}");
        }

        fn netlink(&self) -> Netlink {
            Netlink::open_in(&NetNs::open(&Path::new("/run/netns").join(&self.0)).unwrap()).unwrap()
        }
    }

    impl Drop for Namespace {
        fn drop(&mut self) {
            Command::new("ip").args(["netns", "delete", &self.0]).status().ok();
        }
    }

    /// A store with a row for the container, confirmed or not.
    fn row(store: &NodeStore, container: &str, state: State) -> Attachment {
        let key = Key {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let subnets = ["10.42.0.0/24".parse().unwrap()];
        let netns = Path::new("/run/netns/gone");
        let wanted = Reservation { key: &key, netns, pod: None, subnets: &subnets, pools: &[], requested: &[] };
        store.with(|store| {
            let row = store.reserve(&wanted, BootTime::now()).unwrap();
            if state == State::Attached {
                store.confirm(row.id, BootTime::now()).unwrap();
            }
            store.attachment(row.hash).unwrap().unwrap()
        })
    }

    #[test]
    fn what_was_left_half_made_is_removed_and_freed_and_what_lives_is_spared() {
        let Some(node) = Namespace::new("b") else { return };
        let dir = tempfile::tempdir().unwrap();
        let store = NodeStore::open(dir.path()).unwrap();
        let mut netlink = node.netlink();
        let mut sweep = |row: &Attachment, verdict| {
            free(&store, dir.path(), &mut netlink, row, verdict).unwrap();
            let link = host_end(&mut netlink, row.hash).unwrap().is_some();
            (link, store.with(|store| store.attachment(row.hash).unwrap()).is_some())
        };
        let stands = |row: &Attachment| {
            node.ip(&format!("link add {} type veth peer name p{}", row.hash.host_ifname(), row.id.0 % 100_000));
        };

        let killed = row(&store, "killed", State::Reserved);
        stands(&killed);
        assert_eq!(sweep(&killed, Verdict::Finish), (false, false), "(its link, its row)");

        let alive = row(&store, "alive", State::Attached);
        stands(&alive);
        assert_eq!(sweep(&alive, Verdict::Free), (true, true), "its link came back");

        // A DEL and an ADD of the same key have come between the look and the lock.
        let condemned = row(&store, "again", State::Reserved);
        store.with(|store| store.release(condemned.id, BootTime::now())).unwrap();
        let again = row(&store, "again", State::Attached);
        stands(&again);
        assert_eq!(sweep(&condemned, Verdict::Finish), (true, true), "a living pod");

        let _held = Liveness::try_acquire(dir.path(), alive.hash).unwrap().unwrap();
        assert_eq!(sweep(&alive, Verdict::Finish), (true, true), "somebody works on it");
    }

    #[test]
    fn a_del_that_is_finished_takes_the_rules_from_the_pod_that_lives_on() {
        let (Some(node), Some(pod)) = (Namespace::new("c"), Namespace::new("d")) else { return };
        let dir = tempfile::tempdir().unwrap();
        let store = NodeStore::open(dir.path()).unwrap();
        let mut half = row(&store, "half", State::Attached);
        let ifname = half.hash.host_ifname();
        node.ip(&format!("link add {ifname} type veth peer name eth1 netns {}", pod.0));
        node.ip(&format!("link set {ifname} alias twill1:{}:10.42.0.0;rules=10.42.0.0", half.hash));
        pod.ip("rule add from 10.42.0.0 lookup 117000009 priority 7777 protocol 117");
        pod.ip("rule add from 10.42.0.9 lookup 117000008 priority 7777 protocol 117");
        half.netns = Some(Path::new("/run/netns").join(&pod.0));
        assert!(clear(&mut node.netlink(), &half, true).unwrap());
        let rules: Vec<_> = rule::dump(&mut pod.netlink(), false).unwrap();
        let ours: Vec<_> = rules.iter().filter(|rule| rule.priority == 7777).map(|rule| rule.table).collect();
        assert_eq!(ours, [117_000_008]);
    }

    #[test]
    fn only_a_veth_of_the_name_is_a_host_end_and_it_is_removed_by_its_number() {
        let Some(node) = Namespace::new("a") else { return };
        node.ip("link add tw0000000000001 type veth peer name one");
        node.ip("link add tw0000000000002 type bridge");
        let mut netlink = node.netlink();
        assert_eq!(host_ends(&mut netlink).unwrap(), BTreeSet::from([KeyHash(1)]));
        assert_eq!(host_end(&mut netlink, KeyHash(2)).unwrap(), None);
        let device = host_end(&mut netlink, KeyHash(1)).unwrap().unwrap();
        // Somebody else takes the name meanwhile.
        node.ip("link set tw0000000000001 name other");
        node.ip("link set tw0000000000002 name tw0000000000001");
        remove(&mut netlink, device).unwrap();
        remove(&mut netlink, device).unwrap();
        let left: Vec<_> = table::links(&mut netlink).unwrap().iter().map(|link| link.name.to_string()).collect();
        assert!(left.contains(&"tw0000000000001".to_owned()) && !left.contains(&"other".to_owned()), "{left:?}");
    }
}
