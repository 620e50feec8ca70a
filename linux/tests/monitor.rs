//! The monitor against a real kernel.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::Namespace;
use twill_linux::monitor::{Devices, Heard, Monitor, Touched};

const SOON: Duration = Duration::from_secs(10);

fn subscribe(namespace: &Namespace) -> Monitor {
    namespace.open().run(|| Monitor::open(Arc::default(), Arc::default())).unwrap().unwrap()
}

/// Reads until the namespace is quiet, for what its own making stirs up (addresses that become usable, and the like).
fn calm(monitor: &mut Monitor) {
    let deadline = Instant::now() + SOON;
    while monitor.wait(Duration::from_millis(300)).unwrap() != Heard::default() {
        assert!(Instant::now() < deadline, "it never gets quiet");
    }
}

#[test]
fn every_table_is_heard() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.ip("link add vx type vxlan id 7 dstport 4789 local 192.0.2.1");
    namespace.ip("link set vx up");
    namespace.ip("addr add 192.0.2.1/24 dev vx");
    namespace.ip("route add 10.0.0.0/24 dev vx");
    let mut monitor = subscribe(&namespace);
    calm(&mut monitor);
    let network = Heard { network: true, ..Heard::default() };
    for change in [
        "ip route del 10.0.0.0/24",
        "ip -6 route add fd00::/64 dev vx",
        "ip addr add 10.9.0.1/24 dev vx",
        "ip -6 addr add fd09::1/64 dev vx nodad",
        "ip link set vx mtu 1400",
        "ip neigh add 10.9.0.2 dev vx lladdr 02:00:00:00:00:02 nud permanent",
        "bridge fdb add 02:00:00:00:00:02 dev vx dst 192.0.2.2 self permanent",
        "bridge fdb del 02:00:00:00:00:02 dev vx dst 192.0.2.2 self permanent",
        "ip neigh replace 10.9.0.2 dev vx lladdr 02:00:00:00:00:03 nud reachable",
        "ip neigh del 10.9.0.2 dev vx",
        "sysctl -qw net.ipv4.conf.vx.rp_filter=1",
        "sysctl -qw net.ipv4.conf.vx.forwarding=1",
        "sysctl -qw net.ipv6.conf.vx.forwarding=1",
        "ip link del vx",
    ] {
        namespace.must(change);
        assert_eq!(monitor.wait(SOON).unwrap(), network, "{change}");
        calm(&mut monitor);
    }
}

#[test]
fn a_flush_of_all_rules_is_heard() {
    let Some(namespace) = Namespace::new() else { return };
    if !twill_testkit::has_program("nft") {
        return;
    }
    namespace.must("nft add table inet t");
    let mut monitor = subscribe(&namespace);
    calm(&mut monitor);
    namespace.must("nft flush ruleset");
    assert_eq!(monitor.wait(SOON).unwrap(), Heard { firewall: true, ..Heard::default() });
}

#[test]
fn silence_ends_with_nothing_heard() {
    let Some(namespace) = Namespace::new() else { return };
    let mut monitor = subscribe(&namespace);
    calm(&mut monitor);
    assert_eq!(monitor.wait(Duration::from_millis(20)).unwrap(), Heard::default());
    assert_eq!(monitor.wait(Duration::ZERO).unwrap(), Heard::default());
}

/// Changes an FDB entry so many times, each time to one that ages: that is told, and is no news.
fn change_quietly(namespace: &Namespace, times: usize) {
    let line = |n| format!("fdb replace 02:00:00:00:00:09 dev vx dst 192.0.2.{} self dynamic\n", n % 2 + 1);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("changes");
    std::fs::write(&file, (0..times).map(line).collect::<String>()).unwrap();
    namespace.must(&format!("bridge -batch {}", file.display()));
}

/// How many notifications of links, routes and the like the kernel has dropped, since a listener's buffer was full.
fn dropped(namespace: &Namespace) -> u64 {
    let table = namespace.must("cat /proc/net/netlink");
    let columns = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // netlink_native_seq_show in net/netlink/af_netlink.c: the protocol, the groups (requests have none), the drops.
    let of_listener = columns.filter(|row| row[1] == "0" && row[3] != "00000000");
    of_listener.map(|row| row[8].parse::<u64>().unwrap()).sum()
}

#[test]
fn an_overrun_counts_as_a_change_of_everything_and_the_subscription_goes_on() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.ip("link add vx type vxlan id 7 dstport 4789 local 192.0.2.1");
    namespace.ip("route add 10.0.0.0/24 dev lo");
    let touched = Arc::new(Touched::default());
    let open = || Monitor::open(Arc::default(), Arc::clone(&touched));
    let mut monitor = namespace.open().run(open).unwrap().unwrap();
    calm(&mut monitor);
    touched.take();

    // So that whatever is heard below is the overrun itself.
    change_quietly(&namespace, 10);
    assert_eq!(monitor.wait(Duration::from_millis(300)).unwrap(), Heard::default(), "what is told often is no news");
    assert_eq!((dropped(&namespace), touched.take()), (0, Devices::default()));

    // Far more than the buffer holds, before anything is read; and what is lost then is a change.
    change_quietly(&namespace, 20_000);
    let before = dropped(&namespace);
    assert!(before > 0, "the buffer had room for all");
    namespace.ip("route del 10.0.0.0/24");
    assert!(dropped(&namespace) > before, "the change was told");
    // At once, before anything else happens.
    let lost = Heard { network: true, firewall: false, in_part: true };
    assert_eq!(monitor.wait(Duration::ZERO).unwrap(), lost);
    assert_eq!(touched.take(), Devices::All, "filters too may have changed");

    calm(&mut monitor);
    let before = dropped(&namespace);
    namespace.ip("route add 10.0.0.0/24 dev lo");
    assert_eq!(monitor.wait(SOON).unwrap(), Heard { network: true, ..Heard::default() });
    assert_eq!((dropped(&namespace), touched.take()), (before, Devices::default()), "all is told again");
}
