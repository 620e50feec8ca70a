//! twillctl bundle: what is in it, what is told to be missing, and that nothing secret is in it.

mod common;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{Etcd, Ran};
use serde_json::{Value, json};

/// The identity of a machine (machine-id(5)).
const MACHINE: &str = "5f2c8e1b7d9046a3b1c4d5e6f7a8091b";
/// What stands wherever something secret might.
const PLANTED: &str = "PLANTED-s3cret";

/// The members by their paths below the bundle's directory.
fn unpack(file: &Path) -> BTreeMap<String, String> {
    let packed = std::fs::File::open(file).unwrap_or_else(|cause| panic!("{}: {cause}", file.display()));
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let mut members = BTreeMap::new();
    for entry in tar.entries().expect("a tar") {
        let mut entry = entry.expect("a member");
        let path = entry.path().expect("a path").display().to_string();
        let (directory, path) = path.split_once('/').expect("one directory");
        assert!(directory.starts_with("twill-bundle-2"), "{directory}");
        let path = path.to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("UTF-8");
        members.insert(path, text);
    }
    members
}

fn json_of(members: &BTreeMap<String, String>, path: &str) -> Value {
    let text = members.get(path).unwrap_or_else(|| panic!("no {path}: {:?}", members.keys()));
    serde_json::from_str(text).unwrap_or_else(|cause| panic!("{path}: {cause}: {text}"))
}

/// A cluster in which each record has something that is nobody's affair.
fn populate(etcd: &Etcd) {
    let config = json!({
        "pool": [{"name": "default", "cidr": "10.42.0.0/16", "secret": PLANTED}],
        "bgp": {"password": PLANTED, "peer": [{"name": "tor", "address": "192.0.2.9", "as": 7, "token": PLANTED,
                "password_file": "/etc/twill/tor"}]},
        "token": PLANTED,
    });
    let node = json!({
        "machine_id": MACHINE, "nonce": PLANTED, "underlay": {"ipv4": "192.0.2.1/24"}, "version": "0.1.0",
        "labels": {"zone": "a"}, "drain": PLANTED, "secret": PLANTED, "path": {"mtu": 1500, "secret": PLANTED},
    });
    // A machine that was copied: its identity is what a finding is about.
    let copy = node.to_string().replace("192.0.2.1/24", "192.0.2.3/24");
    let epoch = etcd.put(&[("config", &config.to_string()), ("nodes/n1", &node.to_string()), ("nodes/n3", &copy)]);
    let block = json!({"node": "n1", "machine_id": MACHINE, "epoch": epoch, "nonce": PLANTED, "secret": PLANTED});
    let mirror = json!({
        "epoch": epoch, "nonce": PLANTED, "drain": PLANTED, "secret": PLANTED,
        "addresses": {"10.42.0.1": {"state": "attached", "pod": "shop/cart", "secret": PLANTED}},
    });
    let quoted = json!(PLANTED).to_string();
    etcd.put(&[
        ("blocks/4/0a2a0000-26", &block.to_string()),
        ("addresses/n1/4/0a2a0000-26", &mirror.to_string()),
        (
            "alive/n1",
            &json!({"version": "0.1.0", "problems": [{"what": "w", "fix": "f", "x": PLANTED}], "x": PLANTED})
                .to_string(),
        ),
        // What a daemon of another version repeats.
        (
            "alive/n3",
            &json!({"version": "0.1.0", "problems": [{"what": format!("not {MACHINE}"), "fix": "f"}]}).to_string(),
        ),
        ("nodes/n2", &quoted),
        ("blocks/4/0a2a0040-26", &quoted),
        ("addresses/n1/4/0a2a0080-26", &quoted),
        ("policies/x", &quoted),
    ]);
}

fn bundle(etcd: &Etcd, file: &Path, more: &[(&str, &Path)]) -> Ran {
    let mut command = etcd.command(&["bundle", file.to_str().expect("UTF-8"), "--timeout", "1"]);
    command.env("SOME_TOKEN", PLANTED).envs(more.iter().copied());
    Ran::of(command.output().expect("twillctl runs"))
}

#[test]
fn a_bundle_has_the_records_and_reports_and_nothing_secret() {
    let Some(etcd) = Etcd::start() else { return };
    populate(&etcd);
    let file = etcd.dir.path().join("b.tar.gz");
    let daemon = etcd.file(
        "twilld.toml",
        &format!("etcd = ['https://192.0.2.1:2379']\netcd_ca = '/{PLANTED}/ca'\netcd_user = '{PLANTED}'\netcd_password_file = '/{PLANTED}/p'\nnode_name = 'n1'\n"),
    );
    let told = bundle(&etcd, &file, &[("TWILLD_CONFIG", &daemon)]).ends_with(2);
    assert!(told.stdout.starts_with(&format!("{} has 18 files (", file.display())), "{told:?}");
    assert!(told.stdout.contains("COULD NOT TELL: what node n1 has in use: no answer within 1 s\n"), "{told:?}");
    assert!(
        told.stdout.contains("COULD NOT TELL: what the speaker of node n1 knows: no answer within 1 s\n"),
        "{told:?}"
    );
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let members = unpack(&file);
    for (path, text) in &members {
        assert!(!text.contains(PLANTED) && !text.contains(MACHINE), "{path}: {text}");
        assert!(serde_json::from_str::<Value>(text).is_ok(), "{path}: {text}");
    }
    let config = json_of(&members, "config.json");
    assert_eq!(config["config"]["pool"][0]["cidr"], "10.42.0.0/16");
    assert_eq!(config["config"]["bgp"]["peer"][0]["address"], "192.0.2.9");
    let nodes = json_of(&members, "nodes.json");
    assert_eq!(
        (&nodes[0]["name"], &nodes[0]["labels"]["zone"], &nodes[0]["draining"]),
        (&json!("n1"), &json!("a"), &json!(true))
    );
    let blocks = json_of(&members, "blocks.json");
    assert_eq!((&blocks[0]["block"], &blocks[0]["machine"]), (&json!("10.42.0.0/26"), &nodes[0]["machine"]));
    assert_eq!(json_of(&members, "addresses/n1.json")[0]["addresses"]["10.42.0.1"]["pod"], "shop/cart");
    assert_eq!(json_of(&members, "alive.json")["n1"][0]["what"], "w");
    let unreadable = json_of(&members, "unreadable.json");
    assert_eq!(unreadable, json!(["blocks/4/0a2a0040-26", "nodes/n2", "addresses/n1/4/0a2a0080-26"]));
    let problems = json_of(&members, "check.json")["problems"].to_string()
        + &json_of(&members, "status.json")["problems"].to_string();
    assert!(problems.contains("nodes/n2") && problems.contains("left out here"), "{problems}");
    let doctor = json_of(&members, "doctor.json")["problems"].to_string();
    assert!(doctor.contains("n1, n3 have one machine ID") && doctor.contains("left out here"), "{doctor}");
    assert_eq!(json_of(&members, "etcd.json")[0]["error"], Value::Null);
    assert_eq!(json_of(&members, "versions.json")["nodes"][0]["version"], "0.1.0");
    let twilld = json_of(&members, "local/twilld.json");
    assert_eq!((&twilld["node_name"], &twilld["etcd_user"]), (&json!("n1"), &json!(true)));
    let contents = json_of(&members, "contents.json");
    assert_eq!(contents["unknown"].as_array().unwrap().len(), 4);
    assert_eq!(contents["members"].as_array().unwrap().len(), members.len() - 1);

    let again = bundle(&etcd, &file, &[]).ends_with(2);
    assert!(
        again.stderr.contains(&format!("cannot make {}: ", file.display())) && again.stdout.is_empty(),
        "{again:?}"
    );
}

#[test]
fn a_bundle_of_a_cluster_in_which_all_answer_lacks_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    let config = etcd.file("c.toml", "[[pool]]\nname = 'default'\ncidr = '10.42.0.0/16'\n");
    etcd.apply(&config).ends_with(0);
    let stored = etcd.config().expect("it was applied").1;
    let file = etcd.dir.path().join("b.tar.gz");
    let absent = etcd.file("twilld.toml", "");
    let told = bundle(&etcd, &file, &[("TWILLD_CONFIG", &absent)]).ends_with(0);
    assert!(!told.stdout.contains("COULD NOT TELL"), "{told:?}");
    assert_eq!(json_of(&unpack(&file), "config.json")["revision"], stored);
    // Without a name it is made here.
    let mut command = etcd.command(&["bundle", "-o", "json"]);
    let report = Ran::of(command.current_dir(etcd.dir.path()).output().unwrap()).json();
    let name = report["file"].as_str().unwrap();
    assert!(name.starts_with("twill-bundle-2") && name.ends_with(".tar.gz"), "{name}");
    assert_eq!(report["members"].as_array().unwrap().len(), unpack(&etcd.dir.path().join(name)).len());
}

#[test]
fn without_etcd_a_bundle_has_what_this_machine_knows_and_repeats_no_password_and_no_user() {
    let Some(mut etcd) = Etcd::start() else { return };
    let (user, password) = ("PLANTED-user", "PLANTED-p4ss");
    let secret = etcd.file("password", &format!("{password}\n"));
    let file = etcd.dir.path().join("refused.tar.gz");
    // etcd has no users: the error that says so names ours elsewhere.
    let arguments =
        ["bundle", file.to_str().unwrap(), "--etcd-user", user, "--etcd-password-file", secret.to_str().unwrap()];
    let refused = etcd.run(&arguments).ends_with(2);
    assert!(refused.stdout.contains("COULD NOT TELL: the cluster's records: etcd at "), "{refused:?}");
    etcd.kill();
    let away = etcd.dir.path().join("away.tar.gz");
    bundle(&etcd, &away, &[("TWILL_ETCD_PASSWORD_FILE", &secret), ("TWILL_ETCD_USER", Path::new(user))]).ends_with(2);
    etcd.feed(&["bundle", "/nowhere/b.tar.gz"], "").ends_with(2);
    for file in [file, away] {
        let members = unpack(&file);
        for path in ["local/host.json", "local/attempts.json", "local/store.json", "etcd.json", "contents.json"] {
            assert!(members.contains_key(path), "{path}: {:?}", members.keys());
        }
        assert!(json_of(&members, "etcd.json")[0]["error"].is_string());
        for (path, text) in members {
            assert!(!text.contains(password) && !text.contains(user), "{path}: {text}");
        }
    }
}
