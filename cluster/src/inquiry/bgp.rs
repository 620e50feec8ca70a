//! What a node's BGP speaker is asked, and how it answers: its peers, the routes that it uses, and why one is used or not.
//!
//! The records are for people and programs that look, and decide nothing. So what the speaker says in words (a path, a reason) is words
//! here, beside what a program may want to tell apart. Peers and routes come page by page: a page begins behind the cursor of the one
//! before it, so that a speaker with a hundred thousand routes makes no more than a page of them at once.

mod peer;
mod route;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use twill_conf::{NodeName, PeerName};

use super::LONGEST_ANSWER;
use crate::record::Told;

pub use peer::{Agreed, Bfd, Counts, EndedBy, LastError, Peer, Relation, State};
pub use route::{Attributes, Candidate, Explanation, Outcome, Route, Telling, Used};

/// What stands around the items of a page, in bytes.
const AROUND: usize = 1024;
/// One item is a comma longer than its JSON.
const BETWEEN: usize = 1;
/// So many peers that are left alone are told.
const MOST_LEFT_ALONE: usize = 64;
/// Of an explanation, what the routes may fill; what peers are told has the rest.
const FOR_ROUTES: usize = LONGEST_ANSWER / 2;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// Its peers, in the order of their addresses.
    Peers {
        /// Begin behind this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<IpAddr>,
    },
    /// The routes that it uses, in the order of their prefixes.
    Routes {
        /// Only what lies inside of this prefix, itself among it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inside: Option<IpNetwork>,
        /// Only those that come from this peer: its address, its name, or the node's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
        /// Begin behind this prefix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<IpNetwork>,
    },
    /// Why a prefix is as it is.
    Explain {
        /// Which, or an address as the prefix of it alone.
        prefix: IpNetwork,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Question::Peers`].
    Peers(PeerPage),
    /// To [`Question::Routes`].
    Routes(RoutePage),
    /// To [`Question::Explain`].
    Explained(Box<Explanation>),
    /// What was asked about is not there: no speaker, or no such peer.
    Absent {
        /// What is missing, a sentence.
        cause: String,
    },
}

/// Some of the peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerPage {
    /// In the order of their addresses.
    pub peers: Vec<Peer>,
    /// What keeps the speaker from having a session with others, in the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Told>,
    /// Peers of the configuration that it has no session with and tries none, in the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_alone: Vec<LeftAlone>,
    /// There are more: ask again for what is behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<IpAddr>,
}

/// A peer that is not spoken with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAlone {
    /// Who it is.
    #[serde(flatten)]
    pub neighbour: Neighbour,
    /// Why not.
    pub why: String,
}

/// Some of the routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePage {
    /// In the order of their prefixes.
    pub routes: Vec<Route>,
    /// There may be more: ask again for what is behind this prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<IpNetwork>,
}

/// Who a peer is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Neighbour {
    /// The address of its session.
    pub address: IpAddr,
    /// The node that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The name that the configuration gives it, where it is no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<PeerName>,
}

impl Neighbour {
    /// Whether somebody means this one by a word: its address, its name, or the node's.
    #[must_use]
    pub fn is_called(&self, word: &str) -> bool {
        let by_name = self.node.as_ref().map(NodeName::as_str).into_iter();
        let mut names = by_name.chain(self.router.as_ref().map(PeerName::as_str));
        names.any(|name| name == word) || word.parse() == Ok(self.address)
    }
}

impl PeerPage {
    /// The page that has as many of the peers, which are in order, as there is room for.
    pub fn fill(peers: impl IntoIterator<Item = Peer>, troubles: Vec<Told>, left_alone: Vec<LeftAlone>) -> Self {
        let left_alone = left_alone.into_iter().take(MOST_LEFT_ALONE).collect();
        let mut page = Self { troubles, left_alone, ..Self::default() };
        let mut room = LONGEST_ANSWER.saturating_sub(AROUND + length(&page.troubles) + length(&page.left_alone));
        for peer in peers {
            if !takes(&mut room, &peer) {
                page.next = page.peers.last().map(|last| last.neighbour.address);
                break;
            }
            page.peers.push(peer);
        }
        page
    }
}

impl RoutePage {
    /// The page that has as many of these as there is room for. Of each prefix that was looked at, in order, `None` stands for one that was
    /// not asked for: after `most` prefixes the page ends, however few it has.
    pub fn fill(looked_at: impl IntoIterator<Item = (IpNetwork, Option<Route>)>, most: usize) -> Self {
        let (mut page, mut room, mut last) = (Self::default(), LONGEST_ANSWER - AROUND, None);
        for (looked, (prefix, route)) in looked_at.into_iter().enumerate() {
            let fits = route.as_ref().is_none_or(|route| takes(&mut room, route));
            if looked == most || !fits {
                page.next = last;
                break;
            }
            page.routes.extend(route);
            last = Some(prefix);
        }
        page
    }
}

impl Explanation {
    /// The explanation with as much of these as there is room for.
    pub fn fill(self, routes: Vec<Candidate>, told: Vec<Telling>) -> Self {
        let all = routes.len() + told.len();
        let (mut for_routes, mut for_told) = (FOR_ROUTES, LONGEST_ANSWER - FOR_ROUTES - AROUND);
        let routes: Vec<_> = routes.into_iter().filter(|route| takes(&mut for_routes, route)).collect();
        let told: Vec<_> = told.into_iter().filter(|telling| takes(&mut for_told, telling)).collect();
        let left_out = all - routes.len() - told.len();
        Self { routes, told, left_out, ..self }
    }
}

/// Takes the room of an item, if there is as much.
fn takes(room: &mut usize, item: &impl Serialize) -> bool {
    let rest = room.checked_sub(length(item) + BETWEEN);
    if let Some(rest) = rest {
        *room = rest;
    }
    rest.is_some()
}

fn length(item: &impl Serialize) -> usize {
    serde_json::to_vec(item).map_or(0, |json| json.len())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
