//! What every node needs, whatever the back end.
//!
//! **Unreachable routes.** A packet to an address of our blocks that no pod has, or to a part of a pool that nobody holds,
//! must be refused here. Without these routes it would follow the default route, out of the cluster and unmasqueraded.
//! A block's route has a worse metric than a pod's, which may be as long (blocks of /32), and a pool's one worse still.
//!
//! **Pods.** The host end, the route to each address and the permanent neighbour behind it are the plugin's, to the letter; the
//! daemon wants the same ones, so it repairs them where they are lost and finds nothing to do where they stand. Routes name no
//! source: a route whose `src` is deleted goes with it.
//!
//! **Sysctls.** A node forwards. IPv6 forwarding is only there for the whole machine, and turns router advertisements off,
//! by which the underlay may have its default route: `accept_ra=2` keeps them, and is kept itself; other interfaces get it when the
//! machine begins to forward ([`twill_linux::advertisements`]), and are left alone then. Redirects are never sent to neighbours on
//! the underlay; the kernel asks for that in `all` too, as it takes the greater of both. Strict reverse path filtering
//! loses packets while nodes are switched one by one, so where it is in force it becomes loose; and none where an interface has no IPv4
//! address, by which pods' IPv4 packets come all the same (RFC 9229): a loose one drops there what a strict one drops (`last_resort` of
//! `__fib_validate_source` in net/ipv4/fib_frontend.c). Where a route leads several ways the
//! kernel chooses by addresses alone, and of IPv6 by the flow label, which not every program sets: all connections of a pod with one host
//! would share a way. `fib_multipath_hash_policy=1` has it look at the ports too. It is there for the whole machine, and stays when the last
//! such route goes; an operator's own choice of something else, 2 or 3, is left alone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use imbl::OrdSet;
use twill_conf::cluster::ClusterConf;
use twill_linux::advertisements::FORWARDING;
use twill_linux::state::{
    HostEnd, KernelState, METRIC, METRIC_BLOCK, METRIC_POOL, Neighbour, Ownership, PROTOCOL_CLUSTER, PROTOCOL_POD,
    Route, RouteKey, Spared, Target,
};
use twill_linux::{IfName, MacAddr};

use crate::backend::{Problems, devices};
use crate::family::{Family, host_prefix};
use crate::{Learned, Local, Pod, Side};

/// What is ours to change and to remove: the back ends' devices, and what leads to the attached pods.
///
/// While BGP has not been told all, a route that stands may be one that it will learn.
pub fn ownership(local: &Local, learned: &Learned) -> Ownership {
    let awaits = |family| learned.awaited.contains(&family);
    let spared = Spared { ipv4: awaits(Family::V4), ipv6: awaits(Family::V6) };
    Ownership { devices: devices(), pods: local.pods.iter().map(|pod| pod.host).collect(), spared }
}

/// Unreachable routes for the node's blocks, routes and neighbours for its pods: what stands even without a cluster.
pub fn attachments(local: &Local, problems: &mut Problems) -> KernelState {
    let mut state = KernelState::default();
    for block in local.blocks.iter().filter(|block| local.knows(Family::of_prefix(block.cidr()))) {
        unreachable(block.cidr(), METRIC_BLOCK).insert_into(&mut state.routes);
    }
    let mut pods: Vec<&Pod> = local.pods.iter().collect();
    pods.sort_by_key(|pod| pod.host);
    let mut holders = BTreeMap::new();
    for pod in pods {
        state.ends.insert(pod.host, host_end(pod));
        for &ip in &pod.addresses {
            if let Some(other) = holders.get(&ip) {
                problems.report(format!("{ip} is the address of two pods, behind {other} and {}", pod.host));
                continue;
            }
            holders.insert(ip, pod.host);
            attach(pod, ip, &mut state);
        }
    }
    state
}

/// A device with a smaller MTU than IPv6 asks for loses all that it has of IPv6 (addrconf_notify in net/ipv6/addrconf.c), whoever lowered
/// the pod's.
fn host_end(pod: &Pod) -> HostEnd {
    const LEAST_OF_IPV6: u32 = 1280;
    let least = if pod.addresses.iter().any(IpAddr::is_ipv6) { LEAST_OF_IPV6 } else { 0 };
    HostEnd { name: pod.host, mac: MacAddr(twill_ipam::HOST_MAC), mtu: pod.mtu.max(least) }
}

fn attach(pod: &Pod, ip: IpAddr, state: &mut KernelState) {
    let key = RouteKey { destination: host_prefix(ip), metric: METRIC };
    Route { key, protocol: PROTOCOL_POD, target: Target::Device(pod.host), source: None }
        .insert_into(&mut state.routes);
    state.neighbours.insert((pod.host, ip), Neighbour { device: pod.host, ip, mac: pod.mac });
}

/// Unreachable routes for the pools, and the sysctls of a node that forwards: on the underlay, on the `exits` that learned routes
/// lead out of, and in the families in which routes are `spread` over several ways.
pub fn forwarding(
    conf: &ClusterConf,
    local: &Local,
    exits: &BTreeMap<IfName, bool>,
    spread: &OrdSet<Family>,
) -> KernelState {
    let mut state = KernelState::default();
    for pool in conf.pools.iter().filter(|pool| local.uses(conf, Family::of_prefix(pool.cidr))) {
        unreachable(pool.cidr, METRIC_POOL).insert_into(&mut state.routes);
    }
    let with_ipv6 = local.uses(conf, Family::V6);
    let mut sysctl = |path: String, value: &str| state.sysctls.insert(path, value.to_owned());
    sysctl("net/ipv4/ip_forward".to_owned(), "1");
    sysctl("net/ipv4/conf/all/send_redirects".to_owned(), "0");
    if with_ipv6 {
        sysctl(FORWARDING.to_owned(), "1");
    }
    let loose = |side: &Side| if side.bare && local.uses(conf, Family::V4) { "0" } else { "2" };
    let sides = local.underlay.sides().map(|side| (side.device, side.rp_filter, loose(side)));
    let is_side = |device: IfName| local.underlay.sides().any(|side| side.device == device);
    let others =
        exits.iter().filter(|(device, _)| !is_side(**device)).map(|(device, filtered)| (*device, *filtered, "2"));
    for (device, filtered, loose) in sides.chain(others) {
        // Plain packets of other nodes come in here.
        sysctl(format!("net/ipv4/conf/{device}/forwarding"), "1");
        sysctl(format!("net/ipv4/conf/{device}/send_redirects"), "0");
        if filtered {
            sysctl(format!("net/ipv4/conf/{device}/rp_filter"), loose);
        }
    }
    for family in spread {
        let ip = if *family == Family::V4 { "ipv4" } else { "ipv6" };
        sysctl(format!("net/{ip}/fib_multipath_hash_policy"), "1|2|3");
    }
    for Side { device, .. } in local.underlay.sides().filter(|side| with_ipv6 && side.accept_ra) {
        sysctl(format!("net/ipv6/conf/{device}/accept_ra"), "2");
    }
    // What such a pod sends by the address of another would be filtered here too, by the rule that routes back go the same way.
    let filtered = if local.underlay.sides().any(|side| side.rp_filter) { "2" } else { "0" };
    for pod in local.pods.iter().filter(|pod| pod.unchecked) {
        sysctl(format!("net/ipv4/conf/{}/rp_filter", pod.host), filtered);
    }
    state
}

fn unreachable(destination: ipnetwork::IpNetwork, metric: u32) -> Route {
    let key = RouteKey { destination, metric };
    Route { key, protocol: PROTOCOL_CLUSTER, target: Target::Unreachable, source: None }
}
