//! What is shipped is read by the same code as what users write.

use std::path::Path;

use serde_json::{Value, json};
use twill_conf::cluster::{Backend, ClusterConf, Vxlan};
use twill_conf::network::NetworkConf;
use twill_conf::node::{NodeConf, NodeLayer, Setting};

fn samples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/samples"))
}

/// What a runtime hands to a plugin of a list: the plugin's object with the name and version of the list.
fn injected(text: &str) -> Vec<u8> {
    let list: Value = serde_json::from_str(text).expect("a list is JSON");
    assert_eq!(list["cniVersion"], "1.0.0", "what works with every runtime that is in use");
    assert_eq!(list["cniVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
    let [plugin] = list["plugins"].as_array().expect("plugins").as_slice() else { panic!("one plugin: {text}") };
    let mut plugin = plugin.clone();
    assert_eq!(plugin["type"], "twill");
    plugin["name"] = list["name"].clone();
    plugin["cniVersion"] = "1.1.0".into();
    plugin.to_string().into_bytes()
}

#[test]
fn every_sample_is_accepted_and_none_is_forgotten() {
    let mut seen = 0;
    for entry in std::fs::read_dir(samples()).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if ["kubernetes", "systemd"].iter().any(|name| path.ends_with(name)) {
            // The package's tests have these.
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        match path.file_name().and_then(|name| name.to_str()).expect("UTF-8") {
            "cluster.toml" => {
                let conf = ClusterConf::from_toml(&text).unwrap();
                assert_eq!(conf.backend, Backend::default());
                assert!(conf.pools.iter().any(|p| p.cidr.is_ipv4()) && conf.pools.iter().any(|p| p.cidr.is_ipv6()));
                assert_eq!(text, ClusterConf::SAMPLE);
            }
            "twilld.toml" => {
                assert_eq!(NodeLayer::from_toml(&text).unwrap().etcd.unwrap(), ["http://127.0.0.1:2379"]);
                assert_eq!(text, NodeConf::SAMPLE);
            }
            "05-twill.conflist" => {
                let conf = NetworkConf::from_json(&injected(&text)).unwrap();
                assert_eq!((conf.name.as_str(), conf.subnets.len()), ("twill", 0));
            }
            "standalone.conflist" => assert_eq!(NetworkConf::from_json(&injected(&text)).unwrap().subnets.len(), 2),
            // tests/tests/metrics.rs has Prometheus read them.
            "twill-rules.yml" | "twill-dashboard.json" => {}
            other => panic!("no test reads the sample {other}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn the_example_of_the_reference_is_accepted() {
    let reference = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/network-configuration.md"));
    let text = std::fs::read_to_string(reference).expect("readable");
    let example = text.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let conf = NetworkConf::from_json(&injected(example)).unwrap();
    assert_eq!((conf.mtu, conf.routes.len(), conf.dns.is_some()), (Some(1400), 1, true));
}

#[test]
fn the_configurations_that_the_guide_to_bgp_begins_with_are_accepted() {
    let guide = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/bgp.md"));
    let text = std::fs::read_to_string(guide).expect("readable");
    let examples: Vec<_> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        assert!(ClusterConf::from_toml(example).unwrap().bgp.is_some(), "{example}");
    }
}

#[test]
fn the_defaults_that_the_samples_name_are_the_defaults() {
    let minimal = "[[pool]]\nname = \"default\"\ncidr = \"10.42.0.0/16\"\n[[pool]]\nname = \"default-v6\"\ncidr = \"fd42::/48\"\n";
    assert_eq!(ClusterConf::from_toml(minimal).unwrap(), ClusterConf::from_toml(ClusterConf::SAMPLE).unwrap());
    assert_eq!((Vxlan::default().vni, Vxlan::default().port), (7777, 4789));

    let uncommented = NodeConf::SAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    let mut everything = NodeLayer::from_toml(&uncommented).unwrap();
    assert_eq!(everything.node_name.take().unwrap().as_str(), "node-1");
    assert_eq!(everything.underlay.take().unwrap().to_string(), "eth0");
    assert_eq!(everything.underlay_ipv4.take().unwrap().to_string(), "to:10.0.0.1");
    assert_eq!(everything.underlay_ipv6.take().unwrap().to_string(), "to:fd00::1");
    assert_eq!(everything.labels.take().unwrap()["zone"], "a");
    let bare = NodeLayer::from_toml(NodeConf::SAMPLE).unwrap();
    assert_eq!(everything.resolve("h").unwrap(), bare.resolve("h").unwrap());
}

#[test]
fn the_sample_of_the_node_configuration_names_every_key() {
    for setting in Setting::ALL {
        let key = setting.key();
        let line = |line: &str| line.trim_start_matches(['#', '[', ' ']).starts_with(key);
        assert!(NodeConf::SAMPLE.lines().any(line), "{key}");
    }
}
