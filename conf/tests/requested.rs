//! What runtimes ask for, as they write it.

#![allow(clippy::unwrap_used, reason = "these are tests, though their helpers are not marked so")]

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};
use twill_conf::network::{Bandwidth, Dns, Mac, NetworkConf, PortMapping, Protocol, Requested, Route, Shape};

fn read(extra: Value) -> NetworkConf {
    let mut conf = json!({"cniVersion": "1.0.0", "name": "n", "type": "twill"});
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    NetworkConf::from_json(conf.to_string().as_bytes()).unwrap()
}

fn requested(runtime: Value) -> Requested {
    read(json!({"runtimeConfig": runtime})).requested
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn port(protocol: Protocol, host_ip: Option<&str>, host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { protocol, host_ip: host_ip.map(|ip| ip.parse().unwrap()), host_port, container_port }
}

#[test]
fn containerds_capitals_and_podmans_small_letters_say_the_same() {
    let containerd = json!({
        "portMappings": [
            {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
            {"HostPort": 0, "ContainerPort": 9090, "Protocol": "tcp", "HostIP": ""},
            {"HostPort": 53, "ContainerPort": 5353, "Protocol": "UDP", "HostIP": "192.0.2.1"},
        ],
        "bandwidth": {"IngressRate": 1_000_000, "IngressBurst": 4_294_967_295_u64, "EgressRate": 0, "EgressBurst": 0},
        "dns": {"Servers": ["10.96.0.10"], "Searches": ["svc.example"], "Options": ["ndots:5"]},
        "ips": null,
    });
    let podman = json!({
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
            {"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "192.0.2.1"},
        ],
        "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 4_294_967_295_u64},
        "dns": {"nameservers": ["10.96.0.10"], "search": ["svc.example"], "options": ["ndots:5"]},
    });
    let expected = Requested {
        ports: vec![port(Protocol::Tcp, None, 8080, 80), port(Protocol::Udp, Some("192.0.2.1"), 53, 5353)],
        bandwidth: Some(Bandwidth { ingress: Some(Shape { rate: 1_000_000, burst: None }), egress: None }),
        dns: Some(Dns {
            nameservers: vec!["10.96.0.10".into()],
            domain: None,
            search: vec!["svc.example".into()],
            options: vec!["ndots:5".into()],
        }),
        ..Requested::default()
    };
    assert_eq!(requested(containerd.clone()), expected);
    assert_eq!(requested(podman), expected);
    assert_eq!(read(json!({"RUNTIMECONFIG": containerd})).requested, expected);
}

#[test]
fn the_runtimes_addresses_and_mac_go_before_those_of_the_arguments() {
    let args = json!({"cni": {"ips": ["10.0.0.1", "fd00::1"], "mac": "02:00:00:00:00:01", "labels": [1]}});
    let only = read(json!({"args": args})).requested;
    assert_eq!((only.addresses, only.mac.unwrap().bytes()), (ips(&["10.0.0.1", "fd00::1"]), [2, 0, 0, 0, 0, 1]));
    let both =
        read(json!({"args": args, "runtimeConfig": {"ips": ["10.0.0.2/24", "10.0.0.2"], "mac": "0200.0000.0002"}}));
    // All of the first that has any: a pod that asks for one address is not to get a second one out of another place.
    assert_eq!(both.requested.addresses, ips(&["10.0.0.2"]));
    assert_eq!(both.requested.mac.unwrap().to_string(), "02:00:00:00:00:02");
}

#[test]
fn an_ipv4_address_in_the_clothes_of_ipv6_is_one_of_ipv4() {
    assert_eq!(requested(json!({"ips": ["::ffff:10.0.0.9"]})).addresses, ips(&["10.0.0.9"]));
    let ports = json!([{"hostPort": 1, "containerPort": 1, "hostIP": "::ffff:192.0.2.1"}]);
    assert_eq!(requested(json!({"portMappings": ports})).ports[0].host_ip, Some("192.0.2.1".parse().unwrap()));
}

#[test]
fn the_very_same_port_twice_is_one() {
    let ports = json!([
        {"hostPort": 80, "containerPort": 80}, {"hostPort": 81, "containerPort": 80},
        {"HostPort": 80, "ContainerPort": 80, "Protocol": "TCP"},
    ]);
    assert_eq!(requested(json!({"portMappings": ports})).ports.len(), 2);
}

#[test]
fn ports_of_other_protocols_addresses_and_families_do_not_collide() {
    let ports = json!([
        {"hostPort": 80, "containerPort": 80}, {"hostPort": 80, "containerPort": 80, "protocol": "SCTP"},
        {"hostPort": 81, "containerPort": 80, "hostIP": "0.0.0.0"}, {"hostPort": 81, "containerPort": 80, "hostIP": "::"},
        {"hostPort": 82, "containerPort": 80, "hostIP": "192.0.2.1"},
        {"hostPort": 82, "containerPort": 80, "hostIP": "192.0.2.2"},
    ]);
    assert_eq!(requested(json!({"portMappings": ports})).ports.len(), 6);
}

#[test]
fn a_rate_without_a_burst_gets_a_tenth_of_a_second_and_a_whole_packet_at_least() {
    let burst =
        |rate: u64| requested(json!({"bandwidth": {"egressRate": rate}})).bandwidth.unwrap().egress.unwrap().burst;
    assert_eq!(burst(100_000_000), Some(10_000_000));
    assert_eq!(burst(1_000_000), Some(524_288));
    let none = requested(json!({"bandwidth": {"ingressRate": 0, "ingressBurst": 4_294_967_295_u64}}));
    assert_eq!(none.bandwidth, None);
    let by_cri_o = json!({"bandwidth": {"ingressRate": 8, "ingressBurst": 34_359_738_360_u64}});
    assert_eq!(requested(by_cri_o).bandwidth.unwrap().ingress, Some(Shape { rate: 8, burst: None }));
}

#[test]
fn the_networks_limit_of_a_direction_goes_before_the_pods() {
    let runtime =
        json!({"bandwidth": {"ingressRate": 5000, "ingressBurst": 500, "egressRate": 6000, "egressBurst": 600}});
    let conf = read(json!({"ingressRate": 1000, "ingressBurst": 100, "runtimeConfig": runtime}));
    let limits = conf.requested.bandwidth.unwrap();
    assert_eq!(limits.ingress, Some(Shape { rate: 1000, burst: Some(100) }));
    assert_eq!(limits.egress, Some(Shape { rate: 6000, burst: Some(600) }));
    assert_eq!(read(json!({"egressRate": 1000, "egressBurst": 100})).requested.bandwidth.unwrap().ingress, None);
}

#[test]
fn routes_and_name_servers_of_the_network_are_read() {
    let routes = json!([
        {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
        {"dst": "10.0.0.0/8", "mtu": 1400, "advmss": 1360, "priority": 7, "table": 4_294_967_295_u64, "scope": 252},
        {"dst": "10.0.0.0/8", "table": 254},
        {"dst": "fd00::/8", "gw": "fe80::1"},
    ]);
    let dns = json!({"nameservers": ["10.96.0.10", "fe80::53%eth0"], "domain": "example.org"});
    let conf = read(json!({"routes": routes, "dns": dns}));
    let to = |text: &str| Route::to(text.parse().unwrap());
    let detailed = Route {
        mtu: Some(1400),
        advmss: Some(1360),
        priority: Some(7),
        table: Some(u32::MAX),
        scope: Some(252),
        ..to("10.0.0.0/8")
    };
    let expected = [to("0.0.0.0/0"), detailed, Route { table: Some(254), ..to("10.0.0.0/8") }, to("fd00::/8")];
    assert_eq!(conf.routes, expected);
    assert_eq!(conf.routes.iter().map(Route::is_main).collect::<Vec<_>>(), [true, false, true, true]);
    let dns = conf.dns.unwrap();
    assert_eq!((dns.nameservers.len(), dns.domain.as_deref()), (2, Some("example.org")));
}

#[test]
fn a_delete_hears_nothing_of_what_is_asked_for() {
    let conf = json!({"name": "n", "runtimeConfig": {"ips": [7]}, "routes": 7, "dns": 7, "args": {"cni": {"mac": 7}}});
    let conf = NetworkConf::for_delete(conf.to_string().as_bytes()).unwrap();
    assert_eq!((conf.requested, conf.routes, conf.dns), (Requested::default(), vec![], None));
}

proptest! {
    #[test]
    fn a_mac_is_read_as_it_is_shown_and_never_a_groups(bytes: [u8; 6], text in ".{0,20}") {
        let [a, b, c, d, e, f] = bytes;
        let shown = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let read = shown.parse::<Mac>();
        prop_assert_eq!(read.is_ok(), a & 1 == 0 && bytes != [0; 6]);
        for (other, separator) in [(shown.to_uppercase(), ":"), (shown.replace(':', "-"), "-")] {
            prop_assert_eq!(other.parse::<Mac>().ok(), read.clone().ok(), "{}", separator);
        }
        if let Ok(mac) = text.parse::<Mac>() {
            prop_assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
        }
    }

    #[test]
    fn two_mappings_overlap_as_the_packets_that_they_are_meant_for(
        a in 0usize..5, b in 0usize..5, same_port: bool, same_protocol: bool,
    ) {
        let all = [None, Some("0.0.0.0"), Some("192.0.2.1"), Some("::"), Some("2001:db8::1")];
        let packets = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"];
        let takes = |ip: Option<&str>, packet: &str| match ip {
            None => true,
            Some("0.0.0.0") => packet.contains('.'),
            Some("::") => packet.contains(':'),
            Some(ip) => ip == packet,
        };
        let one = port(Protocol::Tcp, all[a], 80, 80);
        let protocol = if same_protocol { Protocol::Tcp } else { Protocol::Udp };
        let two = port(protocol, all[b], if same_port { 80 } else { 81 }, 80);
        let common = packets.iter().any(|packet| takes(all[a], packet) && takes(all[b], packet));
        prop_assert_eq!(one.overlaps(&two), common && same_port && same_protocol);
        prop_assert_eq!(one.overlaps(&two), two.overlaps(&one));
    }
}
