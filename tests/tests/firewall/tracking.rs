//! Connection tracking, which costs every packet: it is there for masquerading and published ports, and not without them.

use std::net::IpAddr;

use twill_tests::conversation::Conversation;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::wire::{OUTSIDE_V4, OUTSIDE_V6};
use twill_tests::witness::Witness;
use twill_tests::{Lab, LabError, Node, Pod, PoolSpec, Result, with_lab};

/// How many connections a node tracks.
fn tracked(node: &Node) -> Result<u64> {
    let count = node.run(&["cat", "/proc/sys/net/netfilter/nf_conntrack_count"])?;
    count.trim().parse().map_err(|_| LabError::wrong(count))
}

/// Each pod sees the other by its own address, in both families.
fn see_each_other(pods: [&Pod; 2]) -> Result<()> {
    let [one, other] = pods;
    for (client, server) in [(one, other), (other, one)] {
        for ipv6 in [false, true] {
            let witness = Witness::listen(server.namespace(), server.address(ipv6)?)?;
            assert_eq!(witness.sees(client.namespace())?, client.address(ipv6)?, "seen by {}", server.name());
        }
    }
    Ok(())
}

#[test]
fn where_no_pool_is_masqueraded_no_connection_of_pods_is_tracked() {
    let pools = [PoolSpec::v4(), PoolSpec::v6()].map(|pool| pool.masqueraded(false));
    with_lab(Lab::builder().nodes(2).pools(pools), |lab| {
        let pods = [lab.node(1).add_pod("a")?, lab.node(2).add_pod("b")?];
        see_each_other([&pods[0], &pods[1]])?;
        for number in [1, 2] {
            assert_eq!(tracked(lab.node(number))?, 0, "n{number}");
        }
        let lasting = Conversation::start(pods[0].namespace(), pods[1].namespace(), pods[1].address(false)?)?;
        // The same cluster, with masquerading: what is tracked is counted, and the outside sees nodes.
        lab.apply_config(&lab.cluster_config().replace("masquerade = false", "masquerade = true"))?;
        for number in [1, 2] {
            deadline::until("it is tracked", PATIENCE, || {
                see_each_other([&pods[0], &pods[1]])?;
                Ok(tracked(lab.node(number))? > 0)
            })?;
        }
        for outside in [IpAddr::from(OUTSIDE_V4), OUTSIDE_V6.into()] {
            let seen = Witness::listen(lab.outside(), outside)?.sees(pods[0].namespace())?;
            assert!(lab.node(1).addresses().contains(&seen), "{outside} sees {seen}");
        }
        // And back: the chain goes, and what is spoken between pods goes on through all of it.
        lab.apply_config(&lab.cluster_config())?;
        for number in [1, 2] {
            deadline::until("no chain translates", PATIENCE, || {
                let table = lab.node(number).run(&["nft", "list", "table", "inet", "twill"])?;
                Ok(table.contains("chain prerouting") && !table.contains("chain postrouting"))
            })?;
        }
        see_each_other([&pods[0], &pods[1]])?;
        let (answers, _) = lasting.end()?;
        assert!(answers > 0);
        Ok(())
    });
}
