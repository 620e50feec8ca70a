//! How a pod is attached, as the plugin does it: two batches, one in each namespace, and then packets flow.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::time::{Duration, Instant};

use lab::{Namespace, ip, mac, name, net};
use nix::errno::Errno;
use twill_linux::netlink::Request;
use twill_linux::state::{Address, METRIC, Neighbour, PROTOCOL_POD, Route, RouteKey, Target};
use twill_linux::table::link::{self, Device, FarEnd, Ipv4Setting, Pair, Veth, VethEnd};
use twill_linux::table::{address, neighbour, route};
use twill_linux::{MacAddr, Netlink};

const HOST: &str = "tw0123456789abc";
const HOST_INDEX: u32 = 5001;
const POD_INDEX: u32 = 2;
const GATEWAYS: [&str; 2] = ["169.254.1.1", "fe80::1"];
const ADDRESSES: [&str; 2] = ["10.42.0.5/32", "fd42::5/128"];

fn host_mac() -> MacAddr {
    mac("ee:ee:ee:ee:ee:ee")
}

fn pod_mac() -> MacAddr {
    mac("02:00:00:00:00:05")
}

fn veth() -> Veth {
    Veth {
        host: VethEnd { name: name(HOST), mac: host_mac(), index: HOST_INDEX },
        peer: VethEnd { name: name("eth0"), mac: pod_mac(), index: POD_INDEX },
        mtu: 1450,
        alias: Some("twill1:0123456789abc:10.42.0.5,fd42::5".to_owned()),
        ipv4: vec![(Ipv4Setting::Forwarding, 1)],
        sources: None,
    }
}

/// The host's batch: the pair, then for each address a permanent neighbour and a route.
fn host_side(pod: &Namespace) -> Vec<Request> {
    let device = name(HOST);
    let mut requests = veth().create(&pod.open()).to_vec();
    for address in ADDRESSES.map(net) {
        let pod = Neighbour { device, ip: address.ip(), mac: pod_mac() };
        requests.push(neighbour::set(&pod, HOST_INDEX));
        requests.push(route::add(&pod_route(address), HOST_INDEX));
    }
    requests
}

fn pod_route(destination: ipnetwork::IpNetwork) -> Route {
    Route {
        key: RouteKey { destination, metric: METRIC },
        protocol: PROTOCOL_POD,
        target: Target::Device(name(HOST)),
        source: None,
    }
}

/// The pod's batch: up, addresses, permanent neighbours for the gateways, link routes to them, default routes.
fn pod_side() -> Vec<Request> {
    let device = name("eth0");
    let mut requests = vec![link::set_up(Device { index: POD_INDEX, name: device })];
    for (cidr, gateway) in ADDRESSES.map(net).into_iter().zip(GATEWAYS.map(ip)) {
        let default = if gateway.is_ipv4() { net("0.0.0.0/0") } else { net("::/0") };
        let route =
            |destination, target| Route { key: RouteKey { destination, metric: 0 }, protocol: 4, target, source: None };
        requests.push(address::add(&Address { device, cidr }, POD_INDEX));
        requests.push(neighbour::set(&Neighbour { device, ip: gateway, mac: host_mac() }, POD_INDEX));
        requests.push(route::add(&route(gateway.into(), Target::Device(device)), POD_INDEX));
        let via = Target::Gateway { gateway, device, onlink: false };
        requests.push(route::add(&route(default, via), POD_INDEX));
    }
    requests
}

#[test]
fn the_mac_and_the_mtu_of_a_pod_are_seen_from_its_node_whoever_chose_them() {
    let (Some(host), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut netlink = host.netlink();
    attach(&mut netlink, &pod);
    host.ip("link add near type veth peer name nearer address 02:00:00:00:00:77");
    host.ip("link add br0 type bridge");
    let names = [HOST, "near", "br0", "gone"].map(name);
    let mut ends = || link::far_ends(&mut netlink, &names).unwrap().into_values().collect::<Vec<_>>();
    let near = FarEnd { mac: mac("02:00:00:00:00:77"), mtu: 1500 };
    assert_eq!(ends(), [near, FarEnd { mac: pod_mac(), mtu: 1450 }]);
    pod.ip("link set eth0 address 02:00:00:00:00:99 mtu 1400");
    assert_eq!(ends(), [near, FarEnd { mac: mac("02:00:00:00:00:99"), mtu: 1400 }]);
}

fn attach(host: &mut Netlink, pod: &Namespace) {
    host.apply(&host_side(pod)).unwrap();
    pod.netlink().apply(&pod_side()).unwrap();
    // The kernel activates the queues a moment later, and drops until then.
    let running =
        |netlink: &mut Netlink, of: &str| link::by_name(netlink, &name(of)).unwrap().is_some_and(|link| link.running);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !(running(host, HOST) && running(&mut pod.netlink(), "eth0")) {
        assert!(Instant::now() < deadline, "the pair does not run");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn two_batches_attach_a_pod_and_it_answers_over_both_families() {
    let (Some(host), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    host.ip("addr add 192.0.2.1/32 dev lo");
    host.ip("addr add 2001:db8::1/128 dev lo nodad");
    let mut netlink = host.netlink();
    attach(&mut netlink, &pod);

    assert!(host.pings("10.42.0.5"), "IPv4");
    assert!(host.pings("fd42::5"), "IPv6");
    assert!(pod.pings("192.0.2.1"), "from the pod, IPv4");
    assert!(pod.pings("2001:db8::1"), "from the pod, IPv6");

    let seen = link::by_name(&mut netlink, &name(HOST)).unwrap().unwrap();
    assert_eq!(seen.index, HOST_INDEX);
    assert_eq!(seen.kind.as_deref(), Some("veth"));
    assert_eq!((seen.mac, seen.mtu, seen.up), (Some(host_mac()), 1450, true));
    assert_eq!(seen.alias.as_deref(), Some("twill1:0123456789abc:10.42.0.5,fd42::5"));
    let (here, there) = (host.ip(&format!("-d link show dev {HOST}")), pod.ip("-d link show dev eth0"));
    assert!(here.contains("addrgenmode none"), "{here}");
    assert!(
        [&here, &there].iter().all(|end| end.contains("numtxqueues 1 ") && end.contains("numrxqueues 1 ")),
        "{here}{there}"
    );
    assert!(address::of(&mut netlink, HOST_INDEX).unwrap().is_empty(), "the host end has no address at all");
    assert_eq!(host.must(&format!("cat /proc/sys/net/ipv4/conf/{HOST}/forwarding")).trim(), "1");
}

#[test]
fn dumps_of_one_device_show_what_check_compares() {
    let (Some(host), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut netlink = host.netlink();
    attach(&mut netlink, &pod);

    let routes = route::of(&mut netlink, HOST_INDEX).unwrap();
    for address in ADDRESSES.map(net) {
        let route = routes.iter().find(|route| route.key.destination == address).unwrap();
        assert_eq!(route.target, route::SeenTarget::Device(HOST_INDEX));
        assert_eq!((route.key.metric, route.protocol), (METRIC, PROTOCOL_POD));
    }
    let neighbours = neighbour::of(&mut netlink, HOST_INDEX).unwrap();
    for address in ADDRESSES.map(net) {
        let pod = neighbours.iter().find(|neighbour| neighbour.ip == address.ip()).unwrap();
        assert_eq!((pod.mac, pod.permanent), (Some(pod_mac()), true));
    }

    let mut inside = pod.netlink();
    let addresses = address::of(&mut inside, POD_INDEX).unwrap();
    for address in ADDRESSES.map(net) {
        let seen = addresses.iter().find(|seen| seen.cidr == address).unwrap();
        assert!(seen.usable && seen.global, "{seen:?}");
    }
    let inside_routes = route::of(&mut inside, POD_INDEX).unwrap();
    for (prefix, metric, gateway) in [("0.0.0.0/0", 0, "169.254.1.1"), ("::/0", 1024, "fe80::1")] {
        let expected = route::SeenTarget::Gateway { gateway: ip(gateway), index: POD_INDEX, onlink: false };
        let key = RouteKey { destination: net(prefix), metric };
        assert!(inside_routes.iter().any(|r| r.key == key && r.target == expected), "{prefix}: {inside_routes:?}");
    }
    assert!(route::of(&mut inside, 77).unwrap().is_empty(), "no device, no routes");
    assert!(address::of(&mut inside, 77).unwrap().is_empty());
    assert!(neighbour::of(&mut inside, 77).unwrap().is_empty());
    assert_eq!(link::by_index(&mut inside, 77).unwrap(), None);
    assert_eq!(link::by_name(&mut inside, &name("none")).unwrap(), None);
}

#[test]
fn a_second_owner_of_an_address_is_refused_by_name() {
    let (Some(host), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut netlink = host.netlink();
    attach(&mut netlink, &pod);
    for address in ADDRESSES.map(net) {
        let error = netlink.apply(&[route::add(&pod_route(address), HOST_INDEX)]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST));
        let text = format!("add route {address} dev {HOST} proto 117 metric 7777: ");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}

#[test]
fn a_deleted_link_takes_all_with_it_and_a_second_deletion_says_so() {
    let (Some(host), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut netlink = host.netlink();
    attach(&mut netlink, &pod);
    let device = Device { index: HOST_INDEX, name: name(HOST) };
    netlink.apply(&[link::delete(device)]).unwrap();
    assert_eq!(link::by_index(&mut pod.netlink(), POD_INDEX).unwrap(), None);
    assert!(host.ip("route show").is_empty());
    assert_eq!(netlink.apply(&[link::delete(device)]).unwrap_err().errno(), Some(Errno::ENODEV));
}

#[test]
fn a_taken_name_or_number_is_refused() {
    let (Some(host), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut netlink = host.netlink();
    attach(&mut netlink, &pod);
    let refused = |veth: Veth| {
        let mut socket = host.netlink();
        let outcomes = socket.batch(&veth.create(&pod.open())).unwrap();
        outcomes.into_iter().next().unwrap().unwrap_err().errno()
    };
    assert_eq!(refused(veth()), Some(Errno::EEXIST), "the host's name");
    let mut other = veth();
    other.host.name = name("tw1");
    other.host.index = 5002;
    assert_eq!(refused(other.clone()), Some(Errno::EEXIST), "the pod's name");
    other.peer.name = name("eth1");
    assert_eq!(refused(other.clone()), Some(Errno::EBUSY), "the pod's number");
    other.peer.index = 9;
    other.host.index = HOST_INDEX;
    assert_eq!(refused(other), Some(Errno::EEXIST), "the host's number");
}

#[test]
fn the_mtu_can_be_changed() {
    let (Some(host), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut netlink = host.netlink();
    attach(&mut netlink, &pod);
    let device = Device { index: HOST_INDEX, name: name(HOST) };
    netlink.apply(&[link::set_mtu(device, 1400)]).unwrap();
    assert_eq!(link::by_index(&mut netlink, HOST_INDEX).unwrap().unwrap().mtu, 1400);
}

#[test]
fn a_new_pair_is_told_with_the_numbers_that_the_kernel_chose_in_both_namespaces() {
    let (Some(node), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    // So that the two ends get different numbers.
    pod.ip("link add br0 type bridge");
    let mut host = node.netlink();
    let mut veth = veth();
    (veth.host.index, veth.peer.index) = (0, 0);
    let pair = veth.make(&mut host, &pod.open()).unwrap().pair;
    assert_eq!(link::by_name(&mut host, &name(HOST)).unwrap().unwrap().index, pair.host);
    assert_eq!(link::by_name(&mut pod.netlink(), &name("eth0")).unwrap().unwrap().index, pair.peer);
    assert_ne!(pair.host, pair.peer);
    // As it goes where the kernel does not tell by itself.
    assert_eq!(Pair::of(&mut host, name(HOST)).unwrap(), pair);
    assert_eq!(veth.make(&mut host, &pod.open()).unwrap_err().errno(), Some(Errno::EEXIST));
}
