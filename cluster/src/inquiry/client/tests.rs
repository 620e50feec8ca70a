//! Whatever stands in an answer of whatever kind: what is read of it, or said of it, has one line, an end, and moves no terminal.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::inquiry::{bgp, trial};

/// In the examples, where a node may write what it likes.
const ANYTHING: &str = "@";

/// An answer of each kind with a text in every field that has one.
fn examples() -> Vec<Value> {
    let neighbour = json!({ "address": "192.0.2.1", "node": "n1", "router": "r1" });
    let attributes = json!({ "as_path": "@", "origin": "@", "communities": ["@"], "originator": "192.0.2.9" });
    let with = |base: &Value, more: Value| {
        let mut base = base.clone();
        let Value::Object(more) = more else { panic!("{more}") };
        base.as_object_mut().unwrap().extend(more);
        base
    };
    let counts = json!({ "received": 1, "accepted": 1, "sent": 1 });
    let peer = with(
        &neighbour,
        json!({ "asn": 1, "relation": "external", "state": "Idle", "age_seconds": 1, "ups": 1, "port": 179,
            "unreached": "@", "shutdown": "@", "ipv4": counts, "ipv6": counts,
            "last_error": { "age_seconds": 1, "by": "peer", "code": [6, 2], "text": "@" } }),
    );
    let told = json!({ "what": "@", "fix": "@" });
    let used = with(&attributes, json!({ "from": neighbour }));
    let lost = with(&attributes, json!({ "from": neighbour, "outcome": "lost", "why": "@" }));
    let refused = with(&attributes, json!({ "outcome": "refused", "why": "@" }));
    let holder = json!({ "ip": "10.0.0.1", "state": "attached", "since": 1, "pod": "@", "container": "@", "network": "@",
        "ifname": "@", "interface": "@" });
    let attempt = json!({ "verb": "@", "pod": "@", "container": "@", "network": "@", "interface": "@", "step": "@",
        "cause": "@" });
    let attachment = json!({ "state": "@", "pod": "@", "container": "@", "network": "@", "interface": "@",
        "host_interface": "@" });
    let step = json!({ "device": "@", "what": "@", "state": "broken", "cause": "@", "fix": "@",
        "objects": [{ "kind": "@", "expected": "@", "found": "@" }] });
    let packet = json!({ "destination": "10.0.0.1" });
    let trace = |end: Value| json!({ "kind": "trace", "answer": { "steps": vec![&step; 3], "end": end, "packet": packet, "revision": 1 } });
    let state = json!({ "kind": "state", "version": "@", "machine_id": "@", "not_ready": ["@"],
        "backend": { "kind": "@", "switching": "@" }, "peers": { "faulty": { "n1": "@" } }, "pools": [{ "pool": "@" }],
        "repairs": { "by_kind": { "@": 1 }, "last": { "what": "@" } }, "passes": { "last": "@", "obstacles": ["@"] },
        "troubles": [told], "rival": { "machine_id": "@", "hostname": "@" } });
    let opened = json!({ "pods": [{ "addresses": ["10.0.0.1"], "mtu": 1450 }], "gateways": [], "kernel": "@",
        "version": "@", "processors": 1, "devices": [{ "role": "@", "name": "@", "mtu": 1500, "off": ["@"] }] });
    let bgp = |answer: Value| json!({ "kind": "bgp", "answer": answer });
    let trial =
        |tag: &str, fields: Value| json!({ "kind": "trial", "answer": with(&json!({ "answer": tag }), fields) });
    let finding = json!({ "check": "@", "state": "note", "subject": "@", "what": "@", "fix": "@" });
    vec![
        json!({ "kind": "addresses", "addresses": [holder], "strays": [{ "interface": "@", "addresses": [] }] }),
        json!({ "kind": "attempts", "attempts": vec![attempt; 70], "attachments": [attachment] }),
        bgp(json!({ "about": "peers", "peers": [peer], "troubles": [told],
            "left_alone": [with(&neighbour, json!({ "why": "@" }))] })),
        bgp(json!({ "about": "routes", "routes": [{ "prefix": "10.0.0.0/24", "used": [used] }] })),
        bgp(json!({ "about": "explained", "prefix": "10.0.0.0/24", "used": null, "routes": [lost, refused],
            "told": [{ "to": neighbour, "told": attributes, "withheld": "@" }] })),
        bgp(json!({ "about": "absent", "cause": "@" })),
        json!({ "kind": "checkup", "found": { "findings": vec![finding; 20] } }),
        json!({ "kind": "drain", "on": true }),
        json!({ "kind": "mend", "done": ["@"], "left": ["@"] }),
        trace(json!({ "is": "delivered", "to": "@" })),
        trace(json!({ "is": "leaves", "node": "n1" })),
        state,
        trial("opened", opened),
        trial("heard", json!({ "shots": [] })),
        trial("serving", json!({ "port": 1 })),
        trial("carried", json!({ "bytes": 1, "micros": 1, "retransmits": 1, "datagrams": 1 })),
        trial("answered", json!({ "count": 1, "median_nanos": 1, "late_nanos": 1 })),
        trial("usage", json!({ "machine": "@", "busy_millis": 1 })),
        trial("closed", json!({})),
        trial("refused", told),
        json!({ "kind": "unsupported", "cause": "@" }),
        json!({ "kind": "failed", "cause": "@" }),
    ]
}

/// The number of an answer's kind: one that is added has to have an example.
fn kind(reply: &Reply) -> usize {
    use bgp::Answer as Bgp;
    use trial::Answer as Trial;
    match reply {
        Reply::Addresses(_) => 0,
        Reply::Attempts(_) => 1,
        Reply::Bgp { answer: Bgp::Peers(_) } => 2,
        Reply::Bgp { answer: Bgp::Routes(_) } => 3,
        Reply::Bgp { answer: Bgp::Explained(_) } => 4,
        Reply::Bgp { answer: Bgp::Absent { .. } } => 5,
        Reply::Checkup { .. } => 6,
        Reply::Drain { .. } => 7,
        Reply::Mend { .. } => 8,
        Reply::Trace { .. } => 9,
        Reply::State(_) => 10,
        Reply::Trial { answer: Trial::Opened(_) } => 11,
        Reply::Trial { answer: Trial::Heard { .. } } => 12,
        Reply::Trial { answer: Trial::Serving { .. } } => 13,
        Reply::Trial { answer: Trial::Carried(_) } => 14,
        Reply::Trial { answer: Trial::Answered(_) } => 15,
        Reply::Trial { answer: Trial::Usage(_) } => 16,
        Reply::Trial { answer: Trial::Closed } => 17,
        Reply::Trial { answer: Trial::Refused(_) } => 18,
        Reply::Unsupported { .. } => 19,
        Reply::Failed { .. } => 20,
    }
}
const KINDS: usize = 21;

/// The example with such a text wherever a node may write one.
fn with_text(value: &Value, text: &str) -> Value {
    match value {
        Value::String(word) if word == ANYTHING => Value::String(text.to_owned()),
        Value::Array(items) => items.iter().map(|item| with_text(item, text)).collect(),
        Value::Object(fields) => {
            let key = |key: &String| if key == ANYTHING { text.to_owned() } else { key.clone() };
            Value::Object(fields.iter().map(|(name, value)| (key(name), with_text(value, text))).collect())
        }
        other => other.clone(),
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, value)| [vec![key.as_str()], texts(value)].concat()).collect()
        }
        _ => Vec::new(),
    }
}

fn answered(reply: &Value, version: &str) -> Result<Reply, Silence> {
    let value = json!({ "version": version, "reply": reply }).to_string().into_bytes();
    read(&Entry { key: "answers/n1/x".into(), value, created: 1, modified: 1 })
}

fn is_sound(text: &str) -> bool {
    !text.contains(plain::is_obeyed) && text.len() <= plain::LONGEST + 256
}

#[test]
fn there_is_an_example_of_every_kind() {
    let replies = examples().into_iter().map(|example| serde_json::from_value::<Reply>(example).unwrap());
    let mut kinds: Vec<usize> = replies.map(|reply| kind(&reply)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, (0..KINDS).collect::<Vec<_>>());
}

/// Text with much of what a terminal obeys in it.
fn hostile() -> impl Strategy<Value = String> {
    let obeyed =
        prop::sample::select(vec!["\n", "\r", "\u{1b}[2J", "\u{9b}31m", "\u{202e}", "\u{2028}", "\u{7f}", "\0"]);
    let part = prop_oneof![
        obeyed.prop_map(str::to_owned),
        "\\PC{0,8}",
        Just("x".repeat(3_000)),
        any::<char>().prop_map(String::from)
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_moves_a_terminal_or_is_longer_than_a_daemon_makes_it(text in hostile()) {
        for example in examples() {
            match answered(&with_text(&example, &text), &text) {
                Ok(reply) => {
                    let shown = serde_json::to_value(&reply).unwrap();
                    let bad = texts(&shown).into_iter().find(|text| !is_sound(text));
                    prop_assert_eq!(bad, None, "{:?}", reply);
                }
                Err(silence) => prop_assert!(is_sound(&silence.to_string()), "{:?}", silence),
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_told_on_one_line(text in hostile()) {
        for reply in [json!({ "kind": text }), json!({ "kind": "drain", "on": text }), json!(text)] {
            let silence = answered(&reply, "1").unwrap_err();
            prop_assert!(is_sound(&silence.to_string()), "{:?}", silence);
        }
    }
}

#[test]
fn of_a_trace_devices_are_as_long_as_the_kernel_has_them_and_steps_are_counted() {
    let step = json!({ "device": "d".repeat(70_000), "what": "w", "state": "good" });
    let trace = |steps: usize| {
        json!({ "kind": "trace", "answer": { "steps": vec![&step; steps], "end": { "is": "lost" },
            "packet": { "destination": "10.0.0.1" }, "revision": 1 } })
    };
    let Ok(Reply::Trace { answer }) = answered(&trace(2), "1") else { panic!("it is not read") };
    assert!(answer.steps.iter().all(|step| step.device.as_ref().unwrap().len() <= 15), "{answer:?}");
    let short = json!({ "what": "w", "state": "good" });
    let many = json!({ "kind": "trace", "answer": { "steps": vec![short; 65], "end": { "is": "lost" },
        "packet": { "destination": "10.0.0.1" }, "revision": 1 } });
    assert!(matches!(answered(&many, "1"), Err(Silence::Garbage(why)) if why.starts_with("it has 65 steps")));
}
