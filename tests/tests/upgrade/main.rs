//! Nodes that go from one version to the next, one by one, and back, while pods talk, come and go: no packet is lost, no DEL fails, no
//! address is lost or has two pods, and no ADD fails, but that one of the whole run may find the machine too busy for its ten seconds,
//! say so, and succeed when it is called again. The older version is a real one, built by `hack/previous`.

mod abilities;
mod traffic;

use std::path::Path;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::needs::say_skipped;
use twill_tests::previous::{self, install, installed};
use twill_tests::{Lab, LabBuilder, LabError, Node, PoolSpec, Result, needs, with_lab};

use traffic::{Grounds, Pods};

const DAEMON: &str = "twilld";
const PLUGIN: &str = "twill";

/// What is replaced on a node, and in which order.
#[derive(Debug, Clone, Copy)]
enum Order {
    PluginFirst,
    DaemonFirst,
}

impl Order {
    fn programs(self) -> [&'static str; 2] {
        match self {
            Self::PluginFirst => [PLUGIN, DAEMON],
            Self::DaemonFirst => [DAEMON, PLUGIN],
        }
    }
}

/// A lab whose nodes run the older programs, on blocks in which pods may come and go for a while: an address cools for 30 s.
fn with_old_nodes(scenario: impl FnOnce(&mut Lab, &Path) -> Result<()>) {
    if let Some(why) = needs::unmet() {
        return say_skipped(&why);
    }
    let old = match previous::programs().unwrap_or_else(|error| panic!("no older programs: {error}")) {
        Ok(old) => old,
        Err(why) => return say_skipped(&why),
    };
    let pools = [PoolSpec::new("v4", "10.42.0.0/16", Some(21)), PoolSpec::new("v6", "fd42::/104", Some(117))];
    let wanted: LabBuilder = Lab::builder().pools(pools).asleep();
    with_lab(wanted, |lab| {
        for node in lab.nodes() {
            [PLUGIN, DAEMON].iter().try_for_each(|program| install(node, program, &old))?;
            without_new_keys(node)?;
            node.start_daemon_of(&installed(node, DAEMON))?;
        }
        lab.converged()?;
        scenario(lab, &old)
    });
}

/// Keys of the node's file that the older daemon does not know, and refuses: an operator writes them when the node is of this version
/// for good.
const NEW_KEYS: [&str; 2] = ["cni_bin_dir = ", "cni_conf_dir = "];

/// Takes them out of the file that the lab has written.
fn without_new_keys(node: &Node) -> Result<()> {
    let file = node.directory().join("twilld.toml");
    let what = || format!("changing {}", file.display());
    let text = std::fs::read_to_string(&file).map_err(LabError::io(what()))?;
    let kept = text.lines().filter(|line| !NEW_KEYS.iter().any(|key| line.starts_with(key)));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, kept).map_err(LabError::io(what()))
}

/// Replaces a program of a node, and has it run.
fn replace(node: &Node, program: &str, from: &Path) -> Result<()> {
    install(node, program, from)?;
    if program == DAEMON {
        let ended = node.stop_daemon()?;
        assert!(ended.is_none_or(|status| status.success()), "twilld of {} ended with {ended:?}", node.name());
        node.start_daemon_of(&installed(node, DAEMON))?;
    }
    Ok(())
}

/// All daemons answer, and nothing is wrong with any address, by the `twillctl` of each version.
fn all_is_right(lab: &Lab, tools: [&Path; 2]) -> Result<()> {
    for tools in tools {
        let ctl = tools.join("twillctl").display().to_string();
        deadline::until_some(&format!("{ctl} finds nothing wrong"), 2 * PATIENCE, || {
            lab.nodes().iter().try_for_each(Node::expect_daemon)?;
            let etcd = lab.etcd().endpoints();
            Ok(lab.etcd().namespace().run(&[&ctl, "ipam", "check", "--etcd", &etcd]).map_err(|error| error.to_string()))
        })?;
    }
    Ok(())
}

/// Brings every node to the programs of a directory, in this order of nodes and programs, while pods talk, come and go.
fn bring_to<'a>(lab: &'a Lab, to: &Path, tools: [&Path; 2], pods: &Pods<'a>, steps: [(usize, Order); 3]) -> Result<()> {
    for (number, order) in steps {
        let node = lab.node(number);
        let told = traffic::during(lab, pods, |traffic| {
            let before = traffic.attach(node, number)?;
            for program in order.programs() {
                replace(node, program, to)?;
                traffic.goes_on()?;
                all_is_right(lab, tools)?;
            }
            // What one version has attached, the other one checks and detaches.
            traffic.detach(before)
        })?;
        println!("{}, {order:?}: {told}", node.name());
    }
    Ok(())
}

/// All blocks with their owners.
fn owned_blocks(lab: &Lab) -> Result<Vec<String>> {
    let blocks = lab.etcd().blocks()?;
    let mut owned: Vec<_> = blocks.iter().map(|block| format!("{} of {}", block.cidr, block.node)).collect();
    owned.sort_unstable();
    Ok(owned)
}

#[test]
fn nodes_are_upgraded_one_by_one_and_back_and_nobody_notices() {
    use Order::{DaemonFirst, PluginFirst};
    with_old_nodes(|lab, old| {
        let new = lab.binaries().directory().to_owned();
        let lab: &Lab = lab;
        let grounds = Grounds::of(lab)?;
        let pods = Pods::attach(lab, &grounds)?;
        let before = owned_blocks(lab)?;
        let tools = [old, &new];
        bring_to(lab, &new, tools, &pods, [(1, PluginFirst), (2, DaemonFirst), (3, PluginFirst)])?;
        bring_to(lab, old, tools, &pods, [(1, DaemonFirst), (3, PluginFirst), (2, PluginFirst)])?;
        assert_eq!(owned_blocks(lab)?, before, "every node has the blocks that it had");
        pods.detach()?;
        println!("{} ADDs were called a second time", grounds.late());
        for node in lab.nodes() {
            assert_eq!(node.query_store("SELECT count(*) FROM attachment")?, "0", "{} has rows left", node.name());
            let links = node.interfaces()?;
            assert!(!links.iter().any(|name| name.starts_with("tw")), "{} has links left: {links:?}", node.name());
        }
        Ok(())
    });
}
