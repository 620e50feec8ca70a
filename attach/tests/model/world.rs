//! The node, its runtime, and what happens to them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tempfile::TempDir;
use twill_attach::Error;
use twill_attach::course::add::{Wanted, add};
use twill_attach::course::del::{Unwanted, del};
use twill_attach::course::gc::gc;
use twill_attach::course::sweep::{Suspicions, sweep};
use twill_conf::network::{Bandwidth, Shape};
use twill_ipam::store::{Reservation, Role};
use twill_ipam::sweep::{Collection, GRACE};
use twill_ipam::{Block, Extras, Key, KeyHash, State, Store};
use twill_linux::{IfName, MacAddr};
use twill_testkit::histories::Counts;

use crate::action::{ALL, Action, CONTAINERS};
use crate::board::{Course, Kind, Shared};
use crate::daemon::{self, Place};
use crate::hands::{Hands, Pod};
use crate::stage::{End, Process};

/// So many processes of the plugin are under way at once.
const CROWD: usize = 6;
/// The blocks that the cluster may give the node.
const BLOCKS: [&str; 3] = ["10.42.0.0/30", "10.42.0.4/30", "10.42.0.8/31"];
/// What a node has that stands alone.
const SUBNET: &str = "10.42.0.0/29";

/// What a process gave.
enum Answer {
    Added(Result<Vec<IpAddr>, Error>),
    Deleted(Result<(), Error>),
    Collected,
    Swept(Option<Suspicions>),
    Looked,
    Started(bool),
    Closed(Block, bool),
}

struct Running {
    number: usize,
    kind: Kind,
    process: Process<Answer>,
}

/// A daemon.
#[derive(Default)]
struct Daemon {
    place: Place,
    suspicions: Suspicions,
}

/// All there is.
pub(crate) struct World {
    run: TempDir,
    board: Shared,
    running: Vec<Running>,
    daemon: Option<Daemon>,
    /// The node's blocks, and whether they were claimed a moment ago.
    owns: BTreeMap<Block, bool>,
    alone: bool,
    /// The last DEL's failure.
    failed_del: Option<String>,
    young: bool,
}

fn key(container: u8) -> Key {
    let container = format!("c{container}").parse().unwrap();
    Key { network: "net".parse().unwrap(), container, ifname: "eth0".parse().unwrap() }
}

fn netns(container: u8, other: bool) -> PathBuf {
    format!("/run/netns/c{container}{}", if other { "b" } else { "a" }).into()
}

/// Every second container has a limit for what it sends: by a device that outlives its link.
fn extras(container: u8) -> Extras {
    let egress = Some(Shape { rate: 8_000_000, burst: None });
    let bandwidth = (container % 2 == 1).then_some(Bandwidth { ingress: None, egress });
    Extras { ports: Vec::new(), bandwidth }
}

impl World {
    pub(crate) fn new() -> Self {
        // On tmpfs, as on a node.
        let run = if std::path::Path::new("/dev/shm").is_dir() {
            tempfile::tempdir_in("/dev/shm")
        } else {
            tempfile::tempdir()
        };
        let mut world = Self {
            run: run.unwrap(),
            board: Shared::new(),
            running: Vec::new(),
            daemon: None,
            owns: BTreeMap::from([(BLOCKS[0].parse().unwrap(), true)]),
            alone: false,
            failed_del: None,
            young: true,
        };
        std::fs::create_dir(world.run_dir()).unwrap();
        world.start(ALL);
        world
    }

    fn run_dir(&self) -> PathBuf {
        self.run.path().join("twill")
    }

    pub(crate) fn failed(&self) -> bool {
        self.board.lock().oracle.failure.is_some()
    }

    /// What happened, and the failure.
    pub(crate) fn end(mut self) -> (Counts, Option<String>) {
        self.kill_where(|_| true);
        let mut board = self.board.lock();
        (std::mem::take(&mut board.counts), board.oracle.failure.take())
    }

    fn count(&self, what: &'static str) {
        self.board.lock().count(what);
    }

    fn fail(&self, why: String) {
        self.board.lock().oracle.fail(why);
    }

    /// Lets something happen.
    pub(crate) fn act(&mut self, action: Action) {
        let young = std::mem::replace(&mut self.young, false);
        match action {
            Action::Alone => {
                if young {
                    self.kill_daemon();
                    (self.alone, self.owns) = (true, BTreeMap::new());
                    self.count("→ a node that stands alone");
                }
            }
            Action::Add(container, other, steps) => self.add(container, other, steps),
            Action::Del(container, steps) => self.del(container, steps),
            Action::Gc(steps) => self.gc(steps),
            Action::Sweep(steps) => self.sweep(steps),
            Action::Look(steps) => self.look(steps),
            Action::Claim => self.claim(),
            Action::GiveBack(which, steps) => self.give_back(which, steps),
            Action::Go(place, steps) => {
                if let Some(place) = self.place(place) {
                    self.count("go");
                    self.go(place, steps);
                }
            }
            Action::Finish => {
                self.count("finish");
                (0..self.running.len()).rev().for_each(|place| self.go(place, ALL));
            }
            Action::Kill(kind) => self.kill(kind),
            Action::KillDaemon => {
                if self.daemon.is_some() {
                    self.kill_daemon();
                    self.count("kill daemon");
                }
            }
            Action::Start(steps) => {
                if self.daemon.is_none() && !self.alone {
                    self.start(steps);
                }
            }
            Action::Wait(seconds) => {
                self.pass(seconds);
                self.count("wait");
            }
            Action::Forget(container) => self.forget(container),
            Action::Unlink(container) => {
                let mut board = self.board.lock();
                if board.links.contains_key(&key(container).hash()) {
                    board.undermine(key(container).hash());
                    board.count("fault: link removed by somebody");
                }
            }
            Action::Rename(container) => self.board.lock().rename(key(container).hash()),
            Action::Stray(container) => {
                let mut board = self.board.lock();
                if board.stray(key(container).hash()) {
                    board.count("fault: link renamed for good");
                }
            }
            Action::Squat(number) => self.squat(number),
            Action::Refuse(changes) => self.board.lock().refusals = changes,
            Action::Full(writes) => self.board.lock().room = Some(writes),
            Action::Room => {
                if self.board.lock().room.take().is_some() {
                    self.count("room again");
                }
            }
            Action::Lose => self.lose(),
            Action::Wipe => self.wipe(),
            Action::Reboot => self.reboot(),
        }
    }

    // ---- processes ------------------------------------------------------------------------------------------------

    fn place(&self, place: u8) -> Option<usize> {
        (!self.running.is_empty()).then(|| usize::from(place) % self.running.len())
    }

    fn is_crowded(&self) -> bool {
        self.running.iter().filter(|one| !matches!(one.kind, Kind::Daemon | Kind::Sweep)).count() >= CROWD
    }

    /// Starts a process and lets it go on.
    fn begin(
        &mut self,
        kind: Kind,
        hash: Option<KeyHash>,
        pod: Option<Pod>,
        steps: u32,
        course: impl FnOnce(&mut Hands) -> Answer + Send + 'static,
    ) {
        if self.is_crowded() && !matches!(kind, Kind::Daemon | Kind::Sweep) {
            return;
        }
        let number = {
            let mut board = self.board.lock();
            let (began, number) = (board.serial(), board.processes.len());
            let valid = board.oracle.lives.keys().copied().collect();
            board.processes.push(Course::new(kind, hash, began, valid));
            board.running.push(number);
            board.count(kind.word());
            number
        };
        let board = self.board.clone();
        let process = Process::start(&self.board, number, move |strings| course(&mut Hands::new(strings, &board, pod)));
        self.running.push(Running { number, kind, process });
        self.go(self.running.len() - 1, steps);
    }

    fn go(&mut self, place: usize, steps: u32) {
        if let Some(end) = self.running[place].process.go(steps) {
            let ended = self.running.remove(place);
            self.ended(ended.number, end);
        }
    }

    fn ended(&mut self, number: usize, end: End<Answer>) {
        self.board.lock().running.retain(|running| *running != number);
        match end {
            End::Killed => {}
            End::Panicked(text) => self.fail(format!("a process panicked: {text}")),
            End::Done(Answer::Added(Ok(addresses))) => {
                self.board.lock().answered(number, &addresses);
                self.count("→ an ADD succeeded");
            }
            End::Done(Answer::Added(Err(error))) => self.count(word(&error)),
            End::Done(Answer::Deleted(done)) => {
                self.failed_del = done.err().map(|error| error.to_string());
                self.count(if self.failed_del.is_some() { "→ a DEL failed" } else { "→ a DEL succeeded" });
            }
            End::Done(Answer::Swept(suspicions)) => {
                if let (Some(daemon), Some(suspicions)) = (&mut self.daemon, suspicions) {
                    daemon.suspicions = suspicions;
                }
            }
            End::Done(Answer::Looked) => self.owns.values_mut().for_each(|fresh| *fresh = false),
            End::Done(Answer::Started(true)) => {}
            End::Done(Answer::Started(false)) => self.kill_daemon(),
            End::Done(Answer::Closed(block, true)) => {
                self.owns.remove(&block);
                self.count("→ a block was given back");
            }
            End::Done(Answer::Closed(_, false) | Answer::Collected) => {}
        }
    }

    fn kill(&mut self, kind: Kind) {
        let Some(place) = self.running.iter().rposition(|one| one.kind == kind) else { return };
        self.count(match kind {
            Kind::Add => "fault: ADD killed",
            Kind::Del => "fault: DEL killed",
            Kind::Gc => "fault: GC killed",
            Kind::Daemon => "fault: daemon killed at a look",
            Kind::Sweep => "fault: daemon killed in a sweep",
        });
        if matches!(kind, Kind::Daemon | Kind::Sweep) {
            return self.kill_daemon();
        }
        let killed = self.running.remove(place);
        self.ended(killed.number, killed.process.kill());
    }

    fn kill_where(&mut self, which: impl Fn(Kind) -> bool) {
        let (killed, rest) = std::mem::take(&mut self.running).into_iter().partition(|one| which(one.kind));
        self.running = rest;
        let killed: Vec<Running> = killed;
        for one in killed {
            self.ended(one.number, one.process.kill());
        }
    }

    fn kill_daemon(&mut self) {
        self.kill_where(|kind| matches!(kind, Kind::Daemon | Kind::Sweep));
        self.daemon = None;
        self.board.lock().heard = false;
        self.owns.values_mut().for_each(|fresh| *fresh = false);
    }

    // ---- the runtime ----------------------------------------------------------------------------------------------

    fn add(&mut self, container: u8, other: bool, steps: u32) {
        let instance = {
            let mut board = self.board.lock();
            let serial = board.serial();
            *board.namespaces.entry((container, other)).or_insert(serial)
        };
        let pod = Pod { path: (container, other), instance };
        let (run_dir, key, netns, extras) =
            (self.run_dir(), key(container), netns(container, other), extras(container));
        let (board, alone) = (self.board.clone(), self.alone);
        self.begin(Kind::Add, Some(key.hash()), Some(pod), steps, move |hands| {
            let subnets: Vec<IpNetwork> = if alone { vec![SUBNET.parse().unwrap()] } else { Vec::new() };
            let (began, hash) = (board.lock().now, key.hash());
            let wanted = Wanted {
                run_dir: &run_dir,
                reservation: Reservation {
                    key: &key,
                    netns: &netns,
                    pod: None,
                    subnets: &subnets,
                    pools: &[],
                    requested: &[],
                },
                hash,
                extras: &extras,
                ifname: IfName::new("eth0").unwrap(),
                mac: MacAddr(hash.pod_mac()),
                answers: false,
                mtu: None,
                routes: &[],
                began,
                ring: &|| board.lock().heard,
            };
            Answer::Added(add(hands, &wanted).map(|made| made.plan.addresses))
        });
    }

    fn del(&mut self, container: u8, steps: u32) {
        let (run_dir, hash) = (self.run_dir(), key(container).hash());
        if !self.is_crowded() {
            self.board.lock().oracle.excuse(hash);
        }
        self.begin(Kind::Del, Some(hash), None, steps, move |hands| {
            Answer::Deleted(del(hands, &Unwanted { run_dir: &run_dir, hash, netns: None }))
        });
    }

    fn gc(&mut self, steps: u32) {
        let run_dir = self.run_dir();
        let board = self.board.clone();
        let valid: HashSet<KeyHash> = board.lock().oracle.lives.keys().copied().collect();
        self.begin(Kind::Gc, None, None, steps, move |hands| {
            let (network, began) = ("net".parse().unwrap(), board.lock().now);
            drop(gc(hands, &run_dir, &Collection { network: &network, valid: &valid, began }));
            Answer::Collected
        });
    }

    fn forget(&mut self, container: u8) {
        let mut board = self.board.lock();
        if board.destroy(container, false) | board.destroy(container, true) {
            board.count("fault: namespace gone without a DEL");
        }
    }

    // ---- the daemon -----------------------------------------------------------------------------------------------

    fn start(&mut self, steps: u32) {
        let daemon = Daemon::default();
        let (place, run_dir) = (daemon.place.clone(), self.run_dir());
        self.daemon = Some(daemon);
        self.board.lock().heard = true;
        self.begin(Kind::Daemon, None, None, steps, |hands| {
            Answer::Started(daemon::Shared { place, hands: hands.again(), run_dir }.open())
        });
    }

    /// A task of the daemon, which has one of each at a time.
    fn task(
        &mut self,
        kind: Kind,
        steps: u32,
        course: impl FnOnce(&mut Hands, daemon::Shared) -> Answer + Send + 'static,
    ) {
        let Some(daemon) = self.daemon.as_ref().filter(|_| self.running.iter().all(|one| one.kind != kind)) else {
            return;
        };
        let (place, run_dir) = (daemon.place.clone(), self.run_dir());
        self.begin(kind, None, None, steps, |hands| {
            let shared = daemon::Shared { place, hands: hands.again(), run_dir };
            course(hands, shared)
        });
    }

    fn sweep(&mut self, steps: u32) {
        let before = self.daemon.as_ref().map(|daemon| daemon.suspicions.clone()).unwrap_or_default();
        self.task(Kind::Sweep, steps, move |hands, mut shared| {
            let run_dir = shared.run_dir.clone();
            Answer::Swept(sweep(hands, &run_dir, &mut shared, &before, GRACE).ok().map(|swept| swept.suspicions))
        });
    }

    fn look(&mut self, steps: u32) {
        let owns: Vec<_> = self.owns.iter().map(|(block, fresh)| (*block, *fresh)).collect();
        self.task(Kind::Daemon, steps, move |_, mut shared| {
            drop(shared.look(&owns));
            Answer::Looked
        });
    }

    fn claim(&mut self) {
        let mut blocks = BLOCKS.iter().map(|block| block.parse().unwrap());
        // The block task does one thing at a time.
        let idle = self.running.iter().all(|one| one.kind != Kind::Daemon);
        if let Some(block) = blocks.find(|block| !self.owns.contains_key(block))
            && self.daemon.is_some()
            && idle
        {
            self.owns.insert(block, true);
            self.count("claim");
        }
    }

    fn give_back(&mut self, which: u8, steps: u32) {
        let Some(block) = self.owns.keys().nth(usize::from(which)).copied() else { return };
        self.task(Kind::Daemon, steps, move |_, mut shared| {
            Answer::Closed(block, shared.close(block).unwrap_or(false))
        });
    }

    // ---- what befalls the node ------------------------------------------------------------------------------------

    fn pass(&mut self, seconds: u64) {
        let mut board = self.board.lock();
        board.now.0 += Duration::from_secs(seconds);
        let now = board.now;
        board.renamed = board.renamed.filter(|(_, until)| now < *until);
    }

    fn squat(&mut self, number: u8) {
        let block: Block = SUBNET.parse().unwrap();
        let ip = block.nth(number.into()).expect("the block has eight");
        let mut board = self.board.lock();
        if !board.routes.iter().any(|(there, _)| *there == ip) {
            board.routes.push((ip, 0));
            board.count("fault: somebody's route");
        }
    }

    fn lose(&mut self) {
        let mut lost = false;
        for file in ["node.db", "node.db-wal", "node.db-shm"] {
            lost |= std::fs::remove_file(self.run_dir().join(file)).is_ok();
        }
        if lost {
            self.count("fault: store deleted");
        }
    }

    fn wipe(&mut self) {
        if std::fs::remove_dir_all(self.run_dir()).is_ok() {
            let mut board = self.board.lock();
            board.processes.iter_mut().for_each(|process| process.undermined = true);
            // That there ever was a store is forgotten with it.
            board.oracle.blind();
            board.count("fault: run directory deleted");
        }
    }

    fn reboot(&mut self) {
        self.kill_where(|_| true);
        self.kill_daemon();
        drop(std::fs::remove_dir_all(self.run_dir()));
        {
            let mut board = self.board.lock();
            board.links.clear();
            board.strays.clear();
            board.ifbs.clear();
            board.routes.clear();
            board.namespaces.clear();
            (board.tunnel, board.renamed) = (None, None);
            board.oracle.forget();
            board.count("fault: reboot");
        }
        if !self.alone {
            self.start(ALL);
        }
    }

    // ---- at rest --------------------------------------------------------------------------------------------------

    /// Faults end, everybody comes to his end, and time passes: then all is as it should be.
    pub(crate) fn come_to_rest(&mut self) {
        {
            let mut board = self.board.lock();
            (board.room, board.refusals, board.renamed) = (None, 0, None);
            board.routes.retain(|(_, to)| *to != 0);
            board.end_strays(|_| true);
        }
        self.finish();
        if self.daemon.is_none() {
            self.start(ALL);
            self.finish();
        }
        self.look(ALL);
        self.finish();
        for _ in 0..3 {
            self.sweep_once();
        }
        for hash in self.check("after the sweep") {
            let container = (0..CONTAINERS as u8).find(|container| key(*container).hash() == hash);
            self.del(container.expect("all keys are those of containers"), ALL);
            self.finish();
            if let Some(error) = self.failed_del.take() {
                self.fail(format!("a DEL failed with nothing in its way: {error}"));
            }
        }
        self.pass(31);
        self.look(ALL);
        self.finish();
        self.check("in the end");
        let board = self.board.lock();
        let (standing, live): (BTreeSet<_>, BTreeSet<_>) =
            (board.links.keys().copied().collect(), board.oracle.lives.keys().copied().collect());
        drop(board);
        if standing != live {
            self.fail(format!("in the end {standing:?} stand and {live:?} are live"));
        }
    }

    fn sweep_once(&mut self) {
        self.pass(31);
        self.sweep(ALL);
        self.finish();
    }

    /// Lets all go on to their ends. Whoever only waits gets time.
    fn finish(&mut self) {
        for _ in 0..200 {
            if self.running.is_empty() || self.failed() {
                return;
            }
            (0..self.running.len()).rev().for_each(|place| {
                if place < self.running.len() {
                    self.go(place, ALL);
                }
            });
            self.pass(1);
        }
        self.fail("a process does not come to its end".into());
    }

    /// What stands is in the store, and nothing else is. Gives what stands and need not.
    fn check(&mut self, when: &str) -> Vec<KeyHash> {
        let store = match Store::open(&self.run_dir(), Role::Reader) {
            Ok(store) => store,
            Err(error) => {
                self.fail(format!("{when} there is no store: {error}"));
                return Vec::new();
            }
        };
        let now = self.board.lock().now;
        let (rows, blocks) = (store.attachments().unwrap(), store.blocks(now).unwrap());
        drop(store);
        let board = self.board.lock();
        let mut wrong = Vec::new();
        for row in &rows {
            let addresses: Vec<_> = row.addresses.iter().map(|(ip, _)| *ip).collect();
            let link = board.links.get(&row.hash);
            let right = link.is_some_and(|link| !link.configured || link.addresses == addresses);
            if row.state != State::Attached || !right {
                wrong.push(format!("{} is {:?} with {addresses:?}, and {link:?} stands", row.hash, row.state));
            }
        }
        for hash in board.links.keys().filter(|hash| rows.iter().all(|row| row.hash != **hash)) {
            wrong.push(format!("the link of {hash} stands and has no row"));
        }
        for hash in board.ifbs.iter().filter(|hash| !board.links.contains_key(hash)) {
            wrong.push(format!("the limiting device of {hash} stands without a link"));
        }
        for has in &blocks {
            let assigned = rows.iter().flat_map(|row| &row.addresses).filter(|(ip, _)| has.block.contains(*ip)).count();
            if has.assigned != assigned as u64 || has.cooling != 0 {
                wrong.push(format!("{} has {} assigned, {} cooling", has.block, has.assigned, has.cooling));
            }
        }
        let needless = board.links.keys().filter(|hash| !board.oracle.lives.contains_key(hash)).copied().collect();
        drop(board);
        if let Some(wrong) = wrong.first() {
            self.fail(format!("{when} {wrong}"));
        }
        needless
    }
}

/// What became of an ADD.
fn word(error: &Error) -> &'static str {
    match error {
        Error::Store { source: twill_ipam::Error::Overtaken, .. } => "→ an ADD was overtaken by a DEL",
        Error::Store { source: twill_ipam::Error::Replaced(_), .. } => "→ an ADD lost its store",
        Error::Store { source: twill_ipam::Error::Busy, .. } => "→ an ADD waited for another one in vain",
        Error::Store { .. } | Error::Exhausted { .. } => "→ an ADD had no address",
        Error::AddressTaken { .. } => "→ an ADD's addresses were all taken",
        Error::InterfaceExists { .. } => "→ an ADD met a living pod",
        Error::TooLate(_) => "→ an ADD took too long",
        Error::NotUndone { .. } => "→ an ADD could not be undone",
        _ => "→ an ADD was refused by the kernel",
    }
}
