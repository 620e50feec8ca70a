//! What the `config` commands print.

use twill_conf::cluster::{Bgp, Nodes, Peer, PeerAs, Pool};

use super::table::{count, list, table};
use crate::report::config::{Applied, Change, Made, Shown, Valid};

pub(super) fn made(made: &Made) -> String {
    match &made.file {
        Some(path) => {
            let path = path.display();
            format!("{path} is made: change it to your needs, then 'twillctl config apply {path}'\n")
        }
        None => made.toml.clone(),
    }
}

pub(super) fn valid(valid: &Valid) -> String {
    let row = |pool: &Pool| {
        let longest = if pool.cidr.is_ipv4() { 32 } else { 128 };
        let blocks = count(pool.block - pool.cidr.prefix());
        let text = format!("{blocks} blocks of {} addresses", count(longest - pool.block));
        let mut more = vec![if pool.masquerade { "masqueraded" } else { "not masqueraded" }.to_owned()];
        more.extend(pool.disabled.then(|| "disabled".to_owned()));
        more.extend(pool.announce.then(|| "announced".to_owned()));
        more.extend(pool.nodes.as_ref().map(|nodes| format!("for nodes with {nodes}")));
        more.extend((!pool.reserved.is_empty()).then(|| format!("reserved {}", list(&pool.reserved))));
        [format!("  {}", pool.name), pool.cidr.to_string(), text, more.join(", ")]
    };
    let heading = format!("{} is valid: back end {}, pools:\n", valid.document, valid.backend);
    let rows = table(["", "", "", ""], valid.pools.iter().map(row));
    let rows = rows.split_once('\n').map_or("", |(_, rows)| rows);
    format!("{heading}{rows}{}", valid.bgp.as_ref().map(bgp).unwrap_or_default())
}

/// The speaker, in a line and one for each peer.
fn bgp(bgp: &Bgp) -> String {
    let nodes = match (&bgp.reflectors, bgp.mesh) {
        (Some(_), _) => "nodes joined by reflectors",
        (None, true) => "nodes meshed",
        (None, false) => "nodes not joined",
    };
    let row = |peer: &Peer| {
        let asn = match peer.asn {
            PeerAs::Number(number) => format!("AS {number}"),
            PeerAs::Internal => "the nodes' AS".to_owned(),
            PeerAs::External => "another AS".to_owned(),
        };
        let nodes = match &peer.nodes {
            Nodes::All => "for all nodes".to_owned(),
            Nodes::One(name) => format!("for node {name}"),
            Nodes::Labelled(selector) => format!("for nodes with {selector}"),
        };
        [format!("  {}", peer.name), peer.address.to_string(), asn, nodes]
    };
    let rows = table(["", "", "", ""], bgp.peers.iter().map(row));
    let rows = rows.split_once('\n').map_or("", |(_, rows)| rows);
    let colon = if bgp.peers.is_empty() { "" } else { ", peers:" };
    format!("BGP: AS {}, {nodes}{colon}\n{rows}", bgp.asn)
}

pub(super) fn shown(shown: &Shown) -> String {
    format!("# revision {}\n{}", shown.revision, shown.config.to_toml())
}

pub(super) fn applied(applied: &Applied) -> String {
    if applied.changes.is_empty() {
        return format!("nothing to change: revision {} has all of it\n", applied.revision);
    }
    let before = applied.previous.map_or_else(|| "the first".to_owned(), |revision| format!("it was {revision}"));
    let line = |change: &Change| match (&change.from, &change.to) {
        (None, Some(to)) => format!("  + {}: {to}\n", change.key),
        (Some(from), None) => format!("  - {}: {from}\n", change.key),
        (from, to) => {
            let text = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("  ~ {}: {} -> {}\n", change.key, text(from), text(to))
        }
    };
    let lines: String = applied.changes.iter().map(line).collect();
    format!("applied as revision {} ({before}):\n{lines}", applied.revision)
}
