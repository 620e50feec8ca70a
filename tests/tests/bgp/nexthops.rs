//! IPv4 behind IPv6 next hops (RFC 8950), on a wire that has no IPv4.

use twill_tests::Underlay;
use twill_tests::routers::{Bird, Family, Host, Neighbour, Router, Settings, bird, with_routers};

use super::stage::*;

const TOR: u32 = 65001;

#[test]
fn ipv4_goes_to_bird_and_back_by_ipv6_alone() {
    with_routers(&bird::PROGRAMS, open_lab().nodes(2).underlay(Underlay::V6).backend(BGP), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let settings = Settings { kernel: true, ..announcing_external(Settings::new(TOR, [10, 0, 0, 1].into())) };
        let extended = |neighbour| Neighbour {
            families: Family::ALL.to_vec(),
            extended_next_hop: true,
            ttl_security: true,
            ..neighbour
        };
        let bird = Bird::start(&host, facing(lab, settings, extended))?;
        let (beyond, pods) = (Beyond::behind(lab, &[&host])?, pods(lab)?);
        lab.apply_config(&(lab.cluster_config() + &peers("tor", &host, TOR, "")))?;
        all_sessions_stand(lab, &bird, "tor")?;
        for node in lab.nodes() {
            for (block, route) in knows_blocks(lab, &bird, node)? {
                assert_eq!((route.next_hop, route.as_path), (Some(node.addresses()[0]), vec![ASN]), "{block}");
            }
            for prefix in EXTERNAL.map(net) {
                leads_by(node, prefix, &[host.address(true)])?;
            }
        }
        beyond.and_pods_reach_each_other(&pods, &[false, true])?;
        all_reach_all(&pods, &[false, true])?;
        for node in lab.nodes() {
            assert_eq!(sessions_ended(node), 0);
        }
        bird.enable(lab.node(1).addresses()[0], false)?;
        leads_by(lab.node(1), net(EXTERNAL[0]), &[])?;
        for block in blocks_of(lab, "n1")? {
            bird.until_gone(block)?;
        }
        Ok(())
    });
}
