//! What the speaker knows, as an operator asks for it: `twillctl bgp`, by way of the request task.
//!
//! Questions come to the task's loop between other things, so an answer is of one moment and small: no more than a page of routes is made
//! at once. Nothing here changes anything.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::sync::oneshot;
use twill_bgp::path::{self, Family, Origin};
use twill_bgp::rib::{Explained, Source, Summary, Verdict};
use twill_bgp::session::{self, Negotiated, Reason};
use twill_bgp::speaker::{PeerReport, RouteReport, Speaker, Told};
use twill_bgp::{bfd, rib};
use twill_cluster::inquiry::bgp::{
    Agreed, Answer, Attributes, Bfd, Candidate, Counts, EndedBy, Explanation, LastError, LeftAlone, Neighbour, Outcome,
    Peer, PeerPage, Question, Relation, Route, RoutePage, State, Telling, Used,
};
use twill_fabric::peering::{self, Who};

use super::translate::title;
use super::{Speaking, Task};

/// So many prefixes are looked at for one page at most, however few of them are asked for.
const MOST_LOOKED_AT: usize = 20_000;
/// So many peers are named to somebody who asked for one that is none.
const MOST_NAMED: usize = 5;

/// A question, and where its answer is waited for.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub question: Question,
    /// Where.
    pub answer: oneshot::Sender<Answer>,
}

impl Task<'_> {
    pub(super) fn answer(&self, asked: Asked) {
        let Asked { question, answer } = asked;
        let said = match &self.speaking {
            Some(speaking) => Teller { speaking, now: self.now() }.answer(question),
            None => Answer::Absent { cause: self.silence().to_owned() },
        };
        // Who has asked may have gone.
        answer.send(said).ok();
    }

    /// Why nobody speaks.
    fn silence(&self) -> &'static str {
        let picture = self.bgp.pictures.borrow();
        let config = picture.as_ref().and_then(|picture| picture.reach.config.as_ref());
        match config {
            Some(config) if config.value.bgp.is_none() => {
                "it does not speak BGP: the cluster's configuration has neither [bgp] nor [backend] type = \"bgp\" ('twillctl config show')"
            }
            _ => {
                "it does not speak BGP yet: it is not registered, or does not know its underlay: 'twillctl status' says why"
            }
        }
    }
}

/// Who answers.
struct Teller<'a> {
    speaking: &'a Speaking,
    /// The time by the speaker's clock.
    now: Duration,
}

impl Teller<'_> {
    fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Peers { after } => {
                let peers = self.speaker().peers().into_iter();
                let peers = peers.filter(|peer| after.is_none_or(|after| after < peer.address));
                let (troubles, left_alone) = match after {
                    None => (self.speaking.troubles.clone(), self.speaking.left_alone.iter().map(left_alone).collect()),
                    Some(_) => (Vec::new(), Vec::new()),
                };
                Answer::Peers(PeerPage::fill(peers.map(|peer| self.peer(peer)), troubles, left_alone))
            }
            Question::Routes { inside, peer: None, after } => Answer::Routes(self.routes(inside, after, |_| true)),
            Question::Routes { inside, peer: Some(word), after } => {
                let is_meant = |address: &&IpAddr| self.neighbour(**address).is_called(&word);
                let meant: Vec<IpAddr> = self.names().keys().filter(is_meant).copied().collect();
                if meant.is_empty() {
                    return Answer::Absent { cause: self.no_peer(&word) };
                }
                let is_asked = |route: &RouteReport| {
                    route.used.iter().any(|used| used.from.is_some_and(|from| meant.contains(&from)))
                };
                Answer::Routes(self.routes(inside, after, is_asked))
            }
            Question::Explain { prefix } => Answer::Explained(Box::new(self.explain(prefix))),
        }
    }

    fn speaker(&self) -> &Speaker {
        &self.speaking.speaker
    }

    fn names(&self) -> &BTreeMap<IpAddr, Who> {
        &self.speaking.names
    }

    fn no_peer(&self, word: &str) -> String {
        let names = self.names();
        let mut known: Vec<_> =
            names.iter().take(MOST_NAMED).map(|(address, who)| format!("{} ({address})", title(who))).collect();
        known.extend(names.len().checked_sub(MOST_NAMED + 1).map(|more| format!("{} more", more + 1)));
        let known =
            if known.is_empty() { "it has none".to_owned() } else { format!("its peers are {}", known.join(", ")) };
        let word: String = word.chars().take(64).collect();
        format!("it has no BGP peer {word:?}: {known}")
    }

    fn neighbour(&self, address: IpAddr) -> Neighbour {
        neighbour(address, self.names().get(&address))
    }

    fn source(&self, source: Source) -> Option<Neighbour> {
        self.speaker().address_of(source).map(|address| self.neighbour(address))
    }

    fn ago(&self, moment: Duration) -> u64 {
        self.now.saturating_sub(moment).as_secs()
    }

    fn peer(&self, report: PeerReport) -> Peer {
        let configured = self.speaking.config.peers().get(&report.address);
        let counts = |family: Family| {
            let summary = report.families.iter().find(|(of, _)| *of == family).map(|(_, summary)| *summary);
            counts(summary.unwrap_or_default())
        };
        let is_up = report.state == session::State::Established;
        // The state of a session that is tried again and again is never old.
        let down = self.speaking.down.get(&report.address).filter(|_| !is_up).map(|since| since.elapsed().as_secs());
        let unreached = self.speaking.unreached.get(&report.address).filter(|_| !is_up).cloned();
        let last_error = |(moment, reason): &(Duration, Reason)| last_error(self.ago(*moment), reason);
        // Once the session is up again, or does not come up for another reason, that it was made anew explains nothing.
        let is_past = |reason: &Reason| reason.is_by_configuration() && (is_up || unreached.is_some());
        let ended = report.last_error.as_ref().filter(|(_, reason)| !is_past(reason));
        Peer {
            neighbour: self.neighbour(report.address),
            asn: report.asn.map(|asn| asn.0),
            relation: relation(report.kind),
            state: state(report.state),
            age_seconds: self.ago(report.since),
            down_seconds: down,
            ups: report.ups,
            port: configured.map_or(0, |peer| peer.endpoint.port),
            passive: configured.is_some_and(|peer| peer.passive),
            last_error: ended.map(last_error),
            unreached,
            barred_seconds: report.barred.map(|until| until.saturating_sub(self.now).as_secs()),
            bfd: report.bfd.map(detected),
            agreed: report.negotiated.as_ref().map(agreed),
            ipv4: counts(Family::Ipv4),
            ipv6: counts(Family::Ipv6),
            behind: report.is_behind,
            shutdown: report.shutdown,
        }
    }

    fn routes(
        &self,
        inside: Option<IpNetwork>,
        after: Option<IpNetwork>,
        is_asked: impl Fn(&RouteReport) -> bool,
    ) -> RoutePage {
        let looked_at = self.speaker().table_behind(inside, after).map(|route| {
            let prefix = route.prefix;
            (prefix, is_asked(&route).then(|| self.route(route)))
        });
        RoutePage::fill(looked_at, MOST_LOOKED_AT)
    }

    fn route(&self, report: RouteReport) -> Route {
        let used = report.used.into_iter().map(|used| Used {
            from: used.from.map(|address| self.neighbour(address)),
            next_hop: used.next_hop.map(|next_hop| next_hop.address),
            attributes: attributes(&used.attributes),
            stale: used.stale,
        });
        Route { prefix: report.prefix, used: used.collect() }
    }

    fn explain(&self, asked: IpNetwork) -> Explanation {
        let Some(explanation) = self.speaker().explain(asked) else { return Explanation::default() };
        let routes = explanation.routes.into_iter().map(|route| self.candidate(route));
        let told = explanation.told.into_iter();
        let told = told.flat_map(|(to, told)| told.into_iter().map(move |told| self.telling(to, told)));
        let about = Explanation { prefix: Some(explanation.prefix), used: explanation.used, ..Explanation::default() };
        about.fill(routes.collect(), told.collect())
    }

    fn candidate(&self, route: Explained) -> Candidate {
        let outcome = match route.verdict {
            Verdict::Best => Outcome::Best,
            Verdict::Multipath => Outcome::AlsoUsed,
            Verdict::Lost { step, to: (source, _) } => Outcome::Lost { why: step.to_string(), to: self.source(source) },
            Verdict::Unreachable => Outcome::OutOfReach,
            Verdict::Refused(why) => Outcome::Refused { why: why.to_string() },
            Verdict::Deferred => Outcome::Deferred,
        };
        Candidate {
            from: self.source(route.source),
            path_id: route.path.0,
            next_hop: route.next_hop.map(|next_hop| next_hop.address),
            attributes: attributes(route.accepted.as_ref().unwrap_or(&route.received)),
            stale: route.stale,
            outcome,
        }
    }

    fn telling(&self, to: IpAddr, (source, _, told): Told) -> Telling {
        let (told, withheld) = match told {
            Ok(told) => (Some(attributes(&told)), None),
            Err(withheld) => (None, Some(withheld.to_string())),
        };
        Telling { to: self.neighbour(to), from: self.source(source), told, withheld }
    }
}

fn neighbour(address: IpAddr, who: Option<&Who>) -> Neighbour {
    let (node, router) = match who {
        Some(Who::Node(name)) => (Some(name.clone()), None),
        Some(Who::Router(name)) => (None, Some(name.clone())),
        None => (None, None),
    };
    Neighbour { address, node, router }
}

fn left_alone(peer: &peering::LeftAlone) -> LeftAlone {
    LeftAlone { neighbour: neighbour(peer.address, Some(&peer.who)), why: peer.why.clone() }
}

fn counts(summary: Summary) -> Counts {
    Counts {
        received: summary.received.into(),
        accepted: summary.accepted.into(),
        sent: u64::try_from(summary.sent).unwrap_or(u64::MAX),
    }
}

fn relation(kind: rib::Kind) -> Relation {
    match kind {
        rib::Kind::Internal => Relation::Internal,
        rib::Kind::Client => Relation::Client,
        rib::Kind::External(_) => Relation::External,
    }
}

fn state(state: session::State) -> State {
    match state {
        session::State::Idle => State::Idle,
        session::State::Connect => State::Connect,
        session::State::Active => State::Active,
        session::State::OpenSent => State::OpenSent,
        session::State::OpenConfirm => State::OpenConfirm,
        session::State::Established => State::Established,
    }
}

fn detected(state: bfd::State) -> Bfd {
    match state {
        bfd::State::AdminDown => Bfd::AdminDown,
        bfd::State::Down => Bfd::Down,
        bfd::State::Init => Bfd::Init,
        bfd::State::Up => Bfd::Up,
    }
}

fn last_error(age_seconds: u64, reason: &Reason) -> LastError {
    let (by, notification) = match reason {
        Reason::Sent(notification) => (EndedBy::Node, Some(notification)),
        Reason::Received(notification) => (EndedBy::Peer, Some(notification)),
        Reason::Lost | Reason::Replaced => (EndedBy::Nobody, None),
    };
    let code = notification.map(|told| (told.error.code, told.error.subcode));
    let text = notification.map_or_else(|| reason.to_string(), ToString::to_string);
    LastError { age_seconds, by, code, text }
}

fn agreed(negotiated: &Negotiated) -> Agreed {
    Agreed {
        router_id: negotiated.peer_identifier,
        hold_seconds: negotiated.hold_time.as_secs(),
        ipv4: negotiated.dialect.families[Family::Ipv4],
        ipv6: negotiated.dialect.families[Family::Ipv6],
        graceful_restart: negotiated.keeps_routes(),
    }
}

fn attributes(said: &path::Attributes) -> Attributes {
    let origin = match said.origin {
        Origin::Igp => "igp",
        Origin::Egp => "egp",
        Origin::Incomplete => "incomplete",
    };
    let large = said.large_communities.iter().map(ToString::to_string);
    Attributes {
        as_path: said.as_path.to_string(),
        origin: origin.to_owned(),
        local_pref: said.local_pref,
        med: said.med,
        communities: said.communities.iter().map(ToString::to_string).chain(large).collect(),
        originator: said.originator,
        clusters: said.clusters.clone(),
    }
}
