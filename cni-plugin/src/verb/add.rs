//! ADD: the request as [`course::add`](twill_attach::course::add) wants it, and what that made as a result on stdout.

use std::time::Instant;

use serde_json::Value;
use twill_attach::course::add::{Attached as Made, Wanted, add as attach};
use twill_attach::plan::{HOST_MAC, host_ifname};
use twill_attach::{Building, Linux};
use twill_conf::network::{Route, everything, gateway};
use twill_ipam::store::Reservation;
use twill_ipam::{BootTime, Extras};
use twill_linux::IfName;

use crate::doorbell::{self, News, Ring};
use crate::environment::Verb;
use crate::error::Error;
use crate::request::Request;
use crate::result::{Attached, Interface, render};
use crate::verb::{open_namespace, pod_ifname, pod_mac};

/// Attaches the container and gives the result.
pub(crate) fn add(request: &Request, instant: Instant, began: BootTime) -> Result<Value, Error> {
    let mut building = Building::new(Linux::of_call(), open_namespace(request)?, pod_ifname(request));
    let netns = request.target.netns_path().unwrap_or_default();
    let conf = &request.conf;
    let extras = Extras {
        ports: conf.requested.ports.clone(),
        bandwidth: conf.requested.bandwidth,
        unchecked: !conf.spoof_check,
    };
    let ring = || doorbell::ring(request.run_dir(), Verb::Add, News::Waits, instant.elapsed()) == Ring::Heard;
    let wanted = Wanted {
        run_dir: request.run_dir(),
        reservation: Reservation {
            key: &request.key,
            netns: &netns,
            pod: request.target.arguments.pod.as_ref(),
            subnets: &conf.subnets,
            pools: &conf.pools,
            requested: &conf.requested.addresses,
        },
        hash: request.hash,
        extras: &extras,
        ifname: pod_ifname(request),
        mac: pod_mac(request),
        answers: conf.requested.mac.is_some(),
        filtered: conf.host_end_filter,
        mtu: conf.mtu,
        routes: &conf.routes,
        began,
        ring: &ring,
    };
    Ok(result(request, &attach(&mut building, &wanted)?))
}

fn result(request: &Request, made: &Made) -> Value {
    let Made { plan, further } = made;
    let ours = |ip: &&std::net::IpAddr| !further.contains(ip) && plan.asked_default(ip.is_ipv6()).is_none();
    let defaults = plan.addresses.iter().filter(ours).map(|ip| Route::to(everything(ip.is_ipv6())));
    let interface = |name: IfName, mac| Interface { name: name.to_string(), mac };
    let attached = Attached {
        host: interface(host_ifname(plan.hash), HOST_MAC),
        pod: interface(plan.ifname, plan.mac),
        sandbox: request.netns().to_owned(),
        mtu: plan.mtu,
        addresses: plan.addresses.iter().map(|ip| (*ip, gateway(*ip))).collect(),
        routes: defaults.chain(plan.own_routes().map(|(_, route)| *route)).collect(),
        dns: request.conf.requested.dns.clone().or_else(|| request.conf.dns.clone()),
    };
    render(request.version, &attached, request.conf.prev_result.as_ref())
}
