//! What `twillctl bgp` prints.

use ipnetwork::IpNetwork;
use twill_cluster::inquiry::bgp::{
    Attributes, Candidate, Counts, LeftAlone, Neighbour, Outcome, Peer, Route, Telling, Used,
};

use super::table::{age, list, number, or_dash, parts, problems, table, unknown};
use crate::report::bgp::{AloneRow, Explained, PeerRow, Peers, Routes, title};

pub(super) fn peers(found: &Peers) -> String {
    let heading =
        ["NODE", "PEER", "ADDRESS", "AS", "STATE", "SINCE", "RECEIVED", "ACCEPTED", "SENT", "BFD", "LAST ERROR"];
    let alone = match found.left_alone.len() {
        0 => String::new(),
        some => format!(", {some} left alone"),
    };
    let summary = format!(
        "{} of {} answered: {} of {} up{alone}\n",
        found.answered,
        number(found.nodes, "node"),
        found.up,
        number(found.sessions, "session"),
    );
    let good = found.problems.is_empty() && found.unknown.is_empty();
    parts([
        table(heading, found.peers.iter().map(peer).chain(found.left_alone.iter().map(left_alone))),
        summary,
        if good { "no problems\n".to_owned() } else { problems(&found.problems) },
        unknown(&found.unknown),
    ])
}

fn peer(PeerRow { node, peer }: &PeerRow) -> [String; 11] {
    let Neighbour { address, node: other, router } = &peer.neighbour;
    let name = other.as_ref().map(ToString::to_string).or_else(|| router.as_ref().map(ToString::to_string));
    let both = |of: fn(&Counts) -> u64| format!("{}+{}", of(&peer.ipv4), of(&peer.ipv6));
    let last_error = || {
        let error = peer.last_error.as_ref()?;
        Some(format!("{} ({} ago)", error.text, age(error.age_seconds)))
    };
    [
        node.to_string(),
        or_dash(name),
        address.to_string(),
        or_dash(peer.asn),
        state(peer),
        age(peer.down_seconds.unwrap_or_default().max(peer.age_seconds)),
        both(|counts| counts.received),
        both(|counts| counts.accepted),
        both(|counts| counts.sent),
        or_dash(peer.bfd.map(|state| format!("{state:?}"))),
        or_dash(peer.unreached.clone().or_else(last_error)),
    ]
}

fn left_alone(AloneRow { node, peer }: &AloneRow) -> [String; 11] {
    let LeftAlone { neighbour: Neighbour { address, node: other, router }, why } = peer;
    let name = other.as_ref().map(ToString::to_string).or_else(|| router.as_ref().map(ToString::to_string));
    let none = || "-".to_owned();
    [
        node.to_string(),
        or_dash(name),
        address.to_string(),
        none(),
        "left alone".to_owned(),
        none(),
        none(),
        none(),
        none(),
        none(),
        why.clone(),
    ]
}

fn state(peer: &Peer) -> String {
    format!("{:?}", peer.state)
}

pub(super) fn routes(found: &Routes) -> String {
    if found.routes.is_empty() {
        let inside = found.inside.map(|prefix| format!(" inside of {prefix}")).unwrap_or_default();
        let peer = found.peer.as_ref().map(|peer| format!(" of {peer}")).unwrap_or_default();
        return format!("node {} uses no route{inside}{peer}\n", found.node);
    }
    let heading = ["PREFIX", "NEXT HOP", "FROM", "AS PATH", "PREF", "MED", "COMMUNITIES", "MARKS"];
    table(heading, found.routes.iter().flat_map(ways))
}

/// A row for each way that is used; the prefix stands in the first.
fn ways(route: &Route) -> impl Iterator<Item = [String; 8]> {
    let way = |(at, used): (usize, &Used)| {
        let Attributes { as_path, local_pref, med, communities, .. } = &used.attributes;
        [
            if at == 0 { route.prefix.to_string() } else { String::new() },
            or_dash(used.next_hop),
            used.from.as_ref().map_or_else(|| "this node".to_owned(), short),
            or_dash(Some(as_path).filter(|path| !path.is_empty())),
            or_dash(*local_pref),
            or_dash(*med),
            list(communities),
            marks(used),
        ]
    };
    route.used.iter().enumerate().map(way).collect::<Vec<_>>().into_iter()
}

/// Who it is, in a cell.
fn short(neighbour: &Neighbour) -> String {
    let Neighbour { address, node, router } = neighbour;
    let name = node.as_ref().map(ToString::to_string).or_else(|| router.as_ref().map(ToString::to_string));
    name.unwrap_or_else(|| address.to_string())
}

fn marks(used: &Used) -> String {
    let words = [used.from.is_none().then_some("own"), used.stale.then_some("stale")];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

pub(super) fn explained(explained: &Explained) -> String {
    let Explained { node, asked, explanation } = explained;
    let Some(prefix) = explanation.prefix else {
        let asked = destination(*asked);
        return format!(
            "node {node} has no route that covers {asked}: no peer has announced one, and it is not the node's own\n"
        );
    };
    let covers = if prefix == *asked { String::new() } else { format!(", which covers {}", destination(*asked)) };
    let routes: String = explanation.routes.iter().map(candidate).collect();
    let told: String = explanation.told.iter().map(|telling| self::telling(telling, &explanation.told)).collect();
    let told = if told.is_empty() { String::new() } else { format!("What the peers are told:\n{told}") };
    let left_out = match explanation.left_out {
        0 => String::new(),
        more => format!("{more} more had no room\n"),
    };
    let count = number(explanation.routes.len(), "route");
    let instead = match explanation.used {
        Some(used) if used == prefix => String::new(),
        Some(used) => format!("None of them is used: packets go by {used}.\n"),
        None => "None of them is used, and no other route of BGP's covers it.\n".to_owned(),
    };
    parts([format!("Node {node} has {count} to {prefix}{covers}:\n{routes}"), instead, told, left_out])
}

/// A prefix as it was asked for: an address without its length.
fn destination(prefix: IpNetwork) -> String {
    let is_one = prefix.prefix() == if prefix.is_ipv4() { 32 } else { 128 };
    if is_one { prefix.ip().to_string() } else { prefix.to_string() }
}

/// A route: where it comes from, and in a sentence what became of it.
fn candidate(route: &Candidate) -> String {
    let from = route.from.as_ref().map_or_else(|| "its own".to_owned(), |from| format!("from {}", title(from)));
    let next_hop = route.next_hop.map(|next_hop| format!(", next hop {next_hop}")).unwrap_or_default();
    let stale = if route.stale { ", stale: kept until that peer is back" } else { "" };
    let said = said(&route.attributes);
    format!("  {from}{next_hop}{said}{stale}\n    {}\n", outcome(route))
}

fn outcome(route: &Candidate) -> String {
    let that = |to: &Option<Neighbour>| {
        to.as_ref().map_or_else(|| "the node's own".to_owned(), |to| format!("that of {}", title(to)))
    };
    match &route.outcome {
        Outcome::Best => "best: it is used".to_owned(),
        Outcome::AlsoUsed => "also used: as good as the best one".to_owned(),
        Outcome::Lost { why, to } => format!("lost against {}: {why}", that(to)),
        Outcome::OutOfReach => match route.next_hop {
            Some(next_hop) => format!("not used: its next hop {next_hop} is out of reach of this node"),
            None => "not used: its next hop is out of reach of this node".to_owned(),
        },
        Outcome::Refused { why } => format!("refused: {why}"),
        Outcome::Deferred => "not used yet: after its restart the node waits for what other peers say".to_owned(),
        Outcome::Unknown => "what became of it only a newer twillctl can tell".to_owned(),
    }
}

/// What is said of a route, but for what goes without saying.
fn said(attributes: &Attributes) -> String {
    let Attributes { as_path, origin, local_pref, med, communities, originator, clusters } = attributes;
    let parts = [
        Some(as_path).filter(|path| !path.is_empty()).map(|path| format!("AS path {path}")),
        local_pref.map(|pref| format!("local preference {pref}")),
        med.map(|med| format!("MED {med}")),
        Some(origin).filter(|origin| *origin != "igp").map(|origin| format!("origin {origin}")),
        Some(communities).filter(|all| !all.is_empty()).map(|all| format!("communities {}", all.join(" "))),
        originator.map(|originator| format!("reflected, originator {originator}")),
        Some(clusters).filter(|all| !all.is_empty()).map(|all| format!("clusters {}", list(all))),
    ];
    parts.into_iter().flatten().map(|part| format!(", {part}")).collect()
}

/// What a peer is told of a route. Whose it is is said where more than one is told of.
fn telling(telling: &Telling, all: &[Telling]) -> String {
    let Telling { to, from, told, withheld } = telling;
    let several = all.iter().filter(|other| other.to == *to).count() > 1;
    let which = from.as_ref().map_or_else(|| "the node's own".to_owned(), |from| format!("that of {}", title(from)));
    let which = if several { format!("{which}: ") } else { String::new() };
    let what = match (told, withheld) {
        (Some(told), _) => {
            let said = said(told);
            format!("told{}", said.strip_prefix(',').map(|said| format!(":{said}")).unwrap_or_default())
        }
        (None, Some(why)) => format!("not told: {why}"),
        (None, None) => "not told".to_owned(),
    };
    format!("  {}: {which}{what}\n", title(to))
}
