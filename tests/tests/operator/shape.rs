//! The shape of `-o json`: the keys of every report and the types of what they have, as `golden/shapes.txt` lists them. Programs read
//! them: a key may be added to that file, and none be renamed, moved, left out or given another type.
//!
//! A report is asked for more than once where it has more to tell of some things than of others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::golden::is_exactly;
use twill_tests::wire::OUTSIDE_V4;
use twill_tests::{Lab, LabError, Node, Pod, Result, with_lab};

use super::status::comes_to_tell;

/// Keys under which names are that an operator chose, or addresses: each stands for all of them.
const MAPS: [&str; 4] = ["labels", "seen_by", "faulty", "by_kind"];
/// It writes files, and prints no report.
const HIDDEN: [&str; 1] = ["man"];

/// Lists of what is wrong, odd or not known, which are alike everywhere and have something in them by chance. What is not known is a text.
const TOLD: [&str; 3] = ["problems", "notes", "unknown"];
/// Where the shape of one of those stands.
const ONE_TOLD: &str = "each problem and note";

/// The paths of keys, with the types that were seen there.
type Keys = BTreeMap<String, BTreeSet<&'static str>>;

fn gather(value: &Value, at: &str, into: &mut Keys) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    into.entry(at.to_owned()).or_default().insert(kind);
    match value {
        Value::Array(items) => items.iter().for_each(|item| gather(item, &format!("{at}[]"), into)),
        Value::Object(fields) => {
            let is_map = MAPS.iter().any(|map| at == *map || at.ends_with(&format!(".{map}")));
            for (name, value) in fields {
                let name = if is_map { "*" } else { name };
                gather(value, &if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }, into);
            }
        }
        _ => {}
    }
}

/// Of all commands, by their words.
#[derive(Default)]
struct Shapes(BTreeMap<String, Keys>);

impl Shapes {
    /// Asks for a report, which must be one: with a verdict, whichever it is.
    fn ask(&mut self, node: &Node, command: &str, more: &[&str]) -> Result<()> {
        let words: Vec<&str> = command.split(' ').chain(more.iter().copied()).collect();
        let told = node.twillctl_told(&[&words[..], &["-o", "json"]].concat())?;
        assert!(matches!(told.status, Some(0..=2)) && !told.stdout.is_empty(), "{words:?}: {told:?}");
        self.take(command, &told.stdout)
    }

    fn take(&mut self, command: &str, text: &str) -> Result<()> {
        let report = serde_json::from_str(text);
        let report: Value = report.map_err(|error| LabError::wrong(format!("{command}: {error}: {text}")))?;
        let (mut keys, mut told) = (Keys::new(), Keys::new());
        gather(&report, "", &mut keys);
        keys.retain(|path, kinds| {
            let of_told = path
                .rsplit_once("[]")
                .filter(|(list, _)| TOLD.iter().any(|told| list.rsplit('.').next() == Some(told)));
            of_told.is_none_or(|(_, key)| {
                told.entry(key.trim_start_matches('.').to_owned()).or_default().append(kinds);
                false
            })
        });
        for (name, keys) in [(command, keys), (ONE_TOLD, told)] {
            let known = self.0.entry(name.to_owned()).or_default();
            keys.into_iter().for_each(|(path, mut kinds)| known.entry(path).or_default().append(&mut kinds));
        }
        Ok(())
    }

    /// A line for each key. What may be null is said only where nothing else was seen.
    fn text(&self) -> String {
        let mut text = String::new();
        for (command, keys) in &self.0 {
            writeln!(text, "{}{command}", if text.is_empty() { "" } else { "\n" }).expect("a text can be written to");
            for (path, kinds) in keys.iter().filter(|(path, _)| !path.is_empty()) {
                let told: Vec<&str> =
                    kinds.iter().copied().filter(|kind| kinds.len() == 1 || *kind != "null").collect();
                writeln!(text, "    {path}: {}", told.join(" or ")).expect("a text can be written to");
            }
        }
        text
    }
}

/// The commands below these words that do something by themselves, as the help shows them.
fn leaves(node: &Node, words: &[&str]) -> Result<Vec<String>> {
    let help = node.twillctl(&[words, &["--help"]].concat())?;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    if names.is_empty() {
        return Ok(vec![words.join(" ")]);
    }
    let mut found = Vec::new();
    for name in names {
        found.extend(leaves(node, &[words, &[name]].concat())?);
    }
    Ok(found)
}

#[test]
fn keys_of_maps_stand_for_all_and_null_is_told_where_there_is_nothing_else() {
    let mut shapes = Shapes::default();
    let texts = [
        r#"{"a": null, "labels": {"zone": "x"}, "of": {"notes": [{"what": "x"}]}}"#,
        r#"{"a": [{"b": 1}, {"b": "x"}], "c": null, "of": {"notes": []}}"#,
    ];
    for text in texts {
        shapes.take("it", text).expect("it is JSON");
    }
    let wanted = "\
each problem and note
    what: string

it
    a: array
    a[]: object
    a[].b: number or string
    c: null
    labels: object
    labels.*: string
    of: object
    of.notes: array
";
    assert_eq!(shapes.text(), wanted);
}

#[test]
fn every_report_has_the_keys_that_it_had() {
    with_lab(Lab::builder().nodes(2).backend("type = \"vxlan\"\n[bgp]\n"), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let mut shapes = Shapes::default();
        let (pod, far) = (one.create_pod("a")?, two.create_pod("b")?);
        pod.add_as("shop", "till-0")?;
        far.add_as("shop", "till-1")?;
        comes_to_tell(one, &["bgp", "peers"], 0, "2 of 2 sessions up")?;
        let ip = far.address(false)?.to_string();
        // A node itself knows of its pods by its store, and at once.
        for (node, pod) in [(two, "shop/till-0"), (one, "shop/till-1")] {
            deadline::until("both addresses are mirrored", PATIENCE, || {
                let told = node.twillctl_told(&["ipam", "show", "--pod", pod, "-o", "json"])?;
                Ok(told.stdout.matches("\"attached\"").count() == 2)
            })?;
        }
        comes_to_tell(one, &["trace", "shop/till-0", "shop/till-1"], 0, "the reply arrives")?;
        asked_of_a_cluster(lab, &mut shapes, &ip)?;
        configured(lab, &mut shapes)?;
        damaged(lab, &mut shapes, &ip)?;
        left(lab, &mut shapes, &pod, &ip)?;
        let told: BTreeSet<String> = shapes.0.keys().filter(|name| *name != ONE_TOLD).cloned().collect();
        let wanted: BTreeSet<String> =
            leaves(one, &[])?.into_iter().filter(|name| !HIDDEN.contains(&name.as_str())).collect();
        assert_eq!(told, wanted, "left: commands that were asked for JSON, right: those that there are");
        is_exactly("operator", "shapes", &shapes.text());
        Ok(())
    });
}

/// What changes nothing, and finds nothing wrong.
fn asked_of_a_cluster(lab: &Lab, shapes: &mut Shapes, ip: &str) -> Result<()> {
    let one = lab.node(1);
    for (command, more) in [
        ("status", &[][..]),
        ("status", &["--node", "n1"]),
        ("why pod", &["shop/till-0"]),
        ("why pod", &["shop/ghost"]),
        ("why ip", &[ip]),
        ("why ip", &["198.51.100.7"]),
        ("why node", &["n2"]),
        ("doctor", &[]),
        ("trace", &["shop/till-0", "shop/till-1"]),
        ("trace", &["shop/till-0", "198.51.100.7:80"]),
        ("test", &["--family", "4"]),
        ("bench", &["--repeat", "1", "--seconds", "1", "--streams", "2"]),
        ("ipam show", &[]),
        ("ipam show", &["--ip", ip]),
        ("ipam show", &["--blocks"]),
        ("ipam show", &["--pools"]),
        ("ipam check", &[]),
        ("ipam check", &["--fix"]),
        ("bgp peers", &[]),
        ("bgp routes", &["--node", "n1"]),
        ("bgp routes", &["--node", "n1", "10.42.0.0/16", "--peer", "n2"]),
        ("bgp explain", &[ip, "--node", "n1"]),
        ("node list", &[]),
        ("node show", &["n1"]),
        ("version", &[]),
        ("version", &["--cluster"]),
        ("completions", &["bash"]),
    ] {
        shapes.ask(one, command, more)?;
    }
    let file = lab.directory().join("bundle.tar.gz");
    shapes.ask(one, "bundle", &[&file.to_string_lossy()])
}

/// The configuration, which has in the end a pool for few nodes and a router that speaks no BGP.
fn configured(lab: &Lab, shapes: &mut Shapes) -> Result<()> {
    let one = lab.node(1);
    let file = lab.directory().join("made.toml").display().to_string();
    shapes.ask(one, "config init", &[])?;
    shapes.ask(one, "config init", &[&file])?;
    let blocks = lab.cluster_config().replace("10.42.0.0/16\"", "10.42.0.0/16\"\nblock = 27");
    std::fs::write(&file, blocks).map_err(LabError::io("writing a configuration"))?;
    shapes.ask(one, "config diff", &[&file])?;
    // One refuses to be spoken with, and the other one is left alone, since it is on no link of the nodes.
    let peer = |name: &str, address: &str, key: &str| {
        format!("[[bgp.peer]]\nname = \"{name}\"\naddress = \"{address}\"\nas = 65001\nconnect_retry = 1\n{key}\n")
    };
    let routers = peer("tor", &OUTSIDE_V4.to_string(), "multihop = 2") + &peer("alone", "198.51.100.9", "");
    let pool =
        "[[pool]]\nname = \"few\"\ncidr = \"10.43.0.0/16\"\nnodes = \"zone == 'a'\"\nreserved = [\"10.43.0.0/28\"]\n";
    let wanted = format!("{}{routers}{pool}", lab.cluster_config());
    std::fs::write(&file, wanted).map_err(LabError::io("writing a configuration"))?;
    shapes.ask(one, "config validate", &[&file])?;
    shapes.ask(one, "config diff", &[&file])?;
    shapes.ask(one, "config apply", &[&file, "--dry-run"])?;
    shapes.ask(one, "config apply", &[&file])?;
    shapes.ask(one, "config show", &[])?;
    let edited =
        one.run_script("twillctl config edit -o json", &[("EDITOR", "sed -i s/65001/65002/g"), ("VISUAL", "")])?;
    shapes.take("config edit", &edited)?;
    // A session that has ended once, and one that does not come to be.
    lab.node(2).kill_daemon()?;
    lab.node(2).start_daemon()?;
    deadline::until("the router is missed, and the end of a session told", PATIENCE, || {
        let told = one.twillctl_told(&["bgp", "peers", "-o", "json"])?.stdout;
        Ok(["\"unreached\"", "\"last_error\""].iter().all(|key| told.contains(key)) && told.contains("\"up\": 2"))
    })?;
    shapes.ask(one, "bgp peers", &[])?;
    shapes.ask(one, "ipam show", &["--pools"])?;
    shapes.ask(one, "ipam show", &[])?;
    shapes.ask(one, "status", &[])
}

/// What is repaired, what is in the way of packets, and a pod that could not be attached.
fn damaged(lab: &Lab, shapes: &mut Shapes, ip: &str) -> Result<()> {
    let (one, two) = (lab.node(1), lab.node(2));
    one.run(&["ip", "link", "set", "vxlan.twill", "mtu", "1300"])?;
    deadline::until("it is repaired", PATIENCE, || {
        Ok(one.twillctl_told(&["status", "--node", "n1"])?.stdout.contains("link; last"))
    })?;
    shapes.ask(one, "status", &["--node", "n1"])?;
    shapes.ask(one, "why node", &["n1"])?;
    two.run(&["nft", "table inet guard { chain in { type filter hook input priority 0; udp dport 4789 drop; }; }"])?;
    shapes.ask(one, "trace", &["shop/till-0", ip])?;
    shapes.ask(one, "doctor", &[])?;
    two.run(&["nft", "delete", "table", "inet", "guard"])?;

    shapes.ask(one, "node drain", &["n1"])?;
    let refused = one.create_pod("c")?;
    assert!(refused.add_as("shop", "till-2").is_err(), "its node is being drained");
    shapes.ask(one, "why pod", &["shop/till-2"])?;
    shapes.ask(one, "ipam attempts", &[])?;
    shapes.ask(one, "node drain", &["n1", "--undo"])
}

/// A node that is gone, an address that was given back, and an etcd that is away.
fn left(lab: &Lab, shapes: &mut Shapes, pod: &Pod, ip: &str) -> Result<()> {
    let one = lab.node(1);
    let pod_ip = pod.address(false)?.to_string();
    lab.node(2).stop_daemon()?;
    lab.etcd().delete("alive/n2")?;
    shapes.ask(one, "node list", &[])?;
    shapes.ask(one, "trace", &["shop/till-0", ip, "--timeout", "1"])?;
    shapes.ask(one, "why node", &["n2", "--timeout", "1"])?;
    shapes.ask(one, "node delete", &["n2", "--machine-is-off"])?;
    pod.del()?;
    let given_back = pod_ip.as_str();
    comes_to_tell(one, &["why", "ip", given_back], 0, "was given back")?;
    shapes.ask(one, "why ip", &[given_back])?;
    shapes.ask(one, "ipam show", &["--ip", given_back])?;
    lab.etcd().stop()?;
    shapes.ask(one, "status", &[])
}
