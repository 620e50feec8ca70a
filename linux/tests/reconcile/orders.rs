//! Whatever order states and damages come in, and whether the way leads by looks or without them, the same stands in the end.

use super::lab::name;
use super::{KernelState, Node, UNDERLAYS, VXLAN, desired};
use crate::advance::and_another;
use crate::ways::{desired as several, second_link};

/// What somebody does in between; each may fail, where what it takes away is not there.
const DAMAGES: [&str; 11] = [
    "ip route flush proto 116",
    "ip -6 route flush proto 116",
    "ip link del vxlan.twill",
    "ip link set vxlan.twill down",
    "ip neigh flush all nud permanent",
    "bridge fdb del 02:00:00:00:00:02 dev vxlan.twill self",
    "ip addr flush dev vxlan.twill",
    "ip route add 10.42.3.0/26 dev under proto 116 metric 7777",
    "ip route replace 10.42.7.0/26 via 192.0.2.7 dev under proto 116 metric 7777",
    "ip -6 route append fd42:0:0:7::/64 via 2001:db8::9 dev under proto 116 metric 7777",
    "ip -6 route del fd42:0:0:7::/64 via 2001:db8::2 dev under",
];

/// The states that a node goes through: nothing, one node, one node and routes of several ways more, a device of another make.
fn states(local: &str, remote: &str) -> Vec<KernelState> {
    let few = desired(local, remote);
    let mut more = and_another(few.clone(), remote);
    several(3).routes.into_iter().for_each(|(_, route)| route.insert_into(&mut more.routes));
    let mut narrow = more.clone();
    narrow.links.get_mut(&name(VXLAN)).unwrap().mtu = 1400;
    several(2).routes.into_iter().for_each(|(_, route)| route.insert_into(&mut narrow.routes));
    vec![KernelState::default(), few, more, narrow]
}

/// All that is ours, as the kernel shows it.
fn shown(node: &Node) -> String {
    let parts = [
        "ip -N route show proto 116",
        "ip -N -6 route show proto 116",
        "ip -N route show proto 117",
        "ip neigh show nud permanent",
        "ip -6 neigh show nud permanent",
        "ip -o addr show dev vxlan.twill",
        "ip -o -d link show type vxlan",
        "bridge fdb show",
    ];
    let lines = parts.into_iter().flat_map(|part| sorted(&node.namespace.must(part))).filter(|line| ours(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(without_numbers).collect();
    lines.sort();
    lines
}

/// A device that was made anew has another number.
fn without_numbers(line: &str) -> String {
    let number = |word: &&str| word.trim_end_matches(':').parse::<u32>().is_ok() && word.ends_with(':');
    line.split_whitespace().filter(|word| !number(word)).collect::<Vec<_>>().join(" ")
}

/// Multicast groups of the other devices come and go by themselves.
fn ours(line: &str) -> bool {
    !line.contains("33:33:") && !line.contains("01:00:5e")
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn in_any_order_of_states_and_damages_the_same_stands_in_the_end() {
    let (local, remote) = UNDERLAYS[0];
    let Some(mut straight) = Node::new() else { return };
    second_link(&straight);
    let states = states(local, remote);
    straight.settle(&states[2]);
    let wanted = shown(&straight);
    assert!(wanted.contains("10.42.3.0"), "{wanted}");

    for seed in 0..12 {
        let mut node = Node::new().unwrap();
        second_link(&node);
        let mut dice = Dice(seed);
        let mut last = KernelState::default();
        let mut way = Vec::new();
        for _ in 0..8 {
            let next = &states[dice.below(states.len())];
            let damage = (dice.below(2) == 0).then(|| DAMAGES[dice.below(DAMAGES.len())]);
            way.push(format!("{damage:?}, then {} routes", next.routes.len()));
            if let Some(damage) = damage {
                // It may find nothing to damage.
                let _ = node.namespace.run(damage);
            }
            let advanced =
                damage.is_none() && node.advance(&last, next).is_some_and(|outcome| outcome.errors.is_empty());
            if !advanced {
                node.reconcile(next);
            }
            last = next.clone();
        }
        let arrived = node.advance(&last, &states[2]).is_some_and(|outcome| outcome.errors.is_empty());
        if !arrived {
            node.reconcile(&states[2]);
        }
        assert_eq!(shown(&node), wanted, "seed {seed}: {way:#?}");
    }
}
