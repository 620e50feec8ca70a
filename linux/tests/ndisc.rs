//! Against a real kernel: who has known another MAC of an address believes the one that is told.

#![allow(clippy::unwrap_used, reason = "these are tests, though not marked so")]

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use twill_linux::ndisc::{Place, advertise};
use twill_linux::table::links;

mod lab;

use lab::{Namespace, name};

const ADDRESS: &str = "fd09::1";

#[test]
fn a_neighbour_that_has_known_another_mac_believes_the_one_that_is_told() {
    let (Some(here), Some(there)) = (Namespace::new(), Namespace::new()) else { return };
    here.ip(&format!("link add left type veth peer name right netns {}", there.name));
    here.ip("link set left up");
    there.ip("link set right up");
    here.ip(&format!("addr add {ADDRESS}/64 dev left nodad"));
    there.ip("addr add fd09::2/64 dev right nodad");
    here.has(&format!("{ADDRESS}/64"));
    there.ip(&format!("neigh replace {ADDRESS} dev right lladdr 02:00:00:00:00:99 router nud reachable"));
    let left = links(&mut here.netlink()).unwrap().into_iter().find(|link| link.name == name("left")).unwrap();
    let address: Ipv6Addr = ADDRESS.parse().unwrap();
    let mac = left.mac.unwrap();
    let known = || there.ip(&format!("neigh show {ADDRESS} dev right"));
    let deadline = Instant::now() + Duration::from_secs(10);
    // The first may come before the other end takes anything.
    while !known().contains(&format!("lladdr {mac}")) {
        assert!(Instant::now() < deadline, "{}", known());
        here.open().run(|| advertise(Place { address, mac, index: left.index, router: true })).unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(known().contains("router"), "{}", known());
}

#[test]
fn nothing_is_told_of_an_address_that_is_not_there() {
    let Some(here) = Namespace::new() else { return };
    let place = Place { address: ADDRESS.parse().unwrap(), mac: twill_linux::MacAddr([2; 6]), index: 1, router: false };
    let error = here.open().run(|| advertise(place)).unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "{error}");
}
