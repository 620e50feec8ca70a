//! From keys and values to a [`Bgp`], with the defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::asn::ASN;
use super::community::{COMMUNITY, names};
use super::filter::{MOST_PREPENDED, PREFIXES};
use super::rules::{self, HOLD_TIME};
use super::{
    Announcement, Asn, Bfd, Bgp, Changes, Community, Distance, Filter, GracefulRestart, InvalidFilter, Link, NodeRule,
    Nodes, Peer, PeerAs, Prefixes, Reflectors, Rule, Then,
};
use crate::cluster::read::{Unknown, selector};
use crate::section::{Item, Section, shorten};
use crate::{Error, NodeName, prefix};

/// The keys of what [`nodes`] reads.
const OF_NODES: [&str; 2] = ["node", "nodes"];
/// The keys of what [`link`] reads.
const OF_LINK: [&str; 4] = ["hold_time", "connect_retry", "password_file", "bfd"];
const OF_BGP: [&str; 8] = ["as", "mesh", "port", "graceful_restart", "reflectors", "node", "peer", "announce"];
const OF_PEER: [&str; 13] = [
    "name",
    "address",
    "as",
    "port",
    "source",
    "local_as",
    "passive",
    "gtsm",
    "multihop",
    "next_hop_self",
    "transit",
    "max_prefixes",
    "import",
];
const OF_CHANGES: [&str; 5] = ["local_pref", "med", "prepend", "communities", "remove_communities"];
const OF_RULE: [&str; 5] = ["prefixes", "community", "through_as", "from_as", "action"];

pub(in crate::cluster) fn bgp(section: &Section<'_>, unknown: Unknown) -> Result<Bgp, Error> {
    no_password(section, unknown)?;
    unknown.check(section, &[&OF_BGP[..], &OF_LINK].concat())?;
    let default = Bgp::default();
    Ok(Bgp {
        asn: asn(section, "as")?.unwrap_or(default.asn),
        mesh: section.boolean("mesh")?.unwrap_or(default.mesh),
        port: section.integer("port", rules::PORT, rules::A_PORT)?.unwrap_or(default.port),
        link: link(section, unknown)?,
        graceful_restart: graceful_restart(section, unknown)?,
        reflectors: match section.section("reflectors", "a table headed [bgp.reflectors]")? {
            Some(section) => Some(reflectors(&section, unknown)?),
            None => None,
        },
        nodes: tables(section, "node", |section| node(section, unknown))?,
        peers: tables(section, "peer", |section| peer(section, unknown))?,
        announcements: tables(section, "announce", |section| announcement(section, unknown))?,
    })
}

/// The tables of a list, each called by its name or its place.
fn tables<T>(
    section: &Section<'_>,
    key: &str,
    read: impl Fn(&Section<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let list = section.key(key);
    let expected = format!("tables, each headed [[{list}]]");
    let items = section.list(key, &expected)?.unwrap_or_default().into_iter().enumerate();
    items.map(|(place, item)| read(&item.called(&list, place).section(&expected)?)).collect()
}

/// What a key holds that is a switch, or a table for who wants to say more.
enum Switch<'a> {
    Unsaid,
    Off,
    On,
    Table(Section<'a>),
}

fn switch<'a>(section: &Section<'a>, key: &str) -> Result<Switch<'a>, Error> {
    Ok(match section.raw(key) {
        None => Switch::Unsaid,
        Some(Value::Bool(false)) => Switch::Off,
        Some(Value::Bool(true)) => Switch::On,
        Some(_) => match section.section(key, "true, false, or a table that says more")? {
            Some(table) => Switch::Table(table),
            None => Switch::Unsaid,
        },
    })
}

fn graceful_restart(section: &Section<'_>, unknown: Unknown) -> Result<GracefulRestart, Error> {
    match switch(section, "graceful_restart")? {
        Switch::Unsaid | Switch::On => Ok(GracefulRestart::default()),
        Switch::Off => Ok(GracefulRestart::Off),
        Switch::Table(table) => {
            unknown.check(&table, &["time"])?;
            let time = table.integer("time", rules::RESTART, rules::A_RESTART)?;
            Ok(time.map(GracefulRestart::Within).unwrap_or_default())
        }
    }
}

fn reflectors(section: &Section<'_>, unknown: Unknown) -> Result<Reflectors, Error> {
    unknown.check(section, &[&OF_NODES[..], &["cluster_id"]].concat())?;
    let nodes = nodes(section)?;
    if nodes == Nodes::All {
        let right = "which nodes are reflectors, by a selector over node labels, as in \"has(reflector)\"";
        return Err(Error::missing(section.key("nodes"), right));
    }
    Ok(Reflectors { nodes, cluster_id: identifier(section, "cluster_id")? })
}

fn node(section: &Section<'_>, unknown: Unknown) -> Result<NodeRule, Error> {
    unknown.check(section, &[&OF_NODES[..], &["as", "router_id", "shutdown"]].concat())?;
    Ok(NodeRule {
        nodes: nodes(section)?,
        asn: asn(section, "as")?,
        router_id: identifier(section, "router_id")?,
        shutdown: section.boolean("shutdown")?,
    })
}

fn announcement(section: &Section<'_>, unknown: Unknown) -> Result<Announcement, Error> {
    unknown.check(section, &[&OF_NODES[..], &["prefix", "communities"]].concat())?;
    let text = section.string("prefix", prefix::PREFIX)?;
    let text = text.ok_or_else(|| Error::missing(section.key("prefix"), prefix::PREFIX))?;
    Ok(Announcement {
        prefix: prefix::parse(&section.key("prefix"), text)?,
        nodes: nodes(section)?,
        communities: communities(section, "communities")?,
    })
}

fn peer(section: &Section<'_>, unknown: Unknown) -> Result<Peer, Error> {
    no_password(section, unknown)?;
    unknown.check(section, &[&OF_PEER[..], &["export"], &OF_NODES, &OF_LINK].concat())?;
    let name = section.name("name")?;
    let name =
        name.ok_or_else(|| Error::missing(section.key("name"), "a name that no other peer has, as in \"tor-1\""))?;
    let address = address(section, "address")?;
    let address = address.ok_or_else(|| Error::missing(section.key("address"), ADDRESS))?;
    let default = Peer::new(name, address, peer_as(section)?);
    let passive = section.boolean("passive")?.unwrap_or(default.passive);
    if passive && section.has("connect_retry") && unknown == Unknown::Refused {
        return Err(not_with(section, "connect_retry", "passive = true"));
    }
    Ok(Peer {
        nodes: nodes(section)?,
        port: section.integer("port", rules::PORT, rules::A_PORT)?.unwrap_or(default.port),
        source: self::address(section, "source")?,
        local_as: asn(section, "local_as")?,
        passive,
        distance: distance(section)?,
        link: link(section, unknown)?,
        next_hop_self: section.boolean("next_hop_self")?.unwrap_or(default.next_hop_self),
        transit: section.boolean("transit")?.unwrap_or(default.transit),
        max_prefixes: section.integer("max_prefixes", rules::PREFIXES, rules::A_MAXIMUM)?,
        import: filter(section, "import")?,
        export: filter(section, "export")?,
        ..default
    })
}

fn not_with(section: &Section<'_>, key: &str, beside: &str) -> Error {
    Error::NotWith { key: section.key(key), beside: beside.to_owned(), all: key.to_owned() }
}

/// Refuses a password, which everyone would see who may read etcd.
fn no_password(section: &Section<'_>, unknown: Unknown) -> Result<(), Error> {
    match section.spelled("password").filter(|_| unknown == Unknown::Refused) {
        // It is not repeated.
        Some(_) => Err(Error::Kind {
            key: section.key("password"),
            found: "a password".into(),
            expected: "every node and operator could read it here: write it into a file on the nodes, and name that by password_file".into(),
        }),
        None => Ok(()),
    }
}

fn link(section: &Section<'_>, unknown: Unknown) -> Result<Link, Error> {
    let default = Link::default();
    Ok(Link {
        hold_time: section.integer("hold_time", 0..=u16::MAX, HOLD_TIME)?.unwrap_or(default.hold_time),
        connect_retry: section.integer("connect_retry", rules::RETRY, rules::A_RETRY)?.unwrap_or(default.connect_retry),
        password_file: match section.string("password_file", rules::A_FILE)? {
            Some(text) if Path::new(text).is_absolute() => Some(PathBuf::from(text)),
            Some(text) => return Err(Error::value(section.key("password_file"), shorten(text), rules::A_FILE)),
            None => None,
        },
        bfd: match switch(section, "bfd")? {
            Switch::Unsaid | Switch::Off => None,
            Switch::On => Some(Bfd::default()),
            Switch::Table(table) => {
                let default = Bfd::default();
                unknown.check(&table, &["interval", "multiplier"])?;
                Some(Bfd {
                    interval: table
                        .integer("interval", rules::INTERVAL, rules::AN_INTERVAL)?
                        .unwrap_or(default.interval),
                    multiplier: table
                        .integer("multiplier", rules::MULTIPLIER, rules::A_MULTIPLIER)?
                        .unwrap_or(default.multiplier),
                })
            }
        },
    })
}

fn distance(section: &Section<'_>) -> Result<Distance, Error> {
    let hops = section.integer("multihop", rules::HOPS, rules::A_HOP_LIMIT)?;
    match (section.boolean("gtsm")?, hops) {
        (Some(_), Some(hops)) => Err(not_with(section, "gtsm", &format!("multihop = {hops}"))),
        (_, Some(hops)) => Ok(Distance::Routed(hops)),
        (Some(true), _) => Ok(Distance::Guarded),
        (Some(false), _) => Ok(Distance::Unguarded),
        (None, None) => Ok(Distance::Usual),
    }
}

/// Which nodes a table is about: by `node`, a name, or by `nodes`, a selector.
fn nodes(section: &Section<'_>) -> Result<Nodes, Error> {
    match (section.name::<NodeName>("node")?, selector(section, "nodes")?) {
        (Some(name), Some(_)) => Err(not_with(section, "nodes", &format!("node = \"{name}\""))),
        (Some(name), None) => Ok(Nodes::One(name)),
        (None, Some(selector)) => Ok(Nodes::Labelled(selector)),
        (None, None) => Ok(Nodes::All),
    }
}

fn asn(section: &Section<'_>, key: &str) -> Result<Option<Asn>, Error> {
    match section.raw(key) {
        Some(Value::String(text)) => {
            let right = match text.parse::<Asn>() {
                Ok(_) => format!("{ASN}, without quotes"),
                Err(wrong) => wrong.rule,
            };
            Err(Error::value(section.key(key), shorten(text), right))
        }
        _ => section
            .integer(key, 1..=u32::MAX - 1, "an AS number")?
            .map(|number| Asn::new(number).map_err(|wrong| Error::value(section.key(key), number, wrong.rule)))
            .transpose(),
    }
}

fn peer_as(section: &Section<'_>) -> Result<PeerAs, Error> {
    let right = || format!("{ASN}, or \"internal\" for the node's own, or \"external\" for any other");
    if let Some(Value::String(text)) = section.raw("as") {
        if let Some((_, meant)) = PeerAs::WORDS.into_iter().find(|(word, _)| word == text) {
            return Ok(meant);
        }
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(Error::value(section.key("as"), shorten(text), right()));
        }
    }
    asn(section, "as")?.map(PeerAs::Number).ok_or_else(|| Error::missing(section.key("as"), right()))
}

const ADDRESS: &str = "an address of IPv4 or IPv6, as in \"192.0.2.1\" or \"2001:db8::1\"";

fn address(section: &Section<'_>, key: &str) -> Result<Option<IpAddr>, Error> {
    let Some(text) = section.string(key, ADDRESS)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::value(section.key(key), shorten(text), ADDRESS))
}

/// A BGP identifier.
fn identifier(section: &Section<'_>, key: &str) -> Result<Option<Ipv4Addr>, Error> {
    let Some(text) = section.string(key, rules::AN_IDENTIFIER)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::value(section.key(key), shorten(text), rules::AN_IDENTIFIER))
}

fn community(path: &str, text: &str) -> Result<Community, Error> {
    text.parse().map_err(|_| Error::value(path, shorten(text), format!("{COMMUNITY}{}", names())))
}

fn communities(section: &Section<'_>, key: &str) -> Result<Vec<Community>, Error> {
    let items = section.list(key, "a list of communities")?.unwrap_or_default();
    items.into_iter().map(|item| community(&item.path, item.string("a community, in quotes")?)).collect()
}

/// The rules of a filter. A key that is not known is refused whoever wrote it: without it a rule would be about more routes than was
/// meant.
fn filter(section: &Section<'_>, key: &str) -> Result<Option<Filter>, Error> {
    if section.raw(key).is_none() {
        return Ok(None);
    }
    let rules = tables(section, key, rule)?;
    let places = rules.len();
    Filter::new(rules).map(Some).map_err(|wrong| {
        let list = section.key(key);
        let at = |place: usize| crate::section::entry(&list, place, None);
        match wrong {
            InvalidFilter::TooMany { .. } => Error::value(list, format!("{places} rules"), wrong.to_string()),
            InvalidFilter::Unreachable { place, after } => Error::Kind {
                key: at(place),
                found: "a rule that no route comes to".into(),
                expected: format!("{} asks for nothing and decides on everything before it", at(after)),
            },
            InvalidFilter::NoEffect { place } => Error::missing(
                at(place),
                format!("with action = \"next\", something to change: {}", OF_CHANGES.join(", ")),
            ),
            InvalidFilter::Prepend { place } => Error::missing(at(place), wrong.to_string()),
        }
    })
}

fn rule(section: &Section<'_>) -> Result<Rule, Error> {
    section.only(&[&OF_RULE[..], &OF_CHANGES].concat())?;
    const ACTIONS: &str = "\"accept\" or \"reject\", or \"next\" to change it and ask the next rule";
    let range = |item: Item<'_>| {
        let text = item.string(PREFIXES)?;
        text.parse::<Prefixes>().map_err(|wrong| Error::value(item.path.clone(), shorten(text), wrong.rule))
    };
    let prefixes = section.list("prefixes", "a list of prefixes")?;
    if prefixes.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::missing(
            section.key("prefixes"),
            "at least one; without the key, the rule is about all prefixes",
        ));
    }
    let action = section.string("action", ACTIONS)?.ok_or_else(|| Error::missing(section.key("action"), ACTIONS))?;
    let then = match action {
        "accept" => Then::Accept(changes(section)?),
        "next" => Then::Next(changes(section)?),
        "reject" => {
            let idle: Vec<_> = OF_CHANGES.into_iter().filter(|key| section.has(key)).collect();
            if let Some(first) = idle.first() {
                let (key, beside) = (section.key(first), "action = \"reject\"".to_owned());
                return Err(Error::NotWith { key, beside, all: idle.join(", ") });
            }
            Then::Reject
        }
        other => return Err(Error::value(section.key("action"), shorten(other), ACTIONS)),
    };
    let said = section.string("community", "a community, in quotes")?;
    Ok(Rule {
        prefixes: prefixes.unwrap_or_default().into_iter().map(range).collect::<Result<_, _>>()?,
        community: said.map(|text| community(&section.key("community"), text)).transpose()?,
        through: asn(section, "through_as")?,
        from: asn(section, "from_as")?,
        then,
    })
}

fn changes(section: &Section<'_>) -> Result<Changes, Error> {
    Ok(Changes {
        local_pref: section.integer("local_pref", 0..=u32::MAX, "a preference")?,
        med: section.integer("med", 0..=u32::MAX, "a MED")?,
        prepend: section
            .integer("prepend", 1..=MOST_PREPENDED, "how often the AS number is put before the path")?
            .unwrap_or(0),
        remove: communities(section, "remove_communities")?,
        add: communities(section, "communities")?,
    })
}
