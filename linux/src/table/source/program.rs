//! The program of a pod's filter, in classic BPF (Documentation/networking/filter.rst).
//!
//! A frame begins with its Ethernet header for it, in which the kernel has put the tag of a VLAN aside (`cls_bpf_classify` in
//! net/sched/cls_bpf.c, `skb_vlan_untag` before it). A load beyond the end of a frame ends the program with 0, which lets it pass; all that is
//! loaded stands in the fixed headers, and without a whole one no packet is taken (`ip_rcv_core`, `ip6_rcv_core`).
//!
//! Each test either ends the program or goes on with the next one, so no jump is longer than a test, however many addresses there are. Only
//! the one over the part of a protocol may be, and such a jump, without a condition, has 32 bits for its length.

use std::net::{IpAddr, Ipv6Addr};

use super::Sources;

/// include/uapi/linux/bpf_common.h: load a word, half or byte from the frame, compute, jump, return.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// TC_ACT_UNSPEC, -1: the next filter is asked, and where there is none the packet goes on; TC_ACT_SHOT.
const PASS: u32 = u32::MAX;
const DROP: u32 = 2;

/// include/uapi/linux/if_ether.h.
const ETH_P_IP: u32 = 0x0800;
const ETH_P_ARP: u32 = 0x0806;
const ETH_P_IPV6: u32 = 0x86dd;
/// Where in a frame: its type, and of IPv4 and IPv6 the source, of IPv6 the destination.
const TYPE: u32 = 12;
const IPV4_SOURCE: u32 = 14 + 12;
const IPV6_SOURCE: u32 = 14 + 8;
const IPV6_DESTINATION: u32 = 14 + 24;
/// fe80::/10, in the first word of an address.
const LINK_LOCAL: u32 = 0xfe80_0000;
const LINK_LOCAL_MASK: u32 = 0xffc0_0000;
/// ff00::/8, in the first byte.
const GROUP: u32 = 0xff;

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u16,
    /// How many instructions to leave out if a condition holds, and if it does not.
    then: u8,
    otherwise: u8,
    value: u32,
}

const fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, then: 0, otherwise: 0, value }
}

/// Goes on if what was loaded is `value`; else leaves out as many instructions.
const fn unless_equal(value: u32, skipped: u8) -> Instruction {
    Instruction { code: JUMP_IF_EQUAL, then: 0, otherwise: skipped, value }
}

const fn end(verdict: u32) -> Instruction {
    plain(RETURN, verdict)
}

/// For what comes from a pod with these sources.
pub(super) fn program(Sources(addresses): &Sources) -> Vec<Instruction> {
    let (mut ipv4, mut ipv6) = (vec![plain(LOAD_WORD, IPV4_SOURCE)], link_local());
    for address in addresses {
        match address {
            IpAddr::V4(own) => ipv4.extend([unless_equal((*own).into(), 1), end(PASS)]),
            IpAddr::V6(own) => ipv6.extend(from(*own, [end(PASS)])),
        }
    }
    ipv4.push(end(DROP));
    ipv6.extend(from(Ipv6Addr::UNSPECIFIED, to_group()));
    ipv6.push(end(DROP));
    let mut program = vec![plain(LOAD_HALF, TYPE)];
    program.extend(of_type(ETH_P_IP, ipv4));
    program.extend(of_type(ETH_P_IPV6, ipv6));
    program.extend(of_type(ETH_P_ARP, vec![end(PASS)]));
    program.push(end(DROP));
    program
}

/// As the kernel takes it, in the machine's byte order.
pub(super) fn bytes(program: &[Instruction]) -> Vec<u8> {
    let bytes = |instruction: &Instruction| {
        let Instruction { code, then, otherwise, value } = *instruction;
        let ([a, b], [c, d, e, f]) = (code.to_ne_bytes(), value.to_ne_bytes());
        [a, b, then, otherwise, c, d, e, f]
    };
    program.iter().flat_map(bytes).collect()
}

/// What becomes of frames of a type, by a part that ends; of others the type stays loaded.
fn of_type(wanted: u32, part: Vec<Instruction>) -> Vec<Instruction> {
    let over = plain(JUMP, part.len() as u32);
    let jumps = [Instruction { code: JUMP_IF_EQUAL, then: 1, otherwise: 0, value: wanted }, over];
    jumps.into_iter().chain(part).collect()
}

/// What becomes of packets by this source, by a part of a few instructions that ends.
fn from<const N: usize>(source: Ipv6Addr, part: [Instruction; N]) -> Vec<Instruction> {
    let words = u128::from(source).to_be_bytes();
    let words = words.chunks_exact(4).map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
    let mut test = Vec::new();
    for (place, word) in (0_u32..).zip(words) {
        let behind = 2 * (3 - place as u8) + N as u8;
        test.extend([plain(LOAD_WORD, IPV6_SOURCE + 4 * place), unless_equal(word, behind)]);
    }
    test.extend(part);
    test
}

/// Passes to groups, and nowhere else.
fn to_group() -> [Instruction; 4] {
    [plain(LOAD_BYTE, IPV6_DESTINATION), unless_equal(GROUP, 1), end(PASS), end(DROP)]
}

/// What becomes of packets by a link-local source: they pass to groups and on the link.
fn link_local() -> Vec<Instruction> {
    let [load, group, pass, drop] = to_group();
    let to_neighbour =
        [plain(LOAD_WORD, IPV6_DESTINATION), plain(AND, LINK_LOCAL_MASK), unless_equal(LINK_LOCAL, 1), pass, drop];
    let part: Vec<_> = [load, group, pass].into_iter().chain(to_neighbour).collect();
    let tests =
        [plain(LOAD_WORD, IPV6_SOURCE), plain(AND, LINK_LOCAL_MASK), unless_equal(LINK_LOCAL, part.len() as u8)];
    tests.into_iter().chain(part).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What a program says of a frame; classic BPF as far as ours go.
    fn run(program: &[Instruction], frame: &[u8]) -> u32 {
        let (mut at, mut loaded) = (0, 0_u32);
        loop {
            let Instruction { code, then, otherwise, value } = program[at];
            at += 1;
            let load = |bytes: usize| {
                let found = frame.get(value as usize..value as usize + bytes)?;
                Some(found.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
            };
            let length = match code {
                LOAD_WORD => 4,
                LOAD_HALF => 2,
                LOAD_BYTE => 1,
                AND => {
                    loaded &= value;
                    continue;
                }
                JUMP => {
                    at += value as usize;
                    continue;
                }
                JUMP_IF_EQUAL => {
                    at += usize::from(if loaded == value { then } else { otherwise });
                    continue;
                }
                RETURN => return value,
                _ => panic!("an instruction that ours have not: {code:#x}"),
            };
            match load(length) {
                Some(found) => loaded = found,
                None => return 0,
            }
        }
    }

    fn frame(kind: u32, rest: &[u8]) -> Vec<u8> {
        [&[2; 12], &(kind as u16).to_be_bytes()[..], rest].concat()
    }

    fn packet(source: IpAddr, destination: IpAddr) -> Vec<u8> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame(ETH_P_IP, &[&[0x45; 12], &source.octets()[..], &destination.octets()].concat())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame(ETH_P_IPV6, &[&[0x60; 8], &source.octets()[..], &destination.octets()].concat())
            }
            _ => panic!("two families"),
        }
    }

    fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn passes(sources: &Sources, from: &str, to: &str) -> bool {
        verdict(sources, &packet(from.parse().unwrap(), to.parse().unwrap()))
    }

    fn verdict(sources: &Sources, frame: &[u8]) -> bool {
        match run(&program(sources), frame) {
            PASS => true,
            DROP => false,
            other => panic!("no verdict: {other}"),
        }
    }

    #[test]
    fn a_pod_sends_by_its_own_addresses_alone() {
        let own = Sources(ips(&["10.42.0.5", "10.42.0.9", "fd00::5", "fd00::9"]));
        for (from, to) in [("10.42.0.5", "192.0.2.1"), ("10.42.0.9", "192.0.2.1"), ("fd00::9", "2001:db8::1")] {
            assert!(passes(&own, from, to), "{from}");
        }
        for (from, to) in [("10.42.0.6", "192.0.2.1"), ("0.0.0.0", "255.255.255.255"), ("fd00::6", "2001:db8::1")] {
            assert!(!passes(&own, from, to), "{from}");
        }
        let none = Sources(BTreeSet::new());
        assert!(!passes(&none, "10.42.0.5", "192.0.2.1") && !passes(&none, "fd00::5", "2001:db8::1"));
    }

    #[test]
    fn addresses_without_a_scope_and_of_the_link_stay_on_the_link() {
        let own = Sources(ips(&["fd00::5"]));
        for to in ["fe80::1", "febf::1", "ff02::1"] {
            assert!(passes(&own, "fe80::5", to), "{to}");
            assert!(passes(&own, "febf:ffff::5", to), "{to}");
        }
        assert!(!passes(&own, "fe80::5", "fd00::6") && !passes(&own, "febf::5", "2001:db8::1"));
        assert!(passes(&own, "::", "ff02::1:ff00:5"));
        assert!(!passes(&own, "::", "fd00::6") && !passes(&own, "fec0::5", "fe80::1"));
    }

    #[test]
    fn of_what_is_no_ip_arp_passes() {
        let own = Sources(ips(&["10.42.0.5"]));
        assert!(verdict(&own, &frame(ETH_P_ARP, &[0; 28])));
        // The kernel takes one tag of a VLAN aside, and may take a second one later.
        for kind in [0x8100, 0x88a8, 0x88cc, 0x0026] {
            assert!(!verdict(&own, &frame(kind, &[0; 46])), "{kind:#x}");
        }
    }

    #[test]
    fn bytes_are_those_of_the_kernels_struct() {
        let bytes = bytes(&[unless_equal(0x0102_0304, 7)]);
        assert_eq!(bytes[..2], 0x15_u16.to_ne_bytes());
        assert_eq!(bytes[2..4], [0, 7]);
        assert_eq!(bytes[4..], 0x0102_0304_u32.to_ne_bytes());
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        // Few of each, so that sources and addresses meet; some that differ in one word only.
        let ipv6 = (0_usize..4, 0_u16..3).prop_map(|(place, value)| {
            let mut segments = [0xfd00, 0, 0, 0, 0, 0, 0, 0];
            segments[2 * place + 1] = value;
            IpAddr::from(segments)
        });
        prop_oneof![(0_u8..6).prop_map(|last| IpAddr::from([10, 42, 0, last])), ipv6]
    }

    proptest! {
        #[test]
        fn whatever_the_addresses_are_a_source_passes_if_it_is_among_them(
            own in proptest::collection::btree_set(address(), 0..40),
            source in address(),
        ) {
            let to = if source.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
            let expected = own.contains(&source);
            assert_eq!(verdict(&Sources(own), &packet(source, to.parse().unwrap())), expected);
        }
    }
}
