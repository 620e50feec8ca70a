//! What the daemons say of themselves.

use serde_json::json;
use twill_cluster::inquiry::client::Silence;
use twill_cluster::inquiry::state::State;

use super::*;
use crate::arguments::Output;

/// A daemon that is well: the configuration is of revision 1.
fn state(more: serde_json::Value) -> State {
    let mut state = json!({
        "version": "0.1.0", "machine_id": "m1", "uptime_seconds": 7300, "config": { "known": 1, "applied": 1 },
        "backend": { "kind": "vxlan", "sends_tunnelled": true, "receives": { "vni": 7777, "port": 4789 } },
        "peers": { "nodes": 3, "tunnel": 2, "plain": 1 },
        "pools": [
            { "pool": "default", "blocks": 1, "free": 60, "used": 2, "cooling": 1, "total": 64 },
            { "pool": "six", "ipv6": true, "blocks": 2, "free": 120, "used": 4, "total": 128 },
        ],
        "repairs": { "by_kind": { "route": 2, "firewall": 1 }, "last": { "seconds_ago": 30, "what": "route: added 10.42.0.64/26" } },
        "etcd": { "connected": true, "revision": 20, "last_micros": 900, "median_micros": 1250 },
        "passes": { "last": "settled", "settled_seconds_ago": 3, "converged_millis": 41 },
    });
    for (field, value) in more.as_object().unwrap() {
        state[field] = value.clone();
    }
    serde_json::from_value(state).unwrap()
}

fn of(answer: Result<State, Silence>) -> Status {
    let alive = [("n1".parse().unwrap(), vec![])].into();
    Status::new(&Picture::of(&HEALTHY), &alive, [("n1".parse().unwrap(), answer)].into())
}

fn told(more: serde_json::Value) -> Vec<String> {
    of(Ok(state(more))).problems.iter().map(Problem::line).collect()
}

#[test]
fn each_daemon_that_answers_has_a_line() {
    let report = Report::Status(of(Ok(state(json!({})))));
    assert_eq!(report.verdict(), Verdict::Good);
    let text = print::render(&report, Output::Text);
    let wanted = "
NODE  BACK END  REACHES  FREE IPV4  FREE IPV6  REPAIRS  ETCD    CONFIGURATION
n1    vxlan     3 of 3   60         120        3        1.2 ms  1

POOL  ";
    assert!(text.contains(wanted) && text.ends_with("\nno problems\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&print::render(&report, Output::Json)).unwrap();
    assert_eq!((&json["nodes"][0]["daemon"]["config"]["known"], &json["unknown"]), (&json!(1), &json!([])));
}

#[test]
fn one_node_is_shown_in_depth_and_no_other() {
    let (n1, n2) = ("n1".parse().unwrap(), "n2".parse().unwrap());
    let picture = Picture::of(&HEALTHY);
    let alive = [("n1".parse().unwrap(), vec![])].into();
    assert_eq!(Status::of(&picture, &alive, Answers::new(), std::slice::from_ref(&n2)).unwrap_err(), &n2);
    let more = json!({
        "config": { "known": 1, "applied": 0 }, "bgp": { "total": 3, "up": 2 },
        "passes": { "last": "incomplete", "obstacles": ["refused: link vxlan.twill: File exists"] },
        "peers": { "nodes": 2, "tunnel": 1, "unreached": 1, "unreached_nodes": ["n3"], "faulty": { "n2": "silent" }, "faulty_nodes": 1 },
        "not_ready": ["no IPv4 address is left on this node: 64 of 64 are in use and none cools; add a pool, or remove pods"],
    });
    let answers = [("n1".parse().unwrap(), Ok(state(more)))].into();
    let report = Report::Status(Status::of(&picture, &alive, answers, &[n1]).unwrap());
    assert_eq!(report.verdict(), Verdict::Problems);
    let wanted = "\
revision 20, configuration 1, back end vxlan

NODE  ALIVE  DRAINING  UNDERLAY   TUNNEL     VTEP               BLOCKS  VERSION
n1    yes    no        192.0.2.1  10.42.0.1  02:00:00:00:00:01  2       0.1.0

node           n1
twilld         0.1.0, up 2h
machine        m1
ready          NO: no IPv4 address is left on this node: 64 of 64 are in use and none cools; add a pool, or remove pods
configuration  1, brought about 0
back end       vxlan, receives by VXLAN 7777 on UDP port 4789
peers          2: 1 through the tunnel, 1 NOT REACHED
probe          1 not good: n2 does not answer
bgp            2 of 3 sessions up
addresses      default: 60 of 64 free, 2 used, 1 cooling, in 1 block
addresses      six: 120 of 128 free, 4 used, 0 cooling, in 2 blocks
repairs        1 firewall, 2 route; last 30s ago: route: added 10.42.0.64/26
kernel         incomplete: refused: link vxlan.twill: File exists
etcd           followed, at revision 20, answers in 1.2 ms (the last in 0.9 ms), lost 0 times

PROBLEM node n1: configuration 1 is not brought about there, the last one that was is 0: refused: link vxlan.twill: File exists
    fix: remove what stands in the way, or correct the configuration; the node tries again by itself
PROBLEM node n1: no new pod can be served there: no IPv4 address is left on this node: 64 of 64 are in use and none cools
    fix: add a pool, or remove pods
PROBLEM node n1: no route leads from there to the pods of n3
    fix: look what is said of those nodes here and in the log of its twilld; 'twillctl bgp peers' where routes come by BGP
";
    assert_eq!(print::render(&report, Output::Text), wanted);
}

#[test]
fn a_node_that_lags_is_a_problem_with_its_cause() {
    let deaf = told(json!({ "config": { "known": 0, "applied": 0 } }));
    assert_eq!(deaf.len(), 1, "{deaf:?}");
    assert!(
        deaf[0].starts_with("node n1: it follows configuration 0, and the newest is 1: it has not heard of that; "),
        "{deaf:?}"
    );
    let at_it = told(json!({ "config": { "known": 1 } }));
    assert!(
        at_it[0].contains("the last one that was is none: the node is at work on it; wait a moment ('twillctl"),
        "{at_it:?}"
    );
    let newer = told(json!({ "config": { "known": 9, "applied": 9 } }));
    assert_eq!(newer, [""; 0], "it has heard of more than was read here");
}

#[test]
fn what_only_the_daemon_knows_is_a_problem_with_a_fix() {
    let contested = told(json!({ "repairs": { "by_kind": { "route": 9 }, "contested": 2 } }));
    assert!(contested[0].contains("2 objects of its kernel are repaired again and again"), "{contested:?}");
    let rival = told(json!({ "rival": { "machine_id": "m2", "hostname": "copy" } }));
    assert!(rival[0].contains("a second machine (copy, machine ID m…) goes by its name"), "{rival:?}");
    let refused = told(json!({ "passes": { "last": "incomplete", "obstacles": ["a", "b"] } }));
    assert!(refused[0].contains("its kernel is not as it shall be: a; and 1 more of that kind; "), "{refused:?}");
    assert_eq!(
        told(json!({ "troubles": [{ "what": "a barrier", "fix": "open it" }] })),
        ["node n1: a barrier; open it"]
    );
}

#[test]
fn who_has_answered_tells_its_problems_anew() {
    let stale = vec![Told { what: "n2 does not answer".into(), fix: "x".into() }];
    let alive = [("n1".parse().unwrap(), stale)].into();
    let status = |answer| Status::new(&Picture::of(&HEALTHY), &alive, [("n1".parse().unwrap(), answer)].into());
    assert_eq!(status(Ok(state(json!({})))).problems, []);
    assert_eq!(status(Err(Silence::Failed("x".into()))).problems.len(), 1);
}

#[test]
fn silence_could_not_be_told_unless_the_reason_is_known() {
    let silent = Report::Status(of(Err(Silence::Timeout(std::time::Duration::from_secs(5)))));
    assert_eq!(silent.verdict(), Verdict::Unknown);
    let text = print::render(&silent, Output::Text);
    let wanted = "no problems, as far as could be told\n\nCOULD NOT TELL: how node n1 is: no answer within 5 s\n    fix: try again";
    assert!(text.contains(wanted), "{text}");
    let old = of(Err(Silence::Unsupported { version: "0.0.9".into(), cause: "unknown variant".into() }));
    assert_eq!((old.unknown.len(), old.notes.len(), old.problems.len()), (0, 1, 0));
    let dead = of(Err(Silence::Dead));
    assert!(dead.unknown.is_empty() && dead.notes.is_empty(), "that is a problem of its own");
}

#[test]
fn versions_that_differ_are_a_note() {
    let other = NODE.replace("0.1.0", "0.2.0").replace("192.0.2.1", "192.0.2.2").replace("00:01", "00:02");
    let status = status(&[HEALTHY[0], HEALTHY[1], HEALTHY[2], HEALTHY[3], ("nodes/n2", &other)], &["n1", "n2"]);
    assert_eq!(status.notes[0].what, "twilld differs: 0.1.0 on n1; 0.2.0 on n2");
}

#[test]
fn what_changes_by_itself_is_no_change() {
    let [before, later] = [
        state(json!({})),
        state(json!({
            "uptime_seconds": 7999, "etcd": { "connected": true, "revision": 25 },
            "passes": { "last": "settled", "settled_seconds_ago": 9 },
        })),
    ]
    .map(|state| of(Ok(state)).lasting());
    assert_eq!(before, later);
    assert_ne!(before, of(Err(Silence::Dead)).lasting());
    let more = json!({ "repairs": { "by_kind": { "route": 3, "firewall": 1 } } });
    assert_ne!(before, of(Ok(state(more))).lasting());
}
