//! The desk by itself, and both sides over the simulated store.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use twill_conf::NodeName;
use twill_ipam::BootTime;

use super::client::{Answers, Client, Silence, Wanted};
use super::desk::Desk;
use super::*;
use crate::record::{Holder, Use};
use crate::simulated::{Fate, SimulatedStore};
use crate::store::{Event, Store};
use crate::txn::{Op, Txn};
use crate::view::{Change, Delta, Entry, Snapshot};

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn request(id: &str, revision: i64, value: &[u8]) -> Change {
    let key = request_key(&node("n1"), id);
    Change::Put(Entry { key, value: value.to_vec(), created: revision, modified: revision })
}

fn delta(changes: Vec<Change>) -> Event {
    Event::Delta(Delta { revision: 9, changes })
}

fn at(millis: u64) -> BootTime {
    BootTime(Duration::from_millis(millis))
}

#[test]
fn a_request_is_taken_up_once_however_often_it_is_told() {
    let mut desk = Desk::new(&node("n1"));
    desk.hear(delta(vec![request("a", 5, b"{}")]));
    let letter = desk.next(at(0)).unwrap();
    assert_eq!((letter.id.as_str(), letter.revision), ("a", 5));
    let Change::Put(entry) = request("a", 5, b"{}") else { unreachable!() };
    desk.hear(Event::Snapshot(Snapshot { revision: 9, entries: vec![entry] }));
    assert_eq!(desk.next(at(0)), None);
    desk.hear(delta(vec![request("a", 12, b"{}")]));
    assert_eq!(desk.next(at(0)).unwrap().revision, 12, "written anew it is another one");
}

#[test]
fn a_request_whose_time_is_over_is_not_taken_up() {
    let mut desk = Desk::new(&node("n1"));
    desk.hear(delta(vec![request("a", 5, b"{}"), Change::Delete(request_key(&node("n1"), "a"))]));
    assert_eq!(desk.next(at(0)), None);
    desk.hear(delta(vec![request("b", 6, b"{}")]));
    desk.hear(Event::Snapshot(Snapshot { revision: 9, entries: Vec::new() }));
    assert_eq!(desk.next(at(0)), None);
}

#[test]
fn what_is_no_request_or_too_much_is_dropped_and_told_once_a_minute() {
    let mut desk = Desk::new(&node("n1"));
    let long = vec![b' '; LONGEST_REQUEST + 1];
    desk.hear(delta(vec![request("a/b", 1, b""), request("", 2, b""), request("long", 3, &long)]));
    assert!(!desk.is_waiting());
    let told = desk.complaint(at(0)).unwrap();
    assert!(told.starts_with("3 requests") && told.contains("long has 16385 bytes"), "{told}");
    desk.hear(delta((0..500).map(|i| request(&format!("r{i}"), i, b"{}")).collect()));
    assert_eq!(desk.complaint(at(59_000)), None);
    let taken = std::iter::from_fn(|| desk.next(at(59_000))).count();
    assert_eq!(taken, 32, "in one moment");
    assert!(desk.is_waiting() && desk.next(at(59_050)).is_none());
    assert!(desk.next(at(59_150)).is_some(), "a tenth of a second later another one");
    assert!(desk.complaint(at(60_000)).unwrap().starts_with("436 requests"));
}

#[test]
fn a_kind_or_a_field_of_another_version_is_unsupported_and_garbage_no_less() {
    for value in [
        r#"{"from":"x","ask":{"kind":"reboot"}}"#,
        r#"{"from":"x","ask":{"kind":"drain","on":true,"gently":true}}"#,
        r#"{"from":"x","ask":{"kind":"drain","on":"yes"}}"#,
        r#"{"ask":{}}"#,
        r#"{"from":"x","ask":{"kind":"bgp","question":{"about":"neighbours"}}}"#,
        r#"{"from":"x","ask":{"kind":"bgp","question":{"about":"peers","state":"Idle"}}}"#,
        "rubbish\u{1b}[2J",
        "",
    ] {
        let Err(Reply::Unsupported { cause }) = read_ask(value.as_bytes()) else { panic!("{value} is understood") };
        assert!(!cause.contains('\u{1b}'), "{cause}");
    }
    let drain = read_ask(br#"{"from":"x","ask":{"kind":"drain","on":true},"later":1}"#).unwrap();
    assert_eq!(drain.ask, Ask::Drain { on: true });
}

#[test]
fn a_page_is_no_longer_than_an_answer_and_ten_thousand_pods_take_several() {
    let holder = |number: u32| Holder {
        state: Use::Attached,
        since: 1_764_331_200,
        until: None,
        pod: Some(format!("namespace-of-some-length/deployment-{number}-7f9c")),
        container: Some("0123456789abcdef".repeat(4)),
        network: Some("twill".into()),
        ifname: Some("eth0".into()),
        interface: Some("tw0000000000001".into()),
    };
    let ip = |number: u32| std::net::IpAddr::from((0x0a2a_0000 + number).to_be_bytes());
    let all: Vec<LiveAddress> = (0..10_000)
        .map(|number| LiveAddress { ip: ip(number), holder: holder(number), row: Some(1), fault: Some(Fault::NoLink) })
        .collect();
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = Page::cut(&[], Vec::new(), all.clone(), after);
        let answer = AnswerRecord { version: "1".into(), reply: Reply::Addresses(page.clone()) };
        assert!(serde_json::to_vec(&answer).unwrap().len() <= LONGEST_ANSWER);
        after = page.addresses.last().map(|address| address.ip);
        found.extend(page.addresses);
        pages += 1;
        if !page.more {
            break;
        }
    }
    assert_eq!(found, all);
    assert!((5..=30).contains(&pages), "{pages}");
}

fn apply(store: &SimulatedStore, key: String, value: serde_json::Value) {
    let put = Op::Put { key, value: value.to_string().into_bytes(), lease: None };
    store.apply(&Txn { when: Vec::new(), then: vec![put] });
}

/// The node's daemon is alive, as far as anybody knows.
fn live(store: &SimulatedStore, name: &str) {
    apply(store, crate::key::alive(&node(name)), json!({}));
}

/// Answers every request to a node by the function.
fn serve(store: &SimulatedStore, name: &str, answer: impl Fn(RequestRecord) -> serde_json::Value + Send + 'static) {
    live(store, name);
    let (store, me) = (store.clone(), node(name));
    tokio::spawn(async move {
        let mut desk = Desk::new(&me);
        let mut events = store.watch(requests_to(&me));
        let mut now = 0;
        while let Some(event) = events.recv().await {
            desk.hear(event);
            while let Some(letter) = desk.next(at(now)) {
                // As slowly as a daemon may.
                now += 100;
                let record = read_ask(&letter.value).unwrap();
                apply(&store, answer_key(&me, &letter.id), answer(record));
            }
        }
    });
}

fn client(patience: u64) -> Client {
    Client::new("00ff".into(), "a test".into(), Duration::from_millis(patience))
}

#[tokio::test]
async fn each_node_is_asked_and_those_that_do_not_answer_are_told_apart() {
    let store = SimulatedStore::new();
    let says = |reply: serde_json::Value| move |_| json!({ "version": "7", "reply": reply });
    serve(&store, "n1", says(json!({ "kind": "drain", "on": true })));
    serve(&store, "n2", says(json!({ "kind": "unsupported", "cause": "c" })));
    serve(&store, "n3", says(json!({ "kind": "failed", "cause": "c" })));
    serve(&store, "n4", |_| json!("rubbish"));
    live(&store, "n5");
    let names = ["n1", "n2", "n3", "n4", "n5"].map(node);
    let asks = names.iter().map(|name| (name.clone(), Ask::Drain { on: true })).collect();
    let answers = client(300).ask(&store, asks).await;
    assert_eq!(answers[&names[0]], Ok(Reply::Drain { on: true }));
    assert_eq!(answers[&names[1]], Err(Silence::Unsupported { version: "7".into(), cause: "c".into() }));
    assert_eq!(answers[&names[2]], Err(Silence::Failed("c".into())));
    assert!(matches!(answers[&names[3]], Err(Silence::Garbage(_))));
    assert_eq!(answers[&names[4]], Err(Silence::Timeout(Duration::from_millis(300))));
    for range in ["requests/", "answers/"] {
        assert_eq!(store.look(&Range::prefix(range)).entries, [], "nothing is left behind");
    }
}

#[tokio::test]
async fn all_pages_are_asked_for_and_a_node_that_goes_in_circles_is_found_out() {
    let store = SimulatedStore::new();
    let page = |ips: &[&str], more: bool| {
        let address = |ip: &&str| json!({ "ip": ip, "state": "attached" });
        let addresses: Vec<_> = ips.iter().map(address).collect();
        json!({ "version": "1", "reply": { "kind": "addresses", "addresses": addresses, "more": more } })
    };
    serve(&store, "n1", move |request| match request.ask {
        Ask::Addresses { after: None } => page(&["10.0.0.1", "10.0.0.2"], true),
        Ask::Addresses { .. } => page(&["10.0.0.3"], false),
        _ => json!({}),
    });
    serve(&store, "n2", move |_| page(&["10.0.0.1"], true));
    let found = client(2000).addresses(&store, [node("n1"), node("n2")]).await;
    assert_eq!(found[&node("n1")].as_ref().unwrap().addresses.len(), 3);
    assert!(matches!(found[&node("n2")], Err(Silence::Garbage(_))), "{found:?}");
}

#[tokio::test]
async fn pages_of_routes_go_on_behind_a_cursor_also_where_one_is_empty_and_what_is_not_there_is_told() {
    let store = SimulatedStore::new();
    let says = |answer: serde_json::Value| json!({ "version": "1", "reply": { "kind": "bgp", "answer": answer } });
    let page = move |prefixes: &[&str], next: Option<&str>| {
        let routes: Vec<_> = prefixes.iter().map(|prefix| json!({ "prefix": prefix, "used": [] })).collect();
        says(json!({ "about": "routes", "routes": routes, "next": next }))
    };
    let cursor = |request: &RequestRecord| match &request.ask {
        Ask::Bgp { question: bgp::Question::Routes { after, .. } } => after.map(|after| after.to_string()),
        _ => None,
    };
    serve(&store, "n1", move |request| match cursor(&request).as_deref() {
        None => page(&["10.0.0.0/24"], Some("10.0.0.0/24")),
        Some("10.0.0.0/24") => page(&[], Some("10.0.9.0/24")),
        Some(_) => page(&["fd00::/64"], None),
    });
    serve(&store, "n2", move |_| page(&[], Some("10.0.9.0/24")));
    serve(&store, "n3", move |_| says(json!({ "about": "absent", "cause": "it does not speak BGP" })));
    let wanted = Wanted::default();
    let found = client(2000).bgp_routes(&store, &node("n1"), &wanted).await.unwrap();
    let prefixes: Vec<_> = found.iter().map(|route| route.prefix.to_string()).collect();
    assert_eq!(prefixes, ["10.0.0.0/24", "fd00::/64"]);
    let circles = client(2000).bgp_routes(&store, &node("n2"), &wanted).await;
    assert!(matches!(circles, Err(Silence::Garbage(_))), "{circles:?}");
    let absent = client(2000).bgp_peers(&store, [node("n3")]).await;
    assert_eq!(absent[&node("n3")], Err(Silence::Absent("it does not speak BGP".into())));
}

#[tokio::test]
async fn a_node_whose_pages_have_no_end_is_not_asked_for_ever() {
    let store = SimulatedStore::new();
    serve(&store, "n1", |request| {
        let Ask::Addresses { after } = request.ask else { return json!({}) };
        let next = after.map_or(0, |after| u32::from(after.to_string().parse::<Ipv4Addr>().unwrap()) + 1);
        let addresses = [json!({ "ip": Ipv4Addr::from(next), "state": "attached" })];
        json!({ "version": "1", "reply": { "kind": "addresses", "addresses": addresses, "more": true } })
    });
    let found = client(20_000).addresses(&store, [node("n1")]).await;
    assert_eq!(found[&node("n1")], Err(Silence::Garbage("it has more than 512 pages".into())));
}

#[tokio::test]
async fn a_node_whose_daemon_is_dead_is_not_asked_and_nobody_waits_for_it() {
    let store = SimulatedStore::new();
    serve(&store, "n1", |_| json!({ "version": "1", "reply": { "kind": "addresses" } }));
    let patience = 1_000_000_000;
    let revision = || store.look(&Range::prefix("alive/")).revision;
    let before = revision();
    assert_eq!(client(patience).ask_one(&store, &node("n9"), Ask::Drain { on: true }).await, Err(Silence::Dead));
    assert_eq!(revision(), before, "nothing is written");
    let found = client(patience).addresses(&store, [node("n1"), node("n9")]).await;
    assert!(found[&node("n1")].is_ok() && found[&node("n9")] == Err(Silence::Dead), "{found:?}");
}

#[tokio::test]
async fn what_etcd_fails_to_carry_is_told_of_those_nodes_alone() {
    let store = SimulatedStore::new();
    let name = |number: usize| node(&format!("n{number:03}"));
    for number in [0, 128, 256] {
        serve(&store, name(number).as_str(), |_| json!({ "version": "1", "reply": { "kind": "drain", "on": true } }));
    }
    (0..384).for_each(|number| live(&store, name(number).as_str()));
    let asks = || (0..384).map(|number| (name(number), Ask::Drain { on: true })).collect();
    let told = |answers: &Answers<Reply>| -> Vec<bool> {
        [0, 128, 256].into_iter().map(|number| answers[&name(number)] == Ok(Reply::Drain { on: true })).collect()
    };
    store.destine([Fate::Unavailable]);
    let answers = client(300).ask(&store, asks()).await;
    assert_eq!((answers.len(), told(&answers)), (384, vec![false, true, true]));
    assert!(matches!(&answers[&name(127)], Err(Silence::Unasked(cause)) if cause.contains("not sent")));
    // Twice in a row: the rest is not asked.
    store.destine([Fate::Unavailable, Fate::Unavailable]);
    let answers = client(300).ask(&store, asks()).await;
    assert_eq!((answers.len(), told(&answers)), (384, vec![false, false, false]));
    assert!(matches!(answers[&name(383)], Err(Silence::Unasked(_))));
}
