//! BFD beside the sessions: a router that is gone is noticed long before the hold time.

use std::time::Duration;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::probe::Probe;
use twill_tests::routers::{Bird, Host, Neighbour, Router, Session, Settings, bird, with_routers};
use twill_tests::{Lab, Result};

use super::stage::*;

const TOR: u32 = 65001;
/// Three packets of 300 ms are missed, and then the kernel's routes are changed. Twice the second that it takes at most where the
/// machine has nothing else to do.
const MOST: Duration = Duration::from_secs(2);
/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(10);

/// Two routers to one place, the first of which is preferred.
struct Scene<'a> {
    lab: &'a Lab,
    hosts: [Host; 2],
    routers: [Bird; 2],
    beyond: Beyond,
}

fn with_scene(scenario: impl FnOnce(&mut Scene<'_>) -> Result<()>) {
    with_routers(&bird::PROGRAMS, open_lab().nodes(2).backend(BGP), |lab| {
        let hosts = [Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?];
        let start = |number: usize| {
            let id = [10, 0, 0, u8::try_from(number + 1).expect("a small number")].into();
            let settings = Settings { kernel: true, ..announcing_external(Settings::new(TOR, id)) };
            let watched = |neighbour| Neighbour { bfd: true, ttl_security: true, ..neighbour };
            Bird::start(&hosts[number], facing(lab, settings, watched))
        };
        let routers = [start(0)?, start(1)?];
        let beyond = Beyond::behind(lab, &[&hosts[0], &hosts[1]])?;
        // What comes back comes by the second.
        beyond.sends_by(&[1])?;
        let preferred = format!("bfd = true\n{}local_pref = 200\n{GIVES_ALL}", TAKES_EXTERNAL);
        let mut config = lab.cluster_config();
        for address in hosts[0].addresses() {
            config += &bare_peer(&format!("one-{}", family(*address)), *address, TOR, &preferred);
        }
        lab.apply_config(&(config + &peers("two", &hosts[1], TOR, "bfd = true\n")))?;
        let scene = &mut Scene { lab, hosts, routers, beyond };
        for (router, name) in scene.routers.iter().zip(["one", "two"]) {
            all_sessions_stand(lab, router, name)?;
            for address in lab.nodes().iter().flat_map(|node| node.addresses()) {
                let is_up = |session: &Session| session.bfd.as_deref() == Some("Up");
                router.until_session(*address, "watched by BFD", &is_up)?;
            }
        }
        scene.routers.iter().try_for_each(|router| keeps_pace(lab, router))?;
        scene.leads_by(0)?;
        scenario(scene)
    });
}

/// Waits until all sessions of BFD have come from the second between two packets with which each begins (RFC 5880, section 6.8.3) to what
/// is configured: until then three seconds are allowed.
fn keeps_pace(lab: &Lab, router: &Bird) -> Result<()> {
    let [interval, timeout] = ["0.300", "0.900"];
    deadline::until_some(&format!("{}'s BFD is as quick as it shall be", router.name()), PATIENCE, || {
        let told = router.birdc("show bfd sessions")?;
        let addresses = || lab.nodes().iter().flat_map(|node| node.addresses()).map(ToString::to_string);
        let is_quick = |address: String| {
            told.lines().any(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                words.first() == Some(&address.as_str()) && words.contains(&interval) && words.contains(&timeout)
            })
        };
        Ok(if addresses().all(is_quick) { Ok(()) } else { Err(told) })
    })
}

impl Scene<'_> {
    fn leads_by(&self, router: usize) -> Result<()> {
        for node in self.lab.nodes() {
            for prefix in EXTERNAL.map(net) {
                leads_by(node, prefix, &[self.hosts[router].address(prefix.is_ipv6())])?;
            }
        }
        Ok(())
    }
}

#[test]
fn a_link_that_is_cut_moves_traffic_to_the_other_router_within_a_second() {
    with_scene(|scene| {
        let pods = pods(scene.lab)?;
        let probes = |scene: &Scene<'_>| -> Result<Vec<Probe>> {
            let start =
                |target| Probe::start(pods[0].namespace(), scene.beyond.namespace(), target, Duration::from_millis(1));
            scene.beyond.addresses().into_iter().map(start).collect()
        };
        let before = probes(scene)?;
        before.iter().try_for_each(|probe| probe.until_answered(100))?;
        scene.lab.wire().set_port("one", false)?;
        before.iter().try_for_each(|probe| probe.until_answered(500))?;
        scene.leads_by(1)?;
        for probe in before {
            let report = probe.stop()?;
            println!("the link is cut: a gap of {:?}, {} of {} lost", report.longest_gap, report.lost, report.sent);
            let told = format!("{report:?}\n{}", scene.lab.node(1).last_words(10));
            assert!(report.lost > 0 && report.longest_gap < MOST, "{told}");
        }
        for node in scene.lab.nodes() {
            node.says("BFD")?;
        }
        scene.routers[0]
            .until_session(scene.lab.node(1).addresses()[0], "down", &|session| !session.is_established())?;

        // It comes back, which costs nothing.
        let after = probes(scene)?;
        after.iter().try_for_each(|probe| probe.until_answered(100))?;
        scene.lab.wire().set_port("one", true)?;
        all_sessions_stand(scene.lab, &scene.routers[0], "one")?;
        scene.leads_by(0)?;
        after.iter().try_for_each(|probe| probe.until_answered(100))?;
        after.into_iter().try_for_each(|probe| probe.stop()?.expect_no_loss())
    });
}

#[test]
fn a_router_that_is_frozen_is_left_and_no_session_ends_while_nothing_happens() {
    with_scene(|scene| {
        let pods = pods(scene.lab)?;
        // Packets all the time, as many as go, so that the machine is busy.
        let load: Vec<_> = (0..4)
            .map(|_| {
                let to = scene.beyond.address(false);
                Probe::start(pods[1].namespace(), scene.beyond.namespace(), to, Duration::from_micros(100))
            })
            .collect::<Result<_>>()?;
        std::thread::sleep(QUIET);
        load.into_iter().try_for_each(|probe| probe.stop().map(drop))?;
        for node in scene.lab.nodes() {
            assert_eq!(sessions_ended(node), 0, "{}", node.last_words(10));
        }
        let told = scene.routers[0].log() + &scene.routers[1].log();
        assert!(!told.contains("BFD session down"), "{told}");

        // All waits end before the hold time of 90 s.
        scene.routers[0].signal(nix::sys::signal::Signal::SIGSTOP)?;
        scene.leads_by(1)?;
        scene.beyond.and_pods_reach_each_other(&pods, &[false, true])?;
        scene.routers[0].signal(nix::sys::signal::Signal::SIGCONT)?;
        scene.leads_by(0)?;
        deadline::until("its sessions stand again", PATIENCE, || {
            Ok(scene.routers[0].sessions()?.iter().all(Session::is_established))
        })
    });
}

/// A router and then a node begin again beside BFD after ends of these kinds, a crash or an orderly one, and no packet is lost.
fn begin_again_after(crashes: &[bool]) {
    with_routers(&bird::PROGRAMS, open_lab().nodes(1).backend(BGP), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let settings = Settings { kernel: true, restart: Some(60), ..Settings::new(TOR, [10, 0, 0, 1].into()) };
        let watched = |neighbour| Neighbour { bfd: true, ttl_security: true, ..neighbour };
        let mut bird = Bird::start(&host, facing(lab, announcing_external(settings), watched))?;
        let (beyond, node) = (Beyond::behind(lab, &[&host])?, lab.node(1));
        lab.apply_config(&(lab.cluster_config() + &peers("tor", &host, TOR, "bfd = true\nconnect_retry = 1\n")))?;
        let stand = |bird: &Bird| {
            all_sessions_stand(lab, bird, "tor")?;
            node.addresses().iter().try_for_each(|address| {
                let is_up = |session: &Session| session.bfd.as_deref() == Some("Up");
                bird.until_session(*address, "watched by BFD", &is_up).map(drop)
            })
        };
        stand(&bird)?;
        let pod = node.attach("pod")?;
        for prefix in EXTERNAL.map(net) {
            leads_by(node, prefix, &[host.address(prefix.is_ipv6())])?;
        }
        let start = |target| Probe::start(pod.namespace(), beyond.namespace(), target, Duration::from_millis(1));
        let probes = beyond.addresses().into_iter().map(start).collect::<Result<Vec<_>>>()?;
        for crash in crashes {
            if *crash {
                bird.kill()?
            } else {
                bird.stop_gracefully()?
            }
            // Longer than BFD needs to notice.
            probes.iter().try_for_each(|probe| probe.until_answered(3000))?;
            bird.run(true)?;
            stand(&bird)?;
            probes.iter().try_for_each(|probe| probe.until_answered(1000))?;
        }
        // And the other way round, where the router has `bfd graceful`.
        for crash in crashes {
            if *crash {
                node.kill_daemon()?
            } else {
                node.stop_daemon().map(drop)?
            }
            probes.iter().try_for_each(|probe| probe.until_answered(3000))?;
            node.start_daemon()?;
            stand(&bird)?;
            probes.iter().try_for_each(|probe| probe.until_answered(1000))?;
        }
        probes.into_iter().try_for_each(|probe| probe.stop()?.expect_no_loss())
    });
}

#[test]
fn who_crashes_beside_bfd_keeps_its_routes_while_its_kernel_forwards() {
    begin_again_after(&[true]);
}

#[test]
#[ignore = "each beginning takes ten seconds"]
fn who_restarts_beside_bfd_keeps_its_routes_while_its_kernel_forwards() {
    begin_again_after(&[false, true, false]);
}
