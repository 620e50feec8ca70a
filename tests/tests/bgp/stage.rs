//! What the scenarios have in common.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::PROTOCOL_CLUSTER;
use twill_tests::namespace::Namespace;
use twill_tests::routers::{Announcement, Gobgp, Host, Neighbour, Raw, Route, Router, Settings};
use twill_tests::{Lab, LabBuilder, Node, Pod, PoolSpec, Result, Underlay};

/// Plain routes by BGP, all nodes meshed.
pub const BGP: &str = "type = \"bgp\"\n[bgp]\n";
/// The tunnel, and BGP beside it.
pub const BESIDE_VXLAN: &str = "type = \"vxlan\"\n[bgp]\n";
/// The AS of the nodes.
pub const ASN: u32 = 64512;
/// What the password file of [`with_password`] has in it.
pub const PASSWORD: &str = "a secret of both";
/// Where [`Beyond`] is, in both families.
pub const EXTERNAL: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/48"];
/// A filter for import, of what lies beyond.
pub const TAKES_EXTERNAL: &str =
    "[[bgp.peer.import]]\nprefixes = [\"198.51.100.0/24\", \"2001:db8:51::/48\"]\naction = \"accept\"\n";
/// A filter for export, of everything that may be told.
pub const GIVES_ALL: &str = "[[bgp.peer.export]]\naction = \"accept\"\n";

/// A prefix.
pub fn net(text: &str) -> IpNetwork {
    text.parse().expect("a prefix")
}

// ---- nodes and pods ------------------------------------------------------------------------------------------------

/// A lab whose pools are announced outside, and whose pods go there by their own addresses.
pub fn open_lab() -> LabBuilder {
    Lab::builder().pools([PoolSpec::v4(), PoolSpec::v6()].map(|pool| pool.masqueraded(false).announced(true)))
}

/// The same of IPv4 alone, on the wire and in the pools: IPv6 has no next hop where nodes have no IPv6 address.
pub fn open_lab_v4() -> LabBuilder {
    Lab::builder().underlay(Underlay::V4).pools([PoolSpec::v4().masqueraded(false).announced(true)])
}

/// One pod on each node.
pub fn pods(lab: &Lab) -> Result<Vec<Pod>> {
    lab.nodes().iter().map(|node| node.attach(&format!("p-{}", node.name()))).collect()
}

/// The pods reach each other, small and full-size, as soon as the kernels of routers follow these. What is lost meanwhile, a
/// [`Probe`](twill_tests::probe::Probe) tells.
pub fn all_reach_all(pods: &[Pod], families: &[bool]) -> Result<()> {
    for (at, pod) in pods.iter().enumerate() {
        for other in pods.iter().enumerate().filter(|(to, _)| *to != at).map(|(_, other)| other) {
            for ipv6 in families {
                let to = other.address(*ipv6)?;
                deadline::until_some(&format!("{} reaches {to}", pod.name()), PATIENCE, || {
                    Ok(pod.ping(to, 56).map_err(|error| error.to_string()))
                })?;
                pod.ping_small_and_full(to)?;
            }
        }
    }
    Ok(())
}

/// Waits until a node's log tells that its session with each of these is up.
pub fn sessions_are_up(node: &Node, with: &[String]) -> Result<()> {
    deadline::until_some(&format!("the sessions of {} are up", node.name()), PATIENCE, || {
        node.expect_daemon()?;
        let log = node.daemon_log();
        let missing: Vec<_> = with.iter().filter(|peer| !log.contains(&format!("the session with {peer} ("))).collect();
        Ok(if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}\n{}", node.last_words(10))) })
    })
}

/// How many sessions of a node have ended so far.
pub fn sessions_ended(node: &Node) -> usize {
    let log = node.daemon_log();
    log.lines().filter(|line| line.contains("BGP: the session with") && line.contains(" is down")).count()
}

/// The blocks of a node.
pub fn blocks_of(lab: &Lab, name: &str) -> Result<Vec<IpNetwork>> {
    Ok(lab.etcd().blocks()?.into_iter().filter(|block| block.node == name).map(|block| block.cidr).collect())
}

/// The gateways by which a node's kernel leads to a prefix by a route of the cluster's, in order.
pub fn gateways(node: &Node, prefix: IpNetwork) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let wanted = match prefix.prefix() {
        0 => "default".to_owned(),
        length if length == if prefix.is_ipv4() { 32 } else { 128 } => prefix.ip().to_string(),
        _ => prefix.to_string(),
    };
    for route in node.routes(prefix.is_ipv6(), PROTOCOL_CLUSTER)? {
        if route["dst"] != wanted.as_str() || !route["type"].is_null() {
            continue;
        }
        let hops = route["nexthops"].as_array().cloned().unwrap_or_else(|| vec![route.clone()]);
        for hop in hops {
            let gateway = hop["gateway"].as_str().or_else(|| hop["via"]["host"].as_str());
            found.extend(gateway.map(str::to_owned));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Waits until a node's kernel leads to a prefix by just these gateways.
pub fn leads_by(node: &Node, prefix: IpNetwork, by: &[IpAddr]) -> Result<()> {
    let mut by: Vec<String> = by.iter().map(ToString::to_string).collect();
    by.sort_unstable();
    deadline::until_some(&format!("{} leads to {prefix} by {by:?}", node.name()), PATIENCE, || {
        let seen = gateways(node, prefix)?;
        Ok(if seen == by { Ok(()) } else { Err(format!("{seen:?}\n{}", node.last_words(5))) })
    })
}

/// What `twillctl status` says, whatever its exit status.
pub fn status(node: &Node) -> Result<String> {
    let told = node.twillctl_told(&["status", "--timeout", "1"])?;
    Ok(told.stdout + &told.stderr)
}

/// Waits until `twillctl status` says these words.
pub fn status_says(node: &Node, words: &str) -> Result<()> {
    deadline::until_some(&format!("the status says {words:?}"), PATIENCE, || {
        let told = status(node)?;
        Ok(if told.contains(words) { Ok(()) } else { Err(told) })
    })
}

/// Waits until `twillctl status` does not say these words any more.
pub fn status_has_no(node: &Node, words: &str) -> Result<()> {
    deadline::until_some(&format!("the status does not say {words:?}"), PATIENCE, || {
        let told = status(node)?;
        Ok(if told.contains(words) { Err(told) } else { Ok(()) })
    })
}

// ---- routers ---------------------------------------------------------------------------------------------------------

/// A `[[bgp.peer]]` with these keys, which takes what lies beyond, and is given all that it may be.
pub fn peer(name: &str, address: IpAddr, asn: u32, keys: &str) -> String {
    bare_peer(name, address, asn, &format!("{keys}{TAKES_EXTERNAL}{GIVES_ALL}"))
}

/// A `[[bgp.peer]]` with these keys and filters.
pub fn bare_peer(name: &str, address: IpAddr, asn: u32, keys: &str) -> String {
    format!("[[bgp.peer]]\nname = \"{name}\"\naddress = \"{address}\"\nas = {asn}\n{keys}")
}

/// One [`peer`] for each address of a router's host, called `NAME-4` and `NAME-6`.
pub fn peers(name: &str, host: &Host, asn: u32, keys: &str) -> String {
    let one = |address: &IpAddr| peer(&format!("{name}-{}", family(*address)), *address, asn, keys);
    host.addresses().iter().map(one).collect()
}

/// A router's settings, with every node at each of its addresses for a neighbour, as `change` makes them.
pub fn facing(lab: &Lab, settings: Settings, change: impl Fn(Neighbour) -> Neighbour) -> Settings {
    let addresses = lab.nodes().iter().flat_map(Node::addresses);
    addresses.fold(settings, |settings, address| settings.with(change(Neighbour::new(*address, ASN))))
}

/// The same settings, announcing what lies beyond.
pub fn announcing_external(settings: Settings) -> Settings {
    EXTERNAL.iter().fold(settings, |settings, prefix| settings.announcing(Announcement::new(net(prefix))))
}

/// The family of an address, as a number.
pub fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// Waits until a router has a session with every node at every address, and the other way round.
pub fn all_sessions_stand(lab: &Lab, router: &dyn Router, peer: &str) -> Result<()> {
    for node in lab.nodes() {
        for address in node.addresses() {
            router.until_established(*address)?;
            sessions_are_up(node, &[format!("BGP peer {peer}-{}", family(*address))])?;
        }
    }
    Ok(())
}

/// Waits until a router has a route to each block of a node, and gives them.
pub fn knows_blocks(lab: &Lab, router: &dyn Router, node: &Node) -> Result<Vec<(IpNetwork, Route)>> {
    let blocks = blocks_of(lab, node.name())?;
    blocks.into_iter().map(|block| Ok((block, router.until_route(block)?))).collect()
}

/// Calls a node, again until it takes the host for one of its peers and says OPEN.
pub fn call(host: &Host, node: &Node) -> Result<Raw> {
    deadline::until_some("the node says OPEN", PATIENCE, || {
        let raw = Raw::call(host, node.addresses()[0])?;
        Ok(raw.until_open().map(|_| raw).map_err(|error| error.to_string()))
    })
}

/// Puts into the kernel of a router's host what GoBGP, which does not do that, has for these prefixes.
pub fn install(gobgp: &Gobgp, host: &Host, prefixes: &[IpNetwork]) -> Result<()> {
    let mut lines = String::new();
    for prefix in prefixes {
        let route = gobgp.until_route(*prefix)?;
        let hop = route.next_hop.ok_or_else(|| twill_tests::LabError::wrong(format!("{prefix} has no next hop")))?;
        lines += &format!("route replace {prefix} via {}{hop}\n", if hop.is_ipv4() { "" } else { "inet6 " });
    }
    host.namespace().ip_batch(&lines)
}

/// Puts the password into a file that all nodes know, and gives the key that names it.
pub fn with_password(lab: &Lab, password: &str) -> Result<String> {
    let file = lab.directory().join("password");
    std::fs::write(&file, format!("{password}\n")).map_err(twill_tests::LabError::io("writing the password"))?;
    Ok(format!("password_file = {file:?}\n"))
}

// ---- beyond the routers ----------------------------------------------------------------------------------------------

/// A host behind one or more routers, which knows no other way than through them.
#[derive(Debug)]
pub struct Beyond {
    namespace: Namespace,
    routers: usize,
}

impl Beyond {
    /// Makes one, with a link to each of these. It sends by the first, and is reached by each.
    pub fn behind(lab: &Lab, routers: &[&Host]) -> Result<Self> {
        let namespace = Namespace::create(format!("{}-beyond", lab.prefix()))?;
        let beyond = Self { namespace, routers: routers.len() };
        let mut own = String::new();
        for address in beyond.addresses() {
            let (length, nodad) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
            own += &format!("addr add {address}/{length} dev lo{nodad}\n");
        }
        for (number, router) in routers.iter().enumerate() {
            router.namespace().ip_batch(&format!(
                "link add beyond type veth peer name r{number} netns {peer}\nlink set beyond up\n\
                 addr add 172.31.{number}.1/24 dev beyond\naddr add fd00:99:{number}::1/64 dev beyond nodad\n",
                peer = beyond.namespace.name()
            ))?;
            own += &format!(
                "link set r{number} up\naddr add 172.31.{number}.2/24 dev r{number}\n\
                 addr add fd00:99:{number}::2/64 dev r{number} nodad\n"
            );
        }
        beyond.namespace.ip_batch(&own)?;
        for (number, router) in routers.iter().enumerate() {
            router.namespace().ip_batch(&format!(
                "route add {} via 172.31.{number}.2\nroute add {} via fd00:99:{number}::2\n",
                EXTERNAL[0], EXTERNAL[1]
            ))?;
        }
        beyond.sends_by(&[0])?;
        Ok(beyond)
    }

    /// Sends by these routers from now on.
    pub fn sends_by(&self, routers: &[usize]) -> Result<()> {
        assert!(routers.iter().all(|number| *number < self.routers), "{routers:?} must be below {}", self.routers);
        for own in self.addresses() {
            let (all, hop, one) =
                if own.is_ipv4() { ("0.0.0.0/0", "172.31.", ".1") } else { ("::/0", "fd00:99:", "::1") };
            let hops = routers.iter().map(|number| format!(" nexthop via {hop}{number}{one} dev r{number}"));
            // By its own address: the nodes know no way to those of its links.
            self.namespace.ip_batch(&format!("route replace {all} src {own}{}\n", hops.collect::<String>()))?;
        }
        Ok(())
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [[198, 51, 100, 10].into(), [0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x10].into()]
    }

    /// Its address of a family.
    pub fn address(&self, ipv6: bool) -> IpAddr {
        self.addresses()[usize::from(ipv6)]
    }

    /// Waits until it reaches a pod: the router's kernel follows the router.
    pub fn reaches(&self, pod: &Pod, ipv6: bool) -> Result<()> {
        let to = pod.address(ipv6)?.to_string();
        deadline::until_some(&format!("{to} is reached from beyond"), PATIENCE, || {
            let ping = ["ping", "-n", "-q", "-c", "1", "-W", "1", &to];
            Ok(self.namespace.run(&ping).map(drop).map_err(|error| error.to_string()))
        })
    }

    /// It reaches pods and they reach it, small and full-size.
    pub fn and_pods_reach_each_other(&self, pods: &[Pod], families: &[bool]) -> Result<()> {
        for pod in pods {
            for ipv6 in families {
                self.reaches(pod, *ipv6)?;
                pod.ping_small_and_full(self.address(*ipv6))?;
            }
        }
        Ok(())
    }
}
