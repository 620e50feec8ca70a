//! The interfaces between nodes change while pods talk: they flap, are renamed, renumbered, resized, made anew. The daemon
//! follows without a restart, publishes what is new, keeps its blocks, and loses nothing where nothing need be lost.

mod absent;
mod stage;
mod subnets;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::VXLAN;
use twill_tests::{Lab, LabError, PoolSpec, Underlay, with_lab};

use stage::{DIRECT, HOST_GW, NEW_V4, NEW_V6, TUNNEL, V4, V6, default_routes, plug_in, with_pair, with_prepared_pair};

// ---- another name ------------------------------------------------------------------------------------------------------

/// What the daemon says of the new name.
const ON_ETH7: &str = "the underlay is 192.168.77.11/24 on eth7";

fn a_new_name_costs_nothing(backend: &str, flags: &[&str], says: &str) {
    with_pair(Lab::builder().backend(backend), flags, |pair| {
        pair.losing_nothing(|| {
            pair.ip("link set eth0 name eth7\n")?;
            pair.node().says("on eth7")?;
            pair.pass()
        })?;
        pair.node().says(says)?;
        if pair.has_tunnel() {
            // What is bound to the interface holds under the new name: packets of others come in by no other.
            let guard = pair.node().run(&["nft", "list", "chain", "inet", "twill", "vxlan-in"])?;
            assert!(guard.contains(r#"iif "eth7""#), "{guard}");
        }
        pair.publishes(&[V4, V6])
    });
}

#[test]
fn an_interface_with_the_default_route_is_followed_under_a_new_name_without_loss() {
    a_new_name_costs_nothing(TUNNEL, &[], ON_ETH7);
}

#[test]
fn plain_routes_by_an_interface_with_another_name_lose_nothing() {
    a_new_name_costs_nothing(HOST_GW, &[], ON_ETH7);
}

#[test]
fn direct_routes_by_an_interface_with_another_name_lose_nothing() {
    a_new_name_costs_nothing(DIRECT, &[], ON_ETH7);
}

#[test]
fn an_interface_that_fits_a_pattern_is_followed_under_a_new_name_without_loss() {
    a_new_name_costs_nothing(TUNNEL, &["--underlay", "e?h*"], ON_ETH7);
}

#[test]
fn an_interface_that_reaches_an_address_is_followed_under_a_new_name_without_loss() {
    a_new_name_costs_nothing(TUNNEL, &["--underlay", "to:192.168.77.1"], ON_ETH7);
}

#[test]
fn an_interface_whose_name_is_no_more_is_gone_on_with_and_the_log_says_so() {
    let says = "the underlay interface eth0 does not exist; what was known goes on: 192.168.77.11/24 on eth7";
    a_new_name_costs_nothing(TUNNEL, &["--underlay", "eth0"], says);
}

// ---- down and up -------------------------------------------------------------------------------------------------------

#[test]
fn a_carrier_that_is_lost_for_a_while_changes_nothing() {
    with_pair(Lab::builder(), &[], |pair| {
        let before = pair.record()?;
        let carrier = |wanted: bool| {
            deadline::until(&format!("eth0 has a carrier: {wanted}"), PATIENCE, || {
                let links = pair.node().namespace().run_json(&["ip", "-j", "link", "show", "dev", "eth0"])?;
                let flags = links[0]["flags"].as_array().into_iter().flatten();
                Ok(flags.into_iter().any(|flag| flag == "LOWER_UP") == wanted)
            })
        };
        pair.lab.wire().set_port("n1", false)?;
        carrier(false)?;
        pair.pass()?;
        pair.lab.wire().set_port("n1", true)?;
        carrier(true)?;
        pair.reach_each_other()?;
        assert_eq!(pair.record()?, before, "the record was not written anew");
        Ok(())
    });
}

fn down_and_up_changes_nothing(backend: &str) {
    with_pair(Lab::builder().backend(backend), &[], |pair| {
        pair.ip("link set eth0 down\n")?;
        pair.node().says("there is no default route to tell the underlay interface by")?;
        pair.node().says("what was known goes on: 192.168.77.11/24 on eth0, fd00:77::11/64 on eth0")?;
        pair.pass()?;
        // The kernel has dropped the IPv6 address and the routes of others; who set the interface up brings them back.
        pair.ip(&format!("link set eth0 up\naddr add {V6} dev eth0 nodad\n{}", default_routes()))?;
        pair.reach_each_other()?;
        pair.publishes(&[V4, V6])
    });
}

#[test]
fn an_interface_that_is_set_down_and_up_is_taken_up_as_it_was() {
    down_and_up_changes_nothing(TUNNEL);
}

/// The kernel has dropped the cluster's own routes too, which lead by the interface.
#[test]
fn plain_routes_come_back_when_the_interface_has_been_down() {
    down_and_up_changes_nothing(HOST_GW);
}

#[test]
fn direct_routes_come_back_when_the_interface_has_been_down() {
    down_and_up_changes_nothing(DIRECT);
}

/// The nodes send to each other as it is, by IPv6 too, and what is forwarded there does not tell who has asked.
#[test]
fn another_mac_of_the_interface_is_told_to_the_other_nodes() {
    with_pair(Lab::builder().backend(HOST_GW), &[], |pair| {
        pair.ip("link set eth0 address 02:00:00:00:77:01\n")?;
        pair.reach_each_other()?;
        pair.publishes(&[V4, V6])
    });
}

#[test]
fn an_ipv4_default_route_that_is_lost_for_a_moment_moves_no_node_to_that_of_ipv6() {
    let prepare = |lab: &Lab| plug_in(lab, 1, &["fd00:88::21/64"]);
    with_prepared_pair(Lab::builder(), prepare, [&[], &[]], |pair| {
        pair.publishes(&[V4, V6])?;
        let before = pair.record()?;
        pair.ip("route del ::/0 dev eth0\nroute add ::/0 via fd00:88::1 dev eth1\nroute del 0.0.0.0/0 dev eth0\n")?;
        pair.node().says("that of IPv6 leads out of eth1, which would change the IPv4 address of the node")?;
        pair.pass()?;
        pair.reach_each_other()?;
        assert_eq!(pair.record()?, before, "the record was not written anew");
        Ok(())
    });
}

#[test]
fn a_pattern_goes_on_with_the_next_interface_that_fits_when_one_is_down_and_stays_there() {
    let second = "192.168.77.21/24";
    let prepare = |lab: &Lab| plug_in(lab, 1, &[second]);
    with_prepared_pair(Lab::builder().underlay(Underlay::V4), prepare, [&["--underlay", "eth*"], &[]], |pair| {
        pair.publishes(&[V4])?;
        pair.ip("link set eth0 down\n")?;
        pair.publishes(&[second])?;
        pair.reach_each_other()?;
        pair.ip("link set eth0 up\n")?;
        pair.pass()?;
        pair.publishes(&[second])
    });
}

fn another_interface_is_taken_up(backend: &str) {
    with_pair(Lab::builder().backend(backend), &[], |pair| {
        pair.ip("link del eth0\n")?;
        pair.node().says("cannot reconcile")?;
        pair.connect_again()?;
        pair.node().says("reconciling again")?;
        pair.reach_each_other()?;
        pair.publishes(&[V4, V6])
    });
}

#[test]
fn an_interface_that_is_deleted_and_made_again_is_taken_up() {
    another_interface_is_taken_up(TUNNEL);
}

#[test]
fn plain_routes_lead_by_an_interface_that_was_made_again() {
    another_interface_is_taken_up(HOST_GW);
}

#[test]
fn direct_routes_lead_by_an_interface_that_was_made_again() {
    another_interface_is_taken_up(DIRECT);
}

// ---- other addresses ---------------------------------------------------------------------------------------------------

fn a_changed_address_is_followed(backend: &str) {
    with_pair(Lab::builder().backend(backend), &[], |pair| {
        pair.ip(&format!(
            "addr del {V4} dev eth0\naddr add {NEW_V4} dev eth0\naddr del {V6} dev eth0\naddr add {NEW_V6} dev eth0 nodad\n{}",
            default_routes()
        ))?;
        pair.publishes(&[NEW_V4, NEW_V6])?;
        pair.reach_each_other()?;
        if !pair.has_tunnel() {
            return Ok(());
        }
        deadline::until_some("the other node sends to the new address", PATIENCE, || {
            let fdb = pair.lab.node(2).run(&["bridge", "fdb", "show", "dev", VXLAN])?;
            let follows = fdb.contains("192.168.77.111") && !fdb.contains("192.168.77.11 ");
            Ok(if follows { Ok(()) } else { Err(fdb) })
        })
    });
}

#[test]
fn a_changed_address_is_published_and_used_by_all() {
    a_changed_address_is_followed(TUNNEL);
}

#[test]
fn plain_routes_lead_by_a_changed_address() {
    a_changed_address_is_followed(HOST_GW);
}

#[test]
fn direct_routes_lead_by_a_changed_address() {
    a_changed_address_is_followed(DIRECT);
}

#[test]
fn a_changed_address_of_an_ipv6_underlay_is_published_and_used_by_all() {
    with_pair(Lab::builder().underlay(Underlay::V6), &["--underlay", "to:fd00:77::1"], |pair| {
        pair.ip(&format!("addr add {NEW_V6} dev eth0 nodad\n"))?;
        pair.pass()?;
        pair.publishes(&[V6]).map_err(|error| LabError::wrong(format!("the known one is kept: {error}")))?;
        pair.ip(&format!("addr del {V6} dev eth0\n"))?;
        pair.publishes(&[NEW_V6])
    });
}

#[test]
fn of_several_addresses_the_known_one_is_kept_and_a_keepalived_one_is_never_taken() {
    with_pair(Lab::builder(), &[], |pair| {
        // Of pods' MTU the record tells when they are there.
        let before = deadline::until_some("the record tells of the pods", PATIENCE, || {
            let record = pair.record()?;
            Ok(if record["path"]["pods"] == 0 { Err(record) } else { Ok(record) })
        })?;
        let others = ["10.9.9.9/24", "192.168.77.3/24", "192.168.77.4/32", "fd00:77::3/64", "fd00:77::4/128"];
        let lines = |verb: &str| others.map(|address| format!("addr {verb} {address} dev eth0\n")).concat();
        pair.losing_nothing(|| {
            pair.ip(&lines("add"))?;
            pair.pass()?;
            assert_eq!(pair.record()?, before);
            pair.ip(&lines("del"))?;
            pair.pass()
        })?;
        assert_eq!(pair.record()?, before);
        // Alone for a moment, while the node's own is exchanged.
        pair.ip(&format!("addr add 192.168.77.4/32 dev eth0\naddr del {V4} dev eth0\n"))?;
        pair.publishes(&[V6])?;
        pair.ip(&format!("addr add {NEW_V4} dev eth0\n"))?;
        pair.publishes(&[NEW_V4, V6])
    });
}

#[test]
fn a_daemon_that_begins_anew_takes_the_addresses_that_it_had_though_others_come_first() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(1);
        let underlay = || {
            let record = lab.etcd().nodes()?.into_iter().find(|(name, _)| name == "n1");
            Ok::<_, LabError>(record.map(|(_, record)| record["underlay"].clone()))
        };
        let before = underlay()?;
        node.namespace().ip_batch("addr add 10.9.9.9/24 dev eth0\naddr add fd00:77::3/64 dev eth0 nodad\n")?;
        lab.saved()?;
        node.kill_daemon()?;
        node.start_daemon()?;
        node.says("is back, epoch")?;
        assert_eq!(underlay()?, before);
        let log = node.daemon_log();
        assert!(!log.contains("10.9.9.9") && !log.contains("fd00:77::3/64"), "{log}");
        Ok(())
    });
}

// ---- another MTU -------------------------------------------------------------------------------------------------------

#[test]
fn a_changed_mtu_is_followed_by_the_tunnel_and_new_pods_and_told_of_old_ones() {
    with_pair(Lab::builder(), &[], |pair| {
        let (node, [old, far]) = (pair.node(), &pair.pods);
        let tunnel = |mtu: u64| {
            deadline::until(&format!("the tunnel's MTU is {mtu}"), PATIENCE, || {
                let link = node.namespace().run_json(&["ip", "-j", "link", "show", "dev", VXLAN])?;
                let told = node.query_store("SELECT mtu FROM node")?;
                Ok(link[0]["mtu"].as_u64() == Some(mtu) && told.trim() == mtu.to_string())
            })
        };
        assert_eq!(old.mtu()?, 1450);
        pair.losing_nothing(|| {
            pair.ip("link set eth0 mtu 1400\n")?;
            tunnel(1350)
        })?;
        node.says(
            "the MTU that fits is 1350, and pods have a greater one until they are attached anew: the container ",
        )?;
        let new = node.add_pod("new")?;
        assert_eq!(new.mtu()?, 1350);
        for ipv6 in [false, true] {
            new.ping_small_and_full(far.address(ipv6)?)?;
        }
        old.del()?;
        node.says("over: no pod has a greater MTU than fits, which is 1350")?;
        old.add()?;
        pair.ip("link set eth0 mtu 1500\n")?;
        tunnel(1450)
    });
}

// ---- other interfaces --------------------------------------------------------------------------------------------------

/// The second node has no IPv4 underlay, so the two reach each other in IPv6.
const IPV6_ONLY: &[&str] = &["--underlay-ipv4", "absent0"];

#[test]
fn each_family_may_have_an_interface_of_its_own() {
    let second = "fd00:77::21/64";
    let prepare = |lab: &Lab| {
        plug_in(lab, 1, &[second])?;
        lab.node(1).run(&["ip", "addr", "del", V6, "dev", "eth0"]).map(drop)
    };
    let flags: [&[&str]; 2] = [&["--underlay-ipv6", "eth1"], IPV6_ONLY];
    with_prepared_pair(Lab::builder(), prepare, flags, |pair| {
        pair.publishes(&[V4, second])?;
        pair.lab.node(2).says("IPv4: the underlay interface absent0 does not exist")?;
        let devices = pair.node().interfaces()?;
        assert!(devices.iter().any(|name| name == "vxlan6.twill"), "{devices:?}");
        pair.losing_nothing(|| {
            pair.ip("link set eth1 name lan1\n")?;
            pair.node().says("on lan1")?;
            pair.pass()
        })
    });
}

#[test]
fn an_address_that_is_to_be_reached_names_interface_and_address() {
    // On a wire that no default route leads to. One of the nodes has the address itself.
    let subnet = "192.168.78.";
    let address = |number: usize| format!("{subnet}{number}/24");
    let prepare = |lab: &Lab| [1, 2].into_iter().try_for_each(|number| plug_in(lab, number, &[&address(number)]));
    let flags: &[&str] = &["--underlay", "to:192.168.78.2"];
    let lab = Lab::builder().pools([PoolSpec::v4()]).underlay(Underlay::V4);
    with_prepared_pair(lab, prepare, [flags, flags], |pair| {
        pair.publishes(&[&address(1)])?;
        let remotes = pair.node().run(&["bridge", "fdb", "show", "dev", VXLAN])?;
        assert!(remotes.contains("192.168.78.2 "), "{remotes}");
        // Another way there, by another interface: the address follows.
        pair.ip("route add 192.168.78.2/32 dev eth0\n")?;
        pair.lab.node(2).namespace().ip_batch("route add 192.168.77.11/32 dev eth1\n")?;
        pair.publishes(&[V4])?;
        pair.ip("route del 192.168.78.2/32 dev eth0\n")?;
        pair.publishes(&[&address(1)])
    });
}
