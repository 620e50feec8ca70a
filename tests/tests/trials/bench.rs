//! `twillctl bench` measures what it should, and writes it down.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;
use twill_testkit::commands_of;
use twill_tests::bench::backends::{Backend, Plan, compare};
use twill_tests::{Lab, LabError, needs, with_lab};

use super::stage::{GONE, nothing_is_left, standing};

#[test]
fn all_figures_are_measured_and_drawn_and_nothing_is_left() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let before = standing(lab)?;
        let configuration = lab.node(1).twillctl(&["config", "show", "-o", "json"])?;
        let (plot, page) = (lab.directory().join("plot.svg"), lab.directory().join("page.html"));
        let files = [plot.to_string_lossy(), page.to_string_lossy()];
        let words = ["--streams", "2", "--repeat", "1", "--seconds", "1", "--plot", &files[0], "--html", &files[1]];
        let found = super::stage::json(lab.node(1), &[&["bench"][..], &words].concat(), 0)?;
        assert_eq!(
            (&found["backend"], &found["nodes"], &found["one_machine"]),
            (&json!("vxlan"), &json!(["n1", "n2"]), &json!(true))
        );
        let figures: Vec<_> = found["figures"].as_array().into_iter().flatten().collect();
        assert_eq!(figures.len(), 7, "{found}");
        for figure in figures {
            for path in ["pods", "nodes", "ratio"] {
                assert!(figure[path]["median"].as_f64().is_some_and(|median| median > 0.0), "{path}: {figure}");
            }
        }
        let pod = &found["conditions"][0]["devices"][0];
        assert_eq!((&pod["role"], &pod["mtu"]), (&json!("pod"), &json!(1450)));
        let read = |file| fs::read_to_string(file).map_err(LabError::io("reading what bench wrote"));
        let drawn = read(&plot)?;
        assert!(drawn.starts_with("<svg ") && drawn.contains("pod to pod") && drawn.contains("vxlan"), "{drawn}");
        let html = read(&page)?;
        assert!(html.contains("<td>TCP, one stream, Gbit/s</td>") && html.contains("<svg "), "{html}");
        nothing_is_left(lab, &before, GONE)?;
        // It measures what is in use, and changes nothing: neither what stands there, nor its revision.
        assert_eq!(lab.node(1).twillctl(&["config", "show", "-o", "json"])?, configuration);
        let revision = serde_json::from_str::<serde_json::Value>(&configuration).map(|shown| shown["revision"].clone());
        assert!(revision.as_ref().is_ok_and(|revision| *revision == found["config_revision"]), "{revision:?}");

        let directory = lab.directory().to_string_lossy().into_owned();
        let variables = [("NODES", "n1,n2"), ("DIRECTORY", directory.as_str())];
        let shown = lab.node(2).run_script(&commands_of("testing-a-cluster.md", "bench"), &variables)?;
        assert!(
            shown.contains("request and response, p99, µs") && lab.directory().join("bench.html").exists(),
            "{shown}"
        );
        nothing_is_left(lab, &before, GONE)
    });
}

#[test]
fn back_ends_are_compared_on_one_lab() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let compared = compare(lab, &Backend::ALL, Plan { repeat: 1, seconds: 1, streams: 2 })?;
        let table = compared.markdown();
        for backend in ["vxlan", "host-gw", "bgp"] {
            assert!(table.contains(&format!("| TCP, one stream, Gbit/s | {backend} | ")), "{table}");
        }
        assert!(
            compared.words[0].contains("pod eth0 MTU 1450") && compared.words[2].contains("pod eth0 MTU 1500"),
            "{table}"
        );
        let plot = lab.directory().join("backends.svg");
        compared.write(&plot, None)?;
        let drawn = fs::read_to_string(&plot).map_err(LabError::io("reading the plot"))?;
        assert!(drawn.contains("host-gw") && drawn.contains("node to node"), "{drawn}");
        Ok(())
    });
}

#[test]
fn the_program_behind_hack_lab_compares_back_ends_and_draws_them() {
    if let Some(why) = needs::unmet() {
        return needs::say_skipped(&why);
    }
    let directory = tempfile::tempdir().unwrap();
    let [plot, page] = ["plot.svg", "page.html"].map(|name| directory.path().join(name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_twill-lab"));
    command.args(["bench", "--repeat", "1", "--seconds", "1", "--streams", "2", "--underlay", "v6"]);
    command.args(["--backends", "host-gw,vxlan,bgp", "--plot"]).arg(&plot).arg("--html").arg(&page);
    let ran = command.stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{shown}{}", String::from_utf8_lossy(&ran.stderr));
    let one_stream = |backend: &str| shown.find(&format!("| TCP, one stream, Gbit/s | {backend} | "));
    let [plain, tunnel, bgp] = ["host-gw", "vxlan", "bgp"].map(one_stream);
    assert!(plain.is_some() && plain < tunnel && tunnel < bgp, "in the order that was asked for: {shown}");
    assert!(shown.ends_with(&format!("\nplot: {}\n", plot.display())), "{shown}");
    let drawn = fs::read_to_string(plot).unwrap();
    assert!(
        drawn.starts_with("<svg ") && ["vxlan", "host-gw", "bgp"].iter().all(|name| drawn.contains(name)),
        "{drawn}"
    );
    let html = fs::read_to_string(page).unwrap();
    for words in ["Back ends side by side", "<td>TCP, one stream, Gbit/s</td>", "medians of 1 rounds of 1 s", "<svg "] {
        assert!(html.contains(words), "{words} is missing in {html}");
    }
}
