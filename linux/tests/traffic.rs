//! Shaping with real traffic: a pod receives and sends as fast as it may, and no faster.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::process::{Child, Command, Stdio};

use lab::{Namespace, name};
use twill_linux::Netlink;
use twill_linux::table::link::{self, Device};
use twill_linux::table::tc;
use twill_linux::table::traffic::{self, Bucket};

/// Bits a second, to the pod and from it.
const TO_POD: u64 = 60_000_000;
const FROM_POD: u64 = 25_000_000;

fn bucket(bits: u64) -> Bucket {
    Bucket { rate: bits / 8, burst: u32::try_from(bits / 8 / 20).unwrap() }
}

fn device(netlink: &mut Netlink, text: &str) -> Device {
    let link = link::by_name(netlink, &name(text)).unwrap().unwrap();
    Device { index: link.index, name: link.name }
}

/// Killed with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Bits a second that arrive at the pod, or with `-R` from it.
fn measure(node: &Namespace, to: &str, direction: &str) -> f64 {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let output = node.run(&format!("iperf3 -J -t 3 -c {to} {direction}"));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        if let Some(speed) = report["end"]["sum_received"]["bits_per_second"].as_f64() {
            return speed;
        }
        // The server may not listen yet.
        assert!(std::time::Instant::now() < deadline, "{report}");
    }
}

#[test]
fn a_pod_receives_and_sends_as_fast_as_it_may_and_no_faster() {
    let Some((node, pod)) = Namespace::new().zip(Namespace::new()) else { return };
    if !twill_testkit::has_program("iperf3") {
        return;
    }
    node.ip(&format!("link add tw0 type veth peer name eth0 netns {}", pod.name));
    for (place, device, address) in [(&node, "tw0", 1), (&pod, "eth0", 2)] {
        place.ip(&format!("addr add 10.0.0.{address}/24 dev {device}"));
        place.ip(&format!("addr add fd00::{address}/64 dev {device} nodad"));
        place.ip(&format!("link set {device} up"));
    }
    let mut netlink = node.netlink();
    let host = device(&mut netlink, "tw0");
    assert_eq!(traffic::rate(&mut netlink, host.index).unwrap(), None);
    assert_eq!(traffic::redirection(&mut netlink, host.index).unwrap(), None);

    netlink.apply(&link::create_ifb(name("bw0"), 1500, "alias of bw0")).unwrap();
    let ifb = device(&mut netlink, "bw0");
    netlink.apply(&[traffic::shape(host, bucket(TO_POD)), traffic::shape(ifb, bucket(FROM_POD))]).unwrap();
    netlink.apply(&[tc::hooks(host), traffic::redirect(host, ifb)]).unwrap();

    let seen = link::by_index(&mut netlink, ifb.index).unwrap().unwrap();
    assert_eq!((seen.kind.as_deref(), seen.alias.as_deref(), seen.up), (Some(link::IFB), Some("alias of bw0"), true));
    assert_eq!(traffic::rate(&mut netlink, host.index).unwrap(), Some(TO_POD / 8));
    assert_eq!(traffic::rate(&mut netlink, ifb.index).unwrap(), Some(FROM_POD / 8));
    assert_eq!(traffic::redirection(&mut netlink, host.index).unwrap(), Some(ifb.index));
    let refused = netlink.apply(&[traffic::shape(host, bucket(TO_POD))]).unwrap_err();
    assert_eq!(refused.errno(), Some(nix::errno::Errno::EEXIST), "{refused}");

    let mut server = Command::new("ip");
    server.args(["netns", "exec", &pod.name, "iperf3", "-s"]).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Server(server.spawn().unwrap());
    for to in ["10.0.0.2", "fd00::2"] {
        for (direction, wanted) in [("", TO_POD), ("-R", FROM_POD)] {
            let (speed, wanted) = (measure(&node, to, direction), wanted as f64);
            assert!((0.85 * wanted..1.15 * wanted).contains(&speed), "{to} {direction}: {speed} instead of {wanted}");
        }
    }
}
