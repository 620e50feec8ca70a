//! What this node does with a packet: `fabric` explains it, by what the reconciler wants and by what the kernel has in this moment.
//!
//! Nothing is changed, and no packet is sent. The kernel is asked anew for each question; what takes long to read, or is asked several
//! times within one, is read before the walk. What is wanted is taken after that, under the lock by which it changes, and where it had
//! changed meanwhile all is read once more: what was read first may be from before it stood.

use std::iter::once;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::timeout;
use twill_cluster::inquiry::Reply;
use twill_cluster::inquiry::trace::{Answer, End, LARGEST, Question};
use twill_fabric::trace::{self, Known};
use twill_fabric::{Reckoning, firewall};
use twill_linux::arrival::{self, Arrival, Shut};
use twill_linux::forward::{self, Barrier, Passage};
use twill_linux::ports::{self, Port};
use twill_linux::table::fdb::{self, SeenFdbEntry};
use twill_linux::table::neighbour::{self, SeenNeighbour};
use twill_linux::table::route::{self, Filter, Flow, Found, SeenRoute};
use twill_linux::table::{SeenLink, link};
use twill_linux::{Error, IfName, Netlink, nft};

use super::looks::{Place, failed};
use crate::reconcile::Wanted;

/// How long an answer may take. A look at the tables takes a fraction of a second; whoever asks does not wait for an nft that
/// hangs.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long an earlier trace is waited for.
const TURN: Duration = Duration::from_secs(2);

/// Knows what is wanted.
#[derive(Debug, Clone)]
pub(super) struct Tracer {
    pub(super) wanted: watch::Receiver<Option<Wanted>>,
    pub(super) reckoning: Arc<Mutex<Reckoning>>,
    /// One explains at a time: of a question that was given up nft may still run.
    pub(super) turn: Arc<AsyncMutex<()>>,
}

impl Tracer {
    /// Answers, on a thread that may block.
    pub(super) async fn trace(&self, question: Question, place: &Place) -> Reply {
        if let Some(size) = question.packet.size.filter(|size| *size > LARGEST) {
            return failed(format!("a packet has at most {LARGEST} bytes, and {size} are asked about"));
        }
        if question.packet.source.is_some_and(|source| source.is_ipv4() != question.packet.destination.is_ipv4()) {
            return failed("the source and the destination of a packet are of one family");
        }
        let (wanted, reckoning) = (self.wanted.clone(), Arc::clone(&self.reckoning));
        let Ok(turn) = timeout(TURN, Arc::clone(&self.turn).lock_owned()).await else {
            return failed("an earlier trace has not ended");
        };
        let asked = place.run(move || {
            let _turn = turn;
            explain(&wanted, &reckoning, &question, |passage| Live::open(passage, &question))
        });
        let Ok(explained) = timeout(PATIENCE, asked).await else {
            return failed(format!("the kernel's tables were not read within {} s: nft may hang", PATIENCE.as_secs()));
        };
        match explained.flatten() {
            Ok(answer) => Reply::Trace { answer: Box::new(answer) },
            Err(cause) => failed(cause),
        }
    }
}

/// Explains it by what `open` has read, and by what is wanted then; once more where that had changed meanwhile, or where a packet is lost
/// while the reconciler is at work.
fn explain<K: trace::Kernel>(
    wanted: &watch::Receiver<Option<Wanted>>,
    reckoning: &Mutex<Reckoning>,
    question: &Question,
    open: impl Fn(Option<&Passage>) -> Result<K, Error>,
) -> Result<Answer, String> {
    let now =
        || wanted.borrow().clone().ok_or("it has not made out yet what shall stand: its log says what it waits for");
    let mut before = now()?;
    let mut once_more = true;
    loop {
        let may_repeat = std::mem::take(&mut once_more);
        // Before the kernel is read: what it does not find may be on its way there.
        let tried = before.tried.load(Ordering::Relaxed);
        let mut kernel = open(before.desired.passage.as_ref()).map_err(|error| error.to_string())?;
        // The reconciler waits for it: `kernel` runs no nft and dumps no routes from here on.
        let reckoning = reckoning.lock().expect("nobody panics while asking it");
        let wants = now()?;
        let stands = Arc::ptr_eq(&before.desired, &wants.desired) || before.desired == wants.desired;
        if may_repeat && !stands {
            before = wants;
            continue;
        }
        let Wanted { view, local, desired, .. } = &wants;
        let may_repeat = may_repeat && !(tried && wants.tried.load(Ordering::Relaxed));
        let known = Known { view, local, desired, reckoning: &reckoning };
        let answer =
            trace::explain(&known, &mut kernel, question).ok_or("the cluster has no configuration that it knows")?;
        if may_repeat && answer.end == End::Lost {
            before = wants;
            continue;
        }
        return Ok(answer);
    }
}

/// The kernel of this node.
struct Live {
    netlink: Netlink,
    /// Those of the main table that the packet's destination lies in, or a pod for which a port of the node is published.
    routes: Vec<SeenRoute>,
    firewall: bool,
    barriers: Vec<Barrier>,
    /// By chains that drop the tunnel's packet of the question.
    shut: Vec<Shut>,
    ports: Vec<Port>,
}

impl Live {
    /// With what nft has to tell for the question, and of the routes those that can decide about the packet. A router may have
    /// all routes of the Internet.
    fn open(passage: Option<&Passage>, question: &Question) -> Result<Self, Error> {
        let barriers = passage.map(forward::look).transpose()?.unwrap_or_default();
        let comes = trace::arrival(question);
        let shut = comes.map(|comes| arrival::look(firewall::TABLE, &[comes])).transpose()?.unwrap_or_default();
        let published = question.packet.port.is_some().then(ports::standing).transpose()?.flatten();
        let ports = published.map(|published| published.ports).unwrap_or_default();
        let firewall = nft::is_there(firewall::TABLE)?;
        let mut netlink = Netlink::open()?;
        let destination = question.packet.destination;
        let addresses: Vec<IpAddr> = once(destination).chain(ports.iter().map(|port| port.pod.ip())).collect();
        let filter = Filter { ipv6: destination.is_ipv6(), ..Filter::default() };
        let covers = |route: SeenRoute| {
            addresses.iter().any(|address| route.key.destination.contains(*address)).then_some(route)
        };
        let routes = route::dump_of(&mut netlink, filter, usize::MAX, covers)?;
        Ok(Self { netlink, routes, firewall, barriers, shut, ports })
    }
}

impl trace::Kernel for Live {
    fn look_up(&mut self, flow: Flow) -> Result<Found, Error> {
        route::look_up(&mut self.netlink, flow)
    }

    fn link(&mut self, name: IfName) -> Result<Option<SeenLink>, Error> {
        link::by_name(&mut self.netlink, &name)
    }

    fn link_at(&mut self, index: u32) -> Result<Option<SeenLink>, Error> {
        link::by_index(&mut self.netlink, index)
    }

    fn neighbours(&mut self, index: u32) -> Result<Vec<SeenNeighbour>, Error> {
        neighbour::of(&mut self.netlink, index)
    }

    fn fdb(&mut self, index: u32) -> Result<Vec<SeenFdbEntry>, Error> {
        fdb::of(&mut self.netlink, index)
    }

    fn routes(&mut self, _: IpAddr) -> Result<&[SeenRoute], Error> {
        Ok(&self.routes)
    }

    fn has_firewall(&mut self) -> Result<bool, Error> {
        Ok(self.firewall)
    }

    fn barriers(&mut self, _: &Passage) -> Result<Vec<Barrier>, Error> {
        Ok(self.barriers.clone())
    }

    fn shut(&mut self, _: Arrival) -> Result<Vec<Shut>, Error> {
        Ok(self.shut.clone())
    }

    fn ports(&mut self) -> Result<Vec<Port>, Error> {
        Ok(self.ports.clone())
    }
}

#[cfg(test)]
mod tests;
