//! The sweep: frees what a runtime forgot or a killed process left half-way, and never a living pod's address.
//!
//! Its course is [`twill_attach::course::sweep`]; here it gets its turns, and what it did is told.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use twill_attach::Linux;
use twill_attach::course::sweep::{Suspicions, Swept, sweep};

use crate::store::{NodeStore, run_dir};
use crate::trials::Leftovers;

/// Sweeps until the daemon ends, every half a grace period: a forgotten row is freed one and a half to two of them after
/// its link went. Then it is known which pods of trials are left.
pub async fn keep(store: &NodeStore, grace: Duration, of_trials: &Leftovers) {
    let mut turn = interval(grace / 2);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut suspicions = Suspicions::new();
    loop {
        turn.tick().await;
        let (mut store, before, of_trials) = (store.clone(), suspicions.clone(), of_trials.clone());
        let swept = tokio::task::spawn_blocking(move || {
            let run_dir = store.with(|store| run_dir(store.path()));
            let swept = sweep(&mut Linux::of_daemon(), &run_dir, &mut store, &before, grace);
            of_trials.review(&store);
            swept
        });
        match swept.await.expect("the sweep does not panic") {
            Ok(swept) => {
                tell(&swept);
                suspicions = swept.suspicions;
            }
            // Nothing was seen: what was suspected before is so still.
            Err(error) => tracing::warn!("sweep: {error}"),
        }
    }
}

fn tell(swept: &Swept) {
    for row in &swept.freed {
        let addresses: Vec<String> = row.addresses.iter().map(|(ip, _)| ip.to_string()).collect();
        let name = row.hash.host_ifname();
        tracing::info!("freed {}: its interface {name} is gone and nobody asked to", addresses.join(", "));
    }
    for hash in &swept.behind {
        tracing::info!("removed ports or limits that {} left behind", hash.host_ifname());
    }
    for (hash, error) in &swept.failed {
        tracing::warn!("sweep: {}: {error}", hash.host_ifname());
    }
    if let Some(error) = &swept.unseen {
        tracing::warn!("sweep: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use twill_attach::ports::of;
    use twill_ipam::{Attachment, BootTime, Liveness};
    use twill_linux::{Netlink, ports, table};

    /// One look; what it must remember.
    fn look(node: &Fixture, before: &Suspicions) -> Suspicions {
        let (mut store, run_dir) = (node.store.clone(), node.run.path());
        let swept =
            node.inside(|| sweep(&mut Linux::of_daemon(), run_dir, &mut store, before, Duration::ZERO).unwrap());
        assert!(swept.failed.is_empty() && swept.unseen.is_none(), "{swept:?}");
        swept.suspicions
    }

    /// Two looks: with no grace period they free what is to be freed.
    fn look_twice(node: &Fixture) {
        let suspicions = look(node, &Suspicions::new());
        look(node, &suspicions);
    }

    /// Makes in the kernel what a row says beyond its link.
    fn build(node: &Fixture, row: &Attachment) {
        node.inside(|| ports::publish(&of(row)).unwrap());
        node.run(&format!("ip link add {} type ifb", row.hash.ifb_name()));
    }

    fn link(node: &Fixture, row: &Attachment) {
        node.run(&format!("ip link add {} type veth peer name p{}", row.hash.host_ifname(), row.id.0 % 100_000));
    }

    fn links(node: &Fixture, prefix: &str) -> usize {
        let links = node.inside(|| table::links(&mut Netlink::open().unwrap()).unwrap());
        links.iter().filter(|link| link.name.as_str().starts_with(prefix)).count()
    }

    /// Ports and limiting devices.
    fn left(node: &Fixture) -> (usize, usize) {
        let ports = node.inside(|| ports::standing().unwrap().unwrap_or_default().ports.len());
        (ports, links(node, "bw"))
    }

    #[test]
    fn what_has_neither_row_nor_link_is_removed_and_nothing_else() {
        let Some(node) = Fixture::new() else { return };
        let (living, in_flight) = (node.attach("a", 8080), node.reserve("b", 8081));
        let (forgotten, foreign) = (node.attach("c", 8082), node.attach("d", 8083));
        let locked = node.attach("e", 8084);
        for row in [&living, &in_flight, &forgotten, &foreign, &locked] {
            build(&node, row);
        }
        // As an older program leaves them, which knows nothing of ports.
        for row in [&forgotten, &foreign, &locked] {
            node.store.with(|store| store.release(row.id, BootTime::now())).unwrap();
        }
        link(&node, &foreign);
        node.run("ip link add bw00000000000aa type bridge");
        node.run("ip link add bw-of-others type ifb");
        let lock = Liveness::try_acquire(node.run.path(), locked.hash).unwrap();
        assert_eq!(left(&node), (5, 7));
        look(&node, &Suspicions::new());
        assert_eq!(left(&node), (4, 6));
        drop(lock);
        look(&node, &Suspicions::new());
        assert_eq!(left(&node), (3, 5));
        node.run(&format!("ip link del {}", foreign.hash.host_ifname()));
        look(&node, &Suspicions::new());
        assert_eq!(left(&node), (2, 4), "those of the two rows, and two devices that are none of ours");
    }

    #[test]
    fn a_row_whose_link_is_missed_twice_goes_with_its_ports_and_its_device() {
        let Some(node) = Fixture::new() else { return };
        let (gone, stays) = (node.attach("a", 8080), node.attach("b", 8081));
        for row in [&gone, &stays] {
            build(&node, row);
        }
        link(&node, &stays);
        let suspicions = look(&node, &Suspicions::new());
        assert_eq!((left(&node), suspicions.len()), ((2, 2), 1), "one look frees nothing");
        look(&node, &suspicions);
        assert_eq!(left(&node), (1, 1));
        assert_eq!(node.store.with(|store| store.attachments()).unwrap(), [stays]);
    }

    #[test]
    fn what_a_killed_add_left_goes_with_its_link_unless_somebody_works_on_it() {
        let Some(node) = Fixture::new() else { return };
        let (killed, in_flight) = (node.reserve("a", 8080), node.reserve("b", 8081));
        for row in [&killed, &in_flight] {
            link(&node, row);
        }
        let lock = Liveness::try_acquire(node.run.path(), in_flight.hash).unwrap();
        look_twice(&node);
        assert_eq!((links(&node, "tw"), node.store.with(|store| store.attachments()).unwrap()), (1, vec![in_flight]));
        drop(lock);
        look_twice(&node);
        assert_eq!((links(&node, "tw"), node.store.with(|store| store.attachments()).unwrap()), (0, vec![]));
    }
}
