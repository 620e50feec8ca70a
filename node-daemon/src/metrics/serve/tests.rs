//! What is answered, and that nobody who asks costs more than they may.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use super::*;
use crate::fixture::Fixture;
use crate::troubles::Troubles;

/// Pages of a node that can serve pods, served at an address; `None` where no node can be had.
struct Served {
    at: SocketAddr,
    node: Fixture,
}

impl Served {
    fn new() -> Option<Self> {
        let node = Fixture::new()?;
        let (metrics, _) = Metrics::new(&Troubles::default());
        let readiness = Readiness::new(node.store.clone(), node.run.path().to_owned(), metrics.ready().clone());
        let readiness = Arc::new(readiness);
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || run(listener, Pages { metrics, pulses: Pulses::default(), readiness }));
        Some(Self { at, node })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
        stream
    }

    /// All that comes back until the connection ends.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        rest(&mut stream)
    }

    fn get(&self, path: &str, headers: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: node\r\n{headers}\r\n"))
    }
}

fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end too, where not all was read of what was sent.
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

#[test]
fn each_page_is_answered_in_the_form_that_is_asked_for() {
    let Some(served) = Served::new() else { return };
    let plain = served.get("/metrics", "");
    assert!(plain.starts_with("HTTP/1.1 200 OK\r\n") && plain.contains("text/plain; version=0.0.4"), "{plain}");
    assert!(plain.contains("\ntwill_ready 1\n") && plain.contains("connection: close"), "{plain}");
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n";
    let open = served.get("/metrics", accept);
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
    assert!(served.get("/healthz", "").ends_with("\r\n\r\nok\n"));
    assert!(served.get("/readyz?verbose", "").ends_with("\r\n\r\nok\n"));
    let unknown = served.get("/", "");
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("/metrics"), "{unknown}");
    let head = served.ask("HEAD /healthz HTTP/1.1\r\nHost: node\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let refused = served.ask("POST /metrics HTTP/1.1\r\nHost: node\r\nContent-Length: 1000000000\r\n\r\nx");
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD"), "{refused}");
    assert!(served.ask("no HTTP at all\r\n\r\n").starts_with("HTTP/1.1 400"));
}

#[test]
fn a_node_without_addresses_is_not_ready_and_says_why() {
    let Some(served) = Served::new() else { return };
    let node = twill_ipam::store::Node { name: "n1".into(), ipv6: true, ..Default::default() };
    served.node.store.with(|store| store.set_node(&node)).unwrap();
    let answer = served.get("/readyz", "");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("twilld"), "{answer}");
    assert!(served.get("/healthz", "").starts_with("HTTP/1.1 200"), "the daemon is well all the same");
}

#[test]
fn a_head_that_is_too_long_or_does_not_come_is_given_up() {
    let Some(served) = Served::new() else { return };
    let long = "x".repeat(2 * LONGEST_HEAD);
    let answer = served.get("/metrics", &format!("Cookie: {long}\r\n"));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many: String = (0..2 * MOST_HEADERS).map(|number| format!("X-{number}: y\r\n")).collect();
    let answer = served.get("/metrics", &many);
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let begin = Instant::now();
    let mut slow = served.connect();
    slow.write_all(b"GET /metrics HT").unwrap();
    assert!(!rest(&mut slow).contains("twill_"));
    assert!(begin.elapsed() >= HEAD_PATIENCE / 2 && begin.elapsed() < PATIENCE * 2, "{:?}", begin.elapsed());
}

#[test]
fn many_that_ask_nothing_hold_the_others_up_no_longer_than_their_patience() {
    let Some(served) = Served::new() else { return };
    let idle: Vec<TcpStream> = (0..2 * MOST).map(|_| served.connect()).collect();
    let begin = Instant::now();
    assert!(served.get("/healthz", "").ends_with("ok\n"));
    assert!(begin.elapsed() < PATIENCE * 3, "{:?}", begin.elapsed());
    drop(idle);
}

#[test]
fn an_address_of_another_machine_cannot_be_listened_on() {
    let error = listen("192.0.2.1:9477".parse().unwrap()).unwrap_err();
    let told = crate::run::Fatal::Metrics { at: "192.0.2.1:9477".parse().unwrap(), cause: error }.to_string();
    assert!(told.contains("192.0.2.1:9477") && told.contains("an address of this machine"), "{told}");
}
