//! What somebody deletes, changes or adds of Twill's in the kernel is repaired, within a second of the event and within ten
//! without one, and what somebody else has put there is left alone.
//!
//! The table of times in `docs/performance.md` comes from the ignored tests here.

mod damage;
mod foreign;
mod overrun;
mod rounds;
mod stage;

use std::time::Duration;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, LabBuilder, Node, Result, with_lab};

use damage::{
    ADDRESS_DAMAGES, DEVICE_DAMAGES, Damage, END_DAMAGES, FDB_DAMAGES, FILTER_DAMAGES, FIREWALL_DAMAGES,
    FORWARDING_DAMAGES, HEARD_DAMAGES, NEIGHBOUR_DAMAGES, ROUTE_DAMAGES, SYSCTL_DAMAGES,
};
use rounds::{Measured, Stage, lab, lab_over_ipv6, lab_without_tunnel, table};

/// Rounds for every day.
const FEW: usize = 3;
/// Rounds for the table.
const MANY: usize = 50;
/// Within that time of its event a damage is repaired.
const HEARD: Duration = Duration::from_secs(1);
/// Without one within ten seconds (the timer's nine, and a pass), and what a busy machine takes besides.
const UNHEARD: Duration = Duration::from_secs(10 + 3);

/// Plays damages. Each of many rounds, which are for an idle machine, is judged; of few, which run on busy ones, where the daemon
/// waits for a processor like all others, the median, and each must be repaired before patience ends.
fn are_repaired(damages: &[Damage], rounds: usize, within: Duration) {
    are_repaired_in(lab(2), damages, rounds, within);
}

fn are_repaired_in(lab: LabBuilder, damages: &[Damage], rounds: usize, within: Duration) {
    with_lab(lab, |lab| {
        let stage = Stage::set(lab.node(1), lab.node(2), damages)?;
        let played = damages.iter().map(|damage| stage.play(*damage, rounds));
        let measured = played.collect::<Result<Vec<Measured>>>()?;
        println!("{}", table(&measured));
        for measured in &measured {
            let judged = if rounds < MANY { measured.median() } else { measured.maximum() };
            assert!(judged <= within, "{}: {judged:?}", measured.name());
        }
        stage.reach()
    });
}

#[test]
fn the_tunnels_device_is_repaired() {
    are_repaired(DEVICE_DAMAGES, FEW, HEARD);
}

#[test]
fn the_tunnels_addresses_are_repaired() {
    are_repaired(ADDRESS_DAMAGES, FEW, HEARD);
}

#[test]
fn host_ends_of_pods_and_routes_are_repaired() {
    are_repaired(&[END_DAMAGES, ROUTE_DAMAGES].concat(), FEW, HEARD);
}

#[test]
fn neighbours_and_the_forwarding_database_are_repaired() {
    are_repaired(&[NEIGHBOUR_DAMAGES, FDB_DAMAGES].concat(), FEW, HEARD);
}

#[test]
fn the_firewall_is_repaired() {
    are_repaired(FIREWALL_DAMAGES, FEW, HEARD);
}

#[test]
fn filters_of_host_ends_are_repaired() {
    are_repaired(FILTER_DAMAGES, FEW, HEARD);
}

#[test]
fn forwarding_is_repaired() {
    are_repaired(FORWARDING_DAMAGES, FEW, HEARD);
}

#[test]
fn the_tunnel_between_ipv6_addresses_is_repaired_with_all_that_is_on_it() {
    let damages =
        [&DEVICE_DAMAGES[..3], &ADDRESS_DAMAGES[..1], &ROUTE_DAMAGES[..4], &NEIGHBOUR_DAMAGES[..2], FDB_DAMAGES];
    are_repaired_in(lab_over_ipv6(), &damages.concat(), 1, HEARD);
}

#[test]
fn plain_routes_are_repaired_with_what_pods_need_on_their_nodes() {
    are_repaired_in(
        lab_without_tunnel("type = \"host-gw\"\n"),
        &[END_DAMAGES, FILTER_DAMAGES, ROUTE_DAMAGES].concat(),
        1,
        HEARD,
    );
}

#[test]
fn routes_that_bgp_has_learned_are_repaired() {
    are_repaired_in(lab_without_tunnel("type = \"bgp\"\n[bgp]\n"), ROUTE_DAMAGES, FEW, HEARD);
}

#[test]
fn sysctls_of_which_nobody_tells_are_repaired_by_the_timer() {
    are_repaired(SYSCTL_DAMAGES, 1, UNHEARD);
}

#[test]
#[ignore = "takes minutes"]
fn fifty_rounds_of_the_tunnels_device_and_addresses() {
    are_repaired(&[DEVICE_DAMAGES, ADDRESS_DAMAGES].concat(), MANY, HEARD);
}

#[test]
#[ignore = "takes minutes"]
fn fifty_rounds_of_host_ends_and_routes() {
    are_repaired(&[END_DAMAGES, ROUTE_DAMAGES].concat(), MANY, HEARD);
}

#[test]
#[ignore = "takes minutes"]
fn fifty_rounds_of_neighbours_and_the_forwarding_database() {
    are_repaired(&[NEIGHBOUR_DAMAGES, FDB_DAMAGES].concat(), MANY, HEARD);
}

#[test]
#[ignore = "takes minutes"]
fn fifty_rounds_of_the_firewall_and_forwarding() {
    are_repaired(&[FIREWALL_DAMAGES, FORWARDING_DAMAGES].concat(), MANY, HEARD);
}

#[test]
#[ignore = "takes minutes"]
fn fifty_rounds_of_filters() {
    are_repaired(FILTER_DAMAGES, MANY, HEARD);
}

#[test]
#[ignore = "takes minutes"]
fn fifty_rounds_of_what_is_not_heard() {
    are_repaired(SYSCTL_DAMAGES, MANY, UNHEARD);
}

/// A node for each part of the damages, so that they wait side by side.
#[test]
fn every_damage_is_repaired_within_ten_seconds_where_no_event_is_heard() {
    let mut parts: [Vec<Damage>; 6] = Default::default();
    for (number, damage) in HEARD_DAMAGES.concat().into_iter().enumerate() {
        parts[number % 6].push(damage);
    }
    with_lab(lab(6), |lab| {
        for node in lab.nodes() {
            node.stop_daemon()?;
            node.start_daemon_with(&["--deaf"])?;
        }
        let set = |(n, damages): (usize, &Vec<Damage>)| Stage::set(lab.node(n), lab.node(n % 6 + 1), damages);
        let set = (1..).zip(&parts).map(set).collect::<Result<Vec<Stage<'_>>>>()?;
        // Each node has another's second pod too.
        let stages = set.into_iter().map(Stage::again).collect::<Result<Vec<Stage<'_>>>>()?;
        let play = |(stage, damages): (&Stage<'_>, &Vec<Damage>)| {
            damages.iter().map(|damage| stage.play_unheard(*damage)).collect::<Result<Vec<Measured>>>()
        };
        let played = std::thread::scope(|scope| {
            let threads: Vec<_> = stages.iter().zip(&parts).map(|pair| scope.spawn(move || play(pair))).collect();
            let played = threads.into_iter().map(|thread| thread.join().expect("a player does not panic"));
            played.collect::<Result<Vec<_>>>()
        })?;
        let measured: Vec<Measured> = played.into_iter().flatten().collect();
        println!("{}", table(&measured));
        for measured in &measured {
            assert!(measured.maximum() <= UNHEARD, "{}: {:?}", measured.name(), measured.maximum());
        }
        stages.iter().try_for_each(Stage::reach)
    });
}

fn permanent_neighbours(node: &Node, device: &str) -> Result<String> {
    let show = |family| node.run(&["ip", family, "neigh", "show", "dev", device, "nud", "permanent"]);
    Ok(format!("{}\n{}", show("-4")?, show("-6")?))
}

fn flush_neighbours(node: &Node, device: &str) -> Result<()> {
    for family in ["-4", "-6"] {
        node.run(&["ip", family, "neigh", "flush", "dev", device, "nud", "permanent"])?;
    }
    Ok(())
}

#[test]
fn what_a_node_has_of_a_pod_follows_the_mac_and_the_mtu_that_the_pod_has() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(1);
        let (a, b) = (node.add_pod("a")?, lab.node(2).add_pod("b")?);
        let host = a.host_interface()?;
        let gateways = a.namespace().run(&["ip", "neigh", "show", "dev", "eth0", "nud", "permanent"])?;
        let gateways =
            gateways + &a.namespace().run(&["ip", "-6", "neigh", "show", "dev", "eth0", "nud", "permanent"])?;
        a.namespace().run(&["ip", "link", "set", "eth0", "address", "02:00:5e:10:00:09"])?;
        // With its address an interface loses all that it knows of its neighbours.
        for line in gateways.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let (ip, mac) = (words[0], words[2]);
            a.namespace().run(&["ip", "neigh", "replace", ip, "lladdr", mac, "dev", "eth0", "nud", "permanent"])?;
        }
        let follows = || {
            node.expect_daemon()?;
            let now = permanent_neighbours(node, &host)?;
            Ok(if now.matches("02:00:5e:10:00:09").count() == 2 { Ok(()) } else { Err(now) })
        };
        deadline::until_some("the pod's neighbours have its new MAC", PATIENCE, follows)?;
        flush_neighbours(node, &host)?;
        deadline::until_some("they are back with it", PATIENCE, follows)?;
        for ipv6 in [false, true] {
            a.ping(b.address(ipv6)?, 56)?;
        }

        // And the host end its MTU: a longer packet would be dropped at the pod's without a word.
        a.namespace().run(&["ip", "link", "set", "eth0", "mtu", "1300"])?;
        deadline::until_some("the host end has the pod's MTU", PATIENCE, || {
            let now = node.run(&["ip", "link", "show", &host])?;
            Ok(if now.contains("mtu 1300") { Ok(()) } else { Err(now) })
        })
    });
}
