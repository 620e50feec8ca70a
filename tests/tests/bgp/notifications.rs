//! Each NOTIFICATION that a peer can provoke (RFC 4271, section 6; RFC 4486; RFC 6608), as it comes over the wire.

use twill_tests::routers::raw::Introduction;
use twill_tests::routers::raw::message::{self, frame};
use twill_tests::routers::{Host, Raw};
use twill_tests::{Lab, Node, Result, with_lab};

use super::stage::*;

const TOR: u32 = 65001;

/// At which point of a session something is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before anything else.
    OpenSent,
    /// Behind an OPEN.
    OpenConfirm,
    Established,
}
use State::{Established, OpenConfirm, OpenSent};

fn introduction() -> Introduction {
    Introduction::new(TOR, [10, 0, 0, 1].into())
}

/// What is sent in which state, and the code and subcode that come of it.
type Case = (&'static str, State, Vec<u8>, (u8, u8));

fn cases() -> Vec<Case> {
    let open = message::open(&introduction());
    let with = |at: usize, bytes: &[u8]| {
        let mut open = open.clone();
        open[at..at + bytes.len()].copy_from_slice(bytes);
        open
    };
    let other = message::open(&Introduction { asn: TOR + 1, ..introduction() });
    let short = message::open(&Introduction { hold_time: 2, ..introduction() });
    let nobody = message::open(&Introduction { router_id: [0; 4].into(), ..introduction() });
    let parameter = |bytes: &[u8]| frame(message::OPEN, &[&open[19..28], bytes].concat());
    let mut unsynchronized = message::keepalive();
    unsynchronized[7] = 0;
    let length = |kind: u8, length: u16| [&[0xFF; 16], length.to_be_bytes().as_slice(), &[kind]].concat();
    vec![
        ("a marker that is none", Established, unsynchronized.clone(), (1, 1)),
        ("a marker that is none, for an OPEN", OpenSent, unsynchronized, (1, 1)),
        ("a KEEPALIVE of 20 bytes", Established, frame(message::KEEPALIVE, &[0]), (1, 2)),
        ("a message of 18 bytes", Established, length(message::UPDATE, 18), (1, 2)),
        ("a message of 4097 bytes", Established, length(message::UPDATE, 4097), (1, 2)),
        ("an OPEN of 28 bytes", OpenSent, length(message::OPEN, 28), (1, 2)),
        ("a message of a type that there is not", Established, frame(9, &[]), (1, 3)),
        ("another version", OpenSent, with(19, &[3]), (2, 1)),
        ("another AS", OpenSent, other, (2, 2)),
        ("identifier 0.0.0.0", OpenSent, nobody, (2, 3)),
        ("an optional parameter that there is not", OpenSent, parameter(&[3, 99, 1, 0]), (2, 4)),
        ("a hold time of 2", OpenSent, short, (2, 6)),
        ("a parameter that is longer than the OPEN", OpenSent, parameter(&[3, 2, 9, 1]), (2, 0)),
        ("KEEPALIVE instead of OPEN", OpenSent, message::keepalive(), (5, 1)),
        ("UPDATE instead of OPEN", OpenSent, message::update(&[], &[], &[]), (5, 1)),
        ("UPDATE instead of KEEPALIVE", OpenConfirm, message::update(&[], &[], &[]), (5, 2)),
        ("OPEN twice", OpenConfirm, open.clone(), (5, 2)),
        ("OPEN in a session that stands", Established, open, (5, 3)),
    ]
}

/// A node with this many passive peers, each a host of its own: a session that has failed waits before the next one.
fn with_hosts(number: usize, keys: &str, scenario: impl FnOnce(&Lab, &Node, &[Host]) -> Result<()>) {
    with_lab(open_lab_v4().nodes(1).backend(BGP), |lab| {
        let hosts = (1_u8..).take(number).map(|number| Host::on(lab, &format!("odd{number}"), number));
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        lab.apply_config(&(lab.cluster_config() + &all_peers(&hosts, keys)))?;
        lab.node(1).says("BGP: this node speaks with")?;
        scenario(lab, lab.node(1), &hosts)
    });
}

fn all_peers(hosts: &[Host], keys: &str) -> String {
    let keys = format!("gtsm = false\npassive = true\n{keys}[[bgp.peer.import]]\naction = \"accept\"\n{GIVES_ALL}");
    hosts.iter().map(|host| bare_peer(host.name(), host.address(false), TOR, &keys)).collect()
}

#[test]
fn whatever_is_wrong_with_a_message_is_told_by_its_code() {
    let cases = cases();
    with_hosts(cases.len(), "", |_, node, hosts| {
        for (host, (what, state, bytes, expected)) in hosts.iter().zip(&cases) {
            let raw = match state {
                OpenSent => call(host, node)?,
                OpenConfirm => {
                    let raw = call(host, node)?;
                    raw.send(&message::open(&introduction()))?;
                    raw
                }
                Established => Raw::dial(host, node.addresses()[0], &introduction())?,
            };
            raw.send(bytes)?;
            let told = raw.until_notification();
            assert_eq!(told.as_ref().ok(), Some(expected), "{what}: {told:?}");
            raw.until_closed()?;
        }
        node.expect_daemon()
    });
}

#[test]
fn silence_a_second_connection_too_many_routes_and_changes_end_a_session_by_their_codes() {
    with_hosts(4, "hold_time = 3\nmax_prefixes = 10\n", |lab, node, hosts| {
        let address = node.addresses()[0];
        let [silent, twice, many, changed] = hosts else { unreachable!("there are four") };

        // It agrees on a hold time, and says nothing more.
        let raw = call(silent, node)?;
        raw.send(&message::open(&Introduction { hold_time: 3, ..introduction() }))?;
        raw.send(&message::keepalive())?;
        assert_eq!(raw.until_notification()?, (4, 0));
        raw.until_closed()?;

        // Of two connections of one peer the one that stands stays.
        let alive = Introduction { hold_time: 3, ..introduction() };
        let first = Raw::dial(twice, address, &alive)?;
        let second = Raw::call(twice, address)?;
        assert_eq!(second.until_notification()?, (6, 7));
        second.until_closed()?;
        assert_eq!(first.end(), None);

        // More routes than it may have. The session stays down for five minutes.
        let raw = Raw::dial(many, address, &alive)?;
        let std::net::IpAddr::V4(hop) = many.address(false) else { unreachable!("the wire has IPv4 alone") };
        for number in 0..=10 {
            let prefix = ipnetwork::IpNetwork::new([198, 18, number, 0].into(), 24).expect("a prefix");
            raw.send(&message::update(&[], &message::mandatory(&[TOR], hop), &[prefix]))?;
        }
        assert_eq!(raw.until_notification()?, (6, 1));
        raw.until_closed()?;
        leads_by(node, net("198.18.0.0/24"), &[])?;
        node.says("announces more than 10 ipv4 prefixes (max_prefixes): its session ends for five minutes")?;
        let again = Raw::call(many, address)?;
        again.until_closed()?;

        // What another hold time needs is another session; who is no longer configured is told so.
        let raw = Raw::dial(changed, address, &alive)?;
        lab.apply_config(&(lab.cluster_config() + &all_peers(hosts, "hold_time = 30\nmax_prefixes = 10\n")))?;
        assert_eq!(raw.until_notification()?, (6, 6));
        raw.until_closed()?;
        let raw = Raw::dial(changed, address, &alive)?;
        lab.apply_config(&(lab.cluster_config() + &all_peers(&hosts[..3], "hold_time = 30\nmax_prefixes = 10\n")))?;
        assert_eq!(raw.until_notification()?, (6, 3));
        raw.until_closed()?;
        // A stranger is not spoken to.
        let raw = Raw::call(changed, address)?;
        raw.until_closed()?;
        assert_eq!(raw.count(), 0);
        node.expect_daemon()
    });
}
