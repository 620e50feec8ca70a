//! What the tables of others do to the packets that this node forwards, and a passage through those of well-known programs.
//!
//! The kernel asks every chain at the forward hook, and a `drop` in any of them holds, whatever the others accept. So a chain
//! that drops by default is a [`Barrier`] to pods, unless a rule of its own lets them through by their interfaces. Barriers of
//! Docker, of iptables and of firewalld can be opened: by two rules at the beginning, told from others by their comment, and by
//! nothing else. Chains of these programs hold what nft shows and cannot write (`xt`), so single rules are inserted and are
//! deleted by handle. A barrier that somebody wrote himself is never touched, only told.
//!
//! `listing` reads what nft shows. All of this works in the namespace of the calling thread; it takes one run of nft, and one
//! more for each chain of others at the hook, 15 ms each and more where they are long.

mod listing;

use crate::{Error, nft};
use listing::{Chain, Rule};

pub use crate::chains::Place;

/// The comment by which our rules are known: one that nobody else gives to his.
const MARK: &str = "twilld: open_forward";
/// Ways of a packet past a pod's interface.
const DIRECTIONS: [&str; 2] = ["iifname", "oifname"];
/// The chain that Docker leaves to others, and asks before its own.
const DOCKER: &str = "DOCKER-USER";

/// What is to be let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The interfaces of pods, as nft spells a group of them: `tw*`.
    pub interfaces: &'static str,
    /// The table of family inet that is ours.
    pub own: &'static str,
    /// Whether IPv4 is forwarded for pods.
    pub ipv4: bool,
    /// Whether IPv6 is.
    pub ipv6: bool,
    /// Whether barriers are opened, where that is known to be right.
    pub open: bool,
}

/// A chain of somebody else that drops what pods send and get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// Which.
    pub place: Place,
    /// How it drops, as in "its policy is drop".
    pub how: &'static str,
    /// What no rule of it accepts: what comes by the pods' interfaces (`iifname`), what goes by them (`oifname`).
    pub closed: Vec<&'static str>,
    /// The chain whose first rules decide, where it is a well-known program's.
    pub entrance: Option<Place>,
    /// Why it could not be opened, where that was tried.
    pub refused: Option<String>,
}

/// What was found and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Barriers that stand in the way still.
    pub barriers: Vec<Barrier>,
    /// Where rules were inserted.
    pub opened: Vec<Place>,
    /// Where rules were removed that are not wanted any more.
    pub closed: Vec<Place>,
    /// Where rules of ours stand now.
    pub open: Vec<Place>,
    /// What could not be removed, and why.
    pub stuck: Vec<(Place, String)>,
}

/// Looks at the chains of others, and opens or closes what is to be open or closed. What is refused is told with its barrier.
pub fn keep(passage: &Passage) -> Result<Kept, Error> {
    let chains = listing::read(passage.own, is_looked_at)?;
    let barriers = barriers(&chains, passage);
    let mut kept = Kept::default();
    for mut barrier in barriers {
        let Some(entrance) = barrier.entrance.clone().filter(|_| passage.open) else {
            kept.barriers.push(barrier);
            continue;
        };
        match open_up(&chains, &entrance, passage) {
            Ok(changed) => {
                kept.opened.extend(changed.then(|| entrance.clone()));
            }
            Err(error) => {
                barrier.refused = Some(error.to_string());
                kept.barriers.push(barrier);
            }
        }
        // Also where it was refused: what stands there of it is left.
        kept.open.push(entrance);
    }
    let entrances = chains.iter().filter(|chain| chain.place.is_entrance());
    for chain in entrances.filter(|chain| !kept.open.contains(&chain.place)) {
        let rules = deletions(chain);
        if rules.is_empty() {
            continue;
        }
        match nft::change("remove our rules", &rules) {
            Ok(()) => kept.closed.push(chain.place.clone()),
            // Somebody makes the chain anew in this moment: the next look tells.
            Err(error) => kept.stuck.push((chain.place.clone(), error.to_string())),
        }
    }
    Ok(kept)
}

/// The barriers that stand in the way now, by a look alone. One whose entrance has rules of ours is open.
pub fn look(passage: &Passage) -> Result<Vec<Barrier>, Error> {
    let chains = listing::read(passage.own, is_looked_at)?;
    Ok(closed(&chains, passage))
}

fn closed(chains: &[Chain], passage: &Passage) -> Vec<Barrier> {
    let lets = |chain: &Chain, direction| {
        chain.rules.iter().any(|rule| rule.is_ours() && rule.lets(direction, passage.interfaces))
    };
    let is_open = |barrier: &Barrier| {
        let entrance = chains.iter().find(|chain| barrier.entrance.as_ref() == Some(&chain.place));
        entrance.is_some_and(|chain| barrier.closed.iter().all(|direction| lets(chain, direction)))
    };
    barriers(chains, passage).into_iter().filter(|barrier| !is_open(barrier)).collect()
}

/// Removes our rules from the chains of others.
pub fn close() -> Result<Vec<Place>, Error> {
    let passage = Passage { interfaces: "", own: "", ipv4: false, ipv6: false, open: false };
    keep(&passage).map(|kept| kept.closed)
}

/// Whether a chain is one of those whose rules matter: also where nothing asks it now, as in a dormant table, rules of ours may
/// stand in an entrance.
fn is_looked_at(chain: &Chain) -> bool {
    chain.at_forward || chain.place.is_entrance()
}

impl Place {
    /// Whether rules of ours may stand in it.
    fn is_entrance(&self) -> bool {
        self.is_dockers() || self.is_well_known()
    }

    fn is_dockers(&self) -> bool {
        self.is_of_iptables() && self.chain == DOCKER
    }

    fn is_of_iptables(&self) -> bool {
        (self.family == "ip" || self.family == "ip6") && self.table == "filter"
    }

    /// Whether a program that is known to need it made the chain at the hook, rather than a person.
    fn is_well_known(&self) -> bool {
        let of_firewalld = (self.family.as_str(), self.table.as_str()) == ("inet", "firewalld");
        (of_firewalld && self.chain == "filter_FORWARD") || (self.is_of_iptables() && self.chain == "FORWARD")
    }
}

/// The chains at the hook that drop what pods send and get, and that nobody but us has opened for them.
fn barriers(chains: &[Chain], passage: &Passage) -> Vec<Barrier> {
    let concerns = |chain: &&Chain| match chain.place.family.as_str() {
        "ip" => passage.ipv4,
        "ip6" => passage.ipv6,
        _ => passage.ipv4 || passage.ipv6,
    };
    let barrier = |chain: &Chain| {
        let how = match (chain.drops_by_policy, chain.rules.last()) {
            (true, _) => "its policy is drop",
            (false, Some(rule)) if rule.refuses_all => "its last rule refuses whatever comes so far",
            _ => return None,
        };
        let dockers = Place { chain: DOCKER.to_owned(), ..chain.place.clone() };
        let dockers = chains.iter().find(|other| other.place == dockers && chain.jumps_to(DOCKER));
        let rules = || chain.rules.iter().chain(dockers.iter().flat_map(|dockers| &dockers.rules));
        let others_let = |direction| rules().any(|rule| !rule.is_ours() && rule.lets(direction, passage.interfaces));
        let closed: Vec<_> = DIRECTIONS.into_iter().filter(|direction| !others_let(*direction)).collect();
        if closed.is_empty() {
            return None;
        }
        let entrance = chain.place.is_well_known().then(|| dockers.unwrap_or(chain).place.clone());
        Some(Barrier { place: chain.place.clone(), how, closed, entrance, refused: None })
    };
    chains.iter().filter(|chain| chain.at_forward).filter(concerns).filter_map(barrier).collect()
}

/// Sees to it that both our rules stand in the chain, each once; whether something had to be done.
fn open_up(chains: &[Chain], entrance: &Place, passage: &Passage) -> Result<bool, Error> {
    let chain = chains.iter().find(|chain| chain.place == *entrance).expect("an entrance is one of the chains");
    let ours: Vec<&Rule> = chain.rules.iter().filter(|rule| rule.is_ours()).collect();
    let stands = |direction: &&str| ours.iter().filter(|rule| rule.lets(direction, passage.interfaces)).count() == 1;
    if ours.len() == DIRECTIONS.len() && DIRECTIONS.iter().all(stands) {
        return Ok(false);
    }
    let insert = |direction| {
        format!("insert rule {entrance} {direction} \"{}\" accept comment \"{MARK}\"\n", passage.interfaces)
    };
    let commands = deletions(chain) + &DIRECTIONS.map(insert).concat();
    nft::change("let pods through", &commands).map(|()| true)
}

/// The commands that take our rules out of a chain.
fn deletions(chain: &Chain) -> String {
    let place = &chain.place;
    let ours = chain.rules.iter().filter(|rule| rule.is_ours());
    ours.map(|rule| format!("delete rule {place} handle {}\n", rule.handle)).collect()
}

#[cfg(test)]
mod tests;
