//! The order of keys is the order of addresses, and overlaps are found.

use proptest::prelude::*;

use super::*;

fn blocks(shortest: [u8; 2]) -> impl Strategy<Value = Block> {
    let v4 = (any::<u32>(), shortest[0]..=32).prop_map(|(ip, length)| (IpAddr::V4(ip.into()), length));
    let v6 = (any::<u128>(), shortest[1]..=128).prop_map(|(ip, length)| (IpAddr::V6(ip.into()), length));
    prop_oneof![v4, v6].prop_map(|(ip, length)| cut(ip, length))
}

fn cut(ip: IpAddr, length: u8) -> Block {
    let cidr = IpNetwork::new(ip, length).unwrap();
    Block::new(IpNetwork::new(cidr.network(), length).unwrap()).unwrap()
}

/// Pairs that often overlap: the second is cut from an address near the first.
fn neighbours() -> impl Strategy<Value = (Block, Block)> {
    let v4 = (any::<u32>(), 8u8..=32, 0u32..1 << 12, 8u8..=32)
        .prop_map(|(ip, a, distance, b)| (cut(IpAddr::V4(ip.into()), a), cut(IpAddr::V4((ip ^ distance).into()), b)));
    let v6 = (any::<u128>(), 16u8..=128, 0u128..1 << 20, 16u8..=128)
        .prop_map(|(ip, a, distance, b)| (cut(IpAddr::V6(ip.into()), a), cut(IpAddr::V6((ip ^ distance).into()), b)));
    prop_oneof![v4, v6]
}

/// What the claim transaction asks: would `claimed` be refused because `other` stands in etcd?
fn caught(claimed: Block, other: Block) -> bool {
    let (range, key) = (inside(claimed), block(other));
    (range.start <= key && key < range.end) || ancestors(claimed).contains(&key)
}

proptest! {
    #[test]
    fn a_block_key_is_read_as_it_was_printed(of in blocks([0, 0])) {
        prop_assert_eq!(Key::parse(&block(of)), Ok(Some(Key::Block(of))));
    }

    #[test]
    fn keys_are_ordered_as_addresses_are(a in blocks([0, 0]), b in blocks([0, 0])) {
        if a.first() != b.first() {
            prop_assert_eq!(block(a) < block(b), a.first() < b.first());
        }
    }

    #[test]
    fn overlapping_blocks_are_caught_and_no_others((a, b) in neighbours()) {
        let overlap = a.contains(b.first()) || b.contains(a.first());
        prop_assert_eq!(caught(a, b), overlap, "{} over {}", a, b);
        prop_assert_eq!(caught(b, a), overlap, "{} over {}", b, a);
    }

    #[test]
    fn a_claim_fits_into_one_transaction(of in blocks([8, 16])) {
        // And the epoch, the configuration, the range.
        prop_assert!(ancestors(of).len() + 3 <= 128);
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "(blocks/|nodes/)?[46]?/?[0-9a-f]{0,33}-?[0-9]{0,4}.{0,4}") {
        if let Ok(Some(key)) = Key::parse(&text) {
            prop_assert_eq!(key.to_string(), text);
        }
    }
}

#[test]
fn keys_are_what_the_documentation_says() {
    let of: Block = "10.42.0.64/26".parse().unwrap();
    let node: NodeName = "n1".parse().unwrap();
    assert_eq!(block(of), "blocks/4/0a2a0040-26");
    assert_eq!(addresses(&node, of), "addresses/n1/4/0a2a0040-26");
    assert_eq!(super::node(&node), "nodes/n1");
    assert_eq!(alive(&node), "alive/n1");
    assert_eq!(block("fd00:42::/122".parse().unwrap()), "blocks/6/fd000042000000000000000000000000-122");
}

#[test]
fn one_block_has_one_key() {
    for other in [
        "blocks/4/0A2A0040-26",
        "blocks/4/0a2a0040-026",
        "blocks/4/0a2a0040-+26",
        "blocks/4/+a2a0040-26",
        "blocks/4/0a2a0041-26",
        "blocks/4/0a2a0040-33",
        "blocks/6/0a2a0040-26",
        "blocks/4/0a2a0040",
        "blocks/0a2a0040-26",
        "blocks/4/",
        "nodes/",
        "nodes/N1",
        "nodes/a/b",
    ] {
        assert!(Key::parse(other).is_err(), "{other}");
    }
    assert_eq!(Key::parse("policies/p1"), Ok(None));
    assert_eq!(Key::parse("config"), Ok(Some(Key::Config)));
}
