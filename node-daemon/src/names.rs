//! What is called alike in crates that do not know each other: the tests of the one that knows them all.

use twill_checkup::names;
use twill_fabric::{firewall, vxlan};
use twill_ipam::KeyHash;
use twill_linux::IfName;

#[test]
fn what_checkup_looks_for_is_what_the_others_make() {
    assert_eq!((names::OUR_TABLE, names::HOST_ENDS), (firewall::TABLE, firewall::HOST_ENDS));
    assert_eq!(names::OUR_TUNNELS.map(|name| IfName::new(name).unwrap()), vxlan::devices());
    let hash = KeyHash::of_host_ifname(names::A_HOST_END).expect("it is a host end's name");
    assert_eq!(hash.host_ifname(), names::A_HOST_END);
    assert_eq!(names::HOST_ENDS.strip_suffix('*'), Some(names::HOST_END));
    assert!(names::A_HOST_END.starts_with(names::HOST_END));
}
