//! What is made of answers and records, by tables.

use serde_json::json;
use twill_cluster::inquiry::client::Silence;

use super::*;
use crate::report::status::Status;

const CONFIG: &str = r#"[[pool]]
name = "v4"
cidr = "10.42.0.0/16"
"#;

fn record(number: u8, change: serde_json::Value) -> String {
    let mut record = json!({
        "machine_id": format!("machine-{number}"), "nonce": "x", "version": "0.1.0",
        "underlay": {"ipv4": format!("192.168.9.{number}/24")},
        "vxlan": {"mac": format!("02:00:00:00:00:0{number}"), "vni": 7777, "port": 4789},
        "path": {"tunnels": true, "mtu": 1500, "pods": 1450},
    });
    for (key, value) in change.as_object().unwrap() {
        record[key] = value.clone();
    }
    record.to_string()
}

fn judged(second: serde_json::Value) -> Vec<Finding> {
    let (one, two) = (record(1, json!({})), record(2, second));
    let config = twill_conf::cluster::ClusterConf::from_toml(CONFIG).unwrap();
    let config = serde_json::to_string(&config).unwrap();
    let picture = Picture::of(&[("config", &config), ("nodes/n1", &one), ("nodes/n2", &two)]);
    cluster::judge(&picture.view)
}

#[test]
fn each_fault_of_the_records_is_told_once_and_good_ones_are_good() {
    let good = judged(json!({}));
    assert!(good.iter().all(|finding| finding.state == State::Ok), "{good:#?}");
    let names: Vec<&str> = good.iter().map(|finding| finding.check.as_str()).collect();
    let all = ["configuration", "version", "machine-id", "underlay", "mtu", "tunnel", "records", "pools", "blocks"];
    assert_eq!(names, all);
    let faults = [
        (json!({"version": "0.2.0"}), "version", State::Note, "0.1.0 (n1), 0.2.0 (n2)"),
        (json!({"machine_id": "machine-1"}), "machine-id", State::Problem, "n1, n2 have one machine ID (mach…)"),
        (json!({"underlay": {"ipv4": "192.168.9.1/24"}}), "underlay", State::Problem, "192.168.9.1"),
        (
            json!({"path": {"tunnels": true, "mtu": 1400, "pods": 1350}}),
            "mtu",
            State::Problem,
            "1500 with the tunnel, and the underlay of n2 carries 1400",
        ),
        (json!({"path": {"tunnels": true, "mtu": 9000, "pods": 1450}}), "mtu", State::Note, "1500 (n1), 9000 (n2)"),
        (
            json!({"vxlan": {"mac": "02:00:00:00:00:02", "vni": 8, "port": 4789}}),
            "tunnel",
            State::Note,
            "n2 still receive by VNI 8",
        ),
    ];
    for (change, check, state, words) in faults {
        let found = judged(change);
        let bad: Vec<&Finding> = found.iter().filter(|finding| finding.state != State::Ok).collect();
        let [one] = bad.as_slice() else { panic!("{words}: {bad:#?}") };
        assert!(one.check == check && one.state == state && one.what.contains(words), "{one:?}");
        assert!(!one.fix.is_empty(), "{one:?}");
    }
}

fn finding(state: State, what: &str) -> Finding {
    let fix = if state == State::Ok { "" } else { "mend it" };
    let own = str::to_owned;
    Finding { check: own("mtu"), state, subject: String::new(), what: own(what), fix: own(fix) }
}

/// Half a second passed.
const ASKED: Asked = Asked { from: 1_780_272_000_000, to: 1_780_272_000_500 };

fn of(answers: Vec<(&str, Result<Found, Silence>)>) -> Doctor {
    let picture = Picture::of(&[]);
    let answers = answers.into_iter().map(|(node, answer)| (node.parse().unwrap(), answer)).collect();
    let answers: Answers<Found> = answers;
    let state =
        |answer: &Result<Found, Silence>| answer.as_ref().map(|_| state::State::default()).map_err(Clone::clone);
    let states = answers.iter().map(|(node, answer)| (node.clone(), state(answer))).collect();
    Doctor::new(&Evidence { etcd: Vec::new(), picture: &picture, answers, asked: ASKED, states })
}

#[test]
fn what_several_nodes_have_alike_is_one_problem() {
    let found = |what| Ok(Found { findings: vec![finding(State::Problem, what)], ..Found::default() });
    let doctor = of(vec![("n1", found("a")), ("n2", found("b")), ("n3", found("a"))]);
    let told: Vec<_> = doctor.problems.iter().map(Problem::line).collect();
    assert_eq!(told[1..], ["nodes n1, n3: a; mend it", "node n2: b; mend it"]);
    assert_eq!((doctor.nodes, doctor.answered), (3, 3));
}

#[test]
fn what_the_cluster_has_is_not_called_a_nodes_though_it_sees_it_too() {
    let problem = || finding(State::Problem, "etcd is away");
    let picture = Picture::of(&[]);
    let found = Found { findings: vec![problem()], ..Found::default() };
    let answers = [("n1".parse().unwrap(), Ok(found))].into();
    let (etcd, states) = (vec![problem()], Answers::new());
    let doctor = Doctor::new(&Evidence { etcd, picture: &picture, answers, asked: ASKED, states });
    assert_eq!(doctor.problems[0].line(), "cluster: etcd is away; mend it");
    assert_eq!(doctor.checks.iter().filter(|row| row.finding == problem()).count(), 2);
}

#[test]
fn who_is_silent_could_not_be_told_and_who_is_dead_is_a_problem() {
    let patience = std::time::Duration::from_secs(20);
    let doctor = of(vec![("n1", Err(Silence::Timeout(patience))), ("n2", Err(Silence::Dead))]);
    let [silent] = doctor.unknown.as_slice() else { panic!("{:?}", doctor.unknown) };
    assert_eq!(silent.what, "node n1: no answer within 20 s");
    assert!(silent.fix.starts_with("try again, with a longer --timeout"), "{silent}");
    assert!(
        doctor.problems.iter().any(|problem| problem.line().starts_with("node n2: its daemon")),
        "{:?}",
        doctor.problems
    );
    assert_eq!((doctor.nodes, doctor.answered), (2, 0));
    let older =
        of(vec![("n1", Err(Silence::Unsupported { version: "0.0.9".into(), cause: "unknown variant".into() }))]);
    assert!(older.unknown.is_empty(), "as status has it: {older:?}");
    assert!(older.problems.iter().all(|problem| !problem.subject.contains("n1")), "{older:?}");
    assert!(older.notes[0].line().ends_with("; update twilld on n1"), "{:?}", older.notes);
}

#[test]
fn a_clock_that_differs_by_more_than_the_way_of_an_answer_takes_is_a_note_of_its_node() {
    let notes = |now: Option<u64>| {
        let doctor = of(vec![("n1", Ok(Found { now, ..Found::default() }))]);
        doctor.notes.iter().map(Problem::line).filter(|line| line.contains("its clock")).collect::<Vec<_>>()
    };
    for near in [None, Some(ASKED.from), Some(ASKED.to), Some(ASKED.from - 2_999), Some(ASKED.to + 2_999)] {
        assert_eq!(notes(near), [""; 0], "{near:?}");
    }
    let behind = notes(Some(ASKED.from - 3_000));
    assert!(behind[0].starts_with("node n1: its clock is 3 s behind that of the machine that asks"), "{behind:?}");
    let ahead = notes(Some(ASKED.to + 90_400));
    assert!(ahead[0].starts_with("node n1: its clock is 90 s ahead of that of the machine that asks"), "{ahead:?}");
    assert!(ahead[0].contains("timedatectl"), "{ahead:?}");
}

#[test]
fn the_shape_for_programs_is_this() {
    let found = Found { findings: vec![finding(State::Note, "w")], ..Found::default() };
    let doctor = of(vec![("n1", Ok(found))]);
    let value = serde_json::to_value(&doctor).unwrap();
    let checks = value["checks"].as_array().unwrap();
    assert_eq!(
        checks[checks.len() - 2],
        json!({"place": "node", "node": "n1", "check": "mtu", "state": "note", "what": "w", "fix": "mend it"})
    );
    assert_eq!(value["notes"], json!([{"subject": "node n1", "what": "w", "fix": "mend it"}]));
    let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
}

/// Whatever a daemon says of itself: `status` and `doctor` have the same problems of it, in the same words.
#[test]
fn what_status_calls_a_problem_is_one_here_too() {
    const USED_UP: &str = "[[pool]]\nname = \"v4\"\ncidr = \"10.42.0.0/26\"\nblock = 26\n";
    let config = twill_conf::cluster::ClusterConf::from_toml(USED_UP).unwrap();
    let (config, one, two) = (serde_json::to_string(&config).unwrap(), record(1, json!({})), record(2, json!({})));
    let block = |node: &str, epoch| json!({"node": node, "machine_id": "m", "epoch": epoch, "nonce": "x"}).to_string();
    let (block, gone) = (block("n1", 2), block("n9", 7));
    let picture = Picture::of(&[
        ("config", &config),
        ("nodes/n1", &one),
        ("nodes/n2", &two),
        ("blocks/4/0a2a0000-26", &block),
        ("blocks/4/0a2b0000-26", &gone),
    ]);
    let states = [
        json!({}),
        json!({"config": {"known": 1, "applied": 1}, "rival": {"machine_id": "m9", "hostname": "copy"}}),
        json!({"config": {"known": 1, "applied": 1}, "not_ready": ["no IPv4 address is left on this node; add a pool"]}),
        json!({"config": {"known": 1, "applied": 1}, "passes": {"obstacles": ["refused: link vxlan.twill"]}}),
        json!({"config": {"known": 1, "applied": 1}, "repairs": {"contested": 2}}),
        json!({"config": {"known": 1, "applied": 1}, "troubles": [{"what": "a port is taken", "fix": "free it"}]}),
        json!({"config": {"known": 1, "applied": 1}, "peers": {"unreached": 1, "unreached_nodes": ["n2"]}}),
    ];
    for said in states {
        let state: state::State = serde_json::from_value(said.clone()).unwrap();
        let states = || [("n1".parse().unwrap(), Ok(state.clone())), ("n2".parse().unwrap(), Err(Silence::Dead))];
        let answers = [("n1".parse().unwrap(), Ok(Found::default())), ("n2".parse().unwrap(), Err(Silence::Dead))];
        let evidence = Evidence {
            etcd: Vec::new(),
            picture: &picture,
            answers: answers.into(),
            asked: ASKED,
            states: states().into(),
        };
        let doctor = Doctor::new(&evidence);
        let alive = [("n1".parse().unwrap(), vec![])].into();
        let status = Status::new(&picture, &alive, states().into());
        assert!(status.problems.len() >= 5, "{said}: {:?}", status.problems);
        for problem in &status.problems {
            let is_it = |told: &&Problem| told.what.ends_with(&problem.what) && told.fix == problem.fix;
            assert!(
                doctor.problems.iter().any(|told| is_it(&told)),
                "{said}: {problem:?} is not in {:#?}",
                doctor.problems
            );
        }
    }
}

#[test]
fn what_the_look_at_the_machine_tells_is_not_told_of_the_daemon_again() {
    let told = |what: &str| json!({"what": what, "fix": "mend it"});
    let dropped = "ip filter FORWARD drops what pods send: its policy is drop";
    let troubles = json!([told("n2 is silent"), told(dropped), told("ip filter USER could not be opened")]);
    let state = || serde_json::from_value::<state::State>(json!({"troubles": troubles})).unwrap();
    let chain = Finding {
        check: "firewall".into(),
        subject: "ip filter FORWARD".into(),
        ..finding(State::Problem, "it drops what pods send and get: its policy is drop")
    };
    let picture = Picture::of(&[]);
    let judged = |findings: Vec<Finding>| {
        let n1 = || "n1".parse::<NodeName>().unwrap();
        let answers = [(n1(), Ok(Found { findings, ..Found::default() }))].into();
        let evidence = Evidence {
            etcd: Vec::new(),
            picture: &picture,
            answers,
            asked: ASKED,
            states: [(n1(), Ok(state()))].into(),
        };
        let of_daemon = |row: &Row| (row.finding.check == "daemon").then(|| row.finding.what.clone());
        Doctor::new(&evidence).checks.iter().filter_map(of_daemon).collect::<Vec<_>>()
    };
    let handed_on = Finding { check: "path".into(), ..finding(State::Problem, "n2 is silent") };
    assert_eq!(judged(vec![handed_on, chain.clone()]), ["ip filter USER could not be opened"]);
    assert_eq!(judged(vec![chain]).len(), 2);
    assert_eq!(judged(Vec::new()).len(), 3);
}

#[test]
fn a_daemon_that_looks_and_does_not_say_how_it_is_could_not_be_told() {
    let picture = Picture::of(&[]);
    let n1 = || "n1".parse::<NodeName>().unwrap();
    let doctor = |answer| {
        let answers = [(n1(), Ok(Found::default()))].into();
        Doctor::new(&Evidence {
            etcd: Vec::new(),
            picture: &picture,
            answers,
            asked: ASKED,
            states: [(n1(), answer)].into(),
        })
    };
    let silent = doctor(Err(Silence::Failed("8 others look at this node just now".into())));
    let [told] = silent.unknown.as_slice() else { panic!("{:?}", silent.unknown) };
    assert!(
        told.what.starts_with("how node n1 is: it could not: 8 others look") && told.fix.starts_with("try again; "),
        "{told}"
    );
    assert!(silent.checks.iter().all(|row| row.finding.check != "daemon"), "{:?}", silent.checks);
    let well = doctor(Ok(state::State::default()));
    assert!(well.unknown.is_empty() && well.checks.iter().any(|row| row.finding.check == "daemon"), "{well:?}");
}
