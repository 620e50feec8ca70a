//! The reference and the schemas for editors: current, and of one opinion with the parser about every key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use twill_conf::Error;
use twill_conf::cluster::ClusterConf;
use twill_conf::network::NetworkConf;
use twill_conf::node::NodeLayer;
use twill_conf::reference::{Document, Form, documents};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> Document {
    documents().into_iter().find(|document| document.name == name).expect("there is one of this name")
}

fn validator(document: &Document) -> Validator {
    jsonschema::draft7::new(&document.schema).expect("it is a schema")
}

fn from_toml(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    serde_json::to_value(table).expect("no date and no odd number")
}

/// What a schema has against a document.
fn complaints(validator: &Validator, value: &Value) -> String {
    validator.iter_errors(value).map(|error| format!("{}: {error}\n", error.instance_path())).collect()
}

#[test]
fn the_files_are_current() {
    let folder = root().join("docs/reference");
    let write = std::env::var_os("TWILL_REFERENCE").is_some_and(|word| word == "write");
    let mut names = BTreeSet::new();
    for document in documents() {
        for (name, text) in [
            (format!("{}.md", document.name), document.page()),
            (format!("{}.schema.json", document.name), document.schema_text()),
        ] {
            let path = folder.join(&name);
            if write {
                std::fs::create_dir_all(&folder).expect("the folder can be made");
                std::fs::write(&path, &text).expect("it can be written");
            }
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(there == text, "docs/reference/{name} is not current: run hack/reference");
            names.insert(name);
        }
    }
    for entry in std::fs::read_dir(&folder).expect("the folder is there") {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        assert!(names.contains(&name), "docs/reference/{name} is of nothing: remove it");
    }
}

#[test]
fn the_samples_and_the_examples_of_the_guides_hold_to_the_schemas() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("readable");
    let (cluster, node) = (validator(&document("cluster-configuration")), validator(&document("node-configuration")));
    let network = validator(&document("network-configuration"));
    assert_eq!(complaints(&cluster, &from_toml(ClusterConf::SAMPLE)), "");
    assert_eq!(complaints(&node, &from_toml(&read("conf/samples/twilld.toml"))), "");
    for sample in ["05-twill.conflist", "standalone.conflist"] {
        let list: Value = serde_json::from_str(&read(&format!("conf/samples/{sample}"))).expect("JSON");
        assert_eq!(complaints(&network, &list), "", "{sample}");
    }
    let mut seen = 0;
    for guide in ["bgp.md", "cluster-configuration.md", "network-configuration.md"] {
        let text = read(&format!("docs/{guide}"));
        for (fence, form) in [("```toml\n", Form::Toml), ("```json\n", Form::Json)] {
            for example in text.split(fence).skip(1).filter_map(|rest| rest.split("```").next()) {
                seen += 1;
                let found = match form {
                    Form::Json => complaints(&network, &serde_json::from_str(example).expect("JSON")),
                    // The section of BGP stands there without pools.
                    Form::Toml if !example.contains("[[pool]]") => complaints(
                        &cluster,
                        &from_toml(&format!("{example}\n[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'")),
                    ),
                    Form::Toml => complaints(&cluster, &from_toml(example)),
                };
                assert_eq!(found, "", "{guide}:\n{example}");
            }
        }
    }
    assert!(seen >= 6, "{seen}");
}

/// The keys that are out of use in the samples, behind '#', exist too.
#[test]
fn every_key_that_a_sample_speaks_of_exists() {
    let known = |document: &Document| -> BTreeSet<String> {
        tables(&document.schema).into_iter().flat_map(|t| t.keys).collect()
    };
    for (sample, name) in [("cluster.toml", "cluster-configuration"), ("twilld.toml", "node-configuration")] {
        let known = known(&document(name));
        let text = std::fs::read_to_string(root().join("conf/samples").join(sample)).expect("readable");
        let mut seen = 0;
        for line in text.lines().map(|line| line.trim_start_matches(['#', ' '])) {
            let Some((key, _)) = line.split_once(" = ") else { continue };
            if !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
                continue;
            }
            seen += 1;
            // A label is the operator's own word.
            assert!(known.contains(key) || line == "zone = \"a\"", "{sample} speaks of {key}, which no table has");
        }
        assert!(seen > 10, "{sample}: {seen}");
    }
}

/// A table of a schema: how one comes to it, and its keys.
struct Table {
    /// Keys and `[]` from the top.
    path: Vec<String>,
    keys: BTreeSet<String>,
    open: bool,
}

fn tables(schema: &Value) -> Vec<Table> {
    let mut all = Vec::new();
    gather(schema, &mut Vec::new(), &mut all);
    all
}

fn gather(schema: &Value, path: &mut Vec<String>, all: &mut Vec<Table>) {
    if let Some(properties) = schema["properties"].as_object().filter(|_| schema["type"] == "object") {
        let open = schema["additionalProperties"] != json!(false);
        all.push(Table { path: path.clone(), keys: properties.keys().cloned().collect(), open });
        for (key, inner) in properties {
            path.push(key.clone());
            gather(inner, path, all);
            path.pop();
        }
    }
    for choice in schema["anyOf"]
        .as_array()
        .into_iter()
        .flatten()
        .chain([&schema["then"]].into_iter().filter(|then| then.is_object()))
    {
        gather(choice, path, all);
    }
    if schema["items"].is_object() {
        path.push("[]".into());
        gather(&schema["items"], path, all);
        path.pop();
    }
}

const STRANGER: &str = "no_such_key";

/// The smallest document that has a table at this path, with a key in it that nobody knows.
fn with_stranger(path: &[String]) -> Value {
    let Some((first, rest)) = path.split_first() else { return json!({ STRANGER: 1 }) };
    if first == "[]" { json!([with_stranger(rest)]) } else { json!({ first: with_stranger(rest) }) }
}

/// What the parser says, but for what must be there besides.
fn cluster_with(path: &[String]) -> (Value, Result<(), Error>) {
    let mut value = with_stranger(path);
    let add = |into: &mut Value, key: &str, what: Value| {
        if let Some(table) = into.as_object_mut() {
            table.entry(key).or_insert(what);
        }
    };
    add(&mut value, "pool", json!([{ "name": "a", "cidr": "10.42.0.0/16" }]));
    for peer in value.pointer_mut("/bgp/peer").and_then(Value::as_array_mut).into_iter().flatten() {
        add(peer, "name", json!("p"));
        add(peer, "address", json!("192.0.2.1"));
        add(peer, "as", json!(7));
    }
    let text = toml::to_string(&value).expect("TOML");
    (value, ClusterConf::from_toml(&text).map(drop))
}

/// The keys that the parser knows where it met the stranger.
fn known_there(error: &Error) -> BTreeSet<String> {
    match error {
        Error::UnknownKey { key, known, .. } if key.ends_with(STRANGER) => {
            known.split(", ").map(str::to_owned).collect()
        }
        other => panic!("not for the unknown key: {other}"),
    }
}

#[test]
fn in_every_table_of_toml_the_parser_and_the_schema_know_the_same_keys_and_refuse_every_other() {
    let mut seen = 0;
    let cluster = document("cluster-configuration");
    let judge = validator(&cluster);
    for table in tables(&cluster.schema) {
        let (value, parsed) = cluster_with(&table.path);
        let error = parsed.expect_err("an unknown key is refused");
        assert_eq!(known_there(&error), table.keys, "{:?}", table.path);
        assert!(!table.open && complaints(&judge, &value).contains(STRANGER), "{:?}", table.path);
        seen += 1;
    }
    let node = document("node-configuration");
    let [table] = &tables(&node.schema)[..] else { panic!("one table") };
    let error = NodeLayer::from_toml(&format!("{STRANGER} = 1")).expect_err("an unknown key is refused");
    assert_eq!(known_there(&error), table.keys);
    assert!(complaints(&validator(&node), &json!({ STRANGER: 1 })).contains(STRANGER));
    // pool, backend, firewall, bgp, its two switches' tables, reflectors, node, peer, a peer's bfd, import, export, announce.
    assert_eq!(seen, 14, "with the whole");
}

/// A list with this object of the plugin, and what a runtime makes of it.
fn network_with(more: Value) -> (Value, Result<(), Error>) {
    let mut plugin = json!({ "type": "twill" });
    plugin.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let list = json!({ "cniVersion": "1.0.0", "name": "net", "plugins": [plugin] });
    plugin["cniVersion"] = json!("1.0.0");
    plugin["name"] = json!("net");
    (list, NetworkConf::from_json(plugin.to_string().as_bytes()).map(drop))
}

#[test]
fn the_plugin_and_the_schema_know_the_same_keys_and_refuse_every_other() {
    let network = document("network-configuration");
    let judge = validator(&network);
    let tables = tables(&network.schema);
    let at = |path: &[&str]| tables.iter().find(|table| table.path == path).expect("there is such a table");
    for (path, more) in [
        (&["plugins", "[]"][..], json!({ STRANGER: 1 })),
        (&["plugins", "[]", "routes", "[]"], json!({ "routes": [{ "dst": "192.0.2.0/24", STRANGER: 1 }] })),
    ] {
        let (list, parsed) = network_with(more);
        let known = known_there(&parsed.expect_err("an unknown key is refused"));
        assert_eq!(known, at(path).keys, "{path:?}");
        assert!(complaints(&judge, &list).contains(STRANGER), "{path:?}");
    }
    // Whose keys are other plugins' too, or whose spelling is the runtime's.
    for (more, taken) in [
        (json!({ "dns": { STRANGER: 1 } }), true),
        (json!({ "runtimeConfig": { STRANGER: 1 } }), true),
        (json!({ "RuntimeConfig": { "ips": ["10.42.0.9"] } }), true),
        (json!({ "cni.dev/valid-attachments": [] }), true),
        (json!({ "capabilities": { "ips": true } }), true),
        (json!({ "subnets": ["10.42.0.0/24"], "pools": ["a"] }), false),
        (json!({ "subnets": [] }), false),
        (json!({ "mtu": 67 }), false),
        (json!({ "ipMasq": true }), false),
        (json!({ "spoofCheck": "no" }), false),
        (json!({ "hostEndFilter": "no" }), false),
        (json!({ "routes": [{ "gw": "192.0.2.1" }] }), false),
    ] {
        let (list, parsed) = network_with(more.clone());
        assert_eq!((parsed.is_ok(), complaints(&judge, &list).is_empty()), (taken, taken), "{more}");
    }
    let other = json!({ "cniVersion": "1.0.0", "name": "net", "plugins": [{ "type": "portmap", "snat": true }] });
    assert_eq!(complaints(&judge, &other), "", "other plugins have their own keys");
}

/// What both refuse, each with a word of why.
#[test]
fn what_is_surely_wrong_in_a_cluster_configuration_is_marked_by_the_schema_too() {
    let judge = validator(&document("cluster-configuration"));
    let pool = "[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'\n";
    let peer = "[[bgp.peer]]\nname = 'p'\naddress = '192.0.2.1'\n";
    for (text, where_) in [
        (String::new(), "pool"),
        ("[[pool]]\nname = 'a'".into(), "cidr"),
        ("[[pool]]\nname = 'A'\ncidr = '10.42.0.0/16'".into(), "A"),
        ("[[pool]]\nname = 'a'\ncidr = '10.42.0.0'".into(), "10.42.0.0"),
        (format!("{pool}block = '26'"), "26"),
        (format!("{pool}[backend]\ntype = 'ipip'"), "ipip"),
        (format!("{pool}[backend]\ntype = 'host-gw'\nvni = 7"), "7"),
        (format!("{pool}[backend]\nvni = 0"), "0"),
        (format!("{pool}[backend]\nport = 65536"), "65536"),
        (format!("{pool}[backend]\nmtu = 575"), "575"),
        (format!("{pool}[bgp]\nas = 0"), "0"),
        (format!("{pool}[bgp]\nas = 23456"), "23456"),
        (format!("{pool}[bgp]\nas = '64512'"), "64512"),
        (format!("{pool}[bgp]\nhold_time = 2"), "2"),
        (format!("{pool}[bgp]\nbfd.interval = 49"), "bfd"),
        (format!("{pool}[bgp]\ngraceful_restart = 60"), "60"),
        (format!("{pool}[bgp.reflectors]\ncluster_id = '10.0.0.1'"), "cluster_id"),
        (format!("{pool}[[bgp.node]]\nnode = 'n1'"), "n1"),
        (format!("{pool}{peer}"), "as"),
        (format!("{pool}{peer}as = 'ibgp'"), "ibgp"),
        (format!("{pool}{peer}as = 7\nnode = 'n1'\nnodes = 'all()'"), "nodes"),
        (format!("{pool}{peer}as = 7\nimport = [{{ prefixes = [] , action = 'accept' }}]"), "prefixes"),
        (format!("{pool}{peer}as = 7\nimport = [{{ action = 'drop' }}]"), "drop"),
        (format!("{pool}{peer}as = 7\nimport = [{{ med = 1 }}]"), "action"),
        (format!("{pool}[[bgp.announce]]\ncommunities = ['64512:1']"), "prefix"),
    ] {
        assert!(ClusterConf::from_toml(&text).is_err(), "the parser takes it:\n{text}");
        let found = complaints(&judge, &from_toml(&text));
        assert!(found.contains(where_), "of {where_} the schema says {found:?}:\n{text}");
    }
}

/// A default that the reference names is what an absent key means.
#[test]
fn the_defaults_that_a_schema_names_are_those_of_the_parser() {
    let schema = document("cluster-configuration").schema;
    let mut full = json!({ "pool": [{ "name": "a", "cidr": "10.42.0.0/16", "block": 26 }], "bgp": {
        "as": 64512, "bfd": {}, "graceful_restart": {}, "peer": [{ "name": "p", "address": "192.0.2.1", "as": 7, "bfd": {} }] },
        "backend": {}, "firewall": {} });
    let bare = full.clone();
    let filled = fill(&mut full, &schema);
    assert!(filled > 20, "{filled}");
    let read = |value: &Value| ClusterConf::from_toml(&toml::to_string(value).expect("TOML")).expect("a good one");
    assert_eq!(read(&full), read(&bare));
}

/// Writes every default of the tables that are there, and counts them.
fn fill(value: &mut Value, schema: &Value) -> usize {
    let mut filled = 0;
    if let Value::Array(items) = value {
        return items.iter_mut().map(|item| fill(item, &schema["items"])).sum();
    }
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    let table = [schema].into_iter().chain(choices).find_map(|one| one["properties"].as_object());
    let (Some(keys), Some(table)) = (value.as_object_mut(), table) else { return 0 };
    let missing: Map<String, Value> = table
        .iter()
        .filter(|(key, inner)| !keys.contains_key(*key) && !inner["default"].is_null())
        .map(|(key, inner)| (key.clone(), inner["default"].clone()))
        .collect();
    filled += missing.len();
    keys.extend(missing);
    filled + keys.iter_mut().map(|(key, inner)| fill(inner, &table[key])).sum::<usize>()
}
