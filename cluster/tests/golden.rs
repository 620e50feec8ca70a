//! Records of each version stay readable: those in `golden/`, whose README says what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use twill_cluster::inquiry::{AnswerRecord, Ask, Reply, RequestRecord, read_ask};
use twill_cluster::record::{AliveRecord, MirrorRecord};
use twill_cluster::{BlockRecord, NodeRecord, View, saved};
use twill_conf::cluster::ClusterConf;

const TODAY: &str = env!("CARGO_PKG_VERSION");
const DIGESTS: &str = "digests";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The versions that have a folder.
fn versions() -> Vec<String> {
    let entries = std::fs::read_dir(golden()).expect("the folder is there").map(|entry| entry.expect("readable"));
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|folder| folder.file_name().into_string().expect("a version is text")).collect()
}

/// The records of a version: file names and texts.
fn records(version: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(golden().join(version)).expect("the folder is there");
    let files = entries.map(|entry| entry.expect("readable").path()).filter(|path| path.extension().is_some());
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name is text").to_owned();
    files.map(|path| (name(&path), std::fs::read(&path).expect("readable"))).collect()
}

/// Reads a record and writes it again.
fn again<T: DeserializeOwned + Serialize>(text: &[u8]) -> Result<Value, String> {
    let record: T = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    serde_json::to_value(record).map_err(|error| error.to_string())
}

/// The same by the code that reads this kind in the programs.
fn rewritten(kind: &str, text: &[u8]) -> Result<Value, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    match kind {
        "config" => {
            let conf = ClusterConf::from_json(text).map_err(|error| words(&error))?;
            serde_json::from_slice(&conf.to_json()).map_err(|error| words(&error))
        }
        "node" => again::<NodeRecord>(text),
        "block" => again::<BlockRecord>(text),
        "mirror" => again::<MirrorRecord>(text),
        "alive" => serde_json::to_value(AliveRecord::read(text)).map_err(|error| words(&error)),
        "request" => {
            let record = read_ask(text).map_err(|refusal| format!("{refusal:?}"))?;
            serde_json::to_value(record).map_err(|error| words(&error))
        }
        "answer" => again::<AnswerRecord>(text),
        "view" => view_again(text),
        other => panic!("no test reads records of the kind {other}: golden/README.md names the kinds"),
    }
}

fn view_again(text: &[u8]) -> Result<Value, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join(saved::FILE);
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    let prefix = "/twill/v1/";
    let view: View =
        saved::read(&file, prefix).map_err(|error| error.to_string())?.ok_or("it is of another cluster")?;
    if !view.faults.is_empty() {
        return Err(format!("{:?}", view.faults));
    }
    saved::write(&file, prefix, &view).map_err(|error| error.to_string())?;
    let text = std::fs::read(&file).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

/// A view's entries hold JSON as text, in which the order of keys does not matter.
fn unfolded(mut value: Value) -> Value {
    for entry in value["entries"].as_array_mut().into_iter().flatten() {
        if let Some(text) = entry["value"].as_str() {
            entry["value"] = serde_json::from_str(text).expect("JSON");
        }
    }
    value
}

fn kind(name: &str) -> &str {
    name.split(['-', '.']).next().unwrap_or_default()
}

/// Whether all that stands in `old` stands in `new`; lists are equal or not.
fn holds(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(key, value)| new.get(key).is_some_and(|there| holds(there, value)))
        }
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| holds(new, old))
        }
        (new, old) => new == old,
    }
}

#[test]
fn records_of_every_version_are_read_and_nothing_of_them_is_lost_when_they_are_written_again() {
    let versions = versions();
    assert!(
        versions.iter().any(|version| version == TODAY),
        "golden/{TODAY} is missing: golden/README.md says what it is"
    );
    for version in versions {
        for (name, text) in records(&version) {
            let old: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{version}/{name}: {error}"));
            let new = rewritten(kind(&name), &text).unwrap_or_else(|error| panic!("{version}/{name}: {error}"));
            let (old, new) = (unfolded(old), unfolded(new));
            assert!(holds(&new, &old), "{version}/{name} was\n{old:#}\nand is written as\n{new:#}");
            if version == TODAY {
                assert_eq!(new, old, "{version}/{name} is not what this version writes");
            }
        }
    }
}

/// A field that this version knows by no name would otherwise be carried through as a stranger's.
#[test]
fn this_version_knows_every_field_of_its_own_records() {
    let mut seen = 0;
    for (name, text) in records(TODAY) {
        let other: Map<String, Value> = match kind(&name) {
            "node" => serde_json::from_slice::<NodeRecord>(&text).expect("it is one").other,
            "block" => serde_json::from_slice::<BlockRecord>(&text).expect("it is one").other,
            "mirror" => serde_json::from_slice::<MirrorRecord>(&text).expect("it is one").other,
            _ => continue,
        };
        assert_eq!(other, Map::new(), "{name}");
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn what_a_newer_version_adds_is_kept_where_a_record_is_rewritten_and_passed_over_elsewhere() {
    for version in versions() {
        for (name, text) in records(&version) {
            let mut newer: Value = serde_json::from_slice(&text).expect("JSON");
            newer["of_a_newer_version"] = json!({ "deep": [1, "a", null] });
            let text = newer.to_string().into_bytes();
            let new = rewritten(kind(&name), &text).unwrap_or_else(|error| panic!("{version}/{name}: {error}"));
            let keeps = matches!(kind(&name), "node" | "block" | "mirror");
            let kept = new.get("of_a_newer_version") == newer.get("of_a_newer_version");
            assert_eq!(kept, keeps, "{version}/{name}: {new:#}");
        }
    }
}

/// A question's own fields are not passed over: what asks for more than is known is not half done.
#[test]
fn a_question_with_a_field_of_a_newer_version_is_answered_with_unsupported() {
    for (name, text) in records(TODAY).into_iter().filter(|(name, _)| kind(name) == "request") {
        let mut newer: Value = serde_json::from_slice(&text).expect("JSON");
        newer["ask"]["of_a_newer_version"] = json!(1);
        let refused = read_ask(newer.to_string().as_bytes());
        assert!(matches!(refused, Err(Reply::Unsupported { .. })), "{name}: {refused:?}");
    }
}

/// The words that an enumeration knows, as its refusal of another one lists them.
fn known<T: DeserializeOwned>() -> BTreeSet<String> {
    let stranger = serde_json::from_value::<T>(json!({ "kind": "no-such-kind" }));
    let told = stranger.err().map(|error| error.to_string()).unwrap_or_default();
    let known: BTreeSet<_> = told.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert!(known.contains("drain"), "{told}");
    known
}

#[test]
fn every_question_and_every_answer_has_a_record() {
    let (mut asked, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for (name, text) in records(TODAY) {
        let of = |value: &Value| value["kind"].as_str().unwrap_or_default().to_owned();
        match kind(&name) {
            "request" => {
                let record: RequestRecord = serde_json::from_slice(&text).expect("it is one");
                asked.insert(of(&serde_json::to_value(record.ask).expect("JSON")));
            }
            "answer" => {
                let record: AnswerRecord = serde_json::from_slice(&text).expect("it is one");
                answered.insert(of(&serde_json::to_value(record.reply).expect("JSON")));
            }
            _ => {}
        }
    }
    let missing = |known: BTreeSet<String>, there: &BTreeSet<String>, word: &str| -> Vec<String> {
        known.difference(there).map(|kind| format!("cluster/tests/golden/{TODAY}/{word}-{kind}.json")).collect()
    };
    let mut all = missing(known::<Ask>(), &asked, "request");
    all.extend(missing(known::<Reply>(), &answered, "answer"));
    assert!(all.is_empty(), "write one as it stands in etcd, and then run the test with TWILL_GOLDEN=write: {all:?}");
}

#[test]
fn no_record_of_a_version_has_been_changed() {
    let digests = |version: &str| -> String {
        records(version).iter().map(|(name, text)| format!("{}  {name}\n", hex(&Sha256::digest(text)))).collect()
    };
    if std::env::var_os("TWILL_GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(golden().join(TODAY).join(DIGESTS), digests(TODAY)).expect("it can be written");
    }
    for version in versions() {
        let there = std::fs::read_to_string(golden().join(&version).join(DIGESTS)).unwrap_or_default();
        let of_today = "; if the version is not released, TWILL_GOLDEN=write writes the digests anew";
        let hint = if version == TODAY { of_today } else { "" };
        assert_eq!(there, digests(&version), "records of {version} were changed: take that back{hint}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
