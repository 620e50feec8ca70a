//! Which nodes a change of the configuration is about.
//!
//! A node is named where its own pods, routes, firewall or sessions become other ones. That others send to it in another way, since
//! they change, is told of those.

use std::collections::{BTreeMap, BTreeSet};

use twill_cluster::{NodeRecord, View};
use twill_conf::NodeName;
use twill_conf::cluster::{Announcement, Bgp, ClusterConf, Given, NodeRule, Nodes, Peer, Pool};

/// Those of the view's nodes whose state changes when `new` takes the place of what stands there.
pub(crate) fn concerned(view: &View, new: &ClusterConf) -> BTreeSet<NodeName> {
    let old = view.config.as_ref().map(|config| &config.value);
    let everybody = || view.nodes.keys().cloned().collect();
    let Some(old) = old.filter(|old| *old != new) else { return everybody() };
    if old.backend != new.backend || old.firewall != new.firewall || pools_move(old, new) || speaks_otherwise(old, new)
    {
        return everybody();
    }
    let is_concerned = |name: &NodeName, record: &NodeRecord| {
        let by_pool = pairs(&old.pools, &new.pools, |pool: &Pool| pool.name.clone());
        by_pool.iter().any(|pair| of_pool(view, *pair, name, record))
            || old.bgp.as_ref().zip(new.bgp.as_ref()).is_some_and(|(old, new)| of_speaker(old, new, name, record))
    };
    let nodes = view.nodes.iter().filter(|(name, record)| is_concerned(name, &record.value));
    nodes.map(|(name, _)| name.clone()).collect()
}

/// The same thing in both, by its name, where it is not the same in both.
type Pair<'a, T> = (Option<&'a T>, Option<&'a T>);

fn pairs<'a, T: PartialEq, K: Ord>(old: &'a [T], new: &'a [T], key: impl Fn(&T) -> K) -> Vec<Pair<'a, T>> {
    let mut pairs: BTreeMap<K, Pair<'a, T>> = BTreeMap::new();
    old.iter().for_each(|item| pairs.entry(key(item)).or_default().0 = Some(item));
    new.iter().for_each(|item| pairs.entry(key(item)).or_default().1 = Some(item));
    pairs.into_values().filter(|(old, new)| old != new).collect()
}

/// Whether ranges come, go or are cut otherwise: every node has a route for each.
fn pools_move(old: &ClusterConf, new: &ClusterConf) -> bool {
    let ranges = |conf: &ClusterConf| -> BTreeSet<_> {
        conf.pools.iter().map(|pool| (pool.name.clone(), pool.cidr, pool.block)).collect()
    };
    ranges(old) != ranges(new)
}

/// Whether the speaker itself is another one everywhere.
fn speaks_otherwise(old: &ClusterConf, new: &ClusterConf) -> bool {
    let common = |conf: &ClusterConf| -> Option<Bgp> {
        let bgp = conf.bgp.clone()?;
        Some(Bgp { nodes: Vec::new(), peers: Vec::new(), announcements: Vec::new(), ..bgp })
    };
    common(old) != common(new)
}

fn of_pool(view: &View, (old, new): Pair<'_, Pool>, name: &NodeName, record: &NodeRecord) -> bool {
    let given = |pool: Option<&Pool>| pool.map_or(Given::Nobody, |pool| pool.given(&record.labels));
    if given(old) != given(new) {
        return true;
    }
    let alike = |pool: &Pool| Pool { nodes: None, disabled: false, ..pool.clone() };
    let has_some = || {
        let ranges = [old, new].into_iter().flatten().map(|pool| pool.cidr).collect::<Vec<_>>();
        view.blocks_of(name).any(|block| ranges.iter().any(|range| range.contains(block.cidr().network())))
    };
    old.map(alike) != new.map(alike) && (given(new) == Given::Default || has_some())
}

fn of_speaker(old: &Bgp, new: &Bgp, name: &NodeName, record: &NodeRecord) -> bool {
    let labels = &record.labels;
    let are = |nodes: &Nodes| nodes.are(name, labels);
    let of_both = |old: Option<&Nodes>, new: Option<&Nodes>| old.is_some_and(are) || new.is_some_and(are);
    let said = |bgp: &Bgp| (bgp.asn_of(name, labels), bgp.router_id_of(name, labels), bgp.is_shut_down(name, labels));
    // Rules have no names; what they say of a node is what counts.
    let rules = |rules: &[NodeRule]| rules.iter().any(|rule| are(&rule.nodes));
    let by_peer = pairs(&old.peers, &new.peers, |peer: &Peer| peer.name.clone());
    let by_prefix = pairs(&old.announcements, &new.announcements, |extra: &Announcement| extra.prefix);
    (said(old) != said(new) && (rules(&old.nodes) || rules(&new.nodes)))
        || by_peer.iter().any(|(old, new)| of_both(old.map(|p| &p.nodes), new.map(|p| &p.nodes)))
        || by_prefix.iter().any(|(old, new)| of_both(old.map(|a| &a.nodes), new.map(|a| &a.nodes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOLS: &str = "[[pool]]\nname='a'\ncidr='10.1.0.0/16'\n[[pool]]\nname='b'\ncidr='10.2.0.0/16'\n";

    /// n1 in zone a, n2 in zone b with a block of the second pool, n3 in none.
    fn told(old: &str, new: &str) -> String {
        let conf = |toml: &str| ClusterConf::from_toml(toml).unwrap();
        let record = |zone: &str| format!(r#"{{"machine_id":"m","nonce":"x","labels":{{{zone}}}}}"#);
        let (one, two, three) = (record("\"zone\":\"a\""), record("\"zone\":\"b\""), record(""));
        let block = r#"{"node":"n2","machine_id":"m","epoch":1,"nonce":"x"}"#;
        let old = String::from_utf8(conf(old).to_json()).unwrap();
        let entries = [
            ("config", old.as_str()),
            ("nodes/n1", &one),
            ("nodes/n2", &two),
            ("nodes/n3", &three),
            ("blocks/4/0a020000-26", block),
        ];
        let view = crate::access::Picture::of(&entries).view;
        concerned(&view, &conf(new)).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ranges_back_end_and_firewall_are_everybodys() {
        for rest in
            ["[backend]\nvni=8", "[firewall]\nclamp_mss=true", "[bgp]", "[[pool]]\nname='c'\ncidr='10.3.0.0/16'"]
        {
            assert_eq!(told(POOLS, &format!("{POOLS}{rest}")), "n1 n2 n3", "{rest}");
        }
        assert_eq!(told(POOLS, "[[pool]]\nname='a'\ncidr='10.1.0.0/16'\n"), "n1 n2 n3");
    }

    #[test]
    fn a_selector_is_of_those_who_gain_or_lose_the_pool() {
        let with = |words: &str| format!("{POOLS}{words}");
        assert_eq!(told(POOLS, &with("nodes=\"zone == 'a'\"")), "n2 n3");
        assert_eq!(told(&with("nodes=\"zone == 'a'\""), &with("nodes=\"has(zone)\"")), "n2");
        assert_eq!(told(&with("nodes=\"zone == 'a'\""), &with("nodes=\"zone == 'a'\"\nmasquerade=false")), "n1 n2");
        assert_eq!(told(&with("disabled=true"), &with("disabled=true\nmasquerade=false")), "n2", "it has a block");
    }

    #[test]
    fn a_peer_an_announcement_or_a_rule_is_of_its_nodes() {
        let with = |rest: &str| format!("{POOLS}[bgp]\n{rest}");
        let peer = |rest: &str| with(&format!("[[bgp.peer]]\nname='p'\naddress='192.0.2.1'\nas=7\n{rest}"));
        assert_eq!(told(&with(""), &peer("nodes=\"zone == 'a'\"")), "n1");
        assert_eq!(told(&peer("nodes=\"zone == 'a'\""), &peer("node='n3'")), "n1 n3");
        assert_eq!(told(&with(""), &with("[[bgp.announce]]\nprefix='203.0.113.0/24'\nnode='n2'")), "n2");
        assert_eq!(told(&with(""), &with("[[bgp.node]]\nnode='n3'\nshutdown=true")), "n3");
        assert_eq!(told(&with(""), &with("[[bgp.node]]\nnode='n9'\nshutdown=true")), "");
        assert_eq!(told(&with(""), &with("as=65001")), "n1 n2 n3");
    }
}
