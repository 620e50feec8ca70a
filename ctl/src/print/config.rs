//! What the `config` commands print.

use twill_conf::cluster::{Bgp, Nodes, Peer, PeerAs, Pool};

use super::table::{count, list, table};
use crate::report::config::{Applied, Change, Made, Outlook, Shown, Valid, Would};
use crate::report::problems::shortened;

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
    let lines = lines(&applied.changes);
    format!("applied as revision {} ({before}):\n{lines}", applied.revision)
}

/// A line for each value that becomes another.
fn lines(changes: &[Change]) -> String {
    let text = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    let line = |change: &Change| match (&change.from, &change.to) {
        (None, Some(to)) => format!("  + {}: {to}\n", change.key),
        (Some(from), None) => format!("  - {}: {from}\n", change.key),
        (from, to) => format!("  ~ {}: {} -> {}\n", change.key, text(from), text(to)),
    };
    changes.iter().map(line).collect()
}

pub(super) fn compared(outlook: &Outlook) -> String {
    let document = &outlook.document;
    match (outlook.revision, outlook.changes.is_empty()) {
        (Some(revision), true) => format!("no difference: revision {revision} says what {document} says\n"),
        (Some(revision), false) => prospect(&format!("from revision {revision} to {document}:\n"), outlook),
        (None, _) => prospect(&format!("from no configuration to {document}:\n"), outlook),
    }
}

pub(super) fn rehearsed(outlook: &Outlook) -> String {
    let Outlook { document, revision, would, .. } = outlook;
    let would = match would {
        Would::Nothing => {
            let revision = revision.unwrap_or_default();
            return format!("dry run: nothing to change: revision {revision} has all of it\n");
        }
        Would::Apply => "would be applied",
        Would::RefuseWithoutForce | Would::Refuse => "would be refused",
    };
    let stands = revision.map_or_else(|| "no configuration".to_owned(), |revision| format!("revision {revision}"));
    prospect(&format!("dry run, nothing was changed: {document} {would} in place of {stands}:\n"), outlook)
}

/// The changes, whom they concern, and what is said to them.
fn prospect(heading: &str, outlook: &Outlook) -> String {
    let names: Vec<String> = outlook.nodes.iter().map(ToString::to_string).collect();
    let nodes = match (names.len(), outlook.of_nodes) {
        (_, 0) => "concerns: no node is registered yet\n".to_owned(),
        (0, of) => format!("concerns: none of {of} nodes\n"),
        (some, of) if some == of => {
            format!("concerns: {}\n", if of == 1 { names.join("") } else { format!("all {of} nodes") })
        }
        (some, of) => format!("concerns: {some} of {of} nodes, {}\n", shortened(&names)),
    };
    let refused = outlook.refusals.iter().map(|why| format!("REFUSED: {why}\n"));
    let perils = outlook.perils.iter().map(|why| format!("REFUSED without --force: {why}\n"));
    let said: String = refused.chain(perils).collect();
    format!("{heading}{}{nodes}{said}{}", lines(&outlook.changes), super::table::notes(&outlook.notes))
}
