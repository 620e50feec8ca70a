//! The transport and namespaces against a real kernel.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use lab::{Namespace, ip, name, net};
use nix::errno::Errno;
use twill_linux::netlink::Request;
use twill_linux::state::{Address, Route, RouteKey, Target};
use twill_linux::table::link::{self, Device};
use twill_linux::table::route::{self, Filter};
use twill_linux::table::{address, addresses, default_route, default_routes, links};
use twill_linux::{Error, NetNs, Netlink};

/// Routes to 10.0.0.0/32 and those after it, out of lo.
fn requests(count: u32) -> Vec<Request> {
    (0..count)
        .map(|number| {
            let destination = std::net::IpAddr::from((0x0a00_0000 + number).to_be_bytes()).into();
            let key = RouteKey { destination, metric: 1 };
            route::add(&Route { key, protocol: 200, target: Target::Device(name("lo")), source: None }, 1)
        })
        .collect()
}

#[test]
fn of_three_hundred_requests_exactly_the_bad_one_is_refused() {
    let Some(namespace) = Namespace::new() else { return };
    let mut netlink = namespace.netlink();
    let mut requests = requests(300);
    requests[150] = requests[149].clone();
    let outcomes = netlink.batch(&requests).unwrap();
    assert_eq!(outcomes.len(), 300);
    for (position, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(()) => assert_ne!(position, 150),
            Err(error) => {
                assert_eq!((position, error.errno()), (150, Some(Errno::EEXIST)));
                assert!(
                    error.to_string().starts_with("add route 10.0.0.149/32 dev lo proto 200 metric 1: "),
                    "{error}"
                );
            }
        }
    }
    let standing = route::dump(&mut netlink, Filter { protocol: Some(200), ..Filter::default() }).unwrap();
    assert_eq!(standing.len(), 299);
    // Where only some are kept, the rest of the answer is read all the same: the next one is whole.
    let even = |route: route::SeenRoute| match route.key.destination.ip() {
        IpAddr::V4(address) if address.octets()[3].is_multiple_of(2) => Some(address.octets()[3]),
        _ => None,
    };
    let ours = Filter { protocol: Some(200), ..Filter::default() };
    assert_eq!(route::dump_of(&mut netlink, ours, 3, even).unwrap(), [0, 2, 4]);
    assert_eq!(route::dump(&mut netlink, ours).unwrap(), standing);
    assert!(netlink.batch::<Request>(&[]).unwrap().is_empty());
}

#[test]
fn a_link_whose_alias_is_no_text_is_seen_all_the_same() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.ip("link add odd0 type veth peer name odd1");
    let alias = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let mut set = std::process::Command::new("ip");
    set.args(["-n", &namespace.name, "link", "set", "odd0", "alias"]).arg(alias);
    assert!(set.status().unwrap().success());
    let mut netlink = namespace.netlink();
    let seen = link::by_name(&mut netlink, &name("odd0")).unwrap().unwrap();
    assert_eq!((seen.kind.as_deref(), seen.alias.as_deref()), (Some("veth"), Some("\u{fffd}\u{fffd}")));
    assert!(links(&mut netlink).unwrap().contains(&seen));
}

#[test]
fn a_refusal_tells_the_kernels_own_words() {
    let Some(namespace) = Namespace::new() else { return };
    let mut netlink = namespace.netlink();
    let key = RouteKey { destination: net("10.0.0.0/24"), metric: 1 };
    let target = Target::Gateway { gateway: ip("192.0.2.1"), device: name("lo"), onlink: false };
    let error = netlink.apply(&[route::add(&Route { key, protocol: 200, target, source: None }, 1)]).unwrap_err();
    let expected = "add route 10.0.0.0/24 via 192.0.2.1 dev lo proto 200 metric 1: ENETUNREACH: Network is unreachable \
                    (Nexthop has invalid gateway)";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_dump_that_others_disturb_is_whole_or_an_error_and_never_a_part() {
    const LASTING: u32 = 3000;
    let Some(namespace) = Namespace::new() else { return };
    let mut netlink = namespace.netlink();
    let device = name("lo");
    let lasting: Vec<Request> = (0..LASTING)
        .map(|number| std::net::IpAddr::from((0x0a00_0000 + number).to_be_bytes()).into())
        .map(|cidr| address::add(&Address { device, cidr }, 1))
        .collect();
    netlink.apply(&lasting).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let disturbing = scope.spawn(|| {
            let mut other = namespace.netlink();
            let passing = Address { device, cidr: net("192.0.2.1/32") };
            while !stop.load(Ordering::Relaxed) {
                other.apply(&[address::add(&passing, 1), address::remove(&passing, 1, None)]).unwrap();
            }
        });
        for _ in 0..5 {
            match addresses(&mut netlink) {
                Ok(seen) => {
                    let lasting = seen.iter().filter(|address| address.cidr.to_string().starts_with("10."));
                    assert_eq!(lasting.count(), LASTING as usize);
                }
                Err(error) => assert!(error.to_string().contains("changed during every attempt"), "{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        disturbing.join().unwrap();
    });
    assert_eq!(links(&mut netlink).unwrap().len(), 1, "the socket still works");
}

#[test]
fn a_socket_belongs_to_its_namespace_and_the_thread_stays_in_its_own() {
    let Some(namespace) = Namespace::new() else { return };
    let own = NetNs::current().unwrap();
    let inside = namespace.open();
    assert!(!own.is(&inside).unwrap());
    assert!(inside.is(&namespace.open()).unwrap());
    namespace.ip("link add left type veth peer name right");
    let names: Vec<String> = links(&mut namespace.netlink()).unwrap().iter().map(|l| l.name.to_string()).collect();
    for expected in ["lo", "left", "right"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    assert!(NetNs::current().unwrap().is(&own).unwrap());
    assert!(!links(&mut Netlink::open().unwrap()).unwrap().iter().any(|link| link.name == name("left")));
    let there = inside.run(|| NetNs::current().unwrap().is(&inside).unwrap()).unwrap();
    assert!(there, "work runs inside");
}

#[test]
fn what_is_no_network_namespace_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let gone = directory.path().join("gone");
    let none = [&file, &fifo, &gone, Path::new("/proc/self/ns/mnt"), directory.path(), Path::new("/dev/null")];
    for path in none {
        let error = NetNs::open(path).unwrap_err();
        assert!(matches!(&error, Error::Namespace { path: named, .. } if named == path), "{error}");
    }
    let bytes = std::ffi::OsStr::from_bytes(b"nul\0inside");
    assert!(NetNs::open(Path::new(bytes)).is_err());
}

#[test]
fn the_default_route_is_that_of_the_lowest_metric_which_is_not_ours() {
    let Some(namespace) = Namespace::new() else { return };
    let mut netlink = namespace.netlink();
    assert_eq!(default_route(&mut netlink, false).unwrap(), None);
    assert_eq!(default_route(&mut netlink, true).unwrap(), None);
    namespace.ip("link add left type veth peer name right");
    namespace.ip("link set left up");
    namespace.ip("link set right up");
    namespace.ip("addr add 192.0.2.2/24 dev left");
    namespace.ip("addr add 2001:db8::2/64 dev left nodad");
    for made in [
        "route add default via 192.0.2.9 dev left metric 50",
        "route add default via 192.0.2.1 dev left metric 20 mtu 1400",
        "route add default via 192.0.2.8 dev left metric 7 proto 116",
        "-6 route add default metric 50 nexthop via 2001:db8::1 dev left nexthop via 2001:db8::3 dev left",
    ] {
        namespace.ip(made);
    }
    let left = links(&mut netlink).unwrap().into_iter().find(|link| link.name == name("left")).unwrap().index;
    assert_eq!(default_route(&mut netlink, false).unwrap(), Some((left, ip("192.0.2.1"))));
    assert_eq!(default_route(&mut netlink, true).unwrap(), Some((left, ip("2001:db8::1"))));
    assert_eq!(default_routes(&mut netlink, true).unwrap(), [(left, ip("2001:db8::1"))]);
    namespace.ip("-6 route append default dev right metric 50");
    let both: BTreeSet<u32> = default_routes(&mut netlink, true).unwrap().into_iter().map(|(index, _)| index).collect();
    assert_eq!(both.len(), 2, "both of those that are equal: {both:?}");
    namespace.ip("route add default dev left metric 1");
    assert_eq!(default_route(&mut netlink, false).unwrap(), Some((left, ip("0.0.0.0"))));

    let seen = addresses(&mut netlink).unwrap();
    let mine = seen.iter().find(|address| address.cidr == net("192.0.2.2/24")).unwrap();
    assert!(mine.index == left && mine.global && mine.usable && !mine.secondary);
    let loopback = seen.iter().find(|address| address.cidr == net("127.0.0.1/8")).unwrap();
    assert!(!loopback.global);
}

#[test]
fn without_a_device_of_that_number_nothing_is_set_up() {
    let Some(namespace) = Namespace::new() else { return };
    let device = Device { index: 4711, name: name("nothing") };
    let error = namespace.netlink().apply(&[link::set_up(device)]).unwrap_err();
    assert_eq!(error.to_string(), "set link nothing up: ENODEV: No such device");
}
