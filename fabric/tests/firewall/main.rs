//! The firewall's rules against packets, in network namespaces: a node with two pods, and the wire that it hangs on.
//!
//! A packet that must be dropped is followed by one that must pass, on the same socket; what arrives first decides. So no
//! test waits for something not to happen.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use nftables::schema::NfListObject;
use nix::sys::socket::{getsockopt, sockopt};
use twill_conf::cluster::{Bgp, ClusterConf};
use twill_fabric::{Local, Pod, Side, Underlay, desired};

mod fragment;
mod lab;
#[path = "../../src/tests/sample.rs"]
#[allow(dead_code)]
mod sample;

use lab::{HOST_END, Lab, POD, both_families, text};
use sample::Sample;

const VNI: u32 = 7777;
const PORT: u16 = 4789;

/// A change of the configuration, or of pods.
type Change = fn(&mut ClusterConf, &mut Local);

/// Those by which sources are looked at by rules, and by the filters of host ends.
const LOOKS: [Change; 2] = [|_, _| (), filtered];

fn unmasqueraded(conf: &mut ClusterConf, _: &mut Local) {
    conf.pools.iter_mut().for_each(|pool| pool.masquerade = false);
}

/// All host ends have a filter, and no rule looks at sources.
fn filtered(_: &mut ClusterConf, local: &mut Local) {
    local.pods.iter_mut().for_each(|pod| pod.filtered = true);
    local.unfiltered = false;
}

/// The first pod is of a network without `spoofCheck`.
fn unchecked(_: &mut ClusterConf, local: &mut Local) {
    local.pods[0].unchecked = true;
}

/// A VXLAN packet's header with a word behind it.
fn vxlan(vni: u32, word: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0], &(vni << 8).to_be_bytes()[..], word].concat()
}

/// Receives one packet and says from where.
fn receive(socket: &UdpSocket, expected: &[u8]) -> IpAddr {
    let mut buffer = [0; 2048];
    let (length, from) = loop {
        match socket.recv_from(&mut buffer) {
            // A socket with a timeout is not resumed by the kernel when the machine pauses the thread.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            received => break received.expect("the packet that must pass did not come"),
        }
    };
    assert_eq!(text(&buffer[..length]), text(expected));
    from.ip()
}

#[test]
fn a_pod_sends_by_its_own_address_only() {
    LOOKS.into_iter().filter_map(|look| Lab::with(&[], look)).for_each(own_addresses_alone);
}

fn own_addresses_alone(lab: Lab) {
    for ends in both_families() {
        let target = lab.socket("wire", ends.peer, 7);
        let to = SocketAddr::new(ends.peer, 7);
        lab.socket(POD[0], ends.spoofed, 0).send_to(b"spoofed", to).unwrap();
        lab.socket(POD[0], ends.pod[0], 0).send_to(b"honest", to).unwrap();
        receive(&target, b"honest");
        let neighbour = lab.socket(POD[1], ends.pod[1], 7);
        let to = SocketAddr::new(ends.pod[1], 7);
        lab.socket(POD[0], ends.spoofed, 0).send_to(b"spoofed", to).unwrap();
        lab.socket(POD[0], ends.pod[0], 0).send_to(b"honest", to).unwrap();
        receive(&neighbour, b"honest");
    }
}

#[test]
fn a_pod_without_spoof_check_sends_by_other_addresses_and_its_neighbour_does_not() {
    let Some(lab) = Lab::with(&[], unchecked) else { return };
    lab.ip(POD[1], "address add 10.42.1.8/32 dev eth0");
    lab.ip(POD[1], "address add fd42::108/128 dev eth0 nodad");
    for (ends, spoofed) in both_families().into_iter().zip(["10.42.1.8", "fd42::108"]) {
        let service = lab.socket("node", ends.node, 7);
        let to = SocketAddr::new(ends.node, 7);
        lab.socket(POD[1], spoofed.parse().unwrap(), 0).send_to(b"its neighbour's", to).unwrap();
        lab.socket(POD[0], ends.spoofed, 0).send_to(b"unchecked", to).unwrap();
        assert_eq!(receive(&service, b"unchecked"), ends.spoofed);
    }
}

#[test]
fn a_pod_without_spoof_check_forges_no_tunnel_packet_by_the_address_of_a_node() {
    let Some(lab) = Lab::with(&[], unchecked) else { return };
    for ends in both_families() {
        let length = if ends.peer.is_ipv6() { "128" } else { "32" };
        lab.ip(POD[0], &format!("address add {}/{length} dev eth0", ends.peer));
        let vtep = lab.socket("node", ends.node, PORT);
        let to = SocketAddr::new(ends.node, PORT);
        lab.socket(POD[0], ends.peer, 0).send_to(&vxlan(VNI, b"forged"), to).unwrap();
        lab.socket("wire", ends.peer, 0).send_to(&vxlan(VNI, b"peer"), to).unwrap();
        receive(&vtep, &vxlan(VNI, b"peer"));
        lab.ip(POD[0], &format!("address del {}/{length} dev eth0", ends.peer));
        let beyond = lab.socket("wire", ends.peer, PORT);
        let to = SocketAddr::new(ends.peer, PORT);
        let pod = lab.socket(POD[0], ends.spoofed, 0);
        pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
        pod.send_to(&vxlan(VNI + 1, b"its own overlay"), to).unwrap();
        receive(&beyond, &vxlan(VNI + 1, b"its own overlay"));
        // Another node's tunnel address, to which packets go as they are.
        let tunnel: IpAddr = if ends.peer.is_ipv6() { "fd42::200" } else { "10.42.2.0" }.parse().unwrap();
        lab.ip("wire", &format!("address add {tunnel}/{length} dev eth0"));
        lab.ip("node", &format!("route add {tunnel}/{length} via {}", ends.peer));
        let inside = lab.socket("wire", tunnel, PORT);
        let to = SocketAddr::new(tunnel, PORT);
        pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
        pod.send_to(&vxlan(VNI + 1, b"its own overlay"), to).unwrap();
        receive(&inside, &vxlan(VNI + 1, b"its own overlay"));
    }
}

#[test]
fn a_link_local_source_reaches_only_the_link() {
    let labs = [Lab::new(), Lab::with(&[], unchecked), Lab::with(&[], filtered)];
    labs.into_iter().flatten().for_each(link_local_stays_on_the_link);
}

fn link_local_stays_on_the_link(lab: Lab) {
    let pod_end = "fe80::70ff:fe00:1".parse().unwrap();
    lab.ip(POD[0], "address replace fe80::70ff:fe00:1/64 dev eth0 nodad");
    lab.ip("node", &format!("address add fe80::1/64 dev {} nodad", HOST_END[0]));
    let service = lab.socket("node", "::".parse().unwrap(), 7);
    let link_local = |port| {
        let scope = lab.index(POD[0], "eth0");
        let bind = move || UdpSocket::bind(std::net::SocketAddrV6::new(pod_end, port, 0, scope)).unwrap();
        (lab.open(POD[0], bind), scope)
    };
    let (socket, scope) = link_local(0);
    socket.send_to(b"to a global address", "[fd09::1]:7").unwrap();
    socket.send_to(b"to the link", std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, scope)).unwrap();
    assert_eq!(receive(&service, b"to the link"), IpAddr::V6(pod_end));
}

#[test]
fn outside_a_pod_has_the_nodes_address_and_inside_its_own() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        let outside = lab.socket("wire", ends.stranger, 7);
        pod.send_to(b"out", SocketAddr::new(ends.stranger, 7)).unwrap();
        assert_eq!(receive(&outside, b"out"), ends.node);
        let neighbour = lab.socket(POD[1], ends.pod[1], 7);
        pod.send_to(b"in", SocketAddr::new(ends.pod[1], 7)).unwrap();
        assert_eq!(receive(&neighbour, b"in"), ends.pod[0]);
        let node = lab.socket("node", ends.node, 7);
        pod.send_to(b"node", SocketAddr::new(ends.node, 7)).unwrap();
        assert_eq!(receive(&node, b"node"), ends.pod[0]);
    }
}

#[test]
fn where_nothing_is_masqueraded_a_pod_keeps_its_own_address_which_is_all_that_it_may_send_by_and_nothing_is_tracked() {
    let Some(lab) = Lab::with(&[], unmasqueraded) else { return };
    lab.ip("wire", "route add 10.42.1.0/26 via 192.168.9.1");
    lab.ip("wire", "route add fd42::100/122 via fd09::1");
    for ends in both_families() {
        let outside = lab.socket("wire", ends.stranger, PORT);
        let to = SocketAddr::new(ends.stranger, PORT);
        lab.socket(POD[0], ends.spoofed, 0).send_to(b"spoofed", to).unwrap();
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
        pod.send_to(b"anything else", to).unwrap();
        assert_eq!(receive(&outside, b"anything else"), ends.pod[0]);
        assert_ne!(lab.tracks(ends.pod[0]), Some(true));
    }
}

#[test]
fn only_known_nodes_speak_our_vxlan_to_us_and_another_overlay_lives() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let vtep = lab.socket("node", ends.node, PORT);
        let to = SocketAddr::new(ends.node, PORT);
        let [stranger, peer] = [ends.stranger, ends.peer].map(|address| lab.socket("wire", address, 0));
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        stranger.send_to(&vxlan(VNI, b"stranger"), to).unwrap();
        pod.send_to(&vxlan(VNI, b"pod"), to).unwrap();
        peer.send_to(&vxlan(VNI, b"peer"), to).unwrap();
        assert_eq!(receive(&vtep, &vxlan(VNI, b"peer")), ends.peer);
        assert_ne!(lab.tracks(ends.peer), Some(true));
        stranger.send_to(&vxlan(VNI + 1, b"other overlay"), to).unwrap();
        receive(&vtep, &vxlan(VNI + 1, b"other overlay"));
    }
}

#[test]
fn a_large_vxlan_packet_in_fragments_does_not_pass_the_guard() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let vtep = lab.socket("node", ends.node, PORT);
        let to = SocketAddr::new(ends.node, PORT);
        let [stranger, peer] = [ends.stranger, ends.peer].map(|address| lab.socket("wire", address, 0));
        stranger.send_to(&vxlan(VNI, &[b's'; 1900]), to).unwrap();
        peer.send_to(&vxlan(VNI, &[b'p'; 1900]), to).unwrap();
        receive(&vtep, &vxlan(VNI, &[b'p'; 1900]));
    }
}

/// Of which the first has the UDP header alone.
fn send_in_fragments(lab: &Lab, namespace: &str, (from, to): (IpAddr, IpAddr), payload: &[u8]) {
    lab.send_fragments(namespace, (from, to), fragment::of_a_datagram(from, to, payload));
}

#[test]
fn fragments_that_hide_their_port_do_not_pass_the_guard() {
    let [_, ends] = both_families();
    for change in [|_: &mut ClusterConf, _: &mut Local| (), unmasqueraded] {
        let Some(lab) = Lab::with(&[], change) else { return };
        let vtep = lab.socket("node", ends.node, PORT);
        for (namespace, source) in [("wire", ends.stranger), (POD[0], ends.pod[0])] {
            for hidden in fragment::that_hide_the_port(source, ends.node, &vxlan(VNI, b"forged")) {
                lab.send_fragments(namespace, (source, ends.node), hidden);
            }
        }
        lab.socket("wire", ends.peer, 0).send_to(&vxlan(VNI, b"peer"), SocketAddr::new(ends.node, PORT)).unwrap();
        assert_eq!(receive(&vtep, &vxlan(VNI, b"peer")), ends.peer);
    }
}

/// Without masquerading nobody tracks connections, and so nobody puts fragments together before the rules.
#[test]
fn a_first_fragment_that_tells_no_identifier_passes_no_guard() {
    let masqueraded: Change = |_, _| ();
    for change in [masqueraded, unmasqueraded] {
        let Some(lab) = Lab::with(&[], |conf, local| (change(conf, local), unchecked(conf, local)).1) else { return };
        for ends in both_families() {
            let vtep = lab.socket("node", ends.node, PORT);
            let beyond = lab.socket("wire", ends.peer, PORT);
            for (namespace, source) in
                [("wire", ends.stranger), (POD[1], ends.pod[1]), (POD[0], ends.spoofed), (POD[0], ends.peer)]
            {
                send_in_fragments(&lab, namespace, (source, ends.node), &vxlan(VNI, b"forged"));
            }
            send_in_fragments(&lab, "wire", (ends.peer, ends.node), &vxlan(VNI, b"peer"));
            assert_eq!(receive(&vtep, &vxlan(VNI, b"peer")), ends.peer);
            for (namespace, source) in [(POD[1], ends.pod[1]), (POD[0], ends.spoofed), (POD[0], ends.stranger)] {
                send_in_fragments(&lab, namespace, (source, ends.peer), &vxlan(VNI, b"forged"));
            }
            lab.socket("node", ends.node, 0).send_to(b"not forged", SocketAddr::new(ends.peer, PORT)).unwrap();
            receive(&beyond, b"not forged");
        }
    }
}

#[test]
fn a_pods_vxlan_leaves_only_towards_pods() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        for beyond in [ends.peer, ends.stranger] {
            let vtep = lab.socket("wire", beyond, PORT);
            let to = SocketAddr::new(beyond, PORT);
            pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
            pod.send_to(&vxlan(VNI + 1, b"its own overlay"), to).unwrap();
            receive(&vtep, &vxlan(VNI + 1, b"its own overlay"));
        }
        let neighbour = lab.socket(POD[1], ends.pod[1], PORT);
        pod.send_to(&vxlan(VNI, b"nested"), SocketAddr::new(ends.pod[1], PORT)).unwrap();
        receive(&neighbour, &vxlan(VNI, b"nested"));
    }
}

/// What a connection once was is no matter: each packet is judged.
#[test]
fn a_pods_vxlan_does_not_follow_its_own_overlay_out() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        let (vtep, to) = (lab.socket("wire", ends.peer, PORT), SocketAddr::new(ends.peer, PORT));
        pod.send_to(&vxlan(VNI + 1, b"its own overlay"), to).unwrap();
        receive(&vtep, &vxlan(VNI + 1, b"its own overlay"));
        pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
        pod.send_to(&vxlan(VNI + 1, b"its own overlay again"), to).unwrap();
        receive(&vtep, &vxlan(VNI + 1, b"its own overlay again"));
    }
}

#[test]
fn a_node_that_is_reached_natively_sees_pods_addresses_and_none_of_their_vxlan() {
    let peers = both_families().map(|ends| ends.peer);
    let Some(lab) = Lab::with_native(&peers) else { return };
    lab.ip("wire", "route add 10.42.1.0/26 via 192.168.9.1");
    lab.ip("wire", "route add fd42::100/122 via fd09::1");
    for ends in both_families() {
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        let node = lab.socket("wire", ends.peer, PORT);
        let to = SocketAddr::new(ends.peer, PORT);
        pod.send_to(&vxlan(VNI, b"forged"), to).unwrap();
        pod.send_to(b"anything else", to).unwrap();
        assert_eq!(receive(&node, b"anything else"), ends.pod[0]);
    }
}

#[test]
fn a_pod_sends_nothing_to_the_ports_of_its_nodes_speaker_and_anything_to_those_of_others() {
    const BFD: u16 = 3784;
    const BGP: u16 = 1179;
    let speaks = |conf: &mut ClusterConf, _: &mut Local| conf.bgp = Some(Bgp { port: BGP, ..Bgp::default() });
    let Some(lab) = Lab::with(&[], speaks) else { return };
    lab.ip("node", &format!("address add fe80::1/64 dev {} nodad", HOST_END[0]));
    let scope = lab.index(POD[0], "eth0");
    let links = [vec!["255.255.255.255".to_owned()], vec![format!("[ff02::1%{scope}]"), format!("[fe80::1%{scope}]")]];
    for (ends, on_link) in both_families().into_iter().zip(links) {
        let all: IpAddr = if ends.node.is_ipv6() { "::" } else { "0.0.0.0" }.parse().unwrap();
        let speaker = lab.socket("node", all, BFD);
        let pod = lab.socket(POD[0], ends.pod[0], 0);
        pod.set_broadcast(true).unwrap();
        pod.send_to(b"forged", SocketAddr::new(ends.node, BFD)).unwrap();
        for address in on_link {
            pod.send_to(b"forged", format!("{address}:{BFD}").parse::<SocketAddr>().unwrap()).unwrap();
        }
        lab.socket("wire", ends.peer, 0).send_to(b"peer", SocketAddr::new(ends.node, BFD)).unwrap();
        assert_eq!(receive(&speaker, b"peer"), ends.peer);

        let speaker = lab.listener("node", SocketAddr::new(all, BGP));
        let to = SocketAddr::new(ends.node, BGP);
        let _dialled = [lab.dial(POD[0], ends.pod[0], to), lab.dial("wire", ends.peer, to)];
        assert_eq!(speaker.accept().unwrap().1.ip(), ends.peer);

        for (namespace, other) in [(POD[1], ends.pod[1]), ("wire", ends.peer)] {
            let bfd = lab.socket(namespace, other, BFD);
            pod.send_to(b"its own session", SocketAddr::new(other, BFD)).unwrap();
            receive(&bfd, b"its own session");
            let bgp = lab.listener(namespace, SocketAddr::new(other, BGP));
            let _dialled = lab.dial(POD[0], ends.pod[0], SocketAddr::new(other, BGP));
            bgp.accept().expect("the connection that must pass did not come");
        }
    }
}

#[test]
fn segments_fit_the_way_in_both_directions_where_they_are_clamped() {
    const PORT: u16 = 80;
    // Ethernet's MTU and the way's, less the headers of IPv6 or IPv4 and TCP, less its timestamps.
    for (clamped, mtu) in [(false, 1500), (true, 1400)] {
        let Some(lab) = Lab::with(&[], |conf, _| conf.firewall.clamp_mss = clamped) else { return };
        lab.ip("node", "link set eth0 mtu 1400");
        for route in ["10.42.1.0/26 via 192.168.9.1", "fd42::100/122 via fd09::1"] {
            lab.ip("wire", &format!("route add {route}"));
        }
        for ends in both_families() {
            let expected = mtu - if ends.pod[0].is_ipv6() { 72 } else { 52 };
            for (from, to) in
                [((POD[0], ends.pod[0]), ("wire", ends.peer)), (("wire", ends.peer), (POD[0], ends.pod[0]))]
            {
                let at = SocketAddr::new(to.1, PORT);
                let listener = lab.listener(to.0, at);
                let dialled = lab.dial(from.0, from.1, at);
                let (accepted, _) = listener.accept().expect("the connection did not come");
                // What each may send at once, by what the other one has said.
                assert_eq!(
                    [segment(&dialled), segment(&accepted)],
                    [expected; 2],
                    "{from:?} to {to:?}, clamped: {clamped}"
                );
            }
        }
    }
}

/// How many bytes a connection sends in one segment, once it stands.
fn segment(connection: &TcpStream) -> u32 {
    connection.set_nonblocking(false).unwrap();
    connection.peer_addr().expect("the connection stands by now");
    getsockopt(connection, sockopt::TcpMaxSeg).unwrap()
}

#[test]
fn our_own_vxlan_is_not_tracked() {
    let Some(lab) = Lab::new() else { return };
    for ends in both_families() {
        let peer = lab.socket("wire", ends.peer, PORT);
        let node = lab.socket("node", ends.node, 0);
        node.send_to(&vxlan(VNI, b"ours"), SocketAddr::new(ends.peer, PORT)).unwrap();
        receive(&peer, &vxlan(VNI, b"ours"));
        assert_ne!(lab.tracks(ends.node), Some(true));
        node.send_to(&vxlan(VNI + 1, b"another's"), SocketAddr::new(ends.peer, PORT)).unwrap();
        receive(&peer, &vxlan(VNI + 1, b"another's"));
        assert_ne!(lab.tracks(ends.node), Some(false), "what is not ours is tracked");
    }
}

#[test]
fn the_rules_use_only_names_that_they_define() {
    let sample = Sample::new(&["10.42.0.0/16"]).node(1, &["192.168.9.1/24"]);
    let ruleset = desired(&sample.view, &sample.local(1, &[])).state.firewall.unwrap();
    let mut chains = BTreeSet::new();
    let mut targets = BTreeSet::new();
    for object in &ruleset.objects {
        match object {
            NfListObject::Chain(chain) => _ = chains.insert(chain.name.to_string()),
            NfListObject::Rule(rule) => {
                targets.insert(rule.chain.to_string());
                for step in rule.expr.iter() {
                    if let nftables::stmt::Statement::Jump(to) | nftables::stmt::Statement::Goto(to) = step {
                        targets.insert(to.target.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    assert_eq!(chains, targets);
}
