//! Limits of bandwidth, by the built plugin and with real traffic.
#![allow(clippy::unwrap_used, missing_docs, reason = "helpers of tests")]

mod room;
mod street;

use room::{Room, address, host_ifname};
use serde_json::{Value, json};
use street::{eventually, street};

/// Bits a second, to the pod and from it.
const TO_POD: u64 = 50_000_000;
const FROM_POD: u64 = 20_000_000;

fn limited(room: &Room, bandwidth: Value) -> Value {
    let mut conf = room.dual();
    conf["runtimeConfig"] = json!({"bandwidth": bandwidth});
    conf
}

fn both(room: &Room) -> Value {
    // As containerd sends it: the burst without bounds.
    limited(
        room,
        json!({"IngressRate": TO_POD, "IngressBurst": 4_294_967_295_u32, "EgressRate": FROM_POD, "EgressBurst": 1_000_000}),
    )
}

/// The limiting device of a pod.
fn ifb(result: &Value) -> String {
    host_ifname(result).replacen("tw", "bw", 1)
}

/// Bits a second from outside to the pod, or back.
fn measure(room: &Room, to: &str, reverse: bool) -> f64 {
    let mut speed = None;
    eventually("the server answers", || {
        let arguments = ["-J", "-t", "3", "-c", to, "-R"];
        let output = room.exec("outside", "iperf3", &arguments[..5 + usize::from(reverse)]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        speed = report["end"]["sum_received"]["bits_per_second"].as_f64();
        speed.is_some()
    });
    speed.unwrap()
}

#[test]
fn a_pod_receives_and_sends_as_fast_as_it_was_asked_for_in_both_families() {
    let Some(room) = street() else { return };
    if !twill_testkit::has_program("iperf3") {
        return;
    }
    room.pod("a");
    let result = room.add("a", &both(&room)).result();
    room.check("a", &both(&room), &result).silent();
    let _server = room.start("a", "iperf3", &["-s"]);
    for ipv6 in [false, true] {
        for (reverse, wanted) in [(false, TO_POD), (true, FROM_POD)] {
            let (speed, wanted) = (measure(&room, &address(&result, ipv6), reverse), wanted as f64);
            assert!((0.85 * wanted..1.15 * wanted).contains(&speed), "IPv6 {ipv6}, from the pod {reverse}: {speed}");
        }
    }
}

#[test]
fn the_limiting_device_is_named_and_marked_as_the_pods_own_and_goes_with_it() {
    let Some(room) = street() else { return };
    room.pod("a");
    let mut conf = both(&room);
    conf["mtu"] = json!(1400);
    let result = room.add("a", &conf).result();
    let link = room.ip("node", &format!("-d link show {}", ifb(&result)));
    let alias = room.ip("node", &format!("link show {}", host_ifname(&result)));
    let alias = alias.split_whitespace().skip_while(|word| *word != "alias").nth(1).unwrap();
    assert!(link.contains("mtu 1400") && link.contains(" ifb ") && link.contains(alias), "{link}");
    let names: Vec<_> = result["interfaces"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, [host_ifname(&result), "eth0".to_owned()], "the result is that of any pod");
    room.del("a", &room.dual()).silent();
    room.assert_empty();
}

#[test]
fn a_limiting_device_that_outlived_its_link_goes_with_the_del_also_without_a_store() {
    let Some(room) = street() else { return };
    for store in [true, false] {
        room.pod("a");
        let result = room.add("a", &both(&room)).result();
        room.remove_namespace("a");
        eventually("the link goes with its namespace", || !room.kernel().contains(": tw"));
        assert!(room.kernel().contains(&ifb(&result)));
        if !store {
            std::fs::remove_dir_all(room.run_dir()).unwrap();
        }
        room.del("a", &room.dual()).silent();
        assert_eq!(room.kernel(), "");
    }
}

#[test]
fn what_only_receives_slowly_needs_no_device_and_a_later_add_replaces_what_a_killed_one_left() {
    let Some(room) = street() else { return };
    room.pod("a");
    let ingress = limited(&room, json!({"ingressRate": 1_000_000, "ingressBurst": 100_000}));
    let result = room.add("a", &ingress).result();
    assert!(!room.kernel().contains(": bw"));
    assert!(room.ip("node", "-s -s link show").contains("tbf"));
    room.check("a", &ingress, &result).silent();
    room.del("a", &room.dual()).silent();
    // As an ADD leaves it that was killed and whose store was lost.
    room.ip("node", &format!("link add {} type ifb", ifb(&result)));
    room.add("a", &both(&room)).result();
    room.del("a", &room.dual()).silent();
    room.assert_empty();
    // Somebody else's device of the name is left alone, and said to be in the way.
    room.ip("node", &format!("link add {} type bridge", ifb(&result)));
    let text = room.add("a", &both(&room)).error(105);
    assert!(text.contains(&ifb(&result)) && text.contains("bridge"), "{text}");
    assert!(room.kernel().contains(&ifb(&result)) && !room.kernel().contains(": tw"));
}

#[test]
fn a_burst_that_no_packet_fits_into_is_refused_with_nothing_left() {
    let Some(room) = street() else { return };
    room.pod("a");
    let conf = limited(&room, json!({"egressRate": 1_000_000, "egressBurst": 8_000}));
    let text = room.add("a", &conf).error(7);
    assert!(text.contains("egressBurst") && text.contains("8000") && text.contains("12112"), "{text}");
    room.assert_empty();
}

#[test]
fn a_check_finds_each_part_of_the_limits_that_is_gone_or_changed() {
    let Some(room) = street() else { return };
    room.pod("a");
    let conf = both(&room);
    let add = || {
        let result = room.add("a", &conf).result();
        (host_ifname(&result), ifb(&result), result)
    };
    let damages: [(&str, &str); 5] = [
        ("qdisc del dev TW root", "what the pod receives is not limited"),
        ("qdisc change dev TW root tbf rate 1mbit burst 100000 latency 25ms", "limited to 125000 bytes a second"),
        ("filter del dev TW ingress", "does not go by bw"),
        ("qdisc del dev BW root", "what the pod sends is not limited"),
        ("qdisc del dev TW clsact", "does not go by bw"),
    ];
    for (damage, finding) in damages {
        let (tw, bw, result) = add();
        let command = damage.replace("TW", &tw).replace("BW", &bw);
        let words: Vec<&str> = command.split(' ').collect();
        assert!(room.exec("node", "tc", &words).status.success(), "{command}");
        let text = room.check("a", &conf, &result).error(104);
        assert!(text.contains(finding), "{command}: {text}");
        room.del("a", &conf).silent();
    }
    let (_, bw, result) = add();
    room.ip("node", &format!("link del {bw}"));
    let text = room.check("a", &conf, &result).error(104);
    assert!(text.contains(&format!("no interface {bw}")), "{text}");
}
