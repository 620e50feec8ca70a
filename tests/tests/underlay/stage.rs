//! What the scenes have in common: two nodes, something that happens to the first, and what must hold then.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::{PROTOCOL_CLUSTER, VXLAN};
use twill_tests::probe::Probe;
use twill_tests::wire::{INTERFACE, SEAT_NODES, SEAT_OUTSIDE};
use twill_tests::{Lab, LabBuilder, LabError, Node, Pod, Result, Underlay, with_lab};

/// All packets through the tunnel.
pub const TUNNEL: &str = "type = \"vxlan\"\n";
/// The tunnel, and plain routes where nodes are on one subnet.
pub const DIRECT: &str = "type = \"vxlan\"\ndirect = true\n";
/// Plain routes alone.
pub const HOST_GW: &str = "type = \"host-gw\"\n";

/// The first node's IPv4 address on the wire, as its record has it.
pub const V4: &str = "192.168.77.11/24";
/// Its IPv6 address.
pub const V6: &str = "fd00:77::11/64";
/// Another one that it may get.
pub const NEW_V4: &str = "192.168.77.111/24";
/// And of IPv6.
pub const NEW_V6: &str = "fd00:77::111/64";

/// Two nodes with a pod each, the first of which something happens to.
#[derive(Debug)]
pub struct Pair<'a> {
    pub lab: &'a Lab,
    pub pods: [Pod; 2],
    blocks: BTreeSet<String>,
    daemon: Option<u32>,
}

/// Starts the first node's daemon with these flags, and plays a scene.
pub fn with_pair(lab: LabBuilder, flags: &[&str], scene: impl FnOnce(&Pair<'_>) -> Result<()>) {
    with_prepared_pair(lab, |_| Ok(()), [flags, &[]], scene);
}

/// The same on a wire that is prepared before there are daemons, with flags for both.
pub fn with_prepared_pair(
    lab: LabBuilder,
    prepare: impl FnOnce(&Lab) -> Result<()>,
    flags: [&[&str]; 2],
    scene: impl FnOnce(&Pair<'_>) -> Result<()>,
) {
    with_lab(lab.nodes(2).asleep(), |lab| {
        prepare(lab)?;
        for (node, flags) in lab.nodes().iter().zip(flags) {
            node.start_daemon_with(flags)?;
        }
        lab.converged()?;
        let pods = [lab.node(1).attach("a")?, lab.node(2).attach("b")?];
        let blocks = blocks_of_first(lab)?;
        let pair = Pair { lab, pods, blocks, daemon: lab.node(1).daemon_pid() };
        pair.reach_each_other()?;
        scene(&pair)?;
        pair.reach_each_other()?;
        assert_eq!(blocks_of_first(lab)?, pair.blocks, "the node keeps its blocks");
        lab.node(1).expect_daemon()?;
        assert_eq!(lab.node(1).daemon_pid(), pair.daemon, "the daemon was not started again");
        Ok(())
    });
}

fn blocks_of_first(lab: &Lab) -> Result<BTreeSet<String>> {
    Ok(lab.etcd().blocks_of("n1")?.iter().map(ToString::to_string).collect())
}

impl Pair<'_> {
    pub fn node(&self) -> &Node {
        self.lab.node(1)
    }

    /// Whether there is a tunnel, whatever goes through it.
    pub fn has_tunnel(&self) -> bool {
        !self.lab.cluster_config().ends_with(HOST_GW)
    }

    /// Whether the two send to each other without a tunnel.
    fn has_plain_routes(&self) -> bool {
        !self.lab.cluster_config().ends_with(TUNNEL)
    }

    /// Runs lines of `ip` on the first node.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.node().namespace().ip_batch(lines)
    }

    /// Makes the first node's interface, which was deleted, again. It has another MAC.
    pub fn connect_again(&self) -> Result<()> {
        self.lab.wire().connect("n1", self.node().namespace(), SEAT_NODES + 1).map(drop)
    }

    /// Both ways, in all families that the pods have, within a while.
    pub fn reach_each_other(&self) -> Result<()> {
        let [a, b] = &self.pods;
        deadline::until_some("the pods reach each other", PATIENCE, || {
            // First to the node whose interface is another one: it has asked for nobody yet.
            let pings = [(b, a), (a, b)].into_iter().flat_map(|(from, to)| {
                let targets = to.addresses().into_iter().flatten();
                targets.map(move |target| from.namespace().run(&["ping", "-nqc1", "-W1", &target.to_string()]))
            });
            Ok(pings.collect::<Result<Vec<_>>>().map(drop).map_err(|error| error.to_string()))
        })
    }

    /// What the first node's record says of its underlay.
    pub fn record(&self) -> Result<Value> {
        let nodes = self.lab.etcd().nodes()?;
        let record = nodes.into_iter().find(|(name, _)| name == "n1").map(|(_, record)| record);
        record.ok_or_else(|| LabError::wrong("n1 has no record"))
    }

    /// Waits until the first node has published these addresses and sends by the first of them.
    pub fn publishes(&self, addresses: &[&str]) -> Result<()> {
        deadline::until_some(&format!("the record has {addresses:?}"), PATIENCE, || {
            self.node().expect_daemon()?;
            let underlay = &self.record()?["underlay"];
            let has: Vec<_> = ["ipv4", "ipv6"].iter().filter_map(|family| underlay[family].as_str()).collect();
            if has != addresses {
                return Ok(Err(underlay.to_string()));
            }
            Ok(self.tunnel_is_at(addresses[0])?.and(self.is_led_to_by(addresses)?))
        })
    }

    /// Whether the first node's tunnel, where it has one, is at this address.
    fn tunnel_is_at(&self, address: &str) -> Result<Result<(), String>> {
        if !self.has_tunnel() {
            return Ok(Ok(()));
        }
        let link = self.node().namespace().run_json(&["ip", "-j", "-d", "link", "show", "dev", VXLAN])?;
        let data = &link[0]["linkinfo"]["info_data"];
        let local = data["local"].as_str().or(data["local6"].as_str()).unwrap_or_default();
        let is = host(address) == local;
        Ok(if is { Ok(()) } else { Err(format!("{VXLAN} has the local address {local:?}")) })
    }

    /// Whether the second node's plain routes to the first one's blocks, where it has such, lead by these addresses,
    /// one of each family.
    fn is_led_to_by(&self, addresses: &[&str]) -> Result<Result<(), String>> {
        if !self.has_plain_routes() {
            return Ok(Ok(()));
        }
        let mut gateways = BTreeSet::new();
        for ipv6 in [false, true] {
            let routes = self.lab.node(2).routes(ipv6, PROTOCOL_CLUSTER)?;
            let plain = routes.iter().filter(|route| route["dev"] == INTERFACE && route["type"].is_null());
            gateways.extend(plain.filter_map(|route| route["gateway"].as_str()).map(str::to_owned));
        }
        let is = gateways.iter().map(String::as_str).eq(addresses.iter().copied().map(host).collect::<BTreeSet<_>>());
        Ok(if is { Ok(()) } else { Err(format!("n2 has routes by {gateways:?}")) })
    }

    /// Waits for a pass of the first node's reconciler that begins after this call: it brings back a route that nobody needs
    /// as long as there is the one of the block.
    pub fn pass(&self) -> Result<()> {
        let route = ["unreachable", "10.42.0.0/16", "metric", "777777"];
        self.node().run(&[&["ip", "route", "del"], &route[..]].concat())?;
        deadline::until("the pool's route is back", PATIENCE, || {
            Ok(self.node().run(&["ip", "route", "show", "type", "unreachable"])?.contains("10.42.0.0/16"))
        })
    }

    /// Plays something during which no packet between the pods is lost.
    pub fn losing_nothing(&self, event: impl FnOnce() -> Result<()>) -> Result<()> {
        let [a, b] = &self.pods;
        let ways = [(a, b, false), (b, a, false), (a, b, true)];
        let probe = |(from, to, ipv6): (&Pod, &Pod, bool)| {
            Probe::start(from.namespace(), to.namespace(), to.address(ipv6)?, Duration::from_millis(2))
        };
        let probes = ways.into_iter().map(probe).collect::<Result<Vec<_>>>()?;
        probes.iter().try_for_each(|probe| probe.until_answered(20))?;
        event()?;
        probes.iter().try_for_each(|probe| probe.until_answered(100))?;
        probes.into_iter().try_for_each(|probe| probe.stop()?.expect_no_loss())
    }
}

/// An address without the length of its subnet's prefix.
fn host(address: &str) -> &str {
    address.split('/').next().unwrap_or(address)
}

/// Plugs a node in a second time, by eth1, which has these addresses.
pub fn plug_in(lab: &Lab, number: usize, addresses: &[&str]) -> Result<()> {
    let (node, wire) = (lab.node(number).namespace(), lab.wire().namespace());
    // Both are on one wire, and neither is to answer for the other's addresses.
    node.set_sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
    let port = format!("n{number}b");
    wire.ip_batch(&format!(
        "link add {port} type veth peer name eth1 netns {}\nlink set {port} master br0 up\n",
        node.name()
    ))?;
    let add = |address: &&str| match address.contains(':') {
        true => format!("addr add {address} dev eth1 nodad\n"),
        false => format!("addr add {address} dev eth1\n"),
    };
    node.ip_batch(&(String::from("link set eth1 up\n") + &addresses.iter().map(add).collect::<String>()))?;
    deadline::until("eth1 is up", PATIENCE, || {
        Ok(node.run_json(&["ip", "-j", "link", "show", "dev", "eth1"])?[0]["operstate"] == "UP")
    })
}

/// The default routes, which go with the interface or its addresses.
pub fn default_routes() -> String {
    let gateways = Underlay::Dual.addresses(SEAT_OUTSIDE);
    let line = |gateway: &std::net::IpAddr| match gateway.is_ipv4() {
        true => format!("route replace 0.0.0.0/0 via {gateway} dev eth0\n"),
        false => format!("route replace ::/0 via {gateway} dev eth0\n"),
    };
    gateways.iter().map(line).collect()
}
