//! What of a task is refused before anything is done: what goes beyond the bounds, and traffic to others than the cluster.

use std::net::IpAddr;

use twill_cluster::View;
use twill_cluster::inquiry::trial::{
    Answer, LONGEST_RUN, LONGEST_STAND, Load, MOST_PODS, MOST_ROUNDS, MOST_SHOTS, MOST_STREAMS, Place, SIZES, Task,
    is_name,
};

use super::{Means, refused};

const FIX: &str = "use a twillctl of the version of twilld there";

/// Whether a task may be set about.
pub(super) fn task(name: &str, task: &Task, means: &Means) -> Result<(), Answer> {
    if !is_name(name) {
        return Err(refused("the name of the trial is none", FIX));
    }
    let beyond = |what: String| Err(refused(what, FIX));
    match task {
        Task::Open { pods, stand } if !(1..=MOST_PODS).contains(pods) || !(1..=LONGEST_STAND).contains(stand) => {
            beyond(format!(
                "a trial has 1 to {MOST_PODS} pods and stands for 1 to {LONGEST_STAND} s, not {pods} and {stand}"
            ))
        }
        Task::Probe { shots, rounds, .. } => {
            let sizes = shots.iter().all(|shot| SIZES.contains(&shot.size));
            if shots.len() <= MOST_SHOTS && (1..=MOST_ROUNDS).contains(rounds) && sizes {
                return Ok(());
            }
            let (least, most) = (SIZES.start(), SIZES.end());
            beyond(format!(
                "a request has at most {MOST_SHOTS} addresses, {MOST_ROUNDS} rounds, and packets of {least} to {most} bytes"
            ))
        }
        Task::Run { to, load, seconds, .. } => {
            if !(1..=LONGEST_RUN).contains(seconds) || !is_bounded(*load) {
                return beyond(format!(
                    "traffic flows for at most {LONGEST_RUN} s by at most {MOST_STREAMS} connections"
                ));
            }
            match is_of_the_cluster(means, *to) {
                true => Ok(()),
                false => beyond(format!("{to} is no address of the cluster, and traffic goes to no others")),
            }
        }
        Task::Serve { at: Place::Node, address, .. } => {
            let underlay = means.underlays.borrow();
            let mut sides = underlay.iter().flat_map(|underlay| underlay.sides());
            match sides.any(|side| side.cidr.ip() == *address) {
                true => Ok(()),
                false => beyond(format!("{address} is not what other nodes reach it by, and it serves at no others")),
            }
        }
        _ => Ok(()),
    }
}

/// Whether an address is a node's, or one of a pool.
pub(super) fn is_of_the_cluster(means: &Means, address: IpAddr) -> bool {
    means.pictures.borrow().as_ref().is_some_and(|picture| is_of(&picture.reach, address))
}

fn is_bounded(load: Load) -> bool {
    match load {
        Load::Tcp { streams } => (1..=MOST_STREAMS).contains(&streams),
        Load::Udp { bytes } => (16..=1200).contains(&bytes),
        Load::Questions { bytes } => (1..=1200).contains(&bytes),
    }
}

fn is_of(view: &View, address: IpAddr) -> bool {
    let mut pools = view.config.iter().flat_map(|config| &config.value.pools);
    let mut nodes = view.nodes.values();
    pools.any(|pool| pool.cidr.contains(address))
        || nodes.any(|node| node.value.underlay.address(address.is_ipv6()) == Some(address))
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;
    use twill_cluster::inquiry::trial::{By, Service, Shot};
    use twill_cluster::view::{Entry, Snapshot};
    use twill_fabric::{Side, Underlay};
    use twill_linux::IfName;

    use super::*;

    fn is_refused(asked: Task) -> bool {
        let (_pictures, seen) = watch::channel(None);
        let (_underlays, underlays) = watch::channel(None);
        let means = Means::for_tests("/x".into(), seen, underlays);
        task("a", &asked, &means).is_err()
    }

    #[test]
    fn what_goes_beyond_the_bounds_is_refused() {
        let shot = Shot { to: [192, 0, 2, 1].into(), size: 100, by: By::Kernel };
        let probe = |count, rounds| Task::Probe { from: Place::Node, shots: vec![shot; count], rounds };
        assert!(!is_refused(Task::Open { pods: 2, stand: 300 }) && !is_refused(probe(MOST_SHOTS, MOST_ROUNDS)));
        for (pods, stand) in [(0, 9), (3, 9), (1, 0), (1, 301)] {
            assert!(is_refused(Task::Open { pods, stand }), "{pods} {stand}");
        }
        assert!(
            is_refused(probe(MOST_SHOTS + 1, 1)) && is_refused(probe(1, 0)) && is_refused(probe(1, MOST_ROUNDS + 1))
        );
        let small = Task::Probe { from: Place::Node, shots: vec![Shot { size: 95, ..shot }], rounds: 1 };
        assert!(is_refused(small));
    }

    #[test]
    fn a_node_serves_where_others_reach_it_alone() {
        let side = Side {
            device: IfName::new("eth0").unwrap(),
            index: 2,
            cidr: "192.0.2.7/24".parse().unwrap(),
            mtu: 1500,
            rp_filter: false,
            bare: false,
            accept_ra: false,
        };
        let (_pictures, pictures) = watch::channel(None);
        let (_underlays, underlays) = watch::channel(Some(Underlay { ipv4: Some(side), ipv6: None }));
        let means = Means::for_tests("/x".into(), pictures, underlays);
        let serve = |address: &str| {
            let address = address.parse().unwrap();
            let asked = Task::Serve { at: Place::Node, address, peer: None, service: Service::Iperf };
            task("a", &asked, &means)
        };
        assert_eq!(serve("192.0.2.7"), Ok(()));
        for other in ["0.0.0.0", "::", "127.0.0.1", "192.0.2.8", "10.42.0.1"] {
            assert!(serve(other).is_err(), "{other}");
        }
    }

    #[test]
    fn traffic_goes_to_the_cluster_alone() {
        let config = r#"{"backend":{"type":"vxlan"},"pool":[{"name":"default","cidr":"10.42.0.0/16","block":26}]}"#;
        let entry = |key: &str, value: &str| Entry {
            key: key.into(),
            value: value.as_bytes().to_vec(),
            created: 1,
            modified: 1,
        };
        let node = r#"{"machine_id":"m","nonce":"n","underlay":{"ipv4":"192.0.2.7/24"}}"#;
        let mut view = View::default();
        view.replace(&Snapshot { revision: 1, entries: vec![entry("config", config), entry("nodes/n1", node)] });
        assert!(view.config.is_some() && view.faults.is_empty(), "{:?}", view.faults);
        let is = |text: &str| is_of(&view, text.parse().unwrap());
        assert!(is("10.42.7.7"), "a pool has it");
        assert!(is("192.0.2.7") && !is("192.0.2.8"), "a node has it");
        assert!(!is("198.51.100.1") && !is("2001:db8::1"));
        let load = Load::Tcp { streams: 1 };
        let to = [10, 42, 7, 7].into();
        assert!(is_refused(Task::Run { from: Place::Node, to, port: 1, load, seconds: 1 }), "nothing is known yet");
    }
}
