//! Filters: what an operator wrote for a peer, with what holds whatever he wrote.
//!
//! - What is announced to some only is kept from the others, and from routers of another AS what is learned of others, unless `transit`
//!   says otherwise; of pools that are not announced outside they are told nothing.
//! - A default route is taken only where a rule names it.
//! - Who is about to go says so with every route (RFC 8326).

use ipnetwork::IpNetwork;
use twill_bgp::path::{Asn, Attributes, Community, LargeCommunity};
use twill_bgp::policy::{Action, Filter, Match, Otherwise, Policy, Prefixes, Range, Rule, Then};
use twill_conf::cluster::{self, Pool};
use twill_fabric::peering::{Export, Import, Kind, Peering, Speaker};

/// What is taken of a peer and given to it.
pub(super) fn policy(wanted: &Speaker, pools: &[Pool], peering: &Peering) -> Policy {
    Policy { import: import(pools, &peering.exchange.import), export: export(wanted, pools, peering) }
}

fn import(pools: &[Pool], import: &Import) -> Filter {
    match import {
        Import::Nothing => Filter::all(Otherwise::Reject),
        Import::Pools => Filter::only(pools.iter().map(|pool| inside(pool.cidr)).collect()),
        Import::Filter(filter) => {
            let unnamed = ["0.0.0.0/0", "::/0"].map(|prefix| prefix.parse::<IpNetwork>().expect("a prefix"));
            let unnamed = unnamed.into_iter().filter(|prefix| !filter.names_default(prefix.is_ipv6())).map(exactly);
            filter_of(reject(unnamed.collect()).into_iter().chain(rules(filter)).collect())
        }
    }
}

fn export(wanted: &Speaker, pools: &[Pool], peering: &Peering) -> Filter {
    let external = matches!(peering.session.kind, Kind::External(_));
    let chosen = match &peering.exchange.export {
        Export::Nothing => return Filter::all(Otherwise::Reject),
        Export::All => vec![Rule { matches: Vec::new(), actions: Vec::new(), then: Then::Accept }],
        Export::Filter(filter) => rules(filter),
    };
    let own = |told: bool| -> Prefixes {
        let own = wanted.announced.iter().filter(|announced| peering.may_be_told(announced) == told);
        own.map(|announced| exactly(announced.prefix)).collect()
    };
    let mut all = Vec::new();
    if wanted.shutdown {
        all.push(Rule { matches: Vec::new(), actions: leaving(external), then: Then::Next });
    }
    if !external {
        all.extend(reject(own(false)).into_iter().chain(chosen));
        return filter_of(all);
    }
    let may_be_told = own(true);
    if !may_be_told.is_empty() {
        all.extend(chosen.iter().cloned().map(|mut rule| {
            rule.matches.push(Match::Prefixes(may_be_told.clone()));
            rule
        }));
    }
    if peering.exchange.transit {
        let kept: Prefixes = pools.iter().filter(|pool| !pool.announce).map(|pool| inside(pool.cidr)).collect();
        all.extend(reject(own(false)).into_iter().chain(reject(kept)).chain(chosen));
    }
    filter_of(all)
}

/// What a route says whose node is about to go.
fn leaving(external: bool) -> Vec<Action> {
    let mut actions = vec![Action::Add(Community::GRACEFUL_SHUTDOWN)];
    if !external {
        actions.push(Action::LocalPref(0));
    }
    actions
}

/// What none of them decides on is rejected.
fn filter_of(rules: Vec<Rule>) -> Filter {
    Filter::new(rules, Otherwise::Reject).expect("conf refuses rules that say something in vain, and ours do not")
}

fn reject(prefixes: Prefixes) -> Option<Rule> {
    let rule = |prefixes| Rule { matches: vec![Match::Prefixes(prefixes)], actions: Vec::new(), then: Then::Reject };
    (!prefixes.is_empty()).then(|| rule(prefixes))
}

fn inside(prefix: IpNetwork) -> Range {
    Range::all_inside(prefix).expect("conf refuses host bits")
}

fn exactly(prefix: IpNetwork) -> Range {
    Range::new(prefix, None, None).expect("a block and an announced prefix have no host bits")
}

fn rules(filter: &cluster::Filter) -> Vec<Rule> {
    filter.rules().iter().map(rule).collect()
}

fn rule(rule: &cluster::Rule) -> Rule {
    let mut matches = Vec::new();
    if !rule.prefixes.is_empty() {
        matches.push(Match::Prefixes(rule.prefixes.iter().map(range).collect()));
    }
    matches.extend(rule.community.map(|community| match known(community) {
        Known::Standard(community) => Match::Community(community),
        Known::Large(community) => Match::LargeCommunity(community),
    }));
    matches.extend(rule.through.map(|asn| Match::Through(Asn(asn.number()))));
    matches.extend(rule.from.map(|asn| Match::From(Asn(asn.number()))));
    let (actions, then) = match &rule.then {
        cluster::Then::Reject => (Vec::new(), Then::Reject),
        cluster::Then::Accept(changes) => (actions(changes), Then::Accept),
        cluster::Then::Next(changes) => (actions(changes), Then::Next),
    };
    Rule { matches, actions, then }
}

fn range(prefixes: &cluster::Prefixes) -> Range {
    let (least, most) = (*prefixes.lengths().start(), *prefixes.lengths().end());
    Range::new(prefixes.prefix(), Some(least), Some(most)).expect("conf has the same bounds")
}

/// In the order that the configuration promises: what is taken away comes before what is added.
fn actions(changes: &cluster::Changes) -> Vec<Action> {
    let cluster::Changes { local_pref, med, prepend, remove, add } = changes;
    let mut actions: Vec<Action> = local_pref.map(Action::LocalPref).into_iter().collect();
    actions.extend(med.map(|med| Action::Med(Some(med))));
    actions.extend((*prepend > 0).then_some(Action::Prepend(*prepend)));
    actions.extend(remove.iter().map(|community| match known(*community) {
        Known::Standard(community) => Action::Remove(community),
        Known::Large(community) => Action::RemoveLarge(community),
    }));
    actions.extend(add.iter().map(|community| match known(*community) {
        Known::Standard(community) => Action::Add(community),
        Known::Large(community) => Action::AddLarge(community),
    }));
    actions
}

/// A community in the speaker's words.
enum Known {
    Standard(Community),
    Large(LargeCommunity),
}

fn known(community: cluster::Community) -> Known {
    match community {
        cluster::Community::Standard(number) => Known::Standard(Community(number)),
        cluster::Community::Large(global, one, two) => Known::Large(LargeCommunity { global, local: [one, two] }),
    }
}

/// Says these with a route: in order, each once.
pub(super) fn say(attributes: &mut Attributes, communities: &[cluster::Community]) {
    for community in communities {
        match known(*community) {
            Known::Standard(community) => attributes.communities.push(community),
            Known::Large(community) => attributes.large_communities.push(community),
        }
    }
    attributes.communities.sort();
    attributes.communities.dedup();
    attributes.large_communities.sort();
    attributes.large_communities.dedup();
}

#[cfg(test)]
mod tests;
