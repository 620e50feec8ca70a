//! Real BGP speakers of other makes, BIRD and GoBGP from Debian's packages, and a raw one that says whatever bytes a test wants.
//!
//! Each stands on a [`Host`] of a lab's wire, with a configuration made of the same [`Settings`], and answers the same questions
//! ([`Router`]): which sessions stand, which routes it has. What a program cannot do is an error when it is configured, not a
//! difference that nobody notices. All waits have deadlines, and a router ends with its value: by its process ID, however the test
//! ends.

pub mod bird;
pub mod gobgp;
mod host;
mod program;
pub mod raw;
mod settings;

pub use bird::Bird;
pub use gobgp::Gobgp;
pub use host::Host;
pub use raw::Raw;
pub use settings::{Announcement, BFD_INTERVAL, BFD_MULTIPLIER, Neighbour, Settings};
pub use twill_bgp::path::Family;

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use crate::deadline::{self, PATIENCE};
use crate::{Lab, LabBuilder, Result, needs, with_lab};

/// Makes a lab and runs `scenario`. Skipped, with the reason, where a router of `programs` is not installed.
pub fn with_routers(programs: &[&str], wanted: LabBuilder, scenario: impl FnOnce(&mut Lab) -> Result<()>) {
    match missing(programs) {
        Some(why) => needs::say_skipped(&why),
        None => with_lab(wanted, scenario),
    }
}

/// Why a test of these programs cannot run here; `None` where it can.
pub fn missing(programs: &[&str]) -> Option<String> {
    let missing: Vec<_> = programs.iter().filter(|program| twill_testkit::finds(program).is_none()).copied().collect();
    (!missing.is_empty()).then(|| format!("{} is not installed, hack/setup installs it", missing.join(", ")))
}

/// How a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// With whom.
    pub neighbour: IpAddr,
    /// Its AS.
    pub asn: u32,
    /// The state, in the words of RFC 4271: Idle, Connect, Active, OpenSent, OpenConfirm or Established.
    pub state: String,
    /// How many routes were taken of it.
    pub imported: usize,
    /// How many it was told, where the program counts them.
    pub exported: Option<usize>,
    /// What the program says of the last failure, where it does.
    pub last_error: Option<String>,
    /// The state of BFD's session, where the program has BFD and this session uses it.
    pub bfd: Option<String>,
}

impl Session {
    /// Whether routes are exchanged.
    pub fn is_established(&self) -> bool {
        self.state == "Established"
    }
}

/// A route that a router has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Of which neighbour; none of one of its own.
    pub from: Option<IpAddr>,
    /// Whether the program prefers it to all others.
    pub best: bool,
    /// NEXT_HOP.
    pub next_hop: Option<IpAddr>,
    /// The systems of AS_PATH in their order, sets among them.
    pub as_path: Vec<u32>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<(u16, u16)>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// LOCAL_PREF, where there is one.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456).
    pub clusters: Vec<Ipv4Addr>,
}

/// A router that runs.
pub trait Router {
    /// Its name.
    fn name(&self) -> &str;

    /// The process ID.
    fn pid(&self) -> Result<u32>;

    /// All sessions that it is configured with.
    fn sessions(&self) -> Result<Vec<Session>>;

    /// The routes to exactly this prefix, in the program's order. Empty where there is none.
    fn routes(&self, prefix: IpNetwork) -> Result<Vec<Route>>;

    /// For how many prefixes of the family it uses a route that it has learned.
    fn learned(&self, family: Family) -> Result<usize>;

    /// The session with a neighbour.
    fn session(&self, neighbour: IpAddr) -> Result<Session> {
        let session = self.sessions()?.into_iter().find(|session| session.neighbour == neighbour);
        session.ok_or_else(|| crate::LabError::wrong(format!("{} knows no neighbour {neighbour}", self.name())))
    }

    /// Waits until the session with a neighbour is as wanted. `what` names that.
    fn until_session(&self, neighbour: IpAddr, what: &str, is_so: &dyn Fn(&Session) -> bool) -> Result<Session> {
        deadline::until_some(&format!("{}'s session with {neighbour} is {what}", self.name()), PATIENCE, || {
            let session = self.session(neighbour)?;
            Ok(if is_so(&session) { Ok(session) } else { Err(session) })
        })
    }

    /// Waits until the session with a neighbour is established.
    fn until_established(&self, neighbour: IpAddr) -> Result<Session> {
        self.until_session(neighbour, "established", &Session::is_established)
    }

    /// Waits until the routes to a prefix are as wanted. `what` names that.
    fn until_routes(&self, prefix: IpNetwork, what: &str, is_so: &dyn Fn(&[Route]) -> bool) -> Result<Vec<Route>> {
        deadline::until_some(&format!("{}'s routes to {prefix} are {what}", self.name()), PATIENCE, || {
            let routes = self.routes(prefix)?;
            Ok(if is_so(&routes) { Ok(routes) } else { Err(routes) })
        })
    }

    /// Waits until there is a route to a prefix, and gives the best one.
    fn until_route(&self, prefix: IpNetwork) -> Result<Route> {
        let mut routes = self.until_routes(prefix, "there", &|routes| routes.iter().any(|route| route.best))?;
        routes.retain(|route| route.best);
        Ok(routes.swap_remove(0))
    }

    /// Waits until there is no route to a prefix.
    fn until_gone(&self, prefix: IpNetwork) -> Result<()> {
        self.until_routes(prefix, "gone", &<[Route]>::is_empty).map(drop)
    }

    /// Waits until so many prefixes of the family are learned.
    fn until_learned(&self, family: Family, count: usize) -> Result<()> {
        deadline::until_some(&format!("{} has learned {count} {family} prefixes", self.name()), PATIENCE, || {
            let learned = self.learned(family)?;
            Ok(if learned == count { Ok(()) } else { Err(learned) })
        })
    }
}
