//! The chains of others, as nft shows them: which there are, at which hook, and the rules of one.
//!
//! A chain of a dormant table is listed like a live one, and the kernel asks it of nothing: it counts as one without a hook. Which
//! tables are dormant the kernel tells, since nft 1.0.6 prints another word in the place of that flag.

use std::fmt;

use serde_json::Value;

use crate::{Error, netfilter, nft, ports};

/// The families of chains that see IP packets of this node.
const FAMILIES: [&str; 3] = ["ip", "ip6", "inet"];

/// A chain, as in "ip filter FORWARD".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The family: ip, ip6 or inet.
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) place: Place,
    /// Where the kernel asks it whether a packet may go on; `None` where it does not, or not for that.
    hook: Option<String>,
    pub(crate) drops_by_policy: bool,
}

impl Chain {
    /// Whether the kernel asks it at one of these hooks.
    pub(crate) fn filters_at(&self, hooks: &[&str]) -> bool {
        self.hook.as_deref().is_some_and(|hook| hooks.contains(&hook))
    }
}

/// All chains of IP but ours, in the namespace of the calling thread: one run of nft. Ours are those of the table `own` and of that
/// of published ports, in family inet.
pub(crate) fn of_others(own: &str) -> Result<Vec<Chain>, Error> {
    let Some(listing) = nft::listing("list the chains", &["chains"])? else { return Ok(Vec::new()) };
    let mut chains = read(&listing);
    chains.retain(|Chain { place, .. }| place.family != "inet" || ![own, ports::TABLE].contains(&place.table.as_str()));
    if chains.iter().any(|chain| chain.hook.is_some()) {
        let dormant = netfilter::dormant_tables()?;
        for chain in &mut chains {
            let Place { family, table, .. } = &chain.place;
            if dormant.iter().any(|(of, name)| (of, name) == (&family.as_str(), table)) {
                chain.hook = None;
            }
        }
    }
    Ok(chains)
}

/// What nft shows of a chain with its rules; `None` where it is gone. One run of nft.
pub(crate) fn list(Place { family, table, chain }: &Place) -> Result<Option<Value>, Error> {
    nft::listing("list a chain", &["chain", family, table, chain])
}

/// The objects of one kind in what nft shows.
pub(crate) fn objects<'a>(listing: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    listing["nftables"].as_array().into_iter().flatten().filter_map(move |object| object.get(kind))
}

/// Whether a step of a rule drops or rejects what comes to it. What iptables rejects is told as a target of its own.
pub(crate) fn refuses(step: &Value) -> bool {
    let of_iptables = &step["xt"];
    let rejects = of_iptables["type"] == "target" && of_iptables["name"] == "REJECT";
    rejects || step.get("drop").is_some() || step.get("reject").is_some()
}

/// The chains in what nft shows, as if no table were dormant.
pub(crate) fn read(listing: &Value) -> Vec<Chain> {
    let text = |object: &Value, key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let chain = |object: &Value| Chain {
        place: Place { family: text(object, "family"), table: text(object, "table"), chain: text(object, "name") },
        hook: object["hook"].as_str().filter(|_| object["type"] == "filter").map(str::to_owned),
        drops_by_policy: object["policy"] == "drop",
    };
    let is_of_ip = |chain: &Chain| FAMILIES.contains(&chain.place.family.as_str());
    objects(listing, "chain").map(chain).filter(is_of_ip).collect()
}
