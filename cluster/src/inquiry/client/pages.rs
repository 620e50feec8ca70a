//! What is asked for page by page, of many nodes at once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_conf::NodeName;

use super::{Answers, Client, Silence, living, other_answer};
use crate::inquiry::attempts::{History, Sought};
use crate::inquiry::bgp::{Answer, PeerPage, Question, Route};
use crate::inquiry::state::State;
use crate::inquiry::{Ask, Page, Reply};
use crate::store::Store;

/// A node is asked for no more pages. 65,536 addresses, a node's largest block, are about a hundred, and so are 100,000 routes.
const MOST_PAGES: usize = 512;

/// Which routes of a node are asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only what lies inside of this prefix.
    pub inside: Option<IpNetwork>,
    /// Only those of this peer, by its name or address.
    pub peer: Option<String>,
}

impl Client {
    /// How the daemons of these nodes are.
    pub async fn states<S: Store>(&mut self, store: &S, nodes: impl IntoIterator<Item = NodeName>) -> Answers<State> {
        let asks = nodes.into_iter().map(|node| (node, Ask::State {})).collect();
        self.each(store, asks, |reply| match reply {
            Reply::State(state) => Some(*state),
            _ => None,
        })
        .await
    }

    /// What these nodes have of a pod, a container or a network.
    pub async fn histories<S: Store>(
        &mut self,
        store: &S,
        nodes: impl IntoIterator<Item = NodeName>,
        sought: &Sought,
    ) -> Answers<History> {
        let asks = nodes.into_iter().map(|node| (node, Ask::Attempts(sought.clone()))).collect();
        self.each(store, asks, |reply| match reply {
            Reply::Attempts(history) => Some(history),
            _ => None,
        })
        .await
    }

    /// Asks each node once, and takes what of the answers is one.
    async fn each<S: Store, T>(
        &mut self,
        store: &S,
        asks: Vec<(NodeName, Ask)>,
        take: impl Fn(Reply) -> Option<T>,
    ) -> Answers<T> {
        let answers = self.ask(store, asks).await.into_iter();
        let taken = |answer: Result<Reply, Silence>| answer.and_then(|reply| take(reply).ok_or_else(other_answer));
        answers.map(|(node, answer)| (node, taken(answer))).collect()
    }

    /// What is in use on these nodes, all pages.
    pub async fn addresses<S: Store>(&mut self, store: &S, nodes: impl IntoIterator<Item = NodeName>) -> Answers<Page> {
        let ask = |after| Ask::Addresses { after };
        let gather = |known: &mut Page, before: Option<IpAddr>, reply| {
            let Reply::Addresses(page) = reply else { return Err(other_answer()) };
            follows(page.addresses.iter().map(|address| address.ip), before)?;
            let last = page.addresses.last().map(|address| address.ip);
            let next = if page.more { Some(last.ok_or_else(astray)?) } else { None };
            match before {
                None => *known = page,
                Some(_) => known.addresses.extend(page.addresses),
            }
            Ok(next)
        };
        self.page_by_page(store, nodes, ask, gather).await
    }

    /// The BGP peers of these nodes, all pages.
    pub async fn bgp_peers<S: Store>(
        &mut self,
        store: &S,
        nodes: impl IntoIterator<Item = NodeName>,
    ) -> Answers<PeerPage> {
        let ask = |after| Ask::Bgp { question: Question::Peers { after } };
        let gather = |known: &mut PeerPage, before: Option<IpAddr>, reply| {
            let Reply::Bgp { answer: Answer::Peers(page) } = reply else { return Err(other_answer()) };
            follows(page.peers.iter().map(|peer| peer.neighbour.address).chain(page.next), before)?;
            known.peers.extend(page.peers);
            known.troubles.extend(page.troubles);
            known.left_alone.extend(page.left_alone);
            Ok(page.next)
        };
        self.page_by_page(store, nodes, ask, gather).await
    }

    /// The routes that a node's speaker of BGP uses, all pages.
    pub async fn bgp_routes<S: Store>(
        &mut self,
        store: &S,
        node: &NodeName,
        wanted: &Wanted,
    ) -> Result<Vec<Route>, Silence> {
        let ask = |after| {
            let Wanted { inside, peer } = wanted.clone();
            Ask::Bgp { question: Question::Routes { inside, peer, after } }
        };
        let gather = |known: &mut Vec<Route>, before: Option<IpNetwork>, reply| {
            let Reply::Bgp { answer: Answer::Routes(page) } = reply else { return Err(other_answer()) };
            follows(page.routes.iter().map(|route| route.prefix).chain(page.next), before)?;
            known.extend(page.routes);
            Ok(page.next)
        };
        let mut answers = self.page_by_page(store, [node.clone()], ask, gather).await;
        answers.remove(node).unwrap_or(Err(Silence::Timeout(self.patience)))
    }

    /// Asks the nodes until each has told all. `ask` makes the question for what is behind a cursor; `gather` adds a page to what is known of
    /// its node, given the cursor that was asked for, and returns the next one where there is more.
    async fn page_by_page<S: Store, T: Default, C: Copy>(
        &mut self,
        store: &S,
        nodes: impl IntoIterator<Item = NodeName>,
        ask: impl Fn(Option<C>) -> Ask,
        gather: impl Fn(&mut T, Option<C>, Reply) -> Result<Option<C>, Silence>,
    ) -> Answers<T> {
        let asks = nodes.into_iter().map(|node| (node, ask(None))).collect();
        let (asks, silent) = living(store, asks).await;
        let mut found: Answers<T> = silent.into_iter().map(|(node, why)| (node, Err(why))).collect();
        let mut cursors: BTreeMap<NodeName, Option<C>> = asks.into_iter().map(|(node, _)| (node, None)).collect();
        for _ in 0..MOST_PAGES {
            if cursors.is_empty() {
                break;
            }
            let asked = std::mem::take(&mut cursors);
            let asks = asked.iter().map(|(node, cursor)| (node.clone(), ask(*cursor))).collect();
            for (node, reply) in self.ask_living(store, asks).await {
                let before = asked.get(&node).copied().flatten();
                let mut known = found.remove(&node).and_then(Result::ok).unwrap_or_default();
                let next = reply.and_then(|reply| gather(&mut known, before, reply));
                if let Ok(Some(next)) = next {
                    cursors.insert(node.clone(), Some(next));
                }
                found.insert(node, next.map(|_| known));
            }
        }
        let endless = || Silence::Garbage(format!("it has more than {MOST_PAGES} pages"));
        found.extend(cursors.into_keys().map(|node| (node, Err(endless()))));
        found
    }
}

/// Whether what a page has lies behind the one before it.
fn follows<C: PartialOrd>(items: impl IntoIterator<Item = C>, before: Option<C>) -> Result<(), Silence> {
    let is_behind = |item: C| before.as_ref().is_none_or(|before| *before < item);
    if items.into_iter().all(is_behind) { Ok(()) } else { Err(astray()) }
}

fn astray() -> Silence {
    Silence::Garbage("a page does not go on from the one before it".into())
}
