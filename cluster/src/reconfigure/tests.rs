//! The rules on small clusters.

use super::*;
use crate::record::{BlockRecord, Versioned};

fn conf(pools: &[(&str, &str, u8)]) -> ClusterConf {
    let pools =
        pools.iter().map(|(name, cidr, block)| format!("[[pool]]\nname='{name}'\ncidr='{cidr}'\nblock={block}\n"));
    ClusterConf::from_toml(&pools.collect::<String>()).expect("a good configuration")
}

/// A view at revision 9, its configuration of revision 5, with blocks and their owners.
fn view(config: Option<ClusterConf>, blocks: &[(&str, &str)]) -> View {
    let record = |node: &str| BlockRecord {
        node: node.parse().expect("a node name"),
        machine_id: "m".into(),
        epoch: 2,
        nonce: "n".into(),
        other: serde_json::Map::default(),
    };
    let versioned = |value| Versioned { value, created: 7, modified: 7 };
    View {
        revision: 9,
        config: config.map(|value| Versioned { value, created: 3, modified: 5 }),
        blocks: blocks
            .iter()
            .map(|(block, node)| {
                (block.parse::<twill_ipam::Block>().expect("a block"), std::sync::Arc::new(versioned(record(node))))
            })
            .collect(),
        ..View::default()
    }
}

/// The transaction, or the one thing that stands against it.
fn plan(view: &View, new: &ClusterConf) -> Result<Txn, Refusal> {
    super::plan(view, view.config.as_ref().map_or(0, |config| config.modified), new).map_err(|mut refusals| {
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        refusals.remove(0)
    })
}

#[test]
fn all_that_stands_against_a_configuration_is_told_at_once() {
    let old = conf(&[("a", "10.42.0.0/16", 26)]);
    let mut view = view(Some(old), &[("10.42.0.0/26", "n1")]);
    let record = r#"{"machine_id":"m","nonce":"x","underlay":{"ipv4":"192.0.2.1/24"}}"#;
    let record = Versioned { value: serde_json::from_str(record).unwrap(), created: 1, modified: 1 };
    view.nodes.insert("n1".parse().unwrap(), std::sync::Arc::new(record));
    let new = ClusterConf::from_toml("[[pool]]\nname='b'\ncidr='192.0.2.0/24'\n[backend]\ntype='bgp'").unwrap();
    let refusals = super::plan(&view, 5, &new).unwrap_err();
    let [Refusal::Unable { .. }, Refusal::Underlay { .. }, Refusal::Held(held)] = refusals.as_slice() else {
        panic!("{refusals:?}")
    };
    assert_eq!(held[0].blocks[0].what, "10.42.0.0/26");
}

fn none_in(txn: &Txn) -> Vec<(&str, &str)> {
    let ranges = txn.when.iter().filter_map(|compare| match compare {
        Compare::NoneIn { start, end } => Some((start.as_str(), end.as_str())),
        _ => None,
    });
    ranges.collect()
}

#[test]
fn the_first_configuration_asks_that_there_is_none() {
    let new = conf(&[("a", "10.42.0.0/16", 26)]);
    let txn = plan(&view(None, &[]), &new).unwrap();
    assert_eq!(txn.when, [Compare::Created { key: "config".into(), revision: 0 }]);
    assert_eq!(txn.then, [Op::Put { key: "config".into(), value: new.to_json(), lease: None }]);
}

#[test]
fn an_addition_asks_only_that_the_configuration_is_the_one_that_was_read() {
    let old = conf(&[("a", "10.42.0.0/16", 26)]);
    let new = conf(&[("b", "fd42::/48", 122), ("a", "10.42.0.0/16", 26)]);
    let txn = plan(&view(Some(old), &[("10.42.0.0/26", "n1")]), &new).unwrap();
    assert_eq!(txn.when, [Compare::Modified { key: "config".into(), revision: 5 }]);
}

#[test]
fn a_pool_may_grow_around_its_blocks() {
    let old = conf(&[("a", "10.42.128.0/17", 26)]);
    let txn = plan(&view(Some(old), &[("10.42.128.0/26", "n1")]), &conf(&[("a", "10.42.0.0/16", 26)])).unwrap();
    assert!(none_in(&txn).is_empty());
}

#[test]
fn a_pool_with_blocks_is_not_removed() {
    let old = conf(&[("a", "10.42.0.0/16", 26), ("b", "10.43.0.0/16", 26)]);
    let view = view(Some(old), &[("10.42.0.0/26", "n1"), ("10.43.0.0/26", "n1"), ("10.43.0.64/26", "n2")]);
    let refused = plan(&view, &conf(&[("a", "10.42.0.0/16", 26)])).unwrap_err();
    let words = "pool \"b\" cannot be removed while nodes have blocks there: n1 has 10.43.0.0/26; n2 has 10.43.0.64/26";
    assert_eq!(refused.to_string(), words);
}

#[test]
fn a_pool_without_blocks_is_removed_only_if_none_is_claimed_meanwhile() {
    let old = conf(&[("a", "10.42.0.0/16", 26), ("b", "10.43.0.0/16", 26)]);
    let txn = plan(&view(Some(old), &[("10.42.0.0/26", "n1")]), &conf(&[("a", "10.42.0.0/16", 26)])).unwrap();
    assert_eq!(txn.when[0], Compare::Modified { key: "config".into(), revision: 5 });
    assert_eq!(none_in(&txn), [("blocks/4/0a2b0000", "blocks/4/0a2bffff.")]);
}

#[test]
fn a_renamed_pool_is_another_pool() {
    let old = conf(&[("a", "10.42.0.0/16", 26)]);
    let refused = plan(&view(Some(old), &[("10.42.0.0/26", "n1")]), &conf(&[("b", "10.42.0.0/16", 26)]));
    assert!(matches!(refused, Err(Refusal::Held(held)) if held[0].loss == Loss::Removed));
}

#[test]
fn the_blocks_of_a_pool_keep_their_length() {
    let old = conf(&[("a", "10.42.0.0/16", 26)]);
    let new = conf(&[("a", "10.42.0.0/16", 27)]);
    let refused = plan(&view(Some(old.clone()), &[("10.42.0.0/26", "n1")]), &new).unwrap_err();
    let words = "the blocks of pool \"a\" cannot become /27 while nodes have blocks there: n1 has 10.42.0.0/26";
    assert_eq!(refused.to_string(), words);
    assert_eq!(none_in(&plan(&view(Some(old), &[]), &new).unwrap()), [("blocks/4/0a2a0000", "blocks/4/0a2affff.")]);
}

#[test]
fn a_pool_is_narrowed_only_around_its_blocks() {
    let old = conf(&[("a", "10.42.0.0/16", 26)]);
    let new = conf(&[("a", "10.42.64.0/18", 26)]);
    let txn = plan(&view(Some(old.clone()), &[("10.42.64.0/26", "n1")]), &new).unwrap();
    let rest = [("blocks/4/0a2a8000", "blocks/4/0a2affff."), ("blocks/4/0a2a0000", "blocks/4/0a2a3fff.")];
    assert_eq!(none_in(&txn), rest);
    for outside in ["10.42.0.0/26", "10.42.63.192/26", "10.42.128.0/26", "10.42.255.192/26"] {
        let refused = plan(&view(Some(old.clone()), &[(outside, "n1")]), &new).unwrap_err();
        let words = "the range of pool \"a\" cannot become 10.42.64.0/18 while nodes have blocks there: n1 has ";
        assert_eq!(refused.to_string(), format!("{words}{outside}"));
    }
}

#[test]
fn a_pool_that_moves_leaves_its_whole_range() {
    let old = conf(&[("a", "fd42::/48", 122)]);
    for new in [conf(&[("a", "fd43::/48", 122)]), conf(&[("a", "fd42:0:1::/48", 122)])] {
        assert_eq!(none_in(&plan(&view(Some(old.clone()), &[]), &new).unwrap()).len(), 1);
        assert!(plan(&view(Some(old.clone()), &[("fd42::/122", "n1")]), &new).is_err());
    }
}

#[test]
fn a_pool_that_changes_its_family_leaves_its_whole_range() {
    let old = conf(&[("a", "10.42.0.0/16", 26)]);
    let new = conf(&[("a", "fd42::/48", 122)]);
    assert!(plan(&view(Some(old), &[("10.42.0.0/26", "n1")]), &new).is_err());
}

#[test]
fn what_is_left_out_and_what_is_kept_together_are_the_old_range() {
    for (old, new) in [("10.0.0.0/8", "10.77.3.0/28"), ("fd00::/16", "fd00:1234:5678::9/128")] {
        let (old, new): (IpNetwork, IpNetwork) = (old.parse().unwrap(), new.parse().unwrap());
        let mut parts = without(old, new);
        assert_eq!(parts.len(), usize::from(new.prefix() - old.prefix()));
        parts.push(new);
        parts.sort_by_key(IpNetwork::network);
        assert_eq!((parts[0].network(), parts[parts.len() - 1].broadcast()), (old.network(), old.broadcast()));
        for pair in parts.windows(2) {
            let number = |ip| match ip {
                std::net::IpAddr::V4(ip) => u128::from(u32::from(ip)),
                std::net::IpAddr::V6(ip) => u128::from(ip),
            };
            assert_eq!(number(pair[0].broadcast()) + 1, number(pair[1].network()), "{pair:?}");
        }
    }
}

#[test]
fn without_a_configuration_every_block_must_find_its_pool_again() {
    let view = view(None, &[("10.42.0.0/26", "n1"), ("10.43.0.0/26", "n2")]);
    assert!(plan(&view, &conf(&[("a", "10.42.0.0/15", 26)])).is_ok());
    let refused = plan(&view, &conf(&[("a", "10.42.0.0/16", 26), ("b", "10.43.0.0/16", 25)])).unwrap_err();
    let words = "no pool of the new configuration has room for blocks that are there already: n2 has 10.43.0.0/26";
    assert_eq!(refused.to_string(), words);
}

#[test]
fn a_configuration_that_cannot_be_read_is_replaced_by_one_that_knows_all_blocks() {
    let mut view = view(None, &[("10.42.0.0/26", "n1")]);
    view.faults.insert("config".into(), "backend.type: \"bgp\"".into());
    let txn = super::plan(&view, 8, &conf(&[("a", "10.42.0.0/16", 26)])).unwrap();
    assert_eq!(txn.when, [Compare::Modified { key: "config".into(), revision: 8 }]);
    let refused = super::plan(&view, 8, &conf(&[("a", "10.43.0.0/16", 26)])).unwrap_err();
    assert!(matches!(refused.as_slice(), [Refusal::Strays(_)]), "{refused:?}");
}

#[test]
fn a_range_in_which_a_node_lives_is_not_given_to_pods() {
    let record = r#"{"machine_id":"m","nonce":"n","underlay":{"ipv4":"10.42.7.1/8","ipv6":"fd42::1/64"}}"#;
    let value = serde_json::from_str(record).unwrap();
    let mut view = view(Some(conf(&[("a", "10.43.0.0/16", 26)])), &[]);
    view.nodes.insert("n1".parse().unwrap(), Versioned { value, created: 2, modified: 2 }.into());
    let refused = plan(&view, &conf(&[("a", "10.43.0.0/16", 26), ("b", "10.42.0.0/16", 26)])).unwrap_err();
    let words = "pool \"b\" (10.42.0.0/16) cannot have this range: node n1 has the underlay address 10.42.7.1 in it";
    assert_eq!(refused.to_string(), words);
    assert!(plan(&view, &conf(&[("a", "fd42::/48", 122)])).is_err());
    assert!(plan(&view, &conf(&[("a", "10.41.0.0/16", 26)])).is_ok());
    view.config = Some(Versioned { value: conf(&[("b", "10.42.0.0/16", 26)]), created: 3, modified: 5 });
    assert!(plan(&view, &conf(&[("b", "10.42.0.0/16", 26), ("c", "10.44.0.0/16", 26)])).is_ok(), "it stood already");
}

#[test]
fn an_unreadable_record_stands_in_the_way_as_a_block_does() {
    let mut view = view(Some(conf(&[("a", "10.42.0.0/16", 26), ("b", "10.43.0.0/16", 26)])), &[]);
    view.faults.insert("blocks/4/0a2b0040-26".into(), "not JSON".into());
    view.faults.insert("blocks/4/0a2a0000-rubbish".into(), "not a block".into());
    let refused = plan(&view, &conf(&[("a", "10.42.0.0/16", 26)])).unwrap_err().to_string();
    assert!(refused.ends_with("an unreadable record has blocks/4/0a2b0040-26"), "{refused}");
    let refused = plan(&view, &conf(&[("b", "10.43.0.0/16", 26)])).unwrap_err().to_string();
    assert!(refused.ends_with("an unreadable record has blocks/4/0a2a0000-rubbish"), "{refused}");
}

#[test]
fn many_blocks_are_counted_rather_than_named() {
    let blocks = (0..70u8).map(|i| format!("10.42.{i}.0/26")).collect::<Vec<_>>();
    let blocks = blocks.iter().map(|block| (block.as_str(), "n1")).collect::<Vec<_>>();
    let view = view(Some(conf(&[("a", "10.42.0.0/16", 26)])), &blocks);
    let refused = plan(&view, &conf(&[("b", "10.43.0.0/16", 26)])).unwrap_err().to_string();
    assert!(refused.ends_with("n1 has 10.42.0.0/26, 10.42.1.0/26, 10.42.2.0/26 and 67 more"), "{refused}");
}

#[test]
fn more_ranges_than_a_transaction_can_look_at_are_refused() {
    let old = conf(&[("a", "fd00::/16", 128), ("b", "fd01::/16", 128)]);
    let new = conf(&[("a", "fd00::/112", 128), ("b", "fd01::/112", 128)]);
    assert_eq!(plan(&view(Some(old), &[]), &new), Err(Refusal::TooMuch(192)));
}

proptest::proptest! {
    /// A block that is claimed between reading and writing is either at home in the new configuration, or makes etcd
    /// refuse the transaction; one that was there before decides the plan in the same way.
    #[test]
    fn a_block_is_at_home_afterwards_or_stands_in_the_way(
        third in 0u8..=255, length in 16u8..=26, longer in proptest::bool::ANY, at in 0u16..1024, ipv6 in proptest::bool::ANY,
    ) {
        let cidr = |start: u32, length: u8| match ipv6 {
            false => IpNetwork::new(std::net::Ipv4Addr::from(0x0a2a_0000 | start).into(), length),
            true => IpNetwork::new(std::net::Ipv6Addr::from((0xfd42u128 << 112) | u128::from(start)).into(), 96 + length),
        };
        let (old, block) = (cidr(0, 16).unwrap(), cidr(u32::from(at) << 6, 26).unwrap());
        let new = cidr(u32::from(third) << 8, length).unwrap();
        let new = IpNetwork::new(new.network(), new.prefix()).unwrap();
        let size = if ipv6 { 122 } else { 26 };
        let old = conf(&[("a", &old.to_string(), size)]);
        let new_conf = conf(&[("a", &new.to_string(), size + u8::from(longer))]);

        let at_home = !longer && contains(new, block);
        let before = plan(&view(Some(old.clone()), &[(&block.to_string(), "n1")]), &new_conf);
        proptest::prop_assert_eq!(before.is_ok(), at_home);
        let txn = plan(&view(Some(old), &[]), &new_conf).unwrap();
        let key = key::block(Block::new(block).unwrap());
        let refused = none_in(&txn).iter().any(|(start, end)| *start <= key.as_str() && key.as_str() < *end);
        proptest::prop_assert_eq!(refused, !at_home, "{} {:?}", key, txn.when);
    }
}

/// With a node for each of these, which wrote its record by this version, and by which another said what it can.
fn with_nodes(mut view: View, nodes: &[(&str, &str, Option<&str>)]) -> View {
    for (name, version, said) in nodes {
        let record = format!(r#"{{"machine_id":"m","nonce":"n","version":"{version}"}}"#);
        let mut value: crate::NodeRecord = serde_json::from_str(&record).unwrap();
        value.can = said.and_then(|version| crate::ability::Can::of(version, &[Ability::Bgp]));
        view.nodes.insert(name.parse().unwrap(), Versioned { value, created: 2, modified: 2 }.into());
    }
    view
}

fn with(rest: &str) -> ClusterConf {
    ClusterConf::from_toml(&format!("[[pool]]\nname='a'\ncidr='10.42.0.0/16'\n{rest}")).unwrap()
}

#[test]
fn what_no_version_can_is_refused_whatever_nodes_there_are() {
    let words = format!("it asks twilld to speak BGP, which no version up to {} can", env!("CARGO_PKG_VERSION"));
    let able = with_nodes(view(Some(with("")), &[]), &[("n1", "9", Some("9"))]);
    for view in [view(None, &[]), view(Some(with("")), &[]), able] {
        for new in [with("[bgp]"), with("[backend]\ntype='bgp'")] {
            assert_eq!(super::able(&view, None, &new, &[]).unwrap_err().to_string(), words);
            let planned = plan(&view, &new);
            let refused = matches!(planned, Err(Refusal::Unable { asked: Ability::Bgp, .. }));
            assert_eq!(refused, Ability::OF_THIS_VERSION.is_empty(), "{planned:?}");
        }
    }
}

#[test]
fn what_some_node_cannot_is_refused_with_its_name() {
    let old = with("");
    let mixed = [("n1", "2", Some("2")), ("n2", "1", None), ("n3", "1", Some("2"))];
    let view = with_nodes(view(Some(old.clone()), &[]), &mixed);
    let able = |view: &View, old: &ClusterConf, new: &ClusterConf| super::able(view, Some(old), new, &[Ability::Bgp]);
    let words =
        "it asks twilld to speak BGP, and that has not said that it can on n2 (1), n3 (1): update it there first";
    assert_eq!(able(&view, &old, &with("[bgp]")).unwrap_err().to_string(), words);
    // Who speaks already goes on to, and what else changes has nothing to do with it.
    assert_eq!(able(&view, &with("[bgp]"), &with("[bgp]\nport=1179")), Ok(()));
    assert!(able(&view, &with("[bgp]"), &with("[backend]\ntype='bgp'")).is_err());
    assert_eq!(able(&view, &with("[backend]\ntype='bgp'"), &old), Ok(()));
    let updated = with_nodes(view, &[("n2", "2", Some("2")), ("n3", "2", Some("2"))]);
    assert_eq!(able(&updated, &old, &with("[backend]\ntype='bgp'")), Ok(()));
}

#[test]
fn a_configuration_that_no_node_would_read_is_refused() {
    let prefixes = (0..64).map(|n| format!("'10.{n}.0.0/16 ge 24 le 25'")).collect::<Vec<_>>().join(",");
    let rule = format!("{{ prefixes = [{prefixes}], action = 'reject' }}");
    let rules = vec![rule; 40].join(",");
    let peer = |n: u8| format!("[[bgp.peer]]\nname='p{n}'\naddress='192.0.2.{n}'\nas=7\nimport=[{rules}]\n");
    let old = with("[bgp]");
    let refused = plan(&view(Some(old), &[]), &with(&(1..=9).map(peer).collect::<String>())).unwrap_err();
    assert!(matches!(refused, Refusal::TooLong { length } if length > 512 << 10), "{refused}");
    assert!(refused.to_string().ends_with("nodes read at most 524288: take out peers, rules or pools"), "{refused}");
}
