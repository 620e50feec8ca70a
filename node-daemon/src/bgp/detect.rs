//! BFD's thread: it sends and hears packets several times a second, whatever else the daemon does (RFC 5881).
//!
//! A thread of its own, since a peer that is not told of for 900 ms is dead: neither a pass of the reconciler nor a hundred thousand
//! routes of another peer may come in between. It takes orders, and tells what changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use twill_bgp::bfd::{Change, Output, Packet, Sessions};
use twill_linux::udp;

use super::translate::Watched;

/// No packet is longer.
const LONGEST: usize = 256;
/// So many packets are taken before what is due is done: nobody keeps us from sending by sending.
const AT_ONCE: usize = 256;
/// How long after a port could not be had it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// The longest wait, if nothing is due.
const TURN: Duration = Duration::from_secs(5);

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// Watch these and no others.
    Watch(BTreeMap<IpAddr, Watched>),
    /// Tell all peers that nobody watches any more, and end.
    Stop,
}

/// The thread, as others see it.
#[derive(Debug)]
pub struct Detector {
    orders: Sender<Order>,
    wake: PipeWriter,
    thread: JoinHandle<()>,
}

/// A change of a session with a peer.
pub type Changed = (IpAddr, Change);

impl Detector {
    /// Begins with nobody to watch. The seed is another one at each start.
    pub fn start(seed: u64) -> std::io::Result<(Self, UnboundedReceiver<Changed>)> {
        let (orders, taken) = channel();
        let (woken, wake) = pipe()?;
        let (tell, changes) = unbounded_channel();
        let work = Work {
            begin: Instant::now(),
            sessions: Sessions::new(seed),
            watched: BTreeMap::new(),
            senders: BTreeMap::new(),
            receivers: [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].map(Port::new),
            tell,
        };
        let thread = std::thread::Builder::new().name("bfd".into()).spawn(move || work.run(&taken, woken))?;
        Ok((Self { orders, wake, thread }, changes))
    }

    /// Watches these and no others.
    pub fn watch(&mut self, watched: BTreeMap<IpAddr, Watched>) {
        self.order(Order::Watch(watched));
    }

    /// Ends in peace: the peers do not take it for a failure.
    pub fn stop(mut self) {
        self.order(Order::Stop);
        if self.thread.join().is_err() {
            tracing::error!("BFD had failed");
        }
    }

    fn order(&mut self, order: Order) {
        // A thread that is gone has failed, which is told when it is waited for.
        self.orders.send(order).ok();
        self.wake.write_all(&[0]).ok();
    }
}

struct Work {
    begin: Instant,
    sessions: Sessions,
    watched: BTreeMap<IpAddr, Watched>,
    senders: BTreeMap<IpAddr, (IpAddr, udp::Sender)>,
    receivers: [Port; 2],
    tell: UnboundedSender<Changed>,
}

/// BFD's port in one family, which is taken only while somebody is watched there.
struct Port {
    at: SocketAddr,
    receiver: Option<udp::Receiver>,
    tried: Option<Instant>,
}

impl Work {
    fn run(mut self, orders: &Receiver<Order>, mut woken: PipeReader) {
        loop {
            let (due, now) = (self.sessions.deadline(), self.now());
            let patience = due.map_or(TURN, |due| due.saturating_sub(now)).min(TURN);
            let [is_woken, ipv4, ipv6] = self.wait(&woken, patience);
            if is_woken {
                let _read = woken.read(&mut [0; 64]);
                loop {
                    match orders.try_recv() {
                        Ok(Order::Watch(watched)) => self.watch(watched),
                        Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return self.stop(),
                        Err(TryRecvError::Empty) => break,
                    }
                }
            }
            for place in [ipv4, ipv6].into_iter().enumerate().filter_map(|(place, ready)| ready.then_some(place)) {
                self.hear(place);
            }
            let outputs = self.sessions.tick(self.now());
            self.perform(outputs);
            self.open_ports();
        }
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Which of the pipe and the ports have something.
    fn wait(&self, woken: &PipeReader, patience: Duration) -> [bool; 3] {
        let ports = self.receivers.iter().map(|port| port.receiver.as_ref().map(udp::Receiver::as_fd));
        let sources: Vec<_> = [Some(woken.as_fd())].into_iter().chain(ports).collect();
        let mut fds: Vec<PollFd<'_>> = sources.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        // Rounded up, or the last millisecond would be spent spinning.
        let timeout = PollTimeout::try_from(patience.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::warn!(%error, "BFD: waiting for packets failed");
                std::thread::sleep(AGAIN);
            }
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let mut state = [false; 3];
        for (place, source) in sources.iter().enumerate() {
            state[place] = source.is_some() && ready.next().unwrap_or(false);
        }
        state
    }

    fn hear(&mut self, place: usize) {
        let mut buffer = [0; LONGEST];
        for _ in 0..AT_ONCE {
            let Some(receiver) = &self.receivers[place].receiver else { return };
            let datagram = match receiver.receive(&mut buffer) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "BFD: a packet could not be taken");
                    return;
                }
            };
            if !self.is_watched(&datagram) {
                tracing::debug!("BFD: a packet of {} to {} is of no session", datagram.from, datagram.to);
                continue;
            }
            match self.sessions.receive(self.now(), datagram.from.ip(), &buffer[..datagram.length]) {
                Ok(outputs) => self.perform(outputs),
                Err(refused) => tracing::debug!("BFD: a packet of {} is not taken: {refused}", datagram.from),
            }
        }
    }

    /// Whether it comes from where we send to, and to where we send from: a neighbour sends back along that (RFC 5881, section 4), and
    /// a node has addresses at which others reach it. That it crossed no router has been looked at before.
    fn is_watched(&self, datagram: &udp::Datagram) -> bool {
        self.watched.get(&datagram.from.ip()).is_some_and(|watched| watched.source == datagram.to)
    }

    fn watch(&mut self, watched: BTreeMap<IpAddr, Watched>) {
        let timings = watched.iter().map(|(peer, watched)| (*peer, watched.timing)).collect();
        // Those that go must be told so from where they know us.
        let sources = watched.iter().map(|(peer, watched)| (*peer, watched.source));
        let sources: BTreeMap<_, _> = sources.collect();
        self.senders.retain(|peer, (source, _)| sources.get(peer).is_none_or(|wanted| wanted == source));
        self.watched.extend(watched);
        let outputs = self.sessions.configure(self.now(), &timings);
        self.perform(outputs);
        let there: Vec<IpAddr> = self.sessions.iter().map(|(peer, _)| peer).collect();
        self.watched.retain(|peer, _| there.contains(peer));
        self.senders.retain(|peer, _| there.contains(peer));
        self.open_ports();
    }

    fn stop(mut self) {
        let outputs = self.sessions.disable(self.now());
        self.perform(outputs);
    }

    fn perform(&mut self, outputs: Vec<(IpAddr, Output)>) {
        for (peer, output) in outputs {
            match output {
                Output::Send(packet) => self.send(peer, &packet),
                Output::Changed(change) => {
                    tracing::debug!("BFD with {peer}: {} after {}: {:?}", change.to, change.from, change.why);
                    // Nobody listens any more when the daemon ends.
                    self.tell.send((peer, change)).ok();
                }
            }
        }
    }

    fn send(&mut self, peer: IpAddr, packet: &Packet) {
        let Some(Watched { source, .. }) = self.watched.get(&peer) else { return };
        let sent = match self.senders.entry(peer) {
            Entry::Occupied(known) => known.get().1.send(&packet.encode()),
            Entry::Vacant(free) => udp::Sender::open(*source, SocketAddr::new(peer, udp::SINGLE_HOP))
                .and_then(|sender| free.insert((*source, sender)).1.send(&packet.encode())),
        };
        if let Err(error) = sent {
            tracing::debug!("BFD: {error}");
        }
    }

    /// Has the ports of those families that are watched in.
    fn open_ports(&mut self) {
        for port in &mut self.receivers {
            port.keep(self.watched.keys().any(|peer| peer.is_ipv4() == port.at.is_ipv4()));
        }
    }
}

impl Port {
    fn new(address: IpAddr) -> Self {
        Self { at: SocketAddr::new(address, udp::SINGLE_HOP), receiver: None, tried: None }
    }

    fn keep(&mut self, wanted: bool) {
        if !wanted {
            (self.receiver, self.tried) = (None, None);
        } else if self.receiver.is_none() && self.tried.is_none_or(|tried| tried.elapsed() >= AGAIN) {
            match udp::Receiver::open(self.at) {
                Ok(receiver) => self.receiver = Some(receiver),
                Err(error) if self.tried.is_none() => {
                    tracing::warn!("BFD hears nobody until this works, and it is tried again: {error}");
                }
                Err(_) => {}
            }
            self.tried = Some(Instant::now());
        }
    }
}
