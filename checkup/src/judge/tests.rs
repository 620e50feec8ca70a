//! Judgements by tables: a machine where all is good, and for each fault what is said of it.

mod faults;

use std::io::ErrorKind;

use twill_conf::network::list::Author;
use twill_conf::node::{NodeLayer, TlsFiles};
use twill_linux::arrival::{How, Shut};
use twill_linux::forward::{Barrier, Place};
use twill_linux::nft::Version;
use twill_linux::table::link::SeenTunnel;
use twill_linux::trial::Feature;

use super::*;
use crate::observe::{
    Certificate, Directory, Holders, Inbound, Interface, Links, Network, Own, Plugin, Route, Settings, Sysctls, Table,
    Unseen, Validity,
};
use crate::scope::{Cluster, Stage, Tunnel};
use crate::suspects::SUSPECTS;

/// 2026-06-01, in seconds since 1970.
const NOW: u64 = 1_780_272_000;
const DAY: i64 = 86_400;

fn scope(stage: Stage) -> Scope {
    let tls = TlsFiles { ca: "/etc/twill/ca.crt".into(), identity: None };
    Scope {
        stage,
        node_name: None,
        run_dir: "/run/twill".into(),
        state_dir: "/var/lib/twill".into(),
        machine_id_file: "/etc/machine-id".into(),
        cni: NodeLayer::default().cni(),
        tls: Some(tls),
        version: "0.1.0",
        underlay: vec!["eth0".to_owned()],
        cluster: Cluster {
            known: true,
            tunnel: Some(Tunnel { vni: 7777, port: 4789, ipv6: Some(false) }),
            pools: vec![("v4".to_owned(), "10.42.0.0/16".parse().unwrap())],
            ipv4: true,
            ipv6: true,
            open_forward: false,
            fits: Some(1430),
        },
        etcd: true,
    }
}

fn interface(name: &str, mtu: u32) -> Interface {
    Interface { name: name.to_owned(), mtu, kind: None }
}

fn tunnel(name: &str, vni: u32, port: u16) -> SeenTunnel {
    SeenTunnel { name: twill_linux::IfName::new(name).unwrap(), vni, port, local: None, up: true, mtu: 1430 }
}

fn own(cidr: &str, device: &str) -> Own {
    Own { cidr: cidr.parse().unwrap(), device: device.to_owned() }
}

fn network(name: &str, author: Author) -> Network {
    let run_dir = (author != Author::Other).then(|| "/run/twill".into());
    Network { file: format!("/etc/cni/net.d/{name}").into(), author, run_dir, meets: true }
}

fn barrier(entrance: bool) -> Barrier {
    let place = Place { family: "ip".to_owned(), table: "filter".to_owned(), chain: "FORWARD".to_owned() };
    let entrance = entrance.then(|| place.clone());
    Barrier { place, how: "its policy is drop", closed: vec!["iifname", "oifname"], entrance, refused: None }
}

fn shut() -> Shut {
    let place = Place { family: "ip".to_owned(), table: "filter".to_owned(), chain: "INPUT".to_owned() };
    Shut { place, how: How::Policy }
}

/// Over IPv4.
fn inbound(shut: &[Shut]) -> Option<Seen<Inbound>> {
    Some(Ok(Inbound { families: [false].into(), shut: shut.to_vec() }))
}

const RUN_DIR: Directory =
    Directory::There { mode: 0o700, tmpfs: true, read_only: false, writable: true, free: 1 << 30 };

/// A node that serves, and where all is as it should be.
fn good() -> Observations {
    let settings = Settings { forwarding: true, rp_filter: 2 };
    Observations {
        kernel: Ok("6.1.0-18-amd64".to_owned()),
        features: Ok(Feature::ALL.map(|feature| (feature, Ok(()))).into()),
        nft: Ok(Version(1, 0, 6)),
        sysctls: Sysctls {
            unwritable: None,
            read_only: false,
            ipv6_forwarding: Some(true),
            interfaces: ["eth0", "vxlan.twill"].map(|name| (name.to_owned(), settings)).into(),
            bridge_calls: None,
        },
        conntrack: Some(Table { count: 100, max: 1000 }),
        barriers: Ok(Vec::new()),
        inbound: inbound(&[]),
        suspects: Vec::new(),
        links: Ok(Links {
            underlay: vec![interface("eth0", 1500)],
            pods: vec![interface("tw0123456789abc", 1430)],
            tunnels: vec![tunnel("vxlan.twill", 7777, 4789)],
            own: vec![own("192.168.1.5/24", "eth0")],
            routes: vec![Route { destination: "192.168.1.0/24".parse().unwrap(), device: Some("eth0".to_owned()) }],
        }),
        holders: Some(Ok(Holders { sockets: 2, processes: Vec::new() })),
        now: NOW,
        clock_kept: Ok(true),
        certificates: vec![certificate(-100, 100)],
        plugin: Ok(Plugin::Ours { version: Ok("0.1.0".to_owned()) }),
        networks: Ok(vec![network("05-twill.conflist", Author::Install), network("10-x.conf", Author::Other)]),
        capabilities: Ok(u64::MAX),
        run_dir: Ok(RUN_DIR),
        state_dir: Ok(Directory::There { mode: 0o755, tmpfs: false, read_only: false, writable: true, free: 1 << 30 }),
        machine_id: Ok("0123456789abcdef0123456789abcdef".to_owned()),
        host_name: Ok("n1".to_owned()),
    }
}

/// Valid from and to so many days from now.
fn certificate(from: i64, to: i64) -> Certificate {
    let at = |days: i64| NOW.cast_signed() + days * DAY;
    Certificate {
        file: "/etc/twill/ca.crt".into(),
        role: "the CA's",
        validity: Ok(Validity { from: at(from), to: at(to) }),
    }
}

fn denied() -> Unseen {
    Unseen { why: "EPERM".to_owned(), kind: ErrorKind::PermissionDenied }
}

fn hung() -> Unseen {
    Unseen { why: "nft hangs".to_owned(), kind: ErrorKind::TimedOut }
}

/// What is not good.
fn faults(stage: Stage, seen: &Observations) -> Vec<Finding> {
    judge(&scope(stage), seen).into_iter().filter(|finding| finding.state != State::Ok).collect()
}

fn links(seen: &mut Observations) -> &mut Links {
    seen.links.as_mut().unwrap()
}

fn printed(findings: &[Finding]) -> String {
    let line = |one: &Finding| {
        let Finding { check, state, subject, what, fix } = one;
        let about = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
        let fix = if fix.is_empty() { String::new() } else { format!("\n    fix: {fix}") };
        format!("{check:12} {state:?} {about}{what}{fix}\n")
    };
    findings.iter().map(line).collect()
}

#[test]
fn where_all_is_good_each_check_says_so_in_one_line() {
    insta::assert_snapshot!("good", printed(&judge(&scope(Stage::Serving), &good())));
    let mut before = good();
    (before.run_dir, before.state_dir) = (Ok(Directory::Missing), Ok(Directory::Missing));
    (before.plugin, before.networks) = (Ok(Plugin::Missing), Ok(Vec::new()));
    links(&mut before).tunnels.clear();
    before.holders = Some(Ok(Holders::default()));
    before.sysctls.interfaces.insert("eth0".to_owned(), Settings::default());
    before.sysctls.ipv6_forwarding = Some(false);
    assert_eq!(faults(Stage::Before, &before), []);
}

const PROBLEM: State = State::Problem;
const NOTE: State = State::Note;

#[test]
fn before_twill_is_there_what_it_will_set_itself_is_no_fault_and_what_it_could_not_is() {
    let before = |change: fn(&mut Observations)| {
        let mut seen = good();
        (seen.plugin, seen.networks) = (Ok(Plugin::Missing), Ok(Vec::new()));
        change(&mut seen);
        let found = faults(Stage::Before, &seen);
        found.iter().map(|one| (one.check, one.state)).collect::<Vec<_>>()
    };
    assert_eq!(before(|o| o.sysctls.interfaces.get_mut("eth0").unwrap().rp_filter = 1), [(Check::Sysctl, NOTE)]);
    let cannot = |o: &mut Observations| {
        o.sysctls.interfaces.get_mut("eth0").unwrap().rp_filter = 1;
        o.sysctls.unwritable = Some("no".to_owned());
    };
    assert_eq!(cannot_before(cannot, false), [State::Unknown, NOTE]);
    assert_eq!(cannot_before(cannot, true), [PROBLEM, PROBLEM]);
    let other = |name| vec![network(name, Author::Other)];
    assert_eq!(judged_networks(other("10-x.conf")), [NOTE]);
    assert_eq!(judged_networks(other("00-x.conf")), [PROBLEM]);
    assert_eq!(before(|o| o.capabilities = Ok(0)), [(Check::Permissions, State::Unknown)]);
    assert_eq!(before(|o| o.barriers = Ok(vec![barrier(true)])), [(Check::Firewall, PROBLEM)]);
    assert_eq!(before(|o| o.plugin = Ok(Plugin::Foreign)), [(Check::Cni, PROBLEM)]);
}

fn cannot_before(change: impl FnOnce(&mut Observations), read_only: bool) -> Vec<State> {
    let mut seen = good();
    change(&mut seen);
    seen.sysctls.read_only = read_only;
    faults(Stage::Before, &seen).into_iter().map(|one| one.state).collect()
}

fn judged_networks(networks: Vec<Network>) -> Vec<State> {
    let seen = Observations { networks: Ok(networks), ..good() };
    faults(Stage::Before, &seen).into_iter().map(|one| one.state).collect()
}

#[test]
fn what_is_not_compared_before_there_is_a_configuration_is_not_called_good() {
    let scope = Scope::before(&NodeLayer::default(), "0.1.0").unwrap();
    let mut seen = good();
    (seen.plugin, seen.networks, seen.state_dir) = (Ok(Plugin::Missing), Ok(Vec::new()), Ok(Directory::Missing));
    let found = judge(&scope, &seen);
    let said = |check: Check, state: State, words: &str| {
        let found: Vec<_> = found.iter().filter(|one| one.check == check).collect();
        let [one] = found.as_slice() else { panic!("{check}: {found:?}") };
        assert!(one.state == state && one.what.contains(words), "{one:?}");
        assert!(state == State::Ok || !one.fix.is_empty(), "{one:?}");
    };
    said(Check::Overlap, NOTE, "were not compared with the pools");
    said(Check::Certificates, NOTE, "none was looked at");
    said(
        Check::Mtu,
        State::Ok,
        "eth0, with the default route, has 1500; what pods get by it, and what the other nodes have, was not compared",
    );
    said(Check::Tunnel, State::Ok, "VNI 7777 on UDP port 4789, as they are by default:");
    said(Check::Directories, State::Ok, "was not looked at");
    said(Check::Firewall, State::Ok, "by the tunnel, over IPv4 to UDP port 4789, as it is by default");
    // Of a tunnel that may never be.
    let found = judge(&scope, &Observations { inbound: inbound(&[shut()]), ..seen });
    let firewall = found.iter().find(|one| one.check == Check::Firewall).unwrap();
    assert!(firewall.state == NOTE && firewall.what.contains("to UDP port 4789"), "{firewall:?}");
    // A daemon in a cluster that has no configuration.
    let scope = Scope { cluster: Cluster::default(), ..self::scope(Stage::Serving) };
    let found = judge(&scope, &Observations { inbound: None, ..good() });
    let firewall = found.iter().find(|one| one.check == Check::Firewall).unwrap();
    assert!(firewall.what.contains("were not judged"), "{firewall:?}");
    let notes: Vec<_> = found.iter().filter(|one| one.state == NOTE).map(|one| one.check).collect();
    assert_eq!(notes, [Check::Tunnel, Check::Overlap], "{}", printed(&found));
}

#[test]
fn that_no_chain_lets_the_tunnel_in_is_said_also_where_the_other_chains_cannot_be_seen() {
    let seen = Observations { barriers: Err(denied()), inbound: inbound(&[shut()]), ..good() };
    let said: Vec<_> = faults(Stage::Serving, &seen).into_iter().map(|one| one.state).collect();
    assert_eq!(said, [State::Unknown, PROBLEM]);
    // Of a machine that is not to be a node yet it is no fault that it has no address.
    let seen = Observations { inbound: Some(Ok(Inbound::default())), ..good() };
    let found = faults(Stage::Before, &seen);
    assert!(found.iter().any(|one| (one.check, one.state) == (Check::Firewall, NOTE)), "{found:?}");
}

#[test]
fn a_daemon_that_may_not_ask_who_keeps_the_clock_has_no_fault_by_that() {
    let seen = Observations { clock_kept: Err(denied()), ..good() };
    assert_eq!(faults(Stage::Serving, &seen), []);
}

#[test]
fn by_a_clock_that_is_wrong_no_certificate_is_called_good() {
    let found = faults(Stage::Serving, &Observations { now: 5, ..good() });
    let said: Vec<_> = found.iter().map(|one| (one.check, one.state)).collect();
    assert_eq!(said, [(Check::Clock, PROBLEM), (Check::Certificates, NOTE)]);
    assert!(found[0].what.contains("days slow") && found[0].fix.contains("chrony"), "{found:?}");
}

#[test]
fn a_certificate_that_is_made_anew_every_few_days_is_none_to_speak_of() {
    let seen = Observations { certificates: vec![certificate(-1, 2)], ..good() };
    assert_eq!(faults(Stage::Serving, &seen), []);
}

#[test]
fn where_nft_is_missing_the_kernel_is_not_blamed_for_its_rules() {
    let mut seen = good();
    seen.nft = Err("not installed".to_owned());
    for (feature, outcome) in seen.features.as_mut().unwrap() {
        if matches!(feature, Feature::Nftables | Feature::Fib | Feature::Nat) {
            *outcome = Err("not installed".to_owned());
        }
    }
    let found = faults(Stage::Serving, &seen);
    assert_eq!(found.iter().map(|one| one.check).collect::<Vec<_>>(), [Check::Nft], "{}", printed(&found));
}
