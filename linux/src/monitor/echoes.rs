//! What a program did itself, so that hearing of it is no reason to look again.
//!
//! The kernel tells everybody of every change, also the one who made it, and not always by whom: an FDB entry bears no
//! number of a socket, nor does a neighbour that is deleted. So what is expected is not an author but a state. An event that shows
//! an object as it was brought about is an echo; one that shows it otherwise is news, whoever made it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::MacAddr;
use crate::netlink::decode::decode;
use crate::netlink::frame::Frame;
use crate::state::RouteKey;
use crate::table::fdb::{self, SeenFdbEntry};
use crate::table::neighbour::{self, SeenNeighbour};
use crate::table::route::{self, SeenRoute};

/// So many objects are remembered: to look once more costs less than the memory for all of a large cluster.
const OBJECTS: usize = 1024;
/// So many processes are remembered, and so long: numbers of processes come again. None works for longer (`nft.rs`).
const PROCESSES: usize = 4;
const LIFE: Duration = Duration::from_secs(15);

/// Expected echoes, shared by who changes the kernel and the [`super::Monitor`] that listens. Empty, it lets everything be news.
#[derive(Debug, Default)]
pub struct Echoes {
    /// As what each object was left.
    objects: Mutex<BTreeMap<Object, Left>>,
    /// The processes that changed nftables last, and when they began. A socket has the number of its process
    /// (netlink_autobind in net/netlink/af_netlink.c); one that has another is heard as a stranger's.
    processes: Mutex<VecDeque<(u32, Instant)>>,
}

/// What tells objects apart in notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Route(RouteKey, u8),
    Neighbour(u32, IpAddr),
    Fdb(u32, MacAddr),
}

/// An object as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Route(SeenRoute),
    Neighbour(SeenNeighbour),
    Fdb(SeenFdbEntry),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Left {
    Standing(Seen),
    Gone,
}

impl Seen {
    fn object(&self) -> Object {
        match self {
            Self::Route(route) => Object::Route(route.key, route.protocol),
            Self::Neighbour(neighbour) => Object::Neighbour(neighbour.index, neighbour.ip),
            Self::Fdb(entry) => Object::Fdb(entry.index, entry.mac),
        }
    }
}

impl Echoes {
    /// Expects what these requests bring about. Before they are sent, or their echo may come first.
    pub(crate) fn expect<'r>(&self, requests: impl Iterator<Item = &'r RouteNetlinkMessage>) {
        let mut objects = lock(&self.objects);
        let room = OBJECTS.saturating_sub(objects.len());
        for (seen, stands) in requests.take(room).filter_map(read) {
            objects.insert(seen.object(), if stands { Left::Standing(seen) } else { Left::Gone });
        }
    }

    /// Expects what a process will do to nftables.
    pub(crate) fn expect_of_process(&self, process: u32) {
        let mut processes = lock(&self.processes);
        processes.truncate(PROCESSES - 1);
        processes.push_front((process, Instant::now()));
    }

    /// Forgets the objects: from now on what is heard of them is news. For a caller who is about to look.
    pub fn forget(&self) {
        lock(&self.objects).clear();
    }

    /// Whether a notification of links, addresses, routes or neighbours is an echo.
    pub(super) fn has_object(&self, frame: &Frame<'_>) -> bool {
        let objects = lock(&self.objects);
        if objects.is_empty() {
            return false;
        }
        let Some((seen, stands)) = decode(frame).as_ref().and_then(read) else { return false };
        match objects.get(&seen.object()) {
            Some(Left::Standing(left)) => stands && seen == *left,
            // A neighbour is first told to have failed, then to be gone (neigh_delete in net/core/neighbour.c).
            Some(Left::Gone) => !stands || matches!(seen, Seen::Neighbour(neighbour) if !neighbour.permanent),
            None => false,
        }
    }

    /// Whether a notification of nftables is an echo.
    pub(super) fn has_process(&self, frame: &Frame<'_>) -> bool {
        let recent = |(process, since): &(u32, Instant)| *process == frame.port && since.elapsed() < LIFE;
        lock(&self.processes).iter().any(recent)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The object that a request asks for, or that a notification tells of; and whether it stands then.
fn read(message: &RouteNetlinkMessage) -> Option<(Seen, bool)> {
    use RouteNetlinkMessage as Message;
    let stands = matches!(message, Message::NewRoute(_) | Message::NewNeighbour(_));
    let seen = match message {
        Message::NewRoute(route) | Message::DelRoute(route) => Seen::Route(route::seen(route.clone())?),
        Message::NewNeighbour(entry) | Message::DelNeighbour(entry) => match entry.header.family {
            AddressFamily::Bridge => Seen::Fdb(fdb::seen(entry)?),
            _ => Seen::Neighbour(neighbour::seen(entry)?),
        },
        _ => return None,
    };
    Some((seen, stands))
}
