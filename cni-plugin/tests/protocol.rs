//! What every verb owes to its caller, by the built plugin: environment, standard input, versions, errors.
#![allow(missing_docs, clippy::unwrap_used)]

mod room;

use std::process::{Command, Stdio};

use room::{Answer, Room, room};
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const VERBS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

/// The variables that a verb needs, with good values.
fn environment<'a>(verb: &'a str, netns: &'a str) -> Vec<(&'a str, &'a str)> {
    let needed = match verb {
        "ADD" | "CHECK" => vec![("CNI_CONTAINERID", "p1"), ("CNI_NETNS", netns), ("CNI_IFNAME", "eth0")],
        "DEL" => vec![("CNI_CONTAINERID", "p1"), ("CNI_IFNAME", "eth0")],
        "GC" => vec![("CNI_PATH", "/opt/cni/bin")],
        _ => Vec::new(),
    };
    [("CNI_COMMAND", verb)].into_iter().chain(needed).collect()
}

/// An error is one document with exactly the keys of the specification, in that version, and the exit is not zero.
#[track_caller]
fn assert_error(answer: &Answer, code: u64, version: &str) -> String {
    let text = answer.error(code);
    let document = answer.document();
    assert_eq!(document["cniVersion"], version, "{document}");
    let keys: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(keys.iter().all(|key| ["cniVersion", "code", "msg", "details"].contains(key)), "{keys:?}");
    assert!(!document["msg"].as_str().unwrap().is_empty());
    assert_eq!(answer.stdout.trim_end().lines().count(), 1);
    text
}

fn in_version(mut conf: Value, version: &str) -> Value {
    conf["cniVersion"] = version.into();
    conf
}

#[test]
fn each_verb_is_refused_before_its_version_and_served_from_then_on() {
    let Some(room) = room() else { return };
    let path = room.pod("p1");
    for version in VERSIONS {
        let mut conf = in_version(room.dual(), version);
        let call = |verb: &str, conf: &Value| room.call(&environment(verb, &path), &conf.to_string());
        let result = call("ADD", &conf).result();
        assert_eq!(result["cniVersion"], version);
        conf["prevResult"] = result;
        conf["cni.dev/valid-attachments"] = json!([{"containerID": "p1", "ifname": "eth0"}]);
        for (verb, since) in [("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")] {
            let answer = call(verb, &conf);
            if version >= since {
                answer.silent();
            } else {
                let text = assert_error(&answer, 1, version);
                assert!(text.contains(verb) && text.contains(since) && text.contains(version), "{text}");
            }
        }
        // With the result of the ADD, in whatever shape that version has, and again without it.
        call("DEL", &conf).silent();
        room.assert_empty();
        conf.as_object_mut().unwrap().remove("prevResult");
        call("DEL", &conf).silent();
    }
}

#[test]
fn a_version_that_is_not_spoken_is_refused_by_every_verb_with_the_list_of_those_that_are() {
    let Some(room) = room() else { return };
    let path = room.pod("p1");
    room.add("p1", &room.dual()).result();
    for verb in VERBS {
        for unknown in ["0.5.0", "1.2.0", "2.0.0", "1.1", "v1.0.0", "not found"] {
            let mut conf = in_version(room.dual(), unknown);
            conf["cni.dev/attachments"] = json!([]);
            let answer = room.call(&environment(verb, &path), &conf.to_string());
            let text = assert_error(&answer, 1, "1.1.0");
            assert!(text.contains(&VERSIONS.join(", ")), "{text}");
            assert!(verb != "DEL" || !text.contains("not found"), "{text}");
        }
        let answer = room.call(&environment(verb, &path), &room.conf(json!({"cniVersion": 1})).to_string());
        assert!(assert_error(&answer, 7, "1.1.0").contains("cniVersion"));
    }
    assert_eq!(room.rows().len(), 1);
}

#[test]
fn what_is_not_one_object_is_a_decoding_error_for_every_verb() {
    let Some(room) = room() else { return };
    let path = room.pod("p1");
    for verb in VERBS {
        for text in ["", " \n", "{", "[]", "null", "7", "\"x\"", "{}{}", "\u{feff}{}", "{\"name\":\"n\",}", "\0"] {
            assert_error(&room.call(&environment(verb, &path), text), 6, "1.1.0");
        }
        let deep = "[".repeat(100_000);
        assert_error(&room.call(&environment(verb, &path), &format!("{{\"name\":{deep}")), 6, "1.1.0");
    }
}

#[test]
fn a_network_name_that_is_none_is_refused_by_every_verb_in_the_version_asked_for() {
    let Some(room) = room() else { return };
    let path = room.pod("p1");
    for verb in VERBS {
        for name in [json!(null), json!(""), json!("-n"), json!("a/b"), json!("ä"), json!(7), json!({})] {
            let conf = json!({"cniVersion": "1.1.0", "type": "twill", "runDir": room.run_dir(), "name": name});
            let answer = room.call(&environment(verb, &path), &conf.to_string());
            assert!(assert_error(&answer, 7, "1.1.0").contains("name"), "{name}");
        }
    }
    let unnamed = r#"{"type":"twill"}"#;
    assert_error(&room.call(&environment("ADD", &path), unnamed), 7, "0.1.0");
}

#[test]
fn a_verb_checks_what_it_needs_names_all_that_is_missing_and_looks_at_nothing_else() {
    let Some(room) = room() else { return };
    let path = room.pod("p1");
    let mut conf = in_version(room.dual(), "1.1.0");
    conf["cni.dev/attachments"] = json!([]);
    let conf = conf.to_string();
    for verb in VERBS {
        let good = environment(verb, &path);
        let needed: Vec<_> = good[1..].iter().map(|(name, _)| *name).collect();
        for empty in [false, true] {
            let variables: Vec<_> = if empty {
                good.iter().map(|(n, v)| (*n, if *n == "CNI_COMMAND" { v } else { "" })).collect()
            } else {
                good[..1].to_vec()
            };
            let answer = room.call(&variables, &conf);
            if needed.is_empty() {
                answer.silent();
                continue;
            }
            let text = assert_error(&answer, 4, "1.1.0");
            let named = |name: &&str| text.contains(*name);
            assert!(needed.iter().all(named), "{verb}: {text}");
            let others = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
            assert!(!others.iter().filter(|name| !needed.contains(name)).any(named), "{verb}: {text}");
        }
    }
    let junk = [("CNI_CONTAINERID", "/"), ("CNI_NETNS", "dummy"), ("CNI_IFNAME", "a/b"), ("CNI_ARGS", "=;;=")];
    for verb in ["GC", "STATUS"] {
        let variables: Vec<_> = environment(verb, "").into_iter().chain(junk).collect();
        room.call(&variables, &conf).silent();
    }
}

#[test]
fn names_in_the_environment_are_kept_to_their_rules() {
    let Some(room) = room() else { return };
    let path = room.pod("p1");
    let conf = room.dual().to_string();
    let with = |name: &str, value: &str| {
        let variables: Vec<_> = environment("ADD", &path)
            .into_iter()
            .map(|(key, good)| if key == name { (key, value) } else { (key, good) })
            .collect();
        room.call(&variables, &conf)
    };
    for bad in ["-a", ".a", "_a", "a/b", "a b", "a:b", "ä", "a\n"] {
        assert!(assert_error(&with("CNI_CONTAINERID", bad), 4, "1.0.0").contains("CNI_CONTAINERID"));
    }
    for bad in ["sixteen-letters-", "äääääääö", ".", "..", "a/b", "a:b", "a b", "a\tb", "a%d"] {
        assert!(assert_error(&with("CNI_IFNAME", bad), 4, "1.0.0").contains("CNI_IFNAME"));
    }
    for bad in ["add", "Add", "REMOVE", "ADD "] {
        assert!(assert_error(&with("CNI_COMMAND", bad), 4, "1.0.0").contains("CNI_COMMAND"));
    }
    room.assert_empty();
    let long = "c".repeat(4096);
    with("CNI_CONTAINERID", &long).result();
    let del = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", long.as_str()), ("CNI_IFNAME", "eth0")];
    room.call(&del, &conf).silent();
    with("CNI_IFNAME", "fifteen-letters").result();
    let del = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "p1"), ("CNI_IFNAME", "fifteen-letters")];
    room.call(&del, &conf).silent();
    room.assert_empty();
}

#[test]
fn a_del_frees_the_address_whatever_namespace_arguments_and_result_it_is_given() {
    let Some(room) = room() else { return };
    let good = room.pod("p1");
    let other = room.pod("p2");
    room.ip("p2", "link add eth0 type bridge");
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let long = format!("/run/netns/{}", "x".repeat(5000));
    let namespaces = [
        "",
        "/run/netns/never-was",
        "relative",
        "/",
        "/dev/zero",
        "/etc/passwd",
        "/proc/self/ns/mnt",
        "/proc/1/ns/net",
        fifo.to_str().unwrap(),
        long.as_str(),
        other.as_str(),
        good.as_str(),
    ];
    let arguments = ["", "=", ";;", "K8S_POD_NAME", "IP=not-an-address;MAC=x", "IgnoreUnknown=0;UNKNOWN=1", "\u{fffd}"];
    let results = [
        json!({"cniVersion": "9.9.9"}),
        json!({"cniVersion": 7, "ips": "x", "interfaces": {}}),
        json!({"ips": [{"interface": 99, "address": "nonsense"}]}),
        json!("text"),
        json!([1]),
        json!(null),
    ];
    for round in 0..namespaces.len().max(arguments.len()).max(results.len()) {
        room.add("p1", &room.dual()).result();
        let mut conf = room.dual();
        conf["prevResult"] = results[round % results.len()].clone();
        let variables = [
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "p1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", namespaces[round % namespaces.len()]),
            ("CNI_ARGS", arguments[round % arguments.len()]),
        ];
        let answer = room.call(&variables, &conf.to_string());
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), ""), "{variables:?} {conf}");
        room.assert_empty();
    }
    assert!(room.ip("p2", "-d link show eth0").contains("bridge"), "another namespace was touched");
}

/// Calls VERSION under a shell that redirects its standard input.
fn version(redirect: &str) -> Value {
    let script = format!("exec \"$0\" {redirect}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_twill")]).env_clear().env("CNI_COMMAND", "VERSION");
    for variable in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_ARGS"] {
        shell.env(variable, "dummy/dummy");
    }
    let output = shell.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{redirect}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn version_answers_whatever_standard_input_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = |text: &str| {
        let path = dir.path().join("input");
        std::fs::write(&path, text).unwrap();
        version(&format!("<{}", path.display()))
    };
    let all = json!(VERSIONS);
    for unhelpful in ["<&-", "</dev/null", "</", "</dev/zero"] {
        assert_eq!(version(unhelpful), json!({"cniVersion": "1.1.0", "supportedVersions": all}), "{unhelpful}");
    }
    for text in ["", "{", "{}", "[]", "garbage", "\u{0}", r#"{"cniVersion":""}"#, r#"{"cniVersion":1}"#] {
        assert_eq!(file(text)["cniVersion"], "1.1.0", "{text:?}");
    }
    for named in VERSIONS.into_iter().chain(["7.0.0", "x"]) {
        let answer = file(&json!({"cniVersion": named, "name": "/", "more": [1]}).to_string());
        assert_eq!(answer, json!({"cniVersion": named, "supportedVersions": all}));
    }
}

#[test]
fn a_verb_without_standard_input_says_so_in_one_document() {
    let script = "exec \"$0\" <&-";
    for (verb, code) in [("ADD", 4), ("STATUS", 6)] {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_twill")]).env_clear().env("CNI_COMMAND", verb);
        let output = shell.output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.success(), &document["code"]), (false, &json!(code)));
    }
    let mut directory = Command::new("sh");
    directory.args(["-c", "exec \"$0\" </", env!("CARGO_BIN_EXE_twill")]).env_clear().env("CNI_COMMAND", "STATUS");
    let document: Value = serde_json::from_slice(&directory.output().unwrap().stdout).unwrap();
    assert_eq!(document["code"], 5, "{document}");
}

#[test]
fn a_refused_environment_does_not_wait_for_a_standard_input_that_stays_open() {
    let Some(room) = room() else { return };
    let mut child = room.spawn(&[("CNI_COMMAND", "ADD")]);
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["code"], 4);
}

#[test]
fn the_last_256_failures_are_kept_with_pod_step_cause_and_duration() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    room.add("p1", &conf).result();
    assert_eq!(room.store().attempts().unwrap(), []);
    room.add("oldest", &conf).error(102);
    room.add("second", &conf).error(102);
    for _ in 0..254 {
        room.add("gone", &conf).error(102);
    }
    let containers = |room: &Room| -> Vec<String> {
        let attempts = room.store().attempts().unwrap();
        attempts.into_iter().map(|one| one.key.unwrap().container.to_string()).collect()
    };
    let kept = containers(&room);
    assert_eq!((kept.len(), kept[255].as_str(), kept[254].as_str()), (256, "oldest", "second"));
    room.add("newest", &conf).error(102);
    let kept = containers(&room);
    assert_eq!((kept.len(), kept[255].as_str(), kept[0].as_str()), (256, "second", "newest"));
    let newest = &room.store().attempts().unwrap()[0];
    assert_eq!((newest.verb.as_str(), newest.code, newest.step.as_str()), ("ADD", 102, "opening the namespace"));
    assert!(newest.cause.contains(&room.path("newest")) && !newest.took.is_zero(), "{newest:?}");
    let pod = newest.pod.as_ref().unwrap();
    assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("shop", "till"));
}

#[test]
fn requests_that_are_refused_early_are_kept_where_they_say_where() {
    let Some(room) = room() else { return };
    let path = room.pod("p1");
    let good = room.dual();
    let args = ("CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=till");
    let broken = room.conf(json!({"subnets": ["10.42.0.1/24"]}));
    let bad_name: Vec<_> =
        [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "p1"), ("CNI_NETNS", path.as_str()), ("CNI_IFNAME", "a/b"), args]
            .into();
    room.call(&bad_name, &good.to_string()).error(4);
    assert!(!room.run_dir().exists(), "what is refused makes nothing");
    room.add("p1", &good).result();

    room.call(&bad_name, &good.to_string()).error(4);
    room.add("p2", &broken).error(7);
    room.add("p2", &in_version(good.clone(), "9.0.0")).error(1);
    room.del("p2", &in_version(good.clone(), "9.0.0")).error(1);
    room.call(&[("CNI_COMMAND", "add"), args], &good.to_string()).error(4);
    room.call(&environment("GC", ""), &in_version(good.clone(), "1.1.0").to_string()).error(7);
    // These write nothing.
    room.verb("CHECK", "p1", &broken).error(7);
    room.status(&broken).error(7);
    room.status(&room.conf(json!({}))).error(50);
    let attempts = room.store().attempts().unwrap();
    let kept: Vec<_> = attempts
        .iter()
        .rev()
        .map(|one| (one.verb.as_str(), one.code, one.key.as_ref().map(|key| key.container.as_str())))
        .collect();
    let wanted = [
        ("ADD", 4, None),
        ("ADD", 7, Some("p2")),
        ("ADD", 1, Some("p2")),
        ("DEL", 1, Some("p2")),
        ("add", 4, None),
        ("GC", 7, None),
    ];
    assert_eq!(kept, wanted);
    let first = attempts.last().unwrap();
    assert_eq!((first.step.as_str(), first.pod.as_ref().unwrap().name.as_str()), ("reading the request", "till"));
    assert!(first.cause.contains("CNI_IFNAME"), "{first:?}");
}
