//! What nft shows of chains and their rules, as far as it matters here.

use serde_json::Value;

use super::{MARK, Place};
use crate::{Error, chains};

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) place: Place,
    /// The kernel asks it of what it forwards.
    pub(super) at_forward: bool,
    pub(super) drops_by_policy: bool,
    /// In their order. Empty where they were not read.
    pub(super) rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) handle: u64,
    comment: Option<String>,
    /// What it lets through, if it does nothing else than accept what comes or goes by certain interfaces: `iifname` or
    /// `oifname`, and which.
    lets: Option<(String, String)>,
    jump: Option<String>,
    /// Drops or rejects whatever comes to it.
    pub(super) refuses_all: bool,
}

impl Rule {
    pub(super) fn is_ours(&self) -> bool {
        self.comment.as_deref() == Some(MARK) && self.lets.is_some()
    }

    /// Whether it accepts whatever comes (`iifname`) or goes (`oifname`) by these interfaces.
    pub(super) fn lets(&self, direction: &str, interfaces: &str) -> bool {
        self.lets.as_ref().is_some_and(|(by, names)| (by.as_str(), names.as_str()) == (direction, interfaces))
    }
}

impl Chain {
    pub(super) fn jumps_to(&self, chain: &str) -> bool {
        self.rules.iter().any(|rule| rule.jump.as_deref() == Some(chain))
    }
}

/// All chains of others, with the rules of those that `matter`. One that is gone between two looks is left out.
pub(super) fn read(own: &str, matter: impl Fn(&Chain) -> bool) -> Result<Vec<Chain>, Error> {
    let mut found = Vec::new();
    for mut chain in chains::of_others(own)?.into_iter().map(Chain::from).filter(matter) {
        if let Some(listing) = chains::list(&chain.place)? {
            chain.rules = rules(&listing);
            found.push(chain);
        }
    }
    Ok(found)
}

impl From<chains::Chain> for Chain {
    fn from(chain: chains::Chain) -> Self {
        let at_forward = chain.filters_at(&["forward"]);
        Self { place: chain.place, at_forward, drops_by_policy: chain.drops_by_policy, rules: Vec::new() }
    }
}

pub(super) fn rules(listing: &Value) -> Vec<Rule> {
    chains::objects(listing, "rule").map(rule).collect()
}

fn rule(object: &Value) -> Rule {
    let is_told_only = |statement: &&Value| statement.get("counter").is_some() || statement.get("log").is_some();
    let steps = object["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    let steps: Vec<&Value> = steps.iter().filter(|step| !is_told_only(step)).collect();
    let lets = match steps[..] {
        [only, verdict] if verdict.get("accept").is_some() => by_interface(&only["match"]),
        _ => None,
    };
    let jump = match steps[..] {
        [jump] => jump["jump"]["target"].as_str().map(str::to_owned),
        _ => None,
    };
    let refuses_all = matches!(steps[..], [verdict] if chains::refuses(verdict));
    let comment = object["comment"].as_str().map(str::to_owned);
    Rule { handle: object["handle"].as_u64().unwrap_or_default(), comment, lets, jump, refuses_all }
}

fn by_interface(condition: &Value) -> Option<(String, String)> {
    let key = condition["left"]["meta"]["key"].as_str()?;
    let names = condition["right"].as_str()?;
    let by = ["iifname", "oifname"].contains(&key) && condition["op"] == "==";
    by.then(|| (key.to_owned(), names.to_owned()))
}
