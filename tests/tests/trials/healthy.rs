//! A cluster in which all is well.

use std::fs;

use serde_json::json;
use twill_testkit::commands_of;
use twill_tests::{Lab, LabError, with_lab};

use super::stage::{GONE, json, nothing_is_left, says, standing};

/// A text with all times made alike, and the columns with them.
fn without_times(text: &str) -> String {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_time = |at: usize| words.get(at + 1) == Some(&"ms") && words[at].parse::<f64>().is_ok();
        let shown = (0..words.len()).map(|at| if is_time(at) { "T" } else { words[at] });
        shown.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

const HEALTHY: &str = "\
2 nodes, back end vxlan: n1 n2

pod to pod, IPv4 n1 n2
n1 T ms T ms
n2 T ms T ms

pod to pod, IPv6 n1 n2
n1 T ms T ms
n2 T ms T ms

pod to node, IPv4 n1 n2
n1 T ms T ms
n2 T ms T ms

pod to node, IPv6 n1 n2
n1 T ms T ms
n2 T ms T ms

node to pod, IPv4 n1 n2
n1 T ms T ms
n2 T ms T ms

node to pod, IPv6 n1 n2
n1 T ms T ms
n2 T ms T ms

pod to outside, IPv4 OUTSIDE4
n1 T ms
n2 T ms

pod to outside, IPv6 OUTSIDE6
n1 T ms
n2 T ms

28 of 28 ways carry small and full-size packets; no problems";

#[test]
fn all_ways_of_both_families_are_good_and_nothing_is_left() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(1);
        let pod = node.attach("lasting")?;
        let before = standing(lab)?;
        let shown = without_times(&says(node, &["test"], 0)?.stdout);
        let outside = |ipv6: bool| {
            let family = if ipv6 { "-6" } else { "-4" };
            let route = node.run(&["ip", family, "route", "show", "default"])?;
            let gateway = route.split_whitespace().nth(2).map(str::to_owned);
            gateway.ok_or_else(|| LabError::wrong(format!("no default route: {route}")))
        };
        let wanted = HEALTHY.replace("OUTSIDE4", &outside(false)?).replace("OUTSIDE6", &outside(true)?);
        assert_eq!(shown, wanted, "{shown}");
        nothing_is_left(lab, &before, GONE)?;

        let file = lab.directory().join("junit.xml");
        let found = json(node, &["test", "--family", "4", "--junit", &file.to_string_lossy()], 0)?;
        assert_eq!(
            (&found["problems"], &found["unknown"], &found["nodes"]),
            (&json!([]), &json!([]), &json!(["n1", "n2"]))
        );
        let ways: Vec<_> = found["ways"].as_array().into_iter().flatten().collect();
        assert_eq!(ways.len(), 18);
        for way in ways.iter().filter(|way| way["kind"] == "pod-to-pod") {
            assert_eq!((&way["saw"], &way["full"]["bytes"]), (&way["source"], &json!(1450)), "{way}");
            assert!(way["source"].is_string() && way["full"]["answered"] == 3, "{way}");
        }
        let xml = fs::read_to_string(&file).map_err(LabError::io("reading the JUnit file"))?;
        assert!(xml.contains("tests=\"14\" failures=\"0\" errors=\"0\""), "{xml}");
        assert!(xml.contains("classname=\"pod to pod.IPv4\" name=\"n1 to n2\""), "{xml}");

        // One node has its own pods to try.
        let one = json(node, &["test", "--nodes", "n2", "--size", "1000"], 0)?;
        assert_eq!((&one["nodes"], &one["ways"][0]["full"]["bytes"]), (&json!(["n2"]), &json!(1000)));
        let tall = says(node, &["test", "--size", "1451"], 2)?;
        assert!(
            tall.stderr.contains("--size: \"1451\" is not valid: at most 1450, the MTU in bytes of the pods on n"),
            "{tall:?}"
        );
        nothing_is_left(lab, &before, GONE)?;
        pod.check()?;

        let nobody = says(node, &["test", "--nodes", "n9"], 1)?;
        assert!(nobody.stderr.contains("there is no node n9"), "{nobody:?}");
        let outside = outside(false)?;
        let file = lab.directory().join("result.xml");
        let variables = [("NODES", "n1,n2"), ("ADDRESS", outside.as_str()), ("FILE", &*file.to_string_lossy())];
        node.run_script(&commands_of("testing-a-cluster.md", "test"), &variables)?;
        assert!(file.exists());
        nothing_is_left(lab, &before, GONE)
    });
}

#[test]
fn plain_routes_and_those_of_bgp_are_good_too() {
    for backend in ["type = \"host-gw\"\n", "type = \"bgp\"\n[bgp]\n"] {
        with_lab(Lab::builder().nodes(2).backend(backend), |lab| {
            let before = standing(lab)?;
            let found = json(lab.node(1), &["test"], 0)?;
            assert_eq!(found["ways"][0]["full"]["bytes"], json!(1500), "{found}");
            nothing_is_left(lab, &before, GONE)
        });
    }
}
