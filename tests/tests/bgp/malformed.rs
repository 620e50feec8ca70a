//! UPDATEs that are not as they should be: the session stays where RFC 7606 says so, and nothing wrong is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::probe::Probe;
use twill_tests::routers::raw::Introduction;
use twill_tests::routers::raw::message::{
    EXTENDED, KEEPALIVE, OPTIONAL, PARTIAL, TRANSITIVE, as_path, attribute, communities, mandatory, med, mp_reach,
    next_hop, nlri, origin, update, update_of,
};
use twill_tests::routers::{Family, Host, Raw};
use twill_tests::{Result, with_lab};

use super::stage::*;

const TOR: u32 = 65001;

/// What becomes of the route that an UPDATE announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is treated as withdrawn.
    Withdrawn,
    /// It is taken without what is wrong.
    Taken,
}
use Fate::{Taken, Withdrawn};

type Case = (&'static str, Vec<u8>, Fate);

/// What stands around the attribute in question.
struct Parts {
    hop: Ipv4Addr,
}

impl Parts {
    fn path(&self) -> Vec<u8> {
        as_path(&[TOR, 7])
    }

    /// All mandatory attributes, and these.
    fn and(&self, more: Vec<u8>) -> Vec<u8> {
        [mandatory(&[TOR, 7], self.hop), more].concat()
    }

    /// This in the place of ORIGIN.
    fn origin(&self, origin: Vec<u8>) -> Vec<u8> {
        [origin, self.path(), next_hop(self.hop)].concat()
    }

    /// This in the place of AS_PATH.
    fn with_path(&self, path: Vec<u8>) -> Vec<u8> {
        [origin(0), path, next_hop(self.hop)].concat()
    }

    /// This in the place of NEXT_HOP.
    fn with_hop(&self, hop: Vec<u8>) -> Vec<u8> {
        [origin(0), self.path(), hop].concat()
    }
}

/// Path attributes with something wrong, by RFC 4271, section 6.3, and RFC 7606, sections 3 to 7.
fn attributes(of: &Parts) -> Vec<Case> {
    let well_known = |code: u8, value: &[u8]| attribute(TRANSITIVE, code, value);
    let transitive = |code: u8, value: &[u8]| attribute(OPTIONAL | TRANSITIVE, code, value);
    let optional = |code: u8, value: &[u8]| attribute(OPTIONAL, code, value);
    let system = TOR.to_be_bytes();
    let path = |segments: &[&[u8]]| of.with_path(well_known(2, &segments.concat()));
    let first: &[u8] = &[&[2, 1], system.as_slice()].concat();
    let unspecified = [0, 0, 0, 0];
    vec![
        ("ORIGIN of no byte", of.origin(well_known(1, &[])), Withdrawn),
        ("ORIGIN of two bytes", of.origin(well_known(1, &[0, 0])), Withdrawn),
        ("ORIGIN with a value that there is not", of.origin(origin(3)), Withdrawn),
        ("ORIGIN as an optional one", of.origin(transitive(1, &[0])), Withdrawn),
        ("no ORIGIN", of.origin(Vec::new()), Withdrawn),
        ("AS_PATH with a segment of an unknown type", path(&[first, &[5, 1], &system]), Withdrawn),
        ("AS_PATH with a segment that is longer than it", path(&[first, &[2, 9], &system]), Withdrawn),
        ("AS_PATH with an empty segment", path(&[first, &[2, 0]]), Withdrawn),
        ("AS_PATH with a byte too many", path(&[first, &[2]]), Withdrawn),
        ("AS_PATH with AS 0", of.with_path(as_path(&[TOR, 0])), Withdrawn),
        ("AS_PATH with a segment of a confederation", path(&[&[3, 1], &system, first]), Withdrawn),
        ("AS_PATH that begins with another AS", of.with_path(as_path(&[7, TOR])), Withdrawn),
        ("AS_PATH of nobody, from another AS", of.with_path(as_path(&[])), Withdrawn),
        ("AS_PATH as an optional one", of.with_path(transitive(2, first)), Withdrawn),
        ("no AS_PATH", of.with_path(Vec::new()), Withdrawn),
        ("NEXT_HOP of three bytes", of.with_hop(well_known(3, &[192, 168, 77])), Withdrawn),
        ("NEXT_HOP of five bytes", of.with_hop(well_known(3, &[192, 168, 77, 201, 0])), Withdrawn),
        ("NEXT_HOP as an optional one", of.with_hop(transitive(3, &of.hop.octets())), Withdrawn),
        ("NEXT_HOP of a group", of.with_hop(next_hop([224, 0, 0, 5].into())), Withdrawn),
        ("NEXT_HOP of nobody", of.with_hop(next_hop(unspecified.into())), Withdrawn),
        ("NEXT_HOP of a loopback", of.with_hop(next_hop([127, 0, 0, 1].into())), Withdrawn),
        ("no NEXT_HOP", of.with_hop(Vec::new()), Withdrawn),
        ("MULTI_EXIT_DISC of three bytes", of.and(optional(4, &[0; 3])), Withdrawn),
        ("MULTI_EXIT_DISC as a transitive one", of.and(transitive(4, &[0; 4])), Withdrawn),
        ("COMMUNITIES of five bytes", of.and(transitive(8, &[0; 5])), Withdrawn),
        ("COMMUNITIES of none", of.and(transitive(8, &[])), Withdrawn),
        ("COMMUNITIES as a well-known one", of.and(well_known(8, &[0; 4])), Withdrawn),
        ("LARGE_COMMUNITY of 13 bytes", of.and(transitive(32, &[0; 13])), Withdrawn),
        ("LARGE_COMMUNITY of none", of.and(transitive(32, &[])), Withdrawn),
        ("AGGREGATOR as a well-known one", of.and(well_known(7, &[0, 0, 0, 7, 10, 0, 0, 1])), Withdrawn),
        ("ATOMIC_AGGREGATE as an optional one", of.and(transitive(6, &[])), Withdrawn),
        ("an attribute that ends behind the list", of.and(vec![OPTIONAL, 4, 40, 0, 0, 0, 7]), Withdrawn),
        ("an attribute with half a length", of.and(vec![OPTIONAL | EXTENDED, 4, 0]), Withdrawn),
        ("an attribute with flags alone", of.and(vec![TRANSITIVE]), Withdrawn),
        ("ATOMIC_AGGREGATE of one byte", of.and(well_known(6, &[0])), Taken),
        ("AGGREGATOR of seven bytes", of.and(transitive(7, &[0; 7])), Taken),
        ("AGGREGATOR of AS 0", of.and(transitive(7, &[0, 0, 0, 0, 10, 0, 0, 1])), Taken),
        ("LOCAL_PREF from another AS", of.and(well_known(5, &[0, 0, 0, 200])), Taken),
        ("LOCAL_PREF of three bytes, from another AS", of.and(well_known(5, &[0; 3])), Taken),
        ("ORIGINATOR_ID from another AS", of.and(optional(9, &[10, 0, 0, 9])), Taken),
        ("CLUSTER_LIST of three bytes, from another AS", of.and(optional(10, &[0; 3])), Taken),
        ("AS4_PATH from one with AS numbers of four bytes", of.and(transitive(17, &[9])), Taken),
        ("AS4_AGGREGATOR of three bytes", of.and(transitive(18, &[0; 3])), Taken),
        ("MULTI_EXIT_DISC twice", of.and([med(5), med(6)].concat()), Taken),
        ("ORIGIN twice, a wrong one behind", of.and(origin(9)), Taken),
        ("ORIGIN with the Partial bit", of.origin(attribute(TRANSITIVE | PARTIAL, 1, &[0])), Taken),
        ("an unknown one that is passed on", of.and(attribute(OPTIONAL | TRANSITIVE | PARTIAL, 99, &[1; 300])), Taken),
        ("an unknown one that is not", of.and(optional(98, &[])), Taken),
        ("MP_REACH_NLRI of a family that is not spoken", of.and(optional(14, &[0, 25, 65, 4, 1, 2, 3, 4, 0])), Taken),
    ]
}

/// Each with a prefix of its own, good ones before: so what is withdrawn was there.
fn prefix(number: usize) -> IpNetwork {
    let number = u8::try_from(number).expect("few cases");
    IpNetwork::new([198, 18, number, 0].into(), 24).expect("a prefix")
}

fn open_keys() -> String {
    format!("gtsm = false\npassive = true\n[[bgp.peer.import]]\naction = \"accept\"\n{GIVES_ALL}")
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is of IPv6"),
    }
}

#[test]
fn a_malformed_attribute_costs_its_route_at_most_and_never_the_session() {
    with_lab(open_lab_v4().nodes(2).backend(BGP), |lab| {
        let host = Host::on(lab, "odd", 1)?;
        let hop = v4(host.address(false));
        lab.apply_config(&(lab.cluster_config() + &bare_peer("odd", hop.into(), TOR, &open_keys())))?;
        let (node, pods) = (lab.node(1), pods(lab)?);
        let to = pods[1].address(false)?;
        let probe = Probe::start(pods[0].namespace(), pods[1].namespace(), to, std::time::Duration::from_millis(1))?;
        // A hold time, so that it hears KEEPALIVEs.
        let introduction = Introduction { hold_time: 3, ..Introduction::new(TOR, [10, 0, 0, 1].into()) };
        let raw = Raw::dial(&host, node.addresses()[0], &introduction)?;
        let cases = attributes(&Parts { hop });
        assert!(cases.iter().filter(|(.., fate)| *fate == Withdrawn).count() >= 30);
        let good = |prefix| raw.send(&update(&[], &mandatory(&[TOR], hop), &[prefix]));
        for (number, (.., fate)) in cases.iter().enumerate() {
            if *fate == Withdrawn {
                good(prefix(number))?;
            }
        }
        let last = prefix(cases.iter().rposition(|(.., fate)| *fate == Withdrawn).expect("there is one"));
        leads_by(node, last, &[hop.into()])?;
        for (number, (_, attributes, _)) in cases.iter().enumerate() {
            raw.send(&update(&[], attributes, &[prefix(number)]))?;
        }
        // Prefixes that no router may have are left out; those beside them are not.
        let beside = prefix(cases.len());
        let odd = [&[4, 0xE0], nlri(&[beside]).as_slice(), &[8, 127]].concat();
        raw.send(&update_of(&[], &mandatory(&[TOR], hop), &odd))?;
        // With host bits it is the prefix all the same.
        raw.send(&update_of(&[], &mandatory(&[TOR], hop), &[24, 198, 18, 200, 20, 198, 19, 255]))?;
        good(net("203.0.113.0/24"))?;
        leads_by(node, net("203.0.113.0/24"), &[hop.into()])?;
        leads_by(node, net("198.19.240.0/20"), &[hop.into()])?;
        let gateway = [hop.to_string()];
        let mut wrong = Vec::new();
        for (number, (what, _, fate)) in cases.iter().enumerate() {
            let seen = gateways(node, prefix(number))?;
            if (*fate == Taken) != (seen == gateway) {
                wrong.push(format!("{what}: {fate:?} is right, and the kernel leads by {seen:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", node.last_words(60));
        assert_eq!((gateways(node, beside)?, gateways(node, net("224.0.0.0/4"))?), (gateway.to_vec(), Vec::new()));

        // The session goes on: KEEPALIVEs come, and no NOTIFICATION has.
        let from = raw.count();
        deadline::until_some("two KEEPALIVEs more", PATIENCE, || {
            let alive =
                raw.received_since(from).iter().filter(|message| message.bytes.get(18) == Some(&KEEPALIVE)).count();
            Ok(if alive >= 2 { Ok(()) } else { Err((alive, raw.end())) })
        })?;
        assert!(raw.received().iter().all(|message| message.notification().is_none()));
        assert_eq!((raw.end(), sessions_ended(node)), (None, 0));
        let told = node.daemon_log().matches("sent a malformed UPDATE").count();
        assert_eq!(told, 1, "the log tells of it, once a minute");
        probe.stop()?.expect_no_loss()
    });
}

#[test]
fn an_update_of_which_the_routes_cannot_be_told_ends_the_session_with_the_reason() {
    let mp = |family: u8, hop: &[u8]| {
        let length = u8::try_from(hop.len()).expect("short");
        attribute(OPTIONAL, 14, &[&[0, family, 1, length], hop, &[0, 64, 0x20, 1, 0x0D, 0xB8, 0, 1, 0, 0]].concat())
    };
    let hop6: Ipv6Addr = "2001:db8::1".parse().expect("an address");
    let with = |attributes: &[u8]| update_of(&[], &[&origin(0), as_path(&[TOR]).as_slice(), attributes].concat(), &[]);
    let of6 = mp_reach(Family::Ipv6, hop6.into(), &[net("2001:db8:1::/48")]);
    let raw_update = |body: &[u8]| twill_tests::routers::raw::message::frame(2, body);
    let with_lengths = |prefixes: &[u8]| update_of(&[], &mandatory(&[TOR], [192, 168, 77, 201].into()), prefixes);
    let cases: Vec<(&str, Vec<u8>, (u8, u8))> = vec![
        ("withdrawn routes longer than the message", raw_update(&[0, 9, 0, 0]), (3, 1)),
        ("attributes longer than the message", raw_update(&[0, 0, 0, 9, 0x40]), (3, 1)),
        ("a prefix of 33 bits", with_lengths(&[33, 198, 18, 0, 0, 0]), (3, 10)),
        ("a prefix that is cut", with_lengths(&[24, 198, 18]), (3, 10)),
        ("a withdrawn prefix of 200 bits", update_of(&[200, 1, 2, 3], &[], &[]), (3, 10)),
        ("a well-known attribute that there is not", with(&attribute(TRANSITIVE, 77, &[1])), (3, 2)),
        ("MP_REACH_NLRI twice", with(&[of6.clone(), of6.clone()].concat()), (3, 1)),
        ("MP_REACH_NLRI with a next hop of seven bytes", with(&mp(2, &[7; 7])), (3, 9)),
        ("MP_REACH_NLRI that is cut", with(&attribute(OPTIONAL, 14, &[0, 2])), (3, 5)),
        ("MP_UNREACH_NLRI with a prefix of 129 bits", with(&attribute(OPTIONAL, 15, &[0, 2, 1, 129, 1])), (3, 9)),
    ];
    with_lab(open_lab_v4().nodes(1).backend(BGP), |lab| {
        // A session that has failed waits before the next one: a host for each.
        let hosts = (1_u8..).take(cases.len()).map(|number| Host::on(lab, &format!("odd{number}"), number));
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        let peers = hosts.iter().map(|host| bare_peer(host.name(), host.address(false), TOR, &open_keys()));
        lab.apply_config(&(lab.cluster_config() + &peers.collect::<String>()))?;
        let node = lab.node(1);
        for ((number, host), (what, message, expected)) in (1_u8..).zip(&hosts).zip(&cases) {
            let families = Family::ALL.to_vec();
            let introduction = Introduction { families, ..Introduction::new(TOR, [10, 0, 0, number].into()) };
            let raw = Raw::dial(host, node.addresses()[0], &introduction)?;
            let kept = prefix(usize::from(number));
            raw.send(&update(
                &[],
                &[mandatory(&[TOR], v4(host.address(false))), communities(&[(1, 2)])].concat(),
                &[kept],
            ))?;
            leads_by(node, kept, &[host.address(false)])?;
            raw.send(message)?;
            assert_eq!(raw.until_notification()?, *expected, "{what}");
            raw.until_closed()?;
            leads_by(node, kept, &[])?;
            node.says(&format!("the session with BGP peer {} ({}) is down: sent: ", host.name(), host.address(false)))?;
        }
        Ok(())
    });
}
