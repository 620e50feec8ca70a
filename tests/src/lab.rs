//! A whole lab: the wire, the host outside, etcd and the nodes, made and unmade together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnetwork::IpNetwork;

use crate::binaries::Binaries;
use crate::cleanup::{self, Guard};
use crate::deadline::{self, PATIENCE};
use crate::etcd::{self, Etcd};
use crate::namespace::Namespace;
use crate::node::{Node, Site};
use crate::wire::{SEAT_ETCD, SEAT_NODES, Underlay, Wire};
use crate::{LabError, Result};

/// The protocol of the cluster's routes, as `ip -N` shows it.
pub const PROTOCOL_CLUSTER: u8 = 116;
/// The protocol of the routes to a node's own pods.
pub const PROTOCOL_POD: u8 = 117;
/// The device of the VXLAN back end.
pub const VXLAN: &str = "vxlan.twill";

/// A pool of the lab's cluster.
#[derive(Debug, Clone)]
pub struct PoolSpec {
    /// The name.
    pub name: String,
    /// The range.
    pub cidr: String,
    /// The prefix length of a block; Twill's default where absent.
    pub block: Option<u8>,
    /// Whether its pods take their node's address outside.
    pub masquerade: bool,
    /// Whether its blocks are announced to BGP peers of other ASes.
    pub announce: bool,
}

impl PoolSpec {
    /// A pool with blocks of this prefix length, masqueraded.
    pub fn new(name: &str, cidr: &str, block: Option<u8>) -> Self {
        Self { name: name.into(), cidr: cidr.into(), block, masquerade: true, announce: false }
    }

    /// The same, masqueraded or not.
    pub fn masqueraded(self, masquerade: bool) -> Self {
        Self { masquerade, ..self }
    }

    /// The same, announced to other ASes or not.
    pub fn announced(self, announce: bool) -> Self {
        Self { announce, ..self }
    }

    /// An IPv4 pool for thousands of nodes.
    pub fn v4() -> Self {
        Self::new("v4", "10.42.0.0/16", None)
    }

    /// An IPv6 pool.
    pub fn v6() -> Self {
        Self::new("v6", "fd42::/104", None)
    }

    fn is_ipv6(&self) -> bool {
        self.cidr.contains(':')
    }
}

/// What kind of lab is wanted.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    prefix: Option<String>,
    nodes: u8,
    underlay: Underlay,
    pools: Vec<PoolSpec>,
    backend: String,
    subnets: Vec<IpNetwork>,
    members: u8,
    etcd: etcd::Wanted,
    asleep: bool,
}

/// A lab. It is removed when it is dropped, and when its process ends in any other way, unless it is [kept](Lab::keep).
#[derive(Debug)]
pub struct Lab {
    site: Arc<Site>,
    directory: PathBuf,
    wire: Wire,
    outside: Namespace,
    etcd: Option<Etcd>,
    nodes: Vec<Node>,
    pools: Vec<PoolSpec>,
    /// What stands in `[backend]`.
    backend: String,
    guard: Option<Guard>,
}

impl LabBuilder {
    /// How many nodes: three unless told otherwise. They are called n1, n2 and so on.
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// The families of the wire: both unless told otherwise.
    pub fn underlay(mut self, underlay: Underlay) -> Self {
        self.underlay = underlay;
        self
    }

    /// The pools: one of each family unless told otherwise.
    pub fn pools(mut self, pools: impl IntoIterator<Item = PoolSpec>) -> Self {
        self.pools = pools.into_iter().collect();
        self
    }

    /// What stands in the cluster configuration's `[backend]`, as TOML: VXLAN unless told otherwise.
    pub fn backend(mut self, toml: &str) -> Self {
        self.backend = toml.to_owned();
        self
    }

    /// Neither etcd nor daemons: the plugin gives out addresses of these subnets.
    pub fn stand_alone(mut self, subnets: impl IntoIterator<Item = IpNetwork>) -> Self {
        self.subnets = subnets.into_iter().collect();
        self
    }

    /// etcd has TLS and wants certificates, and each node has a role that allows what a node does, and no more.
    pub fn secured(mut self) -> Self {
        self.etcd.secured = true;
        self
    }

    /// How many members etcd has: one unless told otherwise. They are called etcd, etcd2 and so on.
    pub fn members(mut self, members: u8) -> Self {
        self.members = members;
        self
    }

    /// More words for the command lines of etcd's members.
    pub fn etcd_words(mut self, words: &[&str]) -> Self {
        self.etcd.words = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The nodes are there, and no daemon runs on them yet.
    pub fn asleep(mut self) -> Self {
        self.asleep = true;
        self
    }

    /// A name for people, instead of a prefix made of the process ID.
    pub fn name(mut self, name: &str) -> Self {
        self.prefix = Some(name.into());
        self
    }

    /// Makes the lab, and waits until every node knows the blocks of every other.
    pub fn build(self) -> Result<Lab> {
        let binaries = Binaries::ready()?;
        cleanup::sweep()?;
        let prefix = self.prefix.unwrap_or_else(fresh_prefix);
        let directory = cleanup::claim(&prefix)?;
        // The guard stands before there is anything to guard. Until the lab is whole, a failure goes the same way.
        let guard = Guard::post(&prefix)?;
        let stand_alone = !self.subnets.is_empty();
        let made = (|| {
            let wire = Wire::create(format!("{prefix}-wire"), self.underlay)?;
            let outside = wire.create_outside(format!("{prefix}-out"))?;
            let place = Place { prefix: &prefix, directory: &directory, wire: &wire, outside: &outside };
            let etcd = (!stand_alone).then(|| start_etcd(place, self.members, &self.etcd)).transpose()?;
            Ok((wire, outside, etcd))
        })();
        let (wire, outside, etcd) = match made {
            Ok(made) => made,
            Err(error) => {
                cleanup::remove(&prefix)?;
                guard.relieve()?;
                return Err(error);
            }
        };
        let endpoints = etcd.as_ref().map(Etcd::endpoints);
        let security = etcd.as_ref().and_then(|etcd| etcd.security().cloned());
        let site = Arc::new(Site { prefix, binaries, etcd: endpoints, security, subnets: self.subnets });
        let pools = if stand_alone { Vec::new() } else { self.pools };
        // From here on, dropping the lab cleans up.
        let mut lab = Lab {
            site,
            directory,
            wire,
            outside,
            etcd,
            nodes: Vec::new(),
            pools,
            backend: self.backend,
            guard: Some(guard),
        };
        if !stand_alone {
            lab.apply_config(&lab.cluster_config())?;
        }
        for _ in 0..self.nodes {
            lab.add_node()?;
            if !stand_alone && !self.asleep {
                lab.nodes.last().expect("one was just added").start_daemon()?;
            }
        }
        if !self.asleep {
            lab.converged()?;
        }
        Ok(lab)
    }
}

fn fresh_prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("tw{:x}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Where etcd is to stand.
struct Place<'a> {
    prefix: &'a str,
    directory: &'a Path,
    wire: &'a Wire,
    outside: &'a Namespace,
}

fn start_etcd(place: Place<'_>, members: u8, wanted: &etcd::Wanted) -> Result<Etcd> {
    let seat = |number: u8| {
        let name = if number == 0 { "etcd".to_owned() } else { format!("etcd{}", number + 1) };
        let namespace = Namespace::create(format!("{}-{name}", place.prefix))?;
        let addresses = place.wire.connect(&name, &namespace, SEAT_ETCD + number)?;
        Ok((name, namespace, addresses))
    };
    let seats = (0..members).map(seat).collect::<Result<Vec<etcd::Seat>>>()?;
    let etcd = Etcd::start_in(place.outside.clone(), &seats, place.directory, wanted)?;
    let file = place.directory.join("endpoints");
    std::fs::write(&file, etcd.endpoints()).map_err(LabError::io(format!("writing {}", file.display())))?;
    Ok(etcd)
}

impl Lab {
    /// A lab of three nodes, with both families everywhere.
    pub fn builder() -> LabBuilder {
        let pools = vec![PoolSpec::v4(), PoolSpec::v6()];
        LabBuilder {
            prefix: None,
            nodes: 3,
            underlay: Underlay::Dual,
            pools,
            backend: "type = \"vxlan\"\n".to_owned(),
            subnets: Vec::new(),
            members: 1,
            etcd: etcd::Wanted::default(),
            asleep: false,
        }
    }

    /// What all its names begin with.
    pub fn prefix(&self) -> &str {
        &self.site.prefix
    }

    /// Its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The programs that it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.site.binaries
    }

    /// The wire.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The host outside, which is the nodes' gateway and knows no route to a pod.
    pub fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// etcd. Not to be asked for in a stand-alone lab.
    pub fn etcd(&self) -> &Etcd {
        self.etcd.as_ref().expect("the lab is not stand-alone")
    }

    /// The nodes in the order of their joining.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with this number, from 1.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// Adds a node, and starts its daemon. It does not wait until the others know it: see [`converged`](Self::converged).
    pub fn join(&mut self) -> Result<&Node> {
        self.add_node()?;
        let node = self.nodes.last().expect("one was just added");
        if self.etcd.is_some() {
            node.start_daemon()?;
        }
        Ok(node)
    }

    fn add_node(&mut self) -> Result<()> {
        let number = u8::try_from(self.nodes.len() + 1).expect("a lab has few nodes");
        let name = format!("n{number}");
        let namespace = Namespace::create(format!("{}-{name}", self.prefix()))?;
        let addresses = self.wire.connect(&name, &namespace, SEAT_NODES + number)?;
        let node = Node::install(Arc::clone(&self.site), &name, namespace, addresses)?;
        if let Some(etcd) = &self.etcd {
            etcd.admit(&name, node.directory())?;
        }
        self.nodes.push(node);
        Ok(())
    }

    /// The cluster configuration of the lab's pools and back end, as TOML.
    pub fn cluster_config(&self) -> String {
        self.config_with(&self.backend)
    }

    /// The same with another back end.
    pub fn config_with(&self, backend: &str) -> String {
        let mut toml = String::new();
        for pool in &self.pools {
            toml += &format!("[[pool]]\nname = \"{}\"\ncidr = \"{}\"\n", pool.name, pool.cidr);
            toml += &pool.block.map(|block| format!("block = {block}\n")).unwrap_or_default();
            toml += if pool.masquerade { "" } else { "masquerade = false\n" };
            toml += if pool.announce { "announce = true\n" } else { "" };
        }
        toml + "\n[backend]\n" + backend
    }

    /// Applies a cluster configuration by `twillctl`.
    pub fn apply_config(&self, toml: &str) -> Result<()> {
        let file = self.directory.join("cluster.toml");
        std::fs::write(&file, toml).map_err(LabError::io(format!("writing {}", file.display())))?;
        let mut command = Command::new(self.binaries().ctl());
        command.args(["config", "apply"]).arg(&file).args(["--etcd", &self.etcd().endpoints()]);
        if let Some(security) = self.etcd().security() {
            security.tell(&mut command, "TWILL_ETCD");
        }
        self.etcd().namespace().execute_confined(&command).map(drop)
    }

    /// Waits until every node has a block of each family of the pools, and every other node a route to it.
    pub fn converged(&self) -> Result<()> {
        if self.etcd.is_none() {
            return Ok(());
        }
        let names: Vec<_> = self.nodes.iter().map(|node| node.name().to_owned()).collect();
        self.converged_among(&names)
    }

    /// The same among some of the nodes.
    pub fn converged_among<S: AsRef<str>>(&self, names: &[S]) -> Result<()> {
        let is_meant = |name: &str| names.iter().any(|n| n.as_ref() == name);
        let families: BTreeSet<bool> = self.pools.iter().map(PoolSpec::is_ipv6).collect();
        let looked = deadline::until_some("all nodes know all blocks", PATIENCE, || {
            for node in self.nodes.iter().filter(|n| is_meant(n.name())) {
                node.expect_daemon()?;
            }
            let blocks: Vec<_> = self.etcd().blocks()?.into_iter().filter(|b| is_meant(&b.node)).collect();
            for name in names.iter().map(AsRef::as_ref) {
                for ipv6 in &families {
                    if !blocks.iter().any(|b| b.node == name && b.cidr.is_ipv6() == *ipv6) {
                        return Ok(Err(format!("{name} has no {} block", if *ipv6 { "IPv6" } else { "IPv4" })));
                    }
                }
            }
            // A block that is claimed is opened for pods a moment later.
            for node in self.nodes.iter().filter(|n| is_meant(n.name())) {
                let opened = node.query_store("SELECT cidr FROM block")?;
                if !families.iter().all(|ipv6| opened.lines().any(|cidr| cidr.contains(':') == *ipv6)) {
                    return Ok(Err(format!("{} has opened only {opened:?}", node.name())));
                }
            }
            for node in self.nodes.iter().filter(|n| is_meant(n.name())) {
                let routed = routed_prefixes(node)?;
                let others = blocks.iter().filter(|b| b.node != node.name());
                if let Some(block) = others.into_iter().find(|b| !routed.contains(&b.cidr)) {
                    return Ok(Err(format!("{} has no route to {} of {}", node.name(), block.cidr, block.node)));
                }
            }
            Ok(Ok(()))
        });
        looked.map_err(|error| LabError::wrong(format!("{error}\n{}", self.evidence())))
    }

    /// Waits until every node has on its disk, for a start without etcd, all nodes and blocks as they stand in etcd.
    pub fn saved(&self) -> Result<()> {
        deadline::until_some("all nodes have saved their view", PATIENCE, || {
            let mut wanted = Vec::new();
            for range in ["nodes/", "blocks/"] {
                for (key, value) in self.etcd().read(range)? {
                    // Fresh at every write, so that the newest record is told from those before.
                    wanted.push((key, value["nonce"].as_str().unwrap_or_default().to_owned()));
                }
            }
            for node in &self.nodes {
                let file = node.directory().join("state/view.json");
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                if let Some((key, _)) = wanted.iter().find(|(_, nonce)| !text.contains(nonce.as_str())) {
                    return Ok(Err(format!("{} lacks {key}", file.display())));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Lets the lab stay when this value is dropped and when the process ends. `hack/lab down` removes it.
    pub fn keep(mut self) -> Result<()> {
        cleanup::keep(&self.site.prefix)?;
        self.guard.take().map_or(Ok(()), Guard::relieve)
    }

    /// What helps to understand a failure: the last lines of all logs and the cluster's routes.
    pub fn evidence(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let log = node.last_words(15);
            text += &format!("--- {} of {}: the daemon's last words\n{log}\n", node.name(), self.prefix());
            for family in ["-4", "-6"] {
                text += &node.run(&["ip", family, "route", "show"]).unwrap_or_else(|e| e.to_string());
                text += "\n";
            }
        }
        text
    }
}

/// The destinations of a node's routes to other nodes' blocks; its own, which are unreachable, left out.
fn routed_prefixes(node: &Node) -> Result<BTreeSet<IpNetwork>> {
    let mut prefixes = BTreeSet::new();
    for ipv6 in [false, true] {
        for route in node.routes(ipv6, PROTOCOL_CLUSTER)? {
            let destination: Option<IpNetwork> = route["dst"].as_str().and_then(|d| d.parse().ok());
            if route["type"].is_null() {
                prefixes.extend(destination);
            }
        }
    }
    Ok(prefixes)
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        let removed = cleanup::remove(&self.site.prefix);
        let relieved = guard.relieve();
        // A panic in a drop that runs because of a panic would hide the first one.
        if let Err(error) = removed.and(relieved) {
            eprintln!("removing the lab {}: {error}", self.site.prefix);
        }
    }
}
