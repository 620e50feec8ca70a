//! What is done to a node: every kind of object is deleted, changed, and given a wrong companion.

use twill_tests::Result;
use twill_tests::lab::VXLAN;

use crate::stage::{Facts, Part};

/// One damage.
#[derive(Clone, Copy)]
pub struct Damage {
    /// The object.
    pub object: &'static str,
    /// What is done to it.
    pub what: &'static str,
    /// What shows it, and is measured.
    pub parts: &'static [Part],
    /// What it does to the pod's packets.
    pub harm: Harm,
    /// The commands, for a shell in the node's namespace. `vxlan.twill` in them is whatever device leads to the other node, and
    /// 192.168.77.99 an address of its underlay that nobody has.
    pub script: fn(&Facts) -> String,
}

/// What a damage does to the pod's packets until it is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// None is lost, neither by the damage nor by the repair.
    None,
    /// They do not pass.
    Cut,
}

use Harm::{Cut, None as Harmless};

const fn damage(
    (object, what): (&'static str, &'static str),
    parts: &'static [Part],
    harm: Harm,
    script: fn(&Facts) -> String,
) -> Damage {
    Damage { object, what, parts, harm, script }
}

/// What takes away that to which others are done, the more of it the later here.
const SWEEPING: [&str; 4] = ["deleted", "all deleted", "all of the protocol deleted", "gone with all others"];

impl Damage {
    /// Where it comes in a storm: what shows in many parts takes objects of them away, and what deletes leaves nothing
    /// to change.
    pub fn sweep(&self) -> (usize, Option<usize>) {
        (self.parts.len(), SWEEPING.iter().position(|what| *what == self.what))
    }

    /// Does it.
    pub fn strike(&self, node: &twill_tests::Node, facts: &Facts) -> Result<()> {
        let script = (self.script)(facts).replace(VXLAN, &facts.device).replace("192.168.77.99", facts.nobody());
        node.run(&["sh", "-euc", &script]).map(drop)
    }
}

/// All of which an event tells.
pub const HEARD_DAMAGES: [&[Damage]; 9] = [
    DEVICE_DAMAGES,
    END_DAMAGES,
    ADDRESS_DAMAGES,
    ROUTE_DAMAGES,
    NEIGHBOUR_DAMAGES,
    FDB_DAMAGES,
    FIREWALL_DAMAGES,
    FILTER_DAMAGES,
    FORWARDING_DAMAGES,
];

const ON_DEVICE: &[Part] = &[Part::Devices, Part::Addresses, Part::Routes, Part::Neighbours, Part::Fdb, Part::Sysctls];
const DEVICES: &[Part] = &[Part::Devices];
const WAY: &[Part] = &[Part::Devices, Part::Routes, Part::Neighbours];
const DEVICE: &str = "VXLAN device";

/// A bridge of somebody else's: what is put into it is taken out, and the bridge itself left alone. It is down, so that
/// no packet goes by it and it gets no address.
pub const BRIDGE: &str = "others0";

/// The tunnel's device, which shall have `checksum_offload = "off"`.
pub const DEVICE_DAMAGES: &[Damage] = &[
    // The kernel unlists a device at once, and answers when the daemon may have put it back already. So it is not waited for.
    damage((DEVICE, "deleted"), ON_DEVICE, Cut, |_| {
        "ip link del vxlan.twill >/dev/null 2>&1 &
         for look in $(seq 20000); do [ -e /proc/sys/net/ipv4/conf/vxlan.twill ] || break; done"
            .into()
    }),
    damage((DEVICE, "set down"), WAY, Cut, |_| "ip link set vxlan.twill down".into()),
    damage((DEVICE, "another MTU"), DEVICES, Harmless, |_| "ip link set vxlan.twill mtu 1400".into()),
    damage((DEVICE, "another MAC"), WAY, Cut, |_| "ip link set vxlan.twill address 02:00:00:00:99:99".into()),
    damage((DEVICE, "makes link-local addresses"), DEVICES, Harmless, |_| {
        "ip link set vxlan.twill addrgenmode eui64".into()
    }),
    damage((DEVICE, "checksums to the hardware"), DEVICES, Harmless, |_| "ethtool -K vxlan.twill tx on".into()),
    damage((DEVICE, "learns"), ON_DEVICE, Cut, |_| "ip link set vxlan.twill type vxlan learning".into()),
    damage((DEVICE, "another TTL"), ON_DEVICE, Cut, |_| "ip link set vxlan.twill type vxlan ttl 1".into()),
    damage((DEVICE, "in a bridge"), &[Part::Devices, Part::Fdb], Cut, |_| {
        format!("ip link set vxlan.twill master {BRIDGE}")
    }),
    damage((DEVICE, "a bridge in its place"), ON_DEVICE, Cut, |_| {
        "ip -batch - <<END
link set vxlan.twill down
link set vxlan.twill name old
link add vxlan.twill type bridge
END
ip link del old >/dev/null 2>&1 &"
            .into()
    }),
    damage((DEVICE, "a second one added"), DEVICES, Harmless, |facts| {
        let second = if facts.device == VXLAN { "vxlan6.twill" } else { VXLAN };
        // Not by the name that means the first one.
        format!(
            "ip link add second type vxlan id 7778 dstport 4790 local {}; ip link set second name {second}",
            facts.local
        )
    }),
];

const END: &str = "host end of a pod";

/// The node's ends of its pods' veths.
pub const END_DAMAGES: &[Damage] = &[
    damage((END, "set down"), WAY, Cut, |facts| format!("ip link set {} down", facts.host)),
    damage((END, "another MAC"), &[Part::Devices, Part::Neighbours], Cut, |facts| {
        format!("ip link set {} address 02:00:00:00:99:99", facts.host)
    }),
    damage((END, "a smaller MTU"), DEVICES, Harmless, |facts| format!("ip link set {} mtu 1280", facts.host)),
    damage((END, "in a bridge"), DEVICES, Cut, |facts| format!("ip link set {} master {BRIDGE}", facts.host)),
    damage((END, "forwards no IPv4"), &[Part::Sysctls], Cut, |facts| {
        format!("echo 0 >/proc/sys/net/ipv4/conf/{}/forwarding", facts.host)
    }),
];

const ADDRESS: &str = "tunnel address";
const ADDRESSES: &[Part] = &[Part::Addresses, Part::Routes];

/// The addresses on the tunnel's device.
pub const ADDRESS_DAMAGES: &[Damage] = &[
    damage((ADDRESS, "all deleted"), ADDRESSES, Cut, |_| "ip addr flush dev vxlan.twill".into()),
    damage((ADDRESS, "another prefix length"), ADDRESSES, Cut, |facts| {
        let ip = &facts.tunnel[0];
        format!("ip addr add {ip}/24 dev vxlan.twill; ip addr del {ip}/32 dev vxlan.twill")
    }),
    damage((ADDRESS, "deprecated"), &[Part::Addresses], Harmless, |facts| {
        let [v4, v6] = &facts.tunnel;
        format!(
            "ip addr change {v4}/32 dev vxlan.twill preferred_lft 0
             ip addr change {v6}/128 dev vxlan.twill preferred_lft 0"
        )
    }),
    damage((ADDRESS, "wrong ones added"), ADDRESSES, Harmless, |_| {
        "ip addr add 10.42.77.77/32 dev vxlan.twill; ip addr add fd42::7777/128 dev vxlan.twill nodad".into()
    }),
];

const ROUTE: &str = "route to another node's block";
const UNREACHABLE: &str = "unreachable route";
const POD_ROUTE: &str = "route to a pod";
const ROUTES: &[Part] = &[Part::Routes];

/// Routes of both protocols.
pub const ROUTE_DAMAGES: &[Damage] = &[
    damage((ROUTE, "deleted"), ROUTES, Cut, |facts| {
        let [v4, v6] = &facts.blocks;
        format!("ip route del {v4} proto 116; ip route del {v6} proto 116")
    }),
    damage((ROUTE, "all of the protocol deleted"), ROUTES, Cut, |_| {
        "ip -4 route flush proto 116; ip -6 route flush proto 116".into()
    }),
    damage((ROUTE, "another gateway"), ROUTES, Cut, |facts| {
        let [v4, v6] = &facts.blocks;
        format!(
            "ip route replace {v4} via 10.42.77.77 dev vxlan.twill onlink proto 116 metric 7777
             ip route replace {v6} via fe80::77 dev vxlan.twill proto 116 metric 7777"
        )
    }),
    damage((ROUTE, "refused"), ROUTES, Cut, |facts| {
        let [v4, v6] = &facts.blocks;
        format!(
            "ip route replace blackhole {v4} proto 116 metric 7777
             ip route replace prohibit {v6} proto 116 metric 7777"
        )
    }),
    damage((ROUTE, "a second one of the same key"), ROUTES, Cut, |facts| {
        format!("ip route append {} via 10.42.77.77 dev vxlan.twill onlink proto 116 metric 7777", facts.blocks[0])
    }),
    damage((ROUTE, "wrong ones added"), ROUTES, Harmless, |_| {
        "ip route add 198.51.100.0/24 dev vxlan.twill proto 116 metric 7777
         ip route add 2001:db8:77::/64 dev vxlan.twill proto 116 metric 7777"
            .into()
    }),
    damage((UNREACHABLE, "deleted"), ROUTES, Harmless, |facts| {
        let delete = |all: &[String; 2], metric: u32| {
            all.each_ref().map(|to| format!("ip route del {to} proto 116 metric {metric}\n")).concat()
        };
        delete(&facts.own, 77_777) + &delete(&facts.pools, 777_777)
    }),
    damage((UNREACHABLE, "a black hole"), ROUTES, Harmless, |facts| {
        format!(
            "ip route replace blackhole {} proto 116 metric 77777
             ip route replace blackhole {} proto 116 metric 777777",
            facts.own[0], facts.pools[0]
        )
    }),
    damage((UNREACHABLE, "wrong ones added"), ROUTES, Harmless, |_| {
        "ip route add unreachable 198.51.100.0/24 proto 116 metric 777777
         ip route add unreachable 2001:db8:77::/64 proto 116 metric 777777"
            .into()
    }),
    damage((POD_ROUTE, "deleted"), ROUTES, Cut, |facts| {
        facts.pod.map(|ip| format!("ip route del {ip} proto 117\n")).concat()
    }),
    damage((POD_ROUTE, "another device"), ROUTES, Cut, |facts| {
        facts.pod.map(|ip| format!("ip route replace {ip} dev vxlan.twill proto 117 metric 7777\n")).concat()
    }),
    damage((POD_ROUTE, "a black hole"), ROUTES, Cut, |facts| {
        format!("ip route replace blackhole {} proto 117 metric 7777", facts.pod[0])
    }),
    damage((POD_ROUTE, "wrong ones added"), ROUTES, Harmless, |facts| {
        let host = &facts.host;
        format!(
            "ip route add 198.51.100.7/32 dev {host} proto 117 metric 7777
             ip route add 2001:db8:77::7/128 dev {host} proto 117 metric 7777"
        )
    }),
];

const NEIGHBOUR: &str = "neighbour on the tunnel";
const POD_NEIGHBOUR: &str = "neighbour of a pod";
const FDB_ENTRY: &str = "FDB entry";
const NEIGHBOURS: &[Part] = &[Part::Neighbours];
const FDB: &[Part] = &[Part::Fdb];

fn flush_neighbours(device: &str) -> String {
    format!("ip -4 neigh flush dev {device} nud permanent; ip -6 neigh flush dev {device} nud permanent")
}

fn replace_neighbours(ips: [String; 2], device: &str, state: &str) -> String {
    let replace = |ip| format!("ip neigh replace {ip} lladdr 02:00:00:00:99:99 dev {device} nud {state}\n");
    ips.map(replace).concat()
}

fn add_neighbours(device: &str) -> String {
    replace_neighbours(["198.51.100.7".into(), "2001:db8:77::7".into()], device, "permanent")
}

fn pods(facts: &Facts) -> [String; 2] {
    facts.pod.map(|ip| ip.to_string())
}

/// Permanent neighbours.
pub const NEIGHBOUR_DAMAGES: &[Damage] = &[
    damage((NEIGHBOUR, "deleted"), NEIGHBOURS, Cut, |_| flush_neighbours("vxlan.twill")),
    damage((NEIGHBOUR, "another MAC"), NEIGHBOURS, Cut, |facts| {
        replace_neighbours(facts.gateways.clone(), "vxlan.twill", "permanent")
    }),
    damage((NEIGHBOUR, "another MAC, and it ages"), NEIGHBOURS, Cut, |facts| {
        replace_neighbours(facts.gateways.clone(), "vxlan.twill", "reachable")
    }),
    damage((NEIGHBOUR, "wrong ones added"), NEIGHBOURS, Harmless, |_| add_neighbours("vxlan.twill")),
    damage((POD_NEIGHBOUR, "deleted"), NEIGHBOURS, Cut, |facts| flush_neighbours(&facts.host)),
    damage((POD_NEIGHBOUR, "another MAC"), NEIGHBOURS, Cut, |facts| {
        replace_neighbours(pods(facts), &facts.host, "permanent")
    }),
    damage((POD_NEIGHBOUR, "another MAC, and it ages"), NEIGHBOURS, Cut, |facts| {
        replace_neighbours(pods(facts), &facts.host, "reachable")
    }),
    damage((POD_NEIGHBOUR, "wrong ones added"), NEIGHBOURS, Harmless, |facts| add_neighbours(&facts.host)),
];

/// Entries of the forwarding database.
pub const FDB_DAMAGES: &[Damage] = &[
    damage((FDB_ENTRY, "deleted"), FDB, Cut, |facts| format!("bridge fdb del {} dev vxlan.twill", facts.mac)),
    damage((FDB_ENTRY, "another destination"), FDB, Cut, |facts| {
        format!("bridge fdb replace {} dev vxlan.twill dst 192.168.77.99", facts.mac)
    }),
    damage((FDB_ENTRY, "another port"), FDB, Cut, |facts| {
        format!("bridge fdb replace {} dev vxlan.twill dst {} port 9999", facts.mac, facts.remote)
    }),
    damage((FDB_ENTRY, "a wrong one added"), FDB, Harmless, |_| {
        "bridge fdb add 02:00:00:00:99:99 dev vxlan.twill dst 192.168.77.99".into()
    }),
];

const TABLE: &str = "table inet twill";
const FIREWALL: &[Part] = &[Part::Firewall];

/// The firewall.
pub const FIREWALL_DAMAGES: &[Damage] = &[
    damage((TABLE, "deleted"), FIREWALL, Harmless, |_| "nft delete table inet twill".into()),
    damage((TABLE, "gone with all others"), FIREWALL, Harmless, |_| "nft flush ruleset".into()),
    damage((TABLE, "a chain flushed"), FIREWALL, Harmless, |_| "nft flush chain inet twill forward".into()),
    damage((TABLE, "a rule added"), FIREWALL, Harmless, |_| "nft insert rule inet twill forward counter".into()),
    damage((TABLE, "a chain added"), FIREWALL, Harmless, |_| "nft add chain inet twill wrong".into()),
    damage((TABLE, "a node taken out of its set"), FIREWALL, Cut, |facts| {
        format!("nft delete element inet twill nodes4 '{{ {} }}'", facts.remote)
    }),
];

const FILTER: &str = "filter at a host end";
const FILTERS: &[Part] = &[Part::Filters];

/// The filters of what pods send. Where somebody takes away the hooks that they stand at, rules of the firewall take their place: that is
/// told by the tests of the firewall.
pub const FILTER_DAMAGES: &[Damage] = &[
    damage((FILTER, "deleted"), FILTERS, Harmless, |facts| format!("tc filter del dev {} ingress pref 1", facts.host)),
    damage((FILTER, "another program"), FILTERS, Harmless, |facts| {
        format!(
            "tc filter replace dev {} ingress protocol all pref 1 handle 0x74770001 bpf da bytecode '1,6 0 0 4294967295'",
            facts.host
        )
    }),
];

const FORWARDING: &str = "forwarding and rp_filter";
const SYSCTLS: &[Part] = &[Part::Sysctls];

/// Sysctls whose change is told.
pub const FORWARDING_DAMAGES: &[Damage] = &[
    damage((FORWARDING, "IPv4's off"), SYSCTLS, Cut, |_| "echo 0 >/proc/sys/net/ipv4/ip_forward".into()),
    damage((FORWARDING, "IPv6's off"), SYSCTLS, Cut, |_| "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding".into()),
    damage((FORWARDING, "off on the tunnel"), SYSCTLS, Cut, |_| {
        "for family in ipv4 ipv6; do echo 0 >/proc/sys/net/$family/conf/vxlan.twill/forwarding; done".into()
    }),
    damage((FORWARDING, "rp_filter on the tunnel"), SYSCTLS, Harmless, |_| {
        "echo 1 >/proc/sys/net/ipv4/conf/vxlan.twill/rp_filter".into()
    }),
];

/// Sysctls whose change nobody tells.
pub const SYSCTL_DAMAGES: &[Damage] = &[damage(("other sysctls", "changed"), SYSCTLS, Harmless, |_| {
    "cd /proc/sys/net
     echo 1 >ipv4/conf/eth0/send_redirects
     echo 1 >ipv6/conf/vxlan.twill/accept_dad
     echo 0 >ipv6/conf/vxlan.twill/keep_addr_on_down"
        .into()
})];
