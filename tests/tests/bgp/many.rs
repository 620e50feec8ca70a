//! A hundred thousand prefixes of one router.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::probe::Probe;
use twill_tests::routers::raw::{Feed, Introduction, message};
use twill_tests::routers::{Host, Raw};
use twill_tests::{Lab, LabError, Node, Pod, Result, with_lab};

use super::stage::*;

const TOR: u32 = 65001;
const PREFIXES: usize = 100_000;
/// What is let in: some thousands of them.
const LET_IN: &str = "20.0.0.0/6";
/// What all of them may take, in KiB: a daemon in a debug build, with all that its allocator has not given back.
const MOST: u64 = 200 * 1024;

/// A node with this peer, two pods whose nodes reach each other all the time, and what the peer announces.
fn with_feed(keys: &str, let_in: &str, scenario: impl FnOnce(&Lab, &Host, &Feed, &[Pod]) -> Result<()>) {
    with_lab(open_lab_v4().nodes(2).backend(BGP), |lab| {
        let host = Host::on(lab, "large", 1)?;
        let IpAddr::V4(hop) = host.address(false) else { unreachable!("the wire has IPv4 alone") };
        let filter = format!("[[bgp.peer.import]]\nprefixes = [\"{let_in} le 24\"]\naction = \"accept\"\n");
        let keys = format!("node = \"n1\"\ngtsm = false\npassive = true\n{keys}{filter}");
        lab.apply_config(&(lab.cluster_config() + &bare_peer("large", hop.into(), TOR, &keys)))?;
        let pods = pods(lab)?;
        let to = pods[1].address(false)?;
        let probe = Probe::start(pods[0].namespace(), pods[1].namespace(), to, Duration::from_millis(1))?;
        scenario(lab, &host, &Feed::new(PREFIXES, TOR, hop), &pods)?;
        probe.until_answered(100)?;
        probe.stop()?.expect_no_loss()?;
        lab.nodes().iter().try_for_each(Node::expect_daemon)
    });
}

fn dial(host: &Host, node: &Node) -> Result<Raw> {
    let introduction = Introduction { hold_time: 9, ..Introduction::new(TOR, [10, 0, 0, 1].into()) };
    Raw::dial(host, node.addresses()[0], &introduction)
}

/// The memory of a node's daemon, in KiB.
fn memory(node: &Node) -> Result<u64> {
    let pid = node.daemon_pid().ok_or_else(|| LabError::wrong("the daemon does not run"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(LabError::io("reading its status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    line.and_then(|word| word.parse().ok()).ok_or_else(|| LabError::wrong("its status tells no VmRSS"))
}

/// How many routes lead to the router.
fn led(node: &Node, host: &Host) -> Result<usize> {
    let shown = node.run(&["ip", "route", "show", "proto", "116", "via", &host.address(false).to_string()])?;
    Ok(shown.lines().count())
}

fn until_led(node: &Node, host: &Host, count: usize) -> Result<Duration> {
    let begin = Instant::now();
    deadline::until_some(&format!("{count} routes lead to the router"), 3 * PATIENCE, || {
        node.expect_daemon()?;
        let seen = led(node, host)?;
        Ok(if seen == count { Ok(()) } else { Err((seen, node.last_words(3))) })
    })?;
    Ok(begin.elapsed())
}

#[test]
fn a_hundred_thousand_prefixes_are_taken_within_bounds_and_those_let_in_are_in_the_kernel() {
    with_feed("", LET_IN, |lab, host, feed, pods| {
        let node = lab.node(1);
        let range: IpNetwork = net(LET_IN);
        let expected = feed.prefixes().filter(|prefix| range.contains(prefix.ip())).count();
        assert!(expected > 3000, "{expected}");
        let before = memory(node)?;
        let raw = dial(host, node)?;
        raw.send(&feed.announcement())?;
        let taken = until_led(node, host, expected)?;
        let after = memory(node)?;
        println!(
            "{PREFIXES} prefixes, {expected} of them in the kernel after {taken:?}: {before} KiB, then {after} KiB"
        );
        assert!(after < before + MOST, "from {before} to {after} KiB");
        pods[0].ping_small_and_full(pods[1].address(false)?)?;

        // Twice the same is no more.
        raw.send(&feed.announcement())?;
        raw.send(&feed.withdrawal())?;
        println!("all withdrawn after {:?}", until_led(node, host, 0)?);
        assert!(memory(node)? < before + MOST);
        assert_eq!((raw.end(), sessions_ended(node)), (None, 0));
        raw.send(&feed.announcement())?;
        until_led(node, host, expected)?;
        drop(raw);
        until_led(node, host, 0).map(drop)
    });
}

#[test]
fn more_prefixes_than_a_router_may_have_end_its_session_and_nothing_else() {
    with_feed("max_prefixes = 10000\n", LET_IN, |lab, host, feed, _| {
        let node = lab.node(1);
        let before = memory(node)?;
        let raw = dial(host, node)?;
        // It may be closed before all is sent.
        raw.send(&feed.announcement()).unwrap_or_default();
        node.says("announces more than 10000 ipv4 prefixes (max_prefixes)")?;
        raw.until_closed()?;
        until_led(node, host, 0)?;
        assert!(memory(node)? < before + MOST / 2);
        status_has_no(node, "twilld is not running")
    });
}

#[test]
#[ignore = "a hundred thousand routes are many for the kernel of a small machine"]
fn all_of_a_hundred_thousand_prefixes_go_into_the_kernel_and_out_again_and_packets_go_on() {
    with_feed("", "0.0.0.0/0", |lab, host, feed, pods| {
        let node = lab.node(1);
        let raw = dial(host, node)?;
        raw.send(&feed.announcement())?;
        println!("{PREFIXES} in the kernel after {:?}, {} KiB", until_led(node, host, PREFIXES)?, memory(node)?);
        // One that changes is followed, and so is what somebody deletes.
        let first = feed.prefixes().next().expect("there are many");
        node.namespace().ip_batch(&format!("route del {first}\n"))?;
        until_led(node, host, PREFIXES)?;
        raw.send(&message::update(&[first], &[], &[]))?;
        println!("one withdrawn after {:?}", until_led(node, host, PREFIXES - 1)?);
        node.kill_daemon()?;
        drop(raw);
        node.start_daemon()?;
        let raw = dial(host, node)?;
        raw.send(&feed.announcement())?;
        until_led(node, host, PREFIXES)?;
        raw.send(&feed.withdrawal())?;
        println!("all withdrawn after {:?}", until_led(node, host, 0)?);
        pods[0].ping_small_and_full(pods[1].address(false)?)
    });
}
