//! What is not Twill's survives damage and repair byte for byte, also where it looks much like what is.

use twill_tests::{Node, Result, with_lab};

use crate::damage::{Damage, HEARD_DAMAGES, SYSCTL_DAMAGES};
use crate::rounds::{Stage, difference, lab};
use crate::stage::Facts;

/// Devices of others: another VXLAN, one beside ours, a bridge, a veth named as host ends are.
const DEVICES: &str = "
ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.168.77.11 nolearning
ip link add vxlan9.twill type vxlan id 7779 dstport 4791 local 192.168.77.11
ip link add foreign0 type bridge
ip link add twx123 type veth peer name peer123
for device in flannel.1 vxlan9.twill foreign0 twx123 peer123; do ip link set $device up; done
ip addr add 172.31.0.1/24 dev foreign0
ip addr add fd31::1/64 dev foreign0 nodad
ip addr add 192.168.77.200/24 dev eth0
ip addr add fd00:77::200/64 dev eth0 nodad
ip addr add 10.42.99.1/32 dev flannel.1
";

/// What stands on them, and on the underlay.
const OBJECTS: &str = "
for device in flannel.1 vxlan9.twill; do
    bridge fdb add 02:00:00:00:88:88 dev $device dst 192.168.77.98
done
for device in eth0 flannel.1 twx123; do
    ip neigh add 192.168.77.98 lladdr 02:00:00:00:88:88 dev $device nud permanent
    ip neigh add fd00:77::98 lladdr 02:00:00:00:88:88 dev $device nud permanent
done
ip route add 172.31.9.0/24 via 172.31.0.2 proto static
ip route add blackhole 172.31.10.0/24 proto 99
ip route add 172.31.11.1/32 dev twx123 proto 117 metric 7777
ip route add fd31:11::1/128 dev twx123 proto 117 metric 7777
ip rule add from 172.31.0.0/24 lookup 116 priority 7777
ip rule add fwmark 0x74 lookup 117
ip -6 rule add from fd31::/64 lookup 116 priority 7777
nft add table ip twill
nft add chain ip twill forward '{ type filter hook forward priority 5; }'
nft add rule ip twill forward ip saddr 172.31.0.0/24 counter accept
nft add table inet twill-not
nft add set inet twill-not nodes4 '{ type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }'
nft add table ip6 firewalld
cd /proc/sys/net
echo 1 >ipv4/conf/foreign0/rp_filter
echo 1 >ipv4/conf/twx123/rp_filter
echo 1 >ipv4/conf/foreign0/send_redirects
echo 0 >ipv6/conf/foreign0/accept_ra
echo 1 >ipv6/conf/twx123/keep_addr_on_down
";

/// To the destinations of ours: with other metrics, of other protocols, in other tables.
fn rivals(facts: &Facts) -> String {
    let mut script = String::new();
    for (to, gateway) in facts.blocks.iter().chain(&facts.own).zip(["172.31.0.2", "fd31::2", "172.31.0.2", "fd31::2"]) {
        for rest in ["proto 99 metric 7778", "proto 116 metric 7777 table 116", "proto 117 metric 7777 table 117"] {
            script += &format!("ip route add {to} via {gateway} dev foreign0 {rest}\n");
        }
        script += &format!("ip route add unreachable {to} proto static metric 8888\n");
    }
    for (to, gateway) in facts.pod.iter().zip(["172.31.0.2", "fd31::2"]) {
        script += &format!("ip route add {to} via {gateway} dev foreign0 proto 99 metric 7778\n");
    }
    script
}

/// All that is not ours, as it is shown, but for what ages by itself and what packets count. A neighbour that is not
/// permanent comes and goes, and IPv6's routes show in the order in which they were made.
fn shown(node: &Node, host: &str) -> Result<String> {
    let mine = format!(r"(^|[ :])(vxlan6?\.twill|{host})([ :@]|$)|proto 11[67] metric 7777+ (pref medium)?$");
    let script = format!(
        "ip -d -o link show | grep -Ev '{mine}' | sed 's/_timer *[0-9.]*//g'
         ip -d -o addr show | grep -Ev '{mine}' | sed 's/valid_lft.*//'
         for family in -4 -6; do
             ip -N $family -d -o route show table all | grep -Ev 'dev (vxlan6?\\.twill|{host})( |$)' |
                 grep -Ev '^unreachable .* proto 116 ' | sort
             ip -d -o $family rule show
             ip -d -o $family neigh show nud permanent | grep -Ev '{mine}'
         done
         bridge fdb show | grep -Ev '{mine}'
         for table in $(nft list tables | grep -v '^table inet twill$' | tr ' ' ':'); do
             echo $table; nft --stateless list $(echo $table | tr ':' ' ')
         done
         cd /proc/sys/net
         for device in eth0 foreign0 flannel.1 twx123; do
             grep . ipv4/conf/$device/* ipv6/conf/$device/* 2>/dev/null
         done | grep -v stable_secret"
    );
    node.run(&["sh", "-euc", &script])
}

/// What neither flushes what is others' too nor changes a setting of the whole node, as some damages do by themselves.
fn storm() -> Vec<Damage> {
    let meant = |damage: &&Damage| !["gone with all others", "IPv4's off", "IPv6's off"].contains(&damage.what);
    HEARD_DAMAGES.into_iter().chain([SYSCTL_DAMAGES]).flatten().filter(meant).copied().collect()
}

#[test]
fn what_is_others_survives_a_storm_of_damage_and_repair_byte_for_byte() {
    with_lab(lab(2), |lab| {
        let node = lab.node(1);
        let stage = Stage::set(node, lab.node(2), &storm())?;
        node.run(&["sh", "-euc", DEVICES])?;
        node.run(&["sh", "-euc", OBJECTS])?;
        node.run(&["sh", "-euc", &rivals(stage.facts())])?;
        // It stands among what is others': what the storm ends with is compared with this.
        let stage = stage.again()?;
        let before = shown(node, &stage.facts().host)?;
        for word in ["flannel.1", "twx123", "proto 99", "table ip twill", "lookup 116"] {
            assert!(before.contains(word), "{word} is not among\n{before}");
        }
        for _ in 0..2 {
            stage.storm(&storm())?;
            let now = shown(node, &stage.facts().host)?;
            assert!(now == before, "{}", difference(&before, &now));
        }
        stage.reach()
    });
}
