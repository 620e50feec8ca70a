//! What a node wants that lacks something: IPv6, or an underlay.

use std::net::IpAddr;

use twill_conf::cluster::{Kind, Vxlan};
use twill_linux::state::Target;

use super::scenarios::dual_stack;
use super::*;

#[test]
fn a_node_whose_kernel_has_no_ipv6_wants_nothing_of_it() {
    for kind in [Kind::Vxlan(Vxlan::default()), Kind::HostGw, Kind::Bgp] {
        let sample = dual_stack().backend(kind.clone());
        let mut local = Local { ipv6: false, ..sample.local(1, &["10.42.1.1"]) };
        local.underlay.ipv6 = None;
        let Desired { state, problems, .. } = desired(&sample.view, &local);
        let addresses = state.addresses.iter().map(|address| address.cidr.ip());
        let routes = state.routes.keys().map(|key| key.destination.ip());
        let neighbours = state.neighbours.keys().map(|(_, ip)| *ip);
        let wanted: Vec<IpAddr> = addresses.chain(routes).chain(neighbours).filter(IpAddr::is_ipv6).collect();
        assert!(wanted.is_empty(), "{kind:?}: {wanted:?}");
        assert!(!state.sysctls.keys().any(|path| path.contains("ipv6")), "{kind:?}: {:?}", state.sysctls);
        assert!(state.routes.keys().any(|key| key.destination.to_string() == "10.42.2.0/26"), "{kind:?}");
        assert!(problems.is_empty(), "{kind:?}: {problems:?}");
    }
}

#[test]
fn what_a_node_wants_for_itself_leads_to_no_other_and_names_no_interface_between_nodes() {
    for kind in [Kind::Vxlan(Vxlan::default()), Kind::HostGw] {
        let sample = dual_stack().backend(kind.clone());
        let whole = desired(&sample.view, &sample.local(1, &["10.42.1.1"]));
        let own = whole.of_node();
        let pods = &whole.ours.pods;
        assert!(own.links.is_empty() && own.addresses.is_empty() && own.fdb.is_empty() && own.offloads.is_empty());
        for (key, route) in &own.routes {
            let is_own = match &route.target {
                Target::Unreachable => true,
                target => target.devices().all(|device| pods.contains(&device)),
            };
            assert!(is_own && whole.state.routes.get(key) == Some(route), "{kind:?}: {route}");
        }
        let shown = own.to_string();
        for wanted in [
            "10.42.1.1/32 dev tw",
            "unreachable 10.42.1.0/26",
            "unreachable fd42::/64",
            "10.42.1.1 dev tw",
            "ip_forward",
        ] {
            assert!(shown.contains(wanted), "{kind:?}: {wanted} in {shown}");
        }
        assert!(!shown.contains("/eth0/") && !shown.contains("10.42.2.0"), "{kind:?}: {shown}");
        assert_eq!((&own.ends, &own.firewall), (&whole.state.ends, &whole.state.firewall));
    }
}
