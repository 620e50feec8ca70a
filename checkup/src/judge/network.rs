//! What others do to the packets of pods, how large these may be, and what has the tunnel's place or the pools'.

use twill_conf::cluster::vxlan_overhead;
use twill_linux::arrival::Shut;
use twill_linux::forward::Barrier;
use twill_linux::table::link::SeenTunnel;

use super::{Findings, some_of};
use crate::finding::{Check, State};
use crate::names::OUR_TUNNELS;
use crate::observe::network::{is_inside, overlaps};
use crate::observe::{Holders, Inbound, Interface, Observations};
use crate::scope::{Cluster, Scope, Stage, Tunnel};

pub(super) fn firewall(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Firewall;
    let barriers = findings.seen(CHECK, &seen.barriers).map_or(&[][..], Vec::as_slice);
    for Barrier { place, how, closed, entrance, .. } in barriers {
        let opens = scope.cluster.open_forward;
        let by_hand = closed.iter().map(|direction| {
            let at = entrance.as_ref().unwrap_or(place);
            format!("nft insert rule {at} {direction} \"tw*\" accept")
        });
        let by_hand = by_hand.collect::<Vec<_>>().join("; ");
        let fix = match entrance {
            Some(_) if !opens => {
                format!(
                    "set open_forward = true in [firewall] of the cluster's configuration, by which every node opens it; or: {by_hand}"
                )
            }
            Some(_) => format!("look at the log of twilld for why open_forward has not opened it; or: {by_hand}"),
            None => format!("somebody wrote that chain: let him accept what pods send and get; or: {by_hand}"),
        };
        let what = format!("it drops what pods send and get: {how}");
        findings.problem(CHECK, place.to_string(), what, fix);
    }
    inbound(scope, seen, findings);
    findings.else_ok(CHECK, compared(scope, seen));
}

/// What was compared, where nothing was found.
fn compared(scope: &Scope, seen: &Observations) -> String {
    let Cluster { ipv4, ipv6, tunnel, known, .. } = &scope.cluster;
    if !ipv4 && !ipv6 {
        return "the chains of others were not judged: which families pods have is not known here".to_owned();
    }
    let pods = "no chain of others drops what pods send and get";
    let (Some(Ok(Inbound { families, .. })), Some(Tunnel { port, .. })) = (&seen.inbound, tunnel) else {
        return pods.to_owned();
    };
    let families = families.iter().map(|ipv6| if *ipv6 { "IPv6" } else { "IPv4" }).collect::<Vec<_>>().join(" and ");
    let assumed = if *known { "" } else { ", as it is by default" };
    format!("{pods}, and none is sure to drop what comes by the tunnel, over {families} to UDP port {port}{assumed}")
}

/// Chains that let no tunnel in. Whether there will be one is not known before there is a configuration.
fn inbound(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Firewall;
    let (Some(inbound), Some(Tunnel { port, .. })) = (&seen.inbound, scope.cluster.tunnel) else { return };
    let Some(Inbound { families, shut }) = findings.seen(CHECK, inbound) else { return };
    if families.is_empty() {
        let what = "whether chains of others let the tunnel in was not judged: no interface to other nodes has a global \
                    address";
        let fix =
            "give the interface between nodes an address, or set underlay in the node's configuration to one that has";
        match scope.stage {
            Stage::Serving => findings.unknown(CHECK, "underlay", what, fix),
            Stage::Before => findings.note(CHECK, "underlay", what, fix),
        }
    }
    for Shut { place, how } in shut {
        let what = format!("it drops what other nodes send by the tunnel, to UDP port {port}: {how}");
        let fix = format!(
            "let it pass there: nft insert rule {place} udp dport {port} accept; and in the file that the rule comes from"
        );
        match scope.cluster.known {
            true => findings.problem(CHECK, place.to_string(), what, fix),
            false => findings.note(CHECK, place.to_string(), what, fix),
        }
    }
}

pub(super) fn managers(_: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Managers;
    for (suspect, _) in seen.suspects.iter().filter(|(_, settled)| !settled) {
        let what = match suspect.firewall {
            true => "it runs here, and may remove rules of others",
            false => "it runs here, and may remove interfaces, addresses and routes of others",
        };
        findings.note(CHECK, suspect.name, what, suspect.remedy);
    }
    findings.else_ok(
        CHECK,
        match seen.suspects.is_empty() {
            true => "no program runs here that is known to undo what Twill makes".to_owned(),
            false => {
                let names: Vec<&str> = seen.suspects.iter().map(|(suspect, _)| suspect.name).collect();
                format!("{}: told to leave Twill's part alone", some_of(&names))
            }
        },
    );
}

/// What is to be done about what cannot be compared without a configuration.
const LATER: &str =
    "look again when twilld runs here and the cluster has a configuration: 'twillctl doctor' compares it then";
/// What a tunnel puts around a packet, at most.
const OVERHEAD: u32 = vxlan_overhead(true);
/// What every link of IPv6 carries (RFC 8200, section 5).
const IPV6_MIN_MTU: u32 = 1280;

pub(super) fn mtu(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Mtu;
    let Some(links) = findings.seen(CHECK, &seen.links) else { return };
    let Some(narrowest) = links.underlay.iter().min_by_key(|interface| interface.mtu) else {
        let what = "there is no interface to other nodes: no default route, or not the one that is named";
        let fix = "set underlay in the node's configuration to the interface between nodes, by name or as to:ADDRESS";
        return match scope.stage {
            Stage::Serving => findings.problem(CHECK, "underlay", what, fix),
            Stage::Before => findings.note(CHECK, "underlay", what, fix),
        };
    };
    let Interface { name, mtu, .. } = narrowest;
    let least = IPV6_MIN_MTU + if scope.cluster.tunnel.is_some() { OVERHEAD } else { 0 };
    if scope.cluster.ipv6 && *mtu < least {
        let what = format!("its MTU is {mtu}: full-size packets of IPv6 pods travel in fragments below {least}");
        findings.problem(
            CHECK,
            format!("interface {name}"),
            what,
            format!("let the network between nodes carry {least} bytes"),
        );
    }
    let fits = scope.cluster.fits;
    let large = |interface: &&Interface| fits.is_some_and(|fits| interface.mtu > fits);
    let large: Vec<&Interface> = links.pods.iter().filter(large).collect();
    if let (Some(first), Some(fits)) = (large.first(), fits) {
        let what = format!(
            "{} a greater MTU than {fits}, which {name} with its {mtu} leaves now ({} has {}): what they send at full \
             size is refused, and lost where no ICMP comes back",
            if large.len() == 1 {
                "an interface of pods has".to_owned()
            } else {
                format!("{} interfaces of pods have", large.len())
            },
            first.name,
            first.mtu
        );
        let fix = format!(
            "raise the MTU of {name} to what it was, or restart those pods: an interface keeps the MTU that it got"
        );
        findings.problem(CHECK, "pods", what, fix);
    }
    findings.else_ok(
        CHECK,
        match fits {
            Some(fits) => format!("{name} has {mtu}, pods get {fits}"),
            None => format!(
                "{name}{}has {mtu}; what pods get by it, and what the other nodes have, was not compared: the configuration is not known here",
                if scope.underlay.is_empty() { ", with the default route, " } else { " " }
            ),
        },
    );
}

pub(super) fn tunnel(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Tunnel;
    let Some(wanted) = scope.cluster.tunnel else {
        return match scope.cluster.known {
            true => findings.ok(CHECK, "the back end has none"),
            false => findings.note(CHECK, "", "it was not looked for: the back end is not known here", LATER),
        };
    };
    let tunnels = findings.seen(CHECK, &seen.links).map_or(&[][..], |links| links.tunnels.as_slice());
    let is_ours = |tunnel: &&SeenTunnel| OUR_TUNNELS.contains(&tunnel.name.as_str());
    for other in tunnels.iter().filter(|tunnel| !is_ours(tunnel)) {
        another(wanted, other, findings);
    }
    if let Some(holders) = seen.holders.as_ref().and_then(|holders| findings.seen(CHECK, holders)) {
        port(wanted, holders, tunnels, findings);
    }
    let stands = tunnels.iter().any(|tunnel| is_ours(&tunnel) && tunnel.up);
    if scope.stage == Stage::Serving && !stands && !said_problem(findings, CHECK) {
        let what = "it does not stand: no other node can send to the pods of this one";
        findings.problem(CHECK, "vxlan.twill", what, "look at the log of twilld for what the kernel refuses");
    }
    let Tunnel { vni, port, .. } = wanted;
    let assumed = if scope.cluster.known { "" } else { ", as they are by default" };
    findings.else_ok(CHECK, format!("VNI {vni} on UDP port {port}{assumed}: nobody else has them"));
}

/// A VXLAN device of somebody else's.
fn another(Tunnel { vni, port, .. }: Tunnel, other: &SeenTunnel, findings: &mut Findings) {
    let subject = format!("device {}", other.name);
    if (other.vni, other.port) != (vni, port) {
        let what =
            format!("another overlay: VNI {} on UDP port {}; it does not stand in the way", other.vni, other.port);
        return findings.note(Check::Tunnel, subject, what, "if nothing uses it any more, remove it");
    }
    let what =
        format!("it has VNI {vni} on UDP port {port}, which Twill's tunnel is to have: the kernel gives them once");
    let fix = format!(
        "remove it ('ip link delete {}'), if nobody needs it; or set another vni or port in [backend] of the cluster's configuration",
        other.name
    );
    findings.problem(Check::Tunnel, subject, what, fix);
}

/// Who else has the port.
fn port(Tunnel { port, .. }: Tunnel, holders: &Holders, tunnels: &[SeenTunnel], findings: &mut Findings) {
    let by_tunnels = tunnels.iter().any(|tunnel| tunnel.up && tunnel.port == port);
    let who = match holders.processes.as_slice() {
        [] if holders.sockets == 0 || by_tunnels => return,
        [] => "a program that cannot be seen from here".to_owned(),
        names => names.join(", "),
    };
    let what = format!("{who} has it: the tunnel cannot be set up beside that");
    let fix = "end that program ('ss -ulnp', as root there, names it), or give it another port; or set another port \
               in [backend] of the cluster's configuration";
    findings.problem(Check::Tunnel, format!("UDP port {port}"), what, fix);
}

fn said_problem(findings: &Findings, check: Check) -> bool {
    findings.0.iter().any(|finding| finding.check == check && finding.state == State::Problem)
}

pub(super) fn overlap(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Overlap;
    if scope.cluster.pools.is_empty() {
        return match scope.cluster.known {
            true => findings.ok(CHECK, "there are no pools"),
            false => {
                let what =
                    "the machine's addresses and routes were not compared with the pools: these are not known here";
                findings.note(CHECK, "", what, LATER)
            }
        };
    }
    let Some(links) = findings.seen(CHECK, &seen.links) else { return };
    let fix = "take another range for the pool, or for that network: a pool belongs to pods alone";
    for (name, pool) in &scope.cluster.pools {
        for own in links.own.iter().filter(|own| overlaps(own.cidr, *pool)) {
            let what = format!("{} has {}, which lies in the pool {name} ({pool})", own.device, own.cidr);
            findings.problem(CHECK, format!("address {}", own.cidr.ip()), what, fix);
        }
        for route in links.routes.iter().filter(|route| is_inside(route.destination, *pool)) {
            let by = route.device.as_ref().map(|device| format!(" by {device}")).unwrap_or_default();
            let what = format!("it leads into the pool {name} ({pool}){by}, past Twill's own routes");
            let fix = "remove it, or look for who makes it; Twill routes its pools itself";
            findings.problem(CHECK, format!("route {}", route.destination), what, fix);
        }
    }
    findings.else_ok(CHECK, "no pool overlaps an address or a route of the machine's");
}
