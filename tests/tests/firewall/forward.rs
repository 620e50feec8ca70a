//! The chains of others that drop what a node forwards: told, opened where that is wanted, repaired, and left as they were.

use std::net::IpAddr;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, Node, Pod, Result, with_lab};

/// What Docker makes, by the same program.
const DOCKER: &str = "
for iptables in iptables-nft ip6tables-nft; do
    $iptables -P FORWARD DROP
    $iptables -N DOCKER-USER
    $iptables -A DOCKER-USER -j RETURN
    $iptables -I FORWARD -j DOCKER-USER
    $iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
done
";

/// What firewalld makes: a table that a reload makes anew.
const FIREWALLD: &str = "
add table inet firewalld
delete table inet firewalld
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        iifname \"lo\" accept
        jump filter_FORWARD_POLICIES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_POLICIES {
    }
}
";

/// A chain that somebody wrote.
const OWN: &str = "table inet own { chain forward { type filter hook forward priority 5; policy drop; }; }";

fn sh(node: &Node, script: &str) -> Result<String> {
    node.run(&["sh", "-ec", script])
}

/// The tables of others, without what counts.
fn tables(node: &Node) -> Result<String> {
    sh(node, "nft -s list table ip filter; nft -s list table ip6 filter; nft -s list table inet firewalld")
}

/// What `twillctl` says is wrong with n1, of all nodes and of the one.
fn told(lab: &Lab) -> Result<String> {
    let status = lab.node(2).twillctl_told(&["status", "--timeout", "1"])?.stdout;
    Ok(status + &lab.node(2).twillctl_told(&["node", "show", "n1"])?.stdout)
}

fn all_reach(from: &[&Pod], to: &Pod) -> bool {
    let addresses: Vec<IpAddr> = to.addresses().unwrap_or_default();
    from.iter().all(|pod| addresses.iter().all(|ip| pod.ping(*ip, 56).is_ok()))
}

fn open(lab: &Lab, open: bool) -> Result<()> {
    lab.apply_config(&(lab.cluster_config() + &format!("\n[firewall]\nopen_forward = {open}\n")))
}

fn has_rules(node: &Node, chain: &str) -> Result<bool> {
    let listing = node.run(&[&["nft", "list", "chain"][..], &chain.split(' ').collect::<Vec<_>>()].concat())?;
    Ok(["iifname", "oifname"]
        .iter()
        .all(|by| listing.contains(&format!("{by} \"tw*\" accept comment \"twilld: open_forward\""))))
}

#[test]
fn chains_of_docker_and_firewalld_are_told_opened_repaired_and_left_as_they_were() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(1);
        let (near, neighbour, far) = (node.add_pod("near")?, node.add_pod("neighbour")?, lab.node(2).add_pod("far")?);
        sh(node, DOCKER)?;
        sh(node, &format!("nft -f - <<'END'\n{FIREWALLD}\nEND"))?;
        let before = tables(node)?;
        assert!(near.ping(far.address(false)?, 56).is_err(), "what the test makes drops packets");

        let barriers = ["ip filter FORWARD drops", "ip6 filter FORWARD drops", "inet firewalld filter_FORWARD drops"];
        for barrier in barriers {
            node.says(barrier)?;
            deadline::until(&format!("twillctl tells {barrier:?}"), PATIENCE, || {
                let told = told(lab)?;
                Ok(told.matches(&format!("PROBLEM node n1: {barrier}")).count() == 2
                    && told.contains("open_forward = true"))
            })?;
        }

        open(lab, true)?;
        let flows = |when: &str| {
            deadline::until(&format!("pods are reached {when}"), PATIENCE, || {
                Ok(all_reach(&[&near, &far], &neighbour) && all_reach(&[&near], &far))
            })
        };
        flows("after open_forward")?;
        deadline::until("twillctl tells nothing any more", PATIENCE, || Ok(!told(lab)?.contains("drops what pods")))?;
        let entrances = ["ip filter DOCKER-USER", "ip6 filter DOCKER-USER", "inet firewalld filter_FORWARD"];
        for chain in entrances {
            assert!(has_rules(node, chain)?, "{chain}");
        }
        assert!(!has_rules(node, "ip filter FORWARD")?, "one entrance is enough");

        // As a restart of the one and a reload of the other do.
        sh(node, "iptables-nft -F DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN")?;
        sh(node, &format!("nft -f - <<'END'\n{FIREWALLD}\nEND"))?;
        for chain in entrances {
            deadline::until(&format!("{chain} is open again"), PATIENCE, || has_rules(node, chain))?;
        }
        flows("after a flush")?;
        node.says("repaired firewall: opened ip filter DOCKER-USER")?;

        open(lab, false)?;
        deadline::until("the tables are as they were", PATIENCE, || Ok(tables(node)? == before))?;
        node.says("ip filter DOCKER-USER has no rules of ours any more")?;
        assert!(near.ping(far.address(false)?, 56).is_err(), "it is closed again");
        Ok(())
    });
}

/// What the services of iptables have as their last rule on some distributions.
#[test]
fn a_last_rule_of_iptables_that_rejects_is_told_and_opened() {
    with_lab(Lab::builder().nodes(1), |lab| {
        let node = lab.node(1);
        let (one, other) = (node.add_pod("one")?, node.add_pod("other")?);
        sh(node, "for iptables in iptables-nft ip6tables-nft; do $iptables -A FORWARD -j REJECT; done")?;
        assert!(one.ping(other.address(false)?, 56).is_err(), "what the test makes refuses packets");
        for family in ["ip", "ip6"] {
            let refuses = "drops what pods send and get: its last rule refuses whatever comes so far";
            node.says(&format!("{family} filter FORWARD {refuses}"))?;
        }
        open(lab, true)?;
        deadline::until("pods are reached", PATIENCE, || Ok(all_reach(&[&one], &other)))?;
        assert!(has_rules(node, "ip filter FORWARD")? && has_rules(node, "ip6 filter FORWARD")?);
        Ok(())
    });
}

#[test]
fn a_chain_that_somebody_wrote_is_told_and_never_touched_and_uninstall_leaves_nothing() {
    with_lab(Lab::builder().nodes(1), |lab| {
        let node = lab.node(1);
        sh(node, DOCKER)?;
        let before = node.run(&["nft", "-s", "list", "table", "ip", "filter"])?;
        node.run(&["nft", OWN])?;
        let own = node.run(&["nft", "-a", "list", "table", "inet", "own"])?;
        open(lab, true)?;
        deadline::until("what is Docker's is open", PATIENCE, || has_rules(node, "ip filter DOCKER-USER"))?;
        node.says("inet own forward drops what pods send and get: its policy is drop")?;
        node.says("nft insert rule inet own forward iifname \"tw*\" accept")?;
        assert_eq!(node.run(&["nft", "-a", "list", "table", "inet", "own"])?, own);
        for by in ["iifname", "oifname"] {
            node.run(&["nft", &format!("insert rule inet own forward {by} \"tw*\" accept")])?;
        }
        node.says("over: inet own forward drops")?;

        node.stop_daemon()?;
        let empty = node.directory().join("empty");
        let empty = empty.to_string_lossy();
        let daemon = node.binaries().daemon();
        let run_dir = node.run_dir();
        node.run(&[
            &daemon.to_string_lossy(),
            "uninstall",
            "--cni-bin-dir",
            &empty,
            "--cni-conf-dir",
            &empty,
            "--run-dir",
            &run_dir.to_string_lossy(),
        ])?;
        assert_eq!(node.run(&["nft", "-s", "list", "table", "ip", "filter"])?, before);
        Ok(())
    });
}
