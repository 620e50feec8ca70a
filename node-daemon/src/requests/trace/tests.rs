//! What is read when, by tables in a namespace.

use std::cell::Cell;
use std::process::Command;

use nix::errno::Errno;
use serde_json::json;
use twill_cluster::View;
use twill_cluster::inquiry::trace::{Half, Outer, Packet};
use twill_cluster::view::{Entry, Snapshot};
use twill_fabric::trace::Kernel as _;
use twill_fabric::underlay::Side;
use twill_fabric::{Learned, Local, Underlay};
use twill_linux::{MacAddr, NetNs};
use twill_testkit::Namespaces;

use super::*;

const GUARD: &str = "table ip guard { chain in { type filter hook input priority 0; udp dport 4789 drop; }; }";

fn question(outer: Option<&str>) -> Question {
    let address = |text: &str| text.parse().unwrap();
    let outer = outer.map(|destination| Outer {
        source: address(destination),
        destination: address(destination),
        vni: 7777,
        port: 4789,
    });
    let packet = Packet { source: None, destination: address("10.42.0.2"), port: None, size: None };
    Question { packet, half: Half::Receives { from: "n1".parse().unwrap(), outer }, reply: false }
}

#[test]
fn what_drops_the_tunnels_packet_is_read_before_the_walk_and_no_more_during_it() {
    let Some(namespaces) = Namespaces::claim().filter(|_| twill_testkit::has_program("nft")) else { return };
    namespaces.add("node");
    let nft = |command: &str| {
        let status = Command::new("ip").args(["netns", "exec", &namespaces.name("node"), "nft", command]).status();
        assert!(status.unwrap().success(), "{command}");
    };
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    // The rules are gone when the walk asks.
    let told = |question: &Question| {
        nft(GUARD);
        let mut live = node.run(|| Live::open(None, question).unwrap()).unwrap();
        nft("flush ruleset");
        let arrival = trace::arrival(question).unwrap_or(Arrival { ipv6: false, port: 4789 });
        node.run(|| live.shut(arrival).unwrap()).unwrap().iter().map(|shut| shut.place.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told(&question(Some("192.0.2.1"))), ["ip guard in"]);
    assert_eq!(told(&question(Some("2001:db8::1"))), [""; 0]);
    assert_eq!(told(&question(None)), [""; 0]);
}

#[test]
fn of_a_large_table_the_routes_that_cover_the_packet_are_read_and_no_others() {
    let Some(namespaces) = Namespaces::claim().filter(|_| twill_testkit::has_program("nft")) else { return };
    namespaces.add("node");
    let ip = |words: &str| {
        let words = words.split_whitespace();
        let status = Command::new("ip").args(["-n", &namespaces.name("node")]).args(words).status();
        assert!(status.unwrap().success());
    };
    ip("link set lo up");
    for route in ["default", "10.42.0.0/24", "10.42.0.2", "10.42.0.3", "10.43.0.0/24", "198.51.100.0/24"] {
        ip(&format!("route add {route} dev lo"));
    }
    ip("-6 route add 2001:db8::/32 dev lo");
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    let live = node.run(|| Live::open(None, &question(None)).unwrap()).unwrap();
    let mut read: Vec<String> = live.routes.iter().map(|route| route.key.destination.to_string()).collect();
    read.sort();
    assert_eq!(read, ["0.0.0.0/0", "10.42.0.0/24", "10.42.0.2/32"]);
}

/// A kernel in which nothing stands.
struct Nothing;

impl trace::Kernel for Nothing {
    fn look_up(&mut self, _: Flow) -> Result<Found, Error> {
        Ok(Found::Refused(Errno::ENETUNREACH))
    }

    fn link(&mut self, _: IfName) -> Result<Option<SeenLink>, Error> {
        Ok(None)
    }

    fn link_at(&mut self, _: u32) -> Result<Option<SeenLink>, Error> {
        Ok(None)
    }

    fn neighbours(&mut self, _: u32) -> Result<Vec<SeenNeighbour>, Error> {
        Ok(Vec::new())
    }

    fn fdb(&mut self, _: u32) -> Result<Vec<SeenFdbEntry>, Error> {
        Ok(Vec::new())
    }

    fn routes(&mut self, _: IpAddr) -> Result<&[SeenRoute], Error> {
        Ok(&[])
    }

    fn has_firewall(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    fn barriers(&mut self, _: &Passage) -> Result<Vec<Barrier>, Error> {
        Ok(Vec::new())
    }

    fn shut(&mut self, _: Arrival) -> Result<Vec<Shut>, Error> {
        Ok(Vec::new())
    }

    fn ports(&mut self) -> Result<Vec<Port>, Error> {
        Ok(Vec::new())
    }
}

/// What is wanted on n1 by the view of this revision, in which n2 has so many blocks.
fn follow(reckoning: &Mutex<Reckoning>, revision: i64, blocks: u8) -> Wanted {
    let node = |number: u8| {
        json!({ "machine_id": format!("m{number}"), "nonce": "x", "version": "0.1.0",
                "underlay": { "ipv4": format!("192.0.2.{number}/24") } })
    };
    let conf = json!({ "pool": [{ "name": "v4", "cidr": "10.42.0.0/16" }], "backend": { "type": "host-gw" } });
    let mut records = vec![("config".to_owned(), conf)];
    records.extend((1..=2).map(|number| (format!("nodes/n{number}"), node(number))));
    let block = json!({ "node": "n2", "machine_id": "m2", "epoch": 3, "nonce": "x" });
    records.extend((0..blocks).map(|number| (format!("blocks/4/0a2a{number:02x}00-26"), block.clone())));
    let entry = |(at, (key, value)): (i64, (String, serde_json::Value))| Entry {
        key,
        value: value.to_string().into_bytes(),
        created: at,
        modified: at,
    };
    let mut view = View::default();
    view.replace(&Snapshot { revision, entries: (1..).zip(records).map(entry).collect() });
    assert!(view.faults.is_empty(), "{:?}", view.faults);
    let side = Side {
        device: IfName::new("eth0").unwrap(),
        index: 2,
        cidr: "192.0.2.1/24".parse().unwrap(),
        mtu: 1500,
        rp_filter: false,
        bare: false,
        accept_ra: false,
    };
    let underlay = Underlay { ipv4: Some(side), ipv6: None };
    let local = Local::bare("n1".parse().unwrap(), MacAddr([2, 0, 0, 0, 0, 1]), underlay);
    let desired = reckoning.lock().unwrap().follow(&view, &local, &Learned::default());
    let tried = Arc::new(true.into());
    Wanted { view: Arc::new(view), local: Arc::new(local), desired: Arc::new(desired), tried }
}

/// How often the kernel is read for a question while this is wanted after the first time; and by which revision it is answered.
fn read_while(then: impl Fn(&Mutex<Reckoning>, i64) -> Wanted) -> (i64, i64) {
    let reckoning = Mutex::default();
    let (wants, wanted) = watch::channel(Some(follow(&reckoning, 1, 1)));
    let times = Cell::new(0);
    let sends = Question { half: Half::Sends, ..question(None) };
    let answer = super::explain(&wanted, &reckoning, &sends, |_| {
        times.set(times.get() + 1);
        wants.send_replace(Some(then(&reckoning, times.get())));
        Ok(Nothing)
    });
    (times.get(), answer.unwrap().revision)
}

#[test]
fn what_is_wanted_anew_while_the_kernel_is_read_has_it_read_once_more() {
    assert_eq!(read_while(|reckoning, time| follow(reckoning, 1 + time, 1)), (1, 2), "nothing else is wanted");
    assert_eq!(read_while(|reckoning, _| follow(reckoning, 2, 2)), (2, 2));
    let forever = read_while(|reckoning, time| follow(reckoning, 1 + time, if time % 2 == 0 { 1 } else { 2 }));
    assert_eq!(forever, (2, 3), "it ends though it changes each time");
}

#[test]
fn what_is_not_found_while_the_reconciler_is_at_work_is_looked_for_once_more() {
    let at_work = |reckoning: &Mutex<Reckoning>, time| {
        let wanted = follow(reckoning, 1 + time, 1);
        wanted.tried.store(false, Ordering::Relaxed);
        wanted
    };
    assert_eq!(read_while(at_work), (2, 3));
    let ends =
        |reckoning: &Mutex<Reckoning>, time| if time == 1 { at_work(reckoning, 1) } else { follow(reckoning, 3, 1) };
    assert_eq!(read_while(ends), (2, 3));
}

#[test]
fn before_anything_is_wanted_it_says_so() {
    let refused = super::explain(&watch::channel(None).1, &Mutex::default(), &question(None), |_| Ok(Nothing));
    assert!(refused.unwrap_err().starts_with("it has not made out yet what shall stand"));
}
