//! The routers that the tests of BGP stand on: that BIRD, GoBGP and the raw speaker do with each other what they are configured for, and
//! that what is asked of them is what they have.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnetwork::IpNetwork;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::routers::raw::{BgpMessage, Feed, Introduction, Listener, Received, message};
use twill_tests::routers::{
    Announcement, Bird, Family, Gobgp, Host, Neighbour, Raw, Route, Router, Session, Settings, bird, gobgp,
    with_routers,
};
use twill_tests::{Lab, LabBuilder, Result, Underlay};

/// A wire without nodes.
fn bare() -> LabBuilder {
    Lab::builder().nodes(0).stand_alone([net("10.42.0.0/24")])
}

fn both() -> Vec<&'static str> {
    [bird::PROGRAMS, gobgp::PROGRAMS].concat()
}

fn net(text: &str) -> IpNetwork {
    text.parse().expect("a network")
}

/// A router's settings: its AS is 65000 and its number.
fn settings(number: u8) -> Settings {
    Settings::new(asn(number), Ipv4Addr::new(10, 0, 0, number))
}

fn asn(number: u8) -> u32 {
    65000 + u32::from(number)
}

fn announcement(prefix: &str) -> Announcement {
    Announcement::new(net(prefix))
}

fn paths(routes: &[Route]) -> Vec<&[u32]> {
    routes.iter().map(|route| route.as_path.as_slice()).collect()
}

#[test]
fn bird_and_gobgp_tell_each_other_routes_of_both_families_with_passwords() {
    with_routers(&both(), bare(), |lab| {
        let (one, two) = (Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?);
        let neighbours = |settings: Settings, of: &Host, number: u8| {
            of.addresses().iter().fold(settings, |settings, address| {
                let password = Some("a secret of both".to_owned());
                settings.with(Neighbour { password, ..Neighbour::new(*address, asn(number)) })
            })
        };
        let said = Announcement {
            communities: vec![(65001, 7)],
            large_communities: vec![[65001, 1, 2]],
            med: Some(5),
            ..announcement("198.51.100.0/24")
        };
        let of_bird = Settings { kernel: true, restart: Some(60), ..settings(1) };
        let of_bird = of_bird.announcing(said.clone()).announcing(announcement("2001:db8:1::/48"));
        let mut bird = Bird::start(&one, neighbours(of_bird, &two, 2))?;
        let of_gobgp = Settings { restart: Some(60), ..settings(2) };
        let of_gobgp =
            of_gobgp.announcing(Announcement { communities: vec![(65002, 9)], ..announcement("203.0.113.0/24") });
        let mut gobgp = Gobgp::start(&two, neighbours(of_gobgp.announcing(announcement("2001:db8:2::/48")), &one, 1))?;
        for address in two.addresses() {
            assert_eq!(bird.until_established(*address)?.asn, asn(2));
        }
        for address in one.addresses() {
            assert_eq!(gobgp.until_established(*address)?.asn, asn(1));
        }

        let route = gobgp.until_route(said.prefix)?;
        let seen = (route.from, route.next_hop, route.as_path, route.med);
        assert_eq!(seen, (Some(one.address(false)), Some(one.address(false)), vec![asn(1)], Some(5)));
        assert_eq!((route.communities, route.large_communities), (said.communities, said.large_communities));
        let route = bird.until_route(net("203.0.113.0/24"))?;
        let seen = (route.from, route.next_hop, route.as_path, route.communities);
        assert_eq!(seen, (Some(two.address(false)), Some(two.address(false)), vec![asn(2)], vec![(65002, 9)]));
        assert_eq!(bird.until_route(net("2001:db8:2::/48"))?.next_hop, Some(two.address(true)));
        assert_eq!(gobgp.until_route(net("2001:db8:1::/48"))?.next_hop, Some(one.address(true)));
        for router in [&bird as &dyn Router, &gobgp] {
            assert_eq!(Family::ALL.map(|family| router.learned(family).unwrap()), [1, 1], "{}", router.name());
            assert_eq!(router.routes(net("192.0.2.0/24"))?, []);
        }
        let via = format!("via {}", two.address(false));
        deadline::until("the kernel has it", PATIENCE, || {
            Ok(one.namespace().run(&["ip", "route", "show", "203.0.113.0/24"])?.contains(&via))
        })?;

        // What is configured anew is there without a new session; what is withdrawn is gone.
        let pid = (bird.pid()?, gobgp.pid()?);
        bird.configure(bird.settings().clone().announcing(announcement("198.51.101.0/24")))?;
        gobgp.until_route(net("198.51.101.0/24"))?;
        let mut fewer = gobgp.settings().clone();
        fewer.announced.remove(0);
        gobgp.configure(fewer)?;
        bird.until_gone(net("203.0.113.0/24"))?;
        assert_eq!((bird.pid()?, gobgp.pid()?), pid);

        // It restarts gracefully, and its neighbour keeps its routes meanwhile.
        gobgp.kill()?;
        bird.until_session(two.address(false), "gone", &|session| !session.is_established())?;
        assert_eq!(bird.routes(net("2001:db8:2::/48"))?.len(), 1);
        gobgp.run(true)?;
        bird.until_established(two.address(true))?;
        bird.stop()?;
        gobgp.until_gone(said.prefix)
    });
}

#[test]
fn sessions_are_reset_stopped_started_and_refreshed_and_bird_restarts_gracefully() {
    with_routers(&both(), bare().underlay(Underlay::V4), |lab| {
        let (one, two) = (Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?);
        let (of_bird, of_gobgp) = (one.address(false), two.address(false));
        let restarting = |number: u8| Settings { restart: Some(60), ..settings(number) };
        let own = net("198.51.100.0/24");
        let bird = restarting(1).announcing(Announcement::new(own)).with(Neighbour::new(of_gobgp, asn(2)));
        let mut bird = Bird::start(&one, bird)?;
        let other_own = net("203.0.113.0/24");
        let gobgp = restarting(2).announcing(Announcement::new(other_own)).with(Neighbour::new(of_bird, asn(1)));
        let mut gobgp = Gobgp::start(&two, gobgp)?;
        gobgp.until_route(own)?;
        bird.until_route(other_own)?;
        bird.enable(of_gobgp, false)?;
        gobgp.until_gone(own)?;
        bird.enable(of_gobgp, true)?;
        gobgp.until_route(own)?;
        bird.until_route(other_own)?;
        gobgp.enable(of_bird, false)?;
        bird.until_gone(other_own)?;
        gobgp.enable(of_bird, true)?;
        bird.until_route(other_own)?;
        gobgp.until_established(of_bird)?;
        bird.refresh(of_gobgp)?;
        gobgp.refresh(of_bird)?;
        bird.reset(of_gobgp)?;
        gobgp.reset(of_bird)?;
        gobgp.until_route(own)?;

        bird.until_established(of_gobgp)?;
        bird.stop_gracefully()?;
        gobgp.until_session(of_bird, "gone", &|session| !session.is_established())?;
        assert_eq!(gobgp.routes(own)?.len(), 1, "it waits for the neighbour that restarts");
        bird.run(true)?;
        gobgp.until_established(of_bird)?;
        gobgp.stop()?;
        bird.until_session(of_gobgp, "gone", &|session| !session.is_established()).map(drop)
    });
}

#[test]
fn a_wrong_password_keeps_a_session_down_and_a_right_one_does_not() {
    with_routers(&bird::PROGRAMS, bare().underlay(Underlay::V4), |lab| {
        let (one, two) = (Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?);
        let with = |number: u8, other: &Host, of: u8, password: &str| {
            let password = Some(password.to_owned());
            settings(number).with(Neighbour { password, ..Neighbour::new(other.address(false), asn(of)) })
        };
        let mut first = Bird::start(&one, with(1, &two, 2, "right"))?;
        let second = Bird::start(&two, with(2, &one, 1, "wrong"))?;
        // It has tried: a connection that gets no answer is one that waits.
        first.until_session(two.address(false), "connecting", &|session| session.state == "Connect")?;
        assert!(!second.session(one.address(false))?.is_established());
        first.configure(with(1, &two, 2, "wrong"))?;
        second.until_established(one.address(false)).map(drop)
    });
}

#[test]
fn ipv4_routes_have_ipv6_next_hops_between_bird_and_gobgp() {
    with_routers(&both(), bare().underlay(Underlay::V6), |lab| {
        let (one, two) = (Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?);
        let extended = |other: &Host, of: u8| Neighbour {
            families: vec![Family::Ipv4],
            extended_next_hop: true,
            ..Neighbour::new(other.address(true), asn(of))
        };
        let of_bird = Settings { kernel: true, ..settings(1) }.announcing(announcement("198.51.100.0/24"));
        let bird = Bird::start(&one, of_bird.with(extended(&two, 2)))?;
        let of_gobgp = settings(2).announcing(announcement("203.0.113.0/24")).with(extended(&one, 1));
        let gobgp = Gobgp::start(&two, of_gobgp)?;
        assert_eq!(gobgp.until_route(net("198.51.100.0/24"))?.next_hop, Some(one.address(true)));
        assert_eq!(bird.until_route(net("203.0.113.0/24"))?.next_hop, Some(two.address(true)));
        let via = format!("via inet6 {}", two.address(true));
        deadline::until("the kernel has it", PATIENCE, || {
            Ok(one.namespace().run(&["ip", "route", "show", "203.0.113.0/24"])?.contains(&via))
        })
    });
}

#[test]
fn bird_reflects_and_uses_equal_routes_together() {
    with_routers(&both(), bare().underlay(Underlay::V4), |lab| {
        let hosts: Vec<_> =
            (1..=3).map(|number| Host::on(lab, &format!("h{number}"), number)).collect::<Result<_>>()?;
        let address = |number: usize| hosts[number - 1].address(false);
        let client = |number: usize| Neighbour { client: true, ..Neighbour::new(address(number), 65000) };
        let internal = |number: u8| Settings { asn: 65000, ..settings(number) };
        let reflector =
            Settings { kernel: true, multipath: Some(4), cluster: Some([9, 9, 9, 9].into()), ..internal(1) };
        let reflector = Bird::start(&hosts[0], reflector.with(client(2)).with(client(3)))?;
        let with_reflector = |number: u8| internal(number).with(Neighbour::new(address(1), 65000));
        let shared = "203.0.113.0/24";
        let one = with_reflector(2).announcing(announcement("198.51.100.0/24")).announcing(announcement(shared));
        let one = Bird::start(&hosts[1], one)?;
        let two = Gobgp::start(&hosts[2], with_reflector(3).announcing(announcement(shared)))?;
        let route = two.until_route(net("198.51.100.0/24"))?;
        assert_eq!((route.from, route.next_hop), (Some(address(1)), Some(address(2))));
        assert_eq!((route.originator, route.clusters), (Some([10, 0, 0, 2].into()), vec![[9, 9, 9, 9].into()]));
        assert_eq!((route.local_pref, route.as_path), (Some(100), vec![]));
        reflector.until_routes(net(shared), "of both", &|routes| paths(routes) == [[0_u32; 0]; 2])?;
        let words = ["ip", "route", "show", shared];
        deadline::until_some("the kernel has both next hops", PATIENCE, || {
            let seen = hosts[0].namespace().run(&words)?;
            Ok(if [2, 3].iter().all(|n| seen.contains(&address(*n).to_string())) { Ok(()) } else { Err(seen) })
        })?;
        one.enable(address(1), false)?;
        two.until_gone(net("198.51.100.0/24"))?;
        one.enable(address(1), true)?;
        two.until_route(net("198.51.100.0/24")).map(drop)
    });
}

#[test]
fn a_reflector_of_gobgp_names_the_originator() {
    with_routers(&both(), bare().underlay(Underlay::V4), |lab| {
        let hosts: Vec<_> =
            (1..=3).map(|number| Host::on(lab, &format!("h{number}"), number)).collect::<Result<_>>()?;
        let address = |number: usize| hosts[number - 1].address(false);
        let client = |number: usize| Neighbour { client: true, ..Neighbour::new(address(number), 65000) };
        let internal = |number: u8| Settings { asn: 65000, ..settings(number) };
        let _reflector = Gobgp::start(&hosts[0], internal(1).with(client(2)).with(client(3)))?;
        let with_reflector = |number: u8| internal(number).with(Neighbour::new(address(1), 65000));
        let _one = Bird::start(&hosts[1], with_reflector(2).announcing(announcement("198.51.100.0/24")))?;
        let two = Bird::start(&hosts[2], with_reflector(3))?;
        let route = two.until_route(net("198.51.100.0/24"))?;
        assert_eq!((route.next_hop, route.originator), (Some(address(2)), Some([10, 0, 0, 2].into())));
        assert_eq!(route.clusters, [Ipv4Addr::from([10, 0, 0, 1])]);
        Ok(())
    });
}

#[test]
fn bfd_of_bird_notices_a_frozen_neighbour_long_before_the_hold_time() {
    with_routers(&bird::PROGRAMS, bare().underlay(Underlay::V4), |lab| {
        let (one, two) = (Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?);
        let with = |other: &Host, of: u8| Neighbour { bfd: true, ..Neighbour::new(other.address(false), asn(of)) };
        let first = Bird::start(&one, settings(1).with(with(&two, 2)))?;
        let second = Bird::start(&two, settings(2).with(with(&one, 1)))?;
        let is_up = |session: &Session| session.is_established() && session.bfd.as_deref() == Some("Up");
        first.until_session(two.address(false), "up, and BFD's too", &is_up)?;
        // All waits end before the hold time of 90 s.
        second.signal(nix::sys::signal::Signal::SIGSTOP)?;
        let session = first.until_session(two.address(false), "down", &|session| !session.is_established())?;
        let error = session.last_error.unwrap_or_default();
        assert!(error.contains("BFD session down"), "{error}");
        Ok(())
    });
}

/// The announced and the withdrawn prefixes of an UPDATE, without those of attributes.
fn prefixes(received: &Received) -> Option<(Vec<String>, Vec<String>)> {
    let Ok(BgpMessage::Update(update)) = &received.message else { return None };
    let names = |all: &[bgpkit_parser::models::NetworkPrefix]| all.iter().map(ToString::to_string).collect();
    Some((names(&update.announced_prefixes), names(&update.withdrawn_prefixes)))
}

#[test]
fn the_raw_speaker_hears_what_bird_says_and_bird_has_what_it_sends() {
    with_routers(&bird::PROGRAMS, bare().underlay(Underlay::V4), |lab| {
        let (one, two) = (Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?);
        let (of_bird, of_raw) = (one.address(false), two.address(false));
        let passive = Neighbour { passive: true, ..Neighbour::new(of_raw, asn(2)) };
        let bird = Bird::start(&one, settings(1).announcing(announcement("198.51.100.0/24")).with(passive))?;
        let introduction = Introduction::new(asn(2), [10, 0, 0, 2].into());
        let raw = Raw::dial(&two, of_bird, &introduction)?;
        assert_eq!((raw.open().bgp_identifier, raw.open().hold_time), ([10, 0, 0, 1].into(), 90));
        let announced = raw.until("its route", |received| prefixes(received).filter(|(new, _)| !new.is_empty()))?;
        assert_eq!(announced, (vec!["198.51.100.0/24".to_owned()], vec![]));

        let IpAddr::V4(hop) = of_raw else { unreachable!("the wire has IPv4 alone") };
        let attributes = [message::mandatory(&[asn(2), 7], hop), message::communities(&[(1, 2)])].concat();
        raw.send(&message::update(&[], &attributes, &[net("203.0.113.0/24")]))?;
        let route = bird.until_route(net("203.0.113.0/24"))?;
        assert_eq!((route.as_path, route.communities, route.from), (vec![asn(2), 7], vec![(1, 2)], Some(of_raw)));
        raw.send(&message::update(&[net("203.0.113.0/24")], &[], &[]))?;
        bird.until_gone(net("203.0.113.0/24"))?;

        // An ORIGIN of a wrong length: treated as withdrawn (RFC 7606, section 7.1).
        let wrong = [message::attribute(message::TRANSITIVE, 1, &[0, 0]), message::as_path(&[asn(2)])].concat();
        raw.send(&message::update(&[], &[wrong, message::next_hop(hop)].concat(), &[net("192.0.2.0/24")]))?;
        raw.send(&message::update(&[], &message::mandatory(&[asn(2)], hop), &[net("192.0.3.0/24")]))?;
        bird.until_route(net("192.0.3.0/24"))?;
        assert_eq!((bird.routes(net("192.0.2.0/24"))?, raw.end()), (vec![], None));

        // A message of a type that there is not ends the session (RFC 4271, section 6.1).
        raw.send(&message::frame(9, &[]))?;
        assert_eq!(raw.until_notification()?, (1, 3));
        raw.until_closed()?;
        bird.until_gone(net("192.0.3.0/24"))
    });
}

#[test]
fn the_raw_speaker_can_be_called_and_lives_by_its_keepalives() {
    with_routers(&bird::PROGRAMS, bare().underlay(Underlay::V4), |lab| {
        let (one, two) = (Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?);
        let listener = Listener::on(&two, two.address(false))?;
        let neighbour = Neighbour::new(two.address(false), asn(2));
        let bird = Bird::start(&one, settings(1).announcing(announcement("198.51.100.0/24")).with(neighbour))?;
        let introduction = Introduction { hold_time: 3, ..Introduction::new(asn(2), [10, 0, 0, 2].into()) };
        let raw = listener.accept(&introduction)?;
        raw.until("its route", |received| prefixes(received).filter(|(new, _)| !new.is_empty()))?;
        // Longer than its hold time, by the messages that BIRD sends in its turn, each after a second.
        let is_alive = |received: &Received| matches!(received.message, Ok(BgpMessage::KeepAlive));
        deadline::until_some("it has lived for five KEEPALIVEs of BIRD's", PATIENCE, || {
            let count = raw.received().iter().filter(|received| is_alive(received)).count();
            Ok(if count >= 6 { Ok(()) } else { Err((count, raw.end())) })
        })?;
        assert!(bird.session(two.address(false))?.is_established());
        assert!(raw.received().iter().all(|received| received.message.is_ok()));
        drop(raw);
        bird.until_session(two.address(false), "down", &|session| !session.is_established()).map(drop)
    });
}

#[test]
fn a_hundred_thousand_prefixes_of_the_raw_speaker_are_in_both_routers_and_gone_when_withdrawn() {
    with_routers(&both(), bare().underlay(Underlay::V4), |lab| {
        let hosts: Vec<_> =
            (1..=3).map(|number| Host::on(lab, &format!("h{number}"), number)).collect::<Result<_>>()?;
        let IpAddr::V4(hop) = hosts[2].address(false) else { unreachable!("the wire has IPv4 alone") };
        let with_raw =
            |number: u8| settings(number).with(Neighbour { passive: true, ..Neighbour::new(hop.into(), asn(3)) });
        let routers: [Box<dyn Router>; 2] =
            [Box::new(Bird::start(&hosts[0], with_raw(1))?), Box::new(Gobgp::start(&hosts[1], with_raw(2))?)];
        let feed = Feed::new(100_000, asn(3), hop);
        for (router, host) in routers.iter().zip(&hosts) {
            let introduction = Introduction::new(asn(3), [10, 0, 0, 3].into());
            let raw = Raw::dial(&hosts[2], host.address(false), &introduction)?;
            raw.send(&feed.announcement())?;
            router.until_learned(Family::Ipv4, 100_000)?;
            raw.send(&feed.withdrawal())?;
            router.until_learned(Family::Ipv4, 0)?;
            assert_eq!(raw.end(), None);
        }
        Ok(())
    });
}

#[test]
fn a_router_ends_with_its_value_and_what_it_cannot_do_is_said_before_it_starts() {
    with_routers(&both(), bare().underlay(Underlay::V4), |lab| {
        let host = Host::on(lab, "one", 1)?;
        let exists = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
        for number in 1..=2 {
            let router: Box<dyn Router> = match number {
                1 => Box::new(Bird::start(&host, settings(1))?),
                _ => Box::new(Gobgp::start(&host, settings(1))?),
            };
            let pid = router.pid()?;
            assert!(exists(pid) && router.sessions()?.is_empty());
            drop(router);
            assert!(!exists(pid), "{pid} has outlived its router");
        }
        let error = Gobgp::start(&host, Settings { kernel: true, ..settings(1) }).unwrap_err().to_string();
        assert!(error.contains("no routes into the kernel"), "{error}");
        let twice =
            settings(1).with(Neighbour::new(host.address(false), 7)).with(Neighbour::new(host.address(false), 8));
        let error = Bird::start(&host, twice).unwrap_err().to_string();
        assert!(error.contains("has ended"), "{error}");
        Ok(())
    });
}
