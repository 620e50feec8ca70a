//! The edges: blocks of few addresses, and the first and last address of all of them.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use common::{at, ips, node, reserve};
use ipnetwork::IpNetwork;
use proptest::prelude::*;
use twill_ipam::block::low_mark;
use twill_ipam::store::{BlockState, Role};
use twill_ipam::{Block, Error, Store};

/// The block of `host_bits` bits that these bits lie in.
fn block(v6: bool, bits: u128, host_bits: u8) -> Block {
    let (ip, longest): (IpAddr, u8) =
        if v6 { (IpAddr::V6(bits.into()), 128) } else { (IpAddr::V4((bits as u32).into()), 32) };
    let around = IpNetwork::new(ip, longest - host_bits).unwrap();
    Block::new(IpNetwork::new(around.network(), around.prefix()).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_address_of_a_block_is_a_pods_but_the_one_of_the_tunnel(
        v6: bool,
        end in 0..3u8,
        bits in any::<u128>(),
        host_bits in 0..=8u8,
        tunnel: bool,
    ) {
        let bits = match end { 0 => 0, 1 => u128::MAX, _ => bits };
        let block = block(v6, bits, host_bits);
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
        store.set_node(&node(!v6, v6)).unwrap();
        store.put_block(block, &"default".parse().unwrap(), BlockState::Open).unwrap();
        let mut given = BTreeSet::new();
        given.extend(tunnel.then(|| store.tunnel(v6, at(0)).unwrap().unwrap()));
        for n in given.len()..1 << host_bits {
            let usage = &store.blocks(at(0)).unwrap()[0];
            prop_assert_eq!(usage.free(), (1 << host_bits) - n as u64);
            let row = reserve(&mut store, &format!("c{n}"), at(0)).unwrap();
            prop_assert!(given.insert(ips(&row)[0]), "{:?} was given twice", row);
        }
        prop_assert_eq!(given.len(), 1 << host_bits);
        prop_assert_eq!((given.first(), given.last()), (Some(&block.first()), Some(&block.last())));
        prop_assert_eq!(store.blocks(at(0)).unwrap()[0].free(), 0);
        let more = reserve(&mut store, "more", at(0));
        prop_assert!(matches!(more, Err(Error::NoFreeAddress { .. })), "{:?}", more);
    }

    #[test]
    fn the_low_mark_is_never_the_whole_of_a_block_unless_it_has_one_address(host_bits in 0..=64u8) {
        let size = 1u64.checked_shl(host_bits.into()).unwrap_or(u64::MAX);
        prop_assert!(low_mark(size) >= 1 && (low_mark(size) < size || size == 1));
    }
}

#[test]
fn where_the_tunnel_has_all_of_a_block_pods_need_another_one() {
    for (v6, one, other) in [(false, "10.42.0.7/32", "10.42.0.9/32"), (true, "fd42::7/128", "fd42::9/128")] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
        store.set_node(&node(!v6, v6)).unwrap();
        store.put_block(common::block(one), &"default".parse().unwrap(), BlockState::Open).unwrap();
        assert_eq!(store.tunnel(v6, at(0)).unwrap(), Some(common::block(one).first()));
        assert!(matches!(reserve(&mut store, "a", at(0)), Err(Error::NoFreeAddress { used: 1, total: 1, .. })));
        store.put_block(common::block(other), &"default".parse().unwrap(), BlockState::Open).unwrap();
        assert_eq!(ips(&reserve(&mut store, "a", at(0)).unwrap()), [common::block(other).first()]);
        assert!(!store.close_empty_block(common::block(one), at(0)).unwrap(), "the tunnel's block is not empty");
    }
}
