//! A network of speakers in memory, for tests and benchmarks: connections that deliver, stall, are cut and break, and a clock that jumps from
//! deadline to deadline. The same seed plays the same history.
//!
//! It is a transport as the daemon has one, so it keeps to what `speaker` asks of a transport; only that it looks into a node for what
//! the kernel would have.

mod setup;

pub use setup::{address, block, config, config_in, external, internal};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::random::Random;
use crate::session::State;
use crate::speaker::{Begin, Config, Connection, Event, Input, Output, Route, Speaker};

/// What a connection holds of what is written and not read, about, as a socket's buffers do.
const WINDOW: usize = 128 * 1024;

/// A node's number.
pub type NodeId = usize;

/// A node.
pub struct Node {
    /// Its address.
    pub address: IpAddr,
    /// Its speaker, while it runs.
    pub speaker: Option<Speaker>,
    /// What its kernel has: it outlives the speaker.
    pub kernel: BTreeMap<IpNetwork, Route>,
    /// What it told of its peers, and when.
    pub log: Vec<(Duration, IpAddr, Event)>,
    /// It reads nothing of what comes.
    stalled: bool,
}

/// What was sent altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages of all kinds.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A connection, with what each end has not read.
struct Pipe {
    ends: [Option<(NodeId, Connection)>; 2],
    nodes: [NodeId; 2],
    inbox: [Vec<u8>; 2],
    /// Nothing more comes for this end.
    is_over: [bool; 2],
    /// This end was told that it may write, and could not.
    is_full: [bool; 2],
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Dial(NodeId, Connection, IpAddr),
    Accept(usize),
    /// An end of a pipe writes.
    Write(usize, usize),
    /// An end of a pipe reads.
    Read(usize, usize),
}

/// Speakers, and what is between them.
pub struct Network {
    /// The nodes, by number.
    pub nodes: Vec<Node>,
    /// The time.
    pub now: Duration,
    /// What was sent so far.
    pub figures: Figures,
    by_address: BTreeMap<IpAddr, NodeId>,
    pipes: BTreeMap<usize, Pipe>,
    opened: usize,
    ends: BTreeMap<(NodeId, Connection), (usize, usize)>,
    actions: VecDeque<Action>,
    given_up: BTreeSet<(NodeId, Connection)>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Things happen in any order. None: in that in which they came up.
    shuffle: Option<Random>,
    seed: u64,
}

impl Network {
    /// So many nodes, of which none runs yet.
    #[must_use]
    pub fn new(count: usize, seed: u64) -> Self {
        let node = |node| Node {
            address: address(node),
            speaker: None,
            kernel: BTreeMap::new(),
            log: Vec::new(),
            stalled: false,
        };
        Self {
            nodes: (0..count).map(node).collect(),
            now: Duration::from_secs(1000),
            figures: Figures::default(),
            by_address: (0..count).map(|node| (address(node), node)).collect(),
            pipes: BTreeMap::new(),
            opened: 0,
            ends: BTreeMap::new(),
            actions: VecDeque::new(),
            given_up: BTreeSet::new(),
            cuts: BTreeSet::new(),
            shuffle: None,
            seed,
        }
    }

    /// From now on things happen in an order that the seed chooses, and streams arrive in pieces.
    #[must_use]
    pub fn shuffled(mut self) -> Self {
        self.shuffle = Some(Random::new(self.seed));
        self
    }

    /// Starts a node's speaker. It reaches all others.
    pub fn start(&mut self, node: NodeId, config: Config, begin: Begin) {
        self.seed = self.seed.wrapping_add(1);
        let (mut speaker, mut outputs) = Speaker::new(self.now, config, begin, self.seed);
        outputs.extend(speaker.step(self.now, Input::Reach(setup::everything())));
        self.nodes[node].speaker = Some(speaker);
        self.perform(node, outputs);
    }

    /// Stops one without a word: its connections end. The kernel keeps its routes.
    pub fn kill(&mut self, node: NodeId) {
        self.nodes[node].speaker = None;
        let ends: Vec<_> = self.ends.keys().filter(|(of, _)| *of == node).copied().collect();
        ends.into_iter().for_each(|(_, connection)| self.close(node, connection, &[]));
    }

    /// Nothing gets from one node to another any more, and neither is told.
    pub fn cut(&mut self, one: NodeId, other: NodeId) {
        self.cuts.insert((one.min(other), one.max(other)));
    }

    /// It does again.
    pub fn heal(&mut self, one: NodeId, other: NodeId) {
        self.cuts.remove(&(one.min(other), one.max(other)));
        self.wake();
    }

    /// A node no longer reads what comes, or does again.
    pub fn stall(&mut self, node: NodeId, stalled: bool) {
        self.nodes[node].stalled = stalled;
        self.wake();
    }

    /// All connections between two nodes break, and both are told.
    pub fn break_connections(&mut self, one: NodeId, other: NodeId) {
        let between = |pipe: &Pipe| pipe.nodes == [one, other] || pipe.nodes == [other, one];
        let broken: Vec<_> = self.pipes.iter().filter(|(_, pipe)| between(pipe)).map(|(id, _)| *id).collect();
        for id in broken {
            let Some(pipe) = self.pipes.remove(&id) else { continue };
            for (node, connection) in pipe.ends.into_iter().flatten() {
                self.ends.remove(&(node, connection));
                self.step(node, Input::Failed(connection));
            }
        }
    }

    /// Something happens at a node.
    pub fn step(&mut self, node: NodeId, input: Input<'_>) {
        let now = self.now;
        let Some(speaker) = &mut self.nodes[node].speaker else { return };
        let outputs = speaker.step(now, input);
        self.perform(node, outputs);
    }

    /// A node gets another configuration.
    pub fn configure(&mut self, node: NodeId, config: Config) {
        let now = self.now;
        let Some(speaker) = &mut self.nodes[node].speaker else { return };
        let outputs = speaker.configure(now, config);
        self.perform(node, outputs);
    }

    /// Bytes that a node did not mean to send, on its established connection with another.
    ///
    /// # Panics
    /// Where there is no such connection.
    pub fn inject(&mut self, from: NodeId, to: NodeId, bytes: &[u8]) {
        let (id, pipe) = self
            .pipes
            .iter_mut()
            .find(|(_, pipe)| pipe.nodes == [from, to] || pipe.nodes == [to, from])
            .expect("a connection");
        let end = usize::from(pipe.nodes[1] == to);
        pipe.inbox[end].extend_from_slice(bytes);
        self.actions.push_back(Action::Read(*id, end));
    }

    /// How many sessions are established, each counted at both ends.
    #[must_use]
    pub fn established(&self) -> usize {
        let peers = self.nodes.iter().filter_map(|node| node.speaker.as_ref()).flat_map(Speaker::peers);
        peers.filter(|peer| peer.state == State::Established).count()
    }

    /// How many connections stand, at one end at least.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.pipes.len()
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn dialled(&self) -> usize {
        self.opened
    }

    /// Lets things happen until all is at rest and what is asked holds, or so much time is over. Whether it holds in the end.
    pub fn run(&mut self, time: Duration, is_enough: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        loop {
            while let Some(action) = self.pick() {
                self.act(action);
            }
            if is_enough(self) {
                return true;
            }
            let deadlines = self.nodes.iter().filter_map(|node| node.speaker.as_ref()?.deadline());
            match deadlines.min() {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => {
                    self.now = end;
                    return is_enough(self);
                }
            }
            for node in 0..self.nodes.len() {
                let deadline = self.nodes[node].speaker.as_ref().and_then(Speaker::deadline);
                if deadline.is_some_and(|due| due <= self.now) {
                    self.step(node, Input::Tick);
                }
            }
        }
    }

    /// Does so many things, as long as there are some at this time.
    pub fn some(&mut self, count: usize) {
        for _ in 0..count {
            let Some(action) = self.pick() else { return };
            self.act(action);
        }
    }

    fn pick(&mut self) -> Option<Action> {
        let last = self.actions.len().checked_sub(1)?;
        if let Some(random) = &mut self.shuffle {
            let drawn = usize::try_from(random.draw() % (last as u64 + 1)).expect("an index");
            self.actions.swap(drawn, last);
            return self.actions.pop_back();
        }
        self.actions.pop_front()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial(node, connection, to) => self.dial(node, connection, to),
            Action::Accept(id) => self.accept(id),
            Action::Write(id, end) => self.write(id, end),
            Action::Read(id, end) => self.read(id, end),
        }
    }

    fn is_cut(&self, one: NodeId, other: NodeId) -> bool {
        self.cuts.contains(&(one.min(other), one.max(other)))
    }

    fn dial(&mut self, node: NodeId, connection: Connection, to: IpAddr) {
        if self.given_up.remove(&(node, connection)) {
            return;
        }
        let local = self.nodes[node].address;
        let other = self.by_address.get(&to).copied().filter(|other| !self.is_cut(node, *other));
        let Some(other) = other.filter(|other| self.nodes[*other].speaker.is_some()) else {
            return self.step(node, Input::Failed(connection));
        };
        let id = self.opened;
        self.opened += 1;
        let ends = [Some((node, connection)), None];
        let pipe =
            Pipe { ends, nodes: [node, other], inbox: Default::default(), is_over: [false; 2], is_full: [false; 2] };
        self.pipes.insert(id, pipe);
        self.ends.insert((node, connection), (id, 0));
        self.actions.push_back(Action::Accept(id));
        self.step(node, Input::Connected { connection, local });
    }

    /// The speaker learns of a connection that its kernel has accepted: perhaps long after, when the other end has gone on.
    fn accept(&mut self, id: usize) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let [remote, local] = pipe.nodes.map(address);
        let node = pipe.nodes[1];
        let accepted = self.nodes[node].speaker.as_mut().map(|speaker| speaker.accept(self.now, local, remote));
        let Some(Ok((connection, outputs))) = accepted else {
            pipe.is_over[0] = true;
            self.actions.push_back(Action::Read(id, 0));
            return;
        };
        pipe.ends[1] = Some((node, connection));
        self.ends.insert((node, connection), (id, 1));
        self.actions.push_back(Action::Read(id, 1));
        self.perform(node, outputs);
    }

    fn write(&mut self, id: usize, end: usize) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let Some((node, connection)) = pipe.ends[end] else { return };
        if pipe.inbox[1 - end].len() > WINDOW {
            pipe.is_full[end] = true;
            return;
        }
        let Some(speaker) = &mut self.nodes[node].speaker else { return };
        let mut bytes = Vec::new();
        let outputs = speaker.write(self.now, connection, &mut bytes);
        if !bytes.is_empty() {
            self.figures.bytes += bytes.len() as u64;
            self.figures.messages += count(&bytes);
            pipe.inbox[1 - end].extend_from_slice(&bytes);
            self.actions.push_back(Action::Read(id, 1 - end));
            self.actions.push_back(Action::Write(id, end));
        }
        self.perform(node, outputs);
    }

    fn read(&mut self, id: usize, end: usize) {
        let Some(pipe) = self.pipes.get(&id) else { return };
        let ([one, other], Some((node, connection))) = (pipe.nodes, pipe.ends[end]) else { return };
        if self.is_cut(one, other) || self.nodes[node].stalled {
            return;
        }
        let pipe = self.pipes.get_mut(&id).expect("it was there above");
        if pipe.inbox[end].is_empty() {
            if pipe.is_over[end] {
                self.forget(id, end);
                self.step(node, Input::Failed(connection));
            }
            return;
        }
        let all = pipe.inbox[end].len();
        let part = part(&mut self.shuffle, all);
        let bytes: Vec<u8> = pipe.inbox[end].drain(..part).collect();
        let has_more = part < all || pipe.is_over[end];
        let was_full = std::mem::take(&mut pipe.is_full[1 - end]);
        if has_more {
            self.actions.push_back(Action::Read(id, end));
        }
        if was_full {
            self.actions.push_back(Action::Write(id, 1 - end));
        }
        self.step(node, Input::Received(connection, &bytes));
    }

    fn perform(&mut self, node: NodeId, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Dial(connection, endpoint) => {
                    self.actions.push_back(Action::Dial(node, connection, endpoint.address));
                }
                Output::Write(connection) => {
                    if let Some((id, end)) = self.ends.get(&(node, connection)) {
                        self.actions.push_back(Action::Write(*id, *end));
                    }
                }
                Output::Close(connection, last) => self.close(node, connection, &last),
                Output::RoutesChanged => self.take_changes(node),
                Output::Selected(_) => self.take_all(node),
                Output::Told(peer, event) => self.nodes[node].log.push((self.now, peer, event)),
            }
        }
    }

    fn close(&mut self, node: NodeId, connection: Connection, last: &[u8]) {
        let Some((id, end)) = self.ends.get(&(node, connection)).copied() else {
            self.given_up.insert((node, connection));
            return;
        };
        if let Some(pipe) = self.pipes.get_mut(&id) {
            pipe.inbox[1 - end].extend_from_slice(last);
            pipe.is_over[1 - end] = true;
            self.actions.push_back(Action::Read(id, 1 - end));
        }
        self.forget(id, end);
    }

    /// An end is closed. Without ends there is no connection.
    fn forget(&mut self, id: usize, end: usize) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        if let Some(of) = pipe.ends[end].take() {
            self.ends.remove(&of);
        }
        if pipe.ends == [None; 2] {
            self.pipes.remove(&id);
        }
    }

    /// All ends look whether they can read or write.
    fn wake(&mut self) {
        for (id, pipe) in &mut self.pipes {
            for end in [0, 1] {
                self.actions.push_back(Action::Read(*id, end));
                if std::mem::take(&mut pipe.is_full[end]) {
                    self.actions.push_back(Action::Write(*id, end));
                }
            }
        }
    }

    fn take_changes(&mut self, node: NodeId) {
        let node = &mut self.nodes[node];
        let Some(speaker) = &mut node.speaker else { return };
        for route in speaker.changes() {
            if route.next_hops.is_empty() {
                node.kernel.remove(&route.prefix);
            } else {
                node.kernel.insert(route.prefix, route);
            }
        }
    }

    /// What of before is not used any more goes.
    fn take_all(&mut self, node: NodeId) {
        let node = &mut self.nodes[node];
        let Some(speaker) = &node.speaker else { return };
        let kept: BTreeMap<_, _> = speaker.routes().map(|route| (route.prefix, route)).collect();
        node.kernel
            .retain(|prefix, _| speaker.is_deferring(crate::prefix::family(*prefix)) || kept.contains_key(prefix));
        node.kernel.extend(kept);
    }
}

/// How many messages these whole ones are.
fn count(mut bytes: &[u8]) -> u64 {
    let mut messages = 0;
    while let Some(&[high, low]) = bytes.get(16..18) {
        bytes = bytes.get(usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default();
        messages += 1;
    }
    messages
}

/// How many of so many bytes arrive at once.
fn part(shuffle: &mut Option<Random>, all: usize) -> usize {
    let drawn = shuffle.as_mut().map(Random::draw).filter(|drawn| drawn.is_multiple_of(4));
    drawn.map_or(all, |drawn| usize::try_from(drawn / 4 % all as u64).expect("an index") + 1)
}
