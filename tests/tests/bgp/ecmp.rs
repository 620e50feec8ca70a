//! Two routers to one place, which are used together.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnetwork::IpNetwork;
use twill_tests::Result;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::namespace::Namespace;
use twill_tests::probe::Probe;
use twill_tests::routers::{Announcement, Bird, Gobgp, Host, Router, Settings, bird, gobgp, with_routers};

use super::stage::*;

/// Announced by all nodes, and a place of none.
const SHARED: &str = "10.96.0.0/16";
const TOR: u32 = 65001;
/// What the kernel chooses one of several ways by.
const POLICIES: [&str; 2] = ["net/ipv4/fib_multipath_hash_policy", "net/ipv6/fib_multipath_hash_policy"];

#[test]
fn two_routers_are_used_together_and_one_of_them_goes_without_loss() {
    let lab = open_lab().nodes(2).backend(BGP);
    with_routers(&[bird::PROGRAMS, gobgp::PROGRAMS].concat(), lab, |lab| {
        let (one, two) = (Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?);
        let settings = |number: u8| announcing_external(Settings::new(TOR, [10, 0, 0, number].into()));
        let guarded = |neighbour| twill_tests::routers::Neighbour { ttl_security: true, ..neighbour };
        let of_bird = Settings { kernel: true, multipath: Some(4), ..settings(1) };
        let mut bird = Bird::start(&one, facing(lab, of_bird, guarded))?;
        let gobgp = Gobgp::start(&two, facing(lab, settings(2), guarded))?;
        let (beyond, pods) = (Beyond::behind(lab, &[&one, &two])?, pods(lab)?);
        let announce = format!("[[bgp.announce]]\nprefix = {SHARED:?}\ncommunities = [\"64512:7\"]\n");
        let peers = peers("one", &one, TOR, "") + &peers("two", &two, TOR, "");
        lab.apply_config(&(lab.cluster_config() + &peers + &announce))?;
        let blocks = [blocks_of(lab, "n1")?, blocks_of(lab, "n2")?].concat();
        install(&gobgp, &two, &blocks)?;
        beyond.sends_by(&[1])?;
        let lead_by = |hosts: &[&Host]| {
            EXTERNAL.map(net).into_iter().try_for_each(|prefix| {
                let by: Vec<_> = hosts.iter().map(|host| host.address(prefix.is_ipv6())).collect();
                lab.nodes().iter().try_for_each(|node| leads_by(node, prefix, &by))
            })
        };
        lead_by(&[&one, &two])?;

        // The other way round: a prefix that all nodes announce is one with several ways for the router.
        let routes = bird.until_routes(net(SHARED), "of both nodes", &|routes| routes.len() == 2)?;
        assert!(routes.iter().all(|route| route.communities == [(64512, 7)]), "{routes:?}");
        deadline::until_some("the router's kernel has both ways", PATIENCE, || {
            let seen = one.namespace().run(&["ip", "route", "show", SHARED])?;
            let all = lab.nodes().iter().all(|node| seen.contains(&node.addresses()[0].to_string()));
            Ok(if all { Ok(()) } else { Err(seen) })
        })?;

        // Flows of different ports go by different ways, and what somebody else makes of that is put right.
        let node = lab.node(1).namespace();
        let goes_by_ports = || {
            deadline::until_some("flows are spread by their ports", PATIENCE, || {
                let ways =
                    EXTERNAL.map(|prefix| ways_of_ports(node, net(prefix))).into_iter().collect::<Result<Vec<_>>>()?;
                Ok(if ways.iter().all(|ways| ways.len() == 2) { Ok(()) } else { Err(ways) })
            })
        };
        goes_by_ports()?;
        POLICIES.iter().try_for_each(|policy| node.set_sysctl(policy, "0"))?;
        goes_by_ports()?;
        let mut probes = Vec::new();
        for pod in &pods {
            for target in beyond.addresses() {
                for _ in 0..4 {
                    let interval = Duration::from_millis(4);
                    probes.push(Probe::start(pod.namespace(), beyond.namespace(), target, interval)?);
                }
            }
        }
        probes.iter().try_for_each(|probe| probe.until_answered(50))?;
        bird.stop()?;
        lead_by(&[&two])?;
        probes.iter().try_for_each(|probe| probe.until_answered(50))?;
        bird.run(false)?;
        lead_by(&[&one, &two])?;
        probes.iter().try_for_each(|probe| probe.until_answered(50))?;
        gobgp.enable(lab.node(1).addresses()[0], false)?;
        leads_by(lab.node(1), net(EXTERNAL[0]), &[one.address(false)])?;
        probes.iter().try_for_each(|probe| probe.until_answered(50))?;
        probes.into_iter().try_for_each(|probe| probe.stop()?.expect_no_loss())?;
        beyond.and_pods_reach_each_other(&pods, &[false, true])?;
        // Also a prefix that nobody else has, announced later, comes by one way.
        let more = bird.settings().clone().announcing(Announcement::new(net("198.51.100.128/25")));
        bird.configure(more)?;
        assert_eq!(gateways(lab.node(1), net("198.51.100.128/25"))?, [""; 0], "it is not in the filter");
        Ok(())
    });
}

/// The gateways by which packets from sixteen ports go to one address of a prefix.
fn ways_of_ports(node: &Namespace, prefix: IpNetwork) -> Result<BTreeSet<String>> {
    let to = prefix.iter().nth(9).expect("a prefix of many addresses").to_string();
    let by = |port: u16| {
        let port = port.to_string();
        let shown = node.run(&["ip", "route", "get", &to, "ipproto", "udp", "sport", &port, "dport", "9"])?;
        Ok(shown.split_whitespace().skip_while(|word| *word != "via").nth(1).unwrap_or_default().to_owned())
    };
    (40_000..40_016).map(by).collect()
}
