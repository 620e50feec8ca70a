//! A machine: its power, its cable, its store, and a daemon that is run by hand.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use twill_conf::NodeName;
use twill_ipam::BootTime;
use twill_ipam::store::BlockState;

use super::books::Books;
use crate::View;
use crate::continuity::{Mark, Verdict};
use crate::keeper::{Facts, Identity, Input, Keeper, Output, Standing};
use crate::mirror::{self, Mirror};
use crate::request::Answer;
use crate::simulated::SimulatedStore;
use crate::store::{Event, Range};
use crate::view::Snapshot;
use twill_ipam::guard::{Guard, stands};

/// A daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) keeper: Keeper,
    pub(super) view: View,
    /// Up to where the watch has come; `None`: a snapshot is due.
    seen: Option<i64>,
    pub(super) mark: Option<Mark>,
    /// The stream is broken: it is proved before it goes on.
    pub(super) broken: bool,
    /// The next answer comes from a member that lags behind.
    pub(super) lagging: bool,
    pub(super) queue: VecDeque<Output>,
    paused: bool,
    pub(super) run: String,
    mirror: Mirror,
}

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) machine_id: String,
    pub(super) daemon: Option<Daemon>,
    pub(super) books: Books,
    pub(super) cut: bool,
    pub(super) runs: u32,
    /// On disk.
    pub(super) saved: Option<View>,
    /// Something happened behind its back, at this time of the model, that it has not heard of.
    pub(super) unaware: bool,
    /// When the operator last said something of a drain.
    pub(super) told_of_drain: Option<BootTime>,
    /// Somebody wrote its record since its daemon started.
    pub(super) meddled: bool,
}

impl Daemon {
    fn feed(&mut self, input: Input, now: BootTime) {
        let outputs = self.keeper.step(input, now);
        self.queue.extend(outputs);
    }

    pub(super) fn is_registered(&self) -> bool {
        matches!(self.keeper.standing(), Standing::Registered { .. })
    }

    /// The next event of the watch, as `etcd::watch` brings it.
    fn event(&mut self, etcd: &SimulatedStore) -> Option<Event> {
        let range = Range::watched();
        let mut restored = false;
        if std::mem::take(&mut self.broken) && self.seen.is_some() {
            let verdict = match &self.mark {
                _ if !stands(Guard::HistoryProof) => Verdict::Same,
                _ if etcd.look(&Range::key(crate::key::CONFIG)).revision < self.seen.unwrap_or(0) => Verdict::Another,
                Some(mark) => mark
                    .readings()
                    .map(|(key, revision)| mark.judge((key, revision), &etcd.past(key, revision)))
                    .find(|verdict| *verdict != Verdict::Same)
                    .unwrap_or(Verdict::Same),
                None => Verdict::Unknown,
            };
            restored = verdict == Verdict::Another;
            match (verdict, &self.mark) {
                (Verdict::Same, Some(mark)) if stands(Guard::HistoryProof) => self.seen = Some(mark.revision),
                (Verdict::Same, _) => {}
                _ => self.seen = None,
            }
        }
        let lagging = std::mem::take(&mut self.lagging) && !stands(Guard::LinearizableForBack);
        let event = match etcd.news(&range, self.seen) {
            _ if lagging => Some(Event::Snapshot(etcd.lagging(&range, 3))),
            Some(Event::Snapshot(snapshot))
                if restored
                    || self.mark.as_ref().is_some_and(|mark| !mark.is_in(&snapshot)) && stands(Guard::HistoryProof) =>
            {
                Some(Event::Restored(snapshot))
            }
            event => event,
        }?;
        match &event {
            Event::Snapshot(snapshot) | Event::Restored(snapshot) => {
                self.seen = Some(snapshot.revision);
                self.mark = Mark::of_snapshot(snapshot);
            }
            Event::Delta(delta) => {
                self.seen = Some(delta.revision);
                self.mark = Mark::after(self.mark.take(), delta);
            }
            Event::Lost(_) => {}
        }
        Some(event)
    }
}

impl Machine {
    pub(super) fn new(name: &str, machine_id: &str) -> Self {
        Self {
            name: name.into(),
            machine_id: machine_id.into(),
            daemon: None,
            books: Books::default(),
            cut: false,
            runs: 0,
            saved: None,
            unaware: false,
            told_of_drain: None,
            meddled: false,
        }
    }

    /// The daemon starts. `boot`: with the machine, whose store is empty then.
    pub(super) fn start(&mut self, boot: bool, now: BootTime) {
        self.runs += 1;
        self.meddled = false;
        if boot {
            let record = self.saved.as_ref().and_then(|view| view.nodes.get(&self.name.parse::<NodeName>().unwrap()));
            self.books = Books::default();
            self.books.drain = record.and_then(|record| record.value.drain.clone());
            self.unaware = false;
        }
        let run = format!("{}r{}", self.machine_id, self.runs);
        let identity =
            Identity { node: self.name.parse().unwrap(), machine_id: self.machine_id.clone(), run: run.clone() };
        let mut daemon = Daemon {
            keeper: Keeper::new(identity),
            view: self.saved.clone().unwrap_or_default(),
            seen: None,
            mark: None,
            broken: false,
            lagging: false,
            queue: VecDeque::new(),
            paused: false,
            mirror: Mirror::new(self.name.parse().unwrap(), run.clone()),
            run,
        };
        daemon.feed(Input::Facts(Facts::default()), now);
        if !stands(Guard::BootProof) && self.saved.is_some() {
            let view = Arc::new(daemon.view.clone());
            daemon.feed(Input::View(view), now);
        }
        self.daemon = Some(daemon);
        self.look(now);
    }

    /// The daemon looks at the store, as `blocks::supplies` does.
    pub(super) fn look(&mut self, now: BootTime) {
        let Some(daemon) = &mut self.daemon else { return };
        for block in self.books.blocks() {
            let is_open = self.books.open().any(|open| open == block);
            let uses = self.books.uses(now);
            let used = uses.iter().any(|has| has.block == block && (has.assigned > 0 || has.tunnel.is_some()));
            let lost = match daemon.view.overlapping(block) {
                Some((there, record)) => *there != block || record.value.node.as_str() != self.name,
                None => !used,
            };
            if !is_open && lost && daemon.seen.is_some() {
                self.books.forget(block, now);
            }
        }
        self.books.take_tunnel(now);
        let uses = self.books.uses(now);
        daemon.feed(Input::Local(uses), now);
        daemon.feed(Input::Tick, now);
        if let Some(drain) = daemon.keeper.drain() {
            self.books.drain = drain.map(str::to_owned);
        }
    }

    /// The operator asks that it be drained, or that this end.
    pub(super) fn drain(&mut self, on: bool, now: BootTime) -> bool {
        let Some(daemon) = self.daemon.as_mut().filter(|daemon| !self.cut && daemon.is_registered()) else {
            return false;
        };
        daemon.feed(Input::Drain(on), now);
        self.told_of_drain = Some(now);
        self.look(now);
        true
    }

    /// The daemon brings its mirror up to date. `false` where it cannot.
    pub(super) fn mirror(&mut self, etcd: &SimulatedStore, now: BootTime) -> bool {
        let Some(daemon) = self.daemon.as_mut().filter(|_| !self.cut) else { return false };
        let Standing::Registered { epoch } = daemon.keeper.standing() else { return false };
        let contents = self.books.contents(now);
        daemon.mirror.hurry(now);
        let view = Arc::new(daemon.view.clone());
        let news = [mirror::Input::View(view), mirror::Input::Epoch(Some(epoch)), mirror::Input::Contents(contents)];
        let mut outputs: Vec<_> = news.into_iter().flat_map(|input| daemon.mirror.step(input, now)).collect();
        while let Some(output) = outputs.pop() {
            if let mirror::Output::Order(order) = output {
                let answer = at_once(order.perform(etcd));
                outputs.extend(daemon.mirror.step(mirror::Input::Answer(answer, Duration::ZERO), now));
            }
        }
        true
    }

    /// Takes what the watch brings.
    pub(super) fn see(&mut self, etcd: &SimulatedStore, now: BootTime) {
        let Some(daemon) = self.daemon.as_mut().filter(|_| !self.cut) else { return };
        while let Some(event) = daemon.event(etcd) {
            let before = daemon.view.history;
            daemon.view.follow(&event);
            if daemon.view.history > before {
                // What was being sent went to members that are gone.
                daemon.queue.retain(|output| !matches!(output, Output::Request(_)));
            }
            let view = Arc::new(daemon.view.clone());
            daemon.feed(Input::View(view), now);
        }
        self.saved = Some(daemon.view.clone());
    }

    /// The next thing that is to be done; `false`: nothing.
    pub(super) fn step(&mut self, etcd: &SimulatedStore, now: BootTime) -> bool {
        let Some(daemon) = &mut self.daemon else { return false };
        let Some(output) = daemon.queue.pop_front() else { return false };
        match output {
            Output::Request(request) => {
                let answer = if self.cut { Answer::Unavailable } else { at_once(request.perform(etcd)) };
                daemon.feed(Input::Answer(request.id, answer), now);
            }
            Output::Open { block, pool, .. } => {
                self.books.put(block, pool, BlockState::Open);
                self.look(now);
            }
            Output::Close { block, pool } => {
                self.books.put(block, pool, BlockState::Closing);
                self.look(now);
            }
            Output::GiveBack { block, .. } => {
                self.books.close_empty(block, now);
                self.look(now);
            }
            Output::Pause => daemon.paused = true,
            _ => {}
        }
        true
    }

    /// A pause is over.
    pub(super) fn resume(&mut self, now: BootTime) {
        if let Some(daemon) = &mut self.daemon
            && std::mem::take(&mut daemon.paused)
        {
            daemon.feed(Input::Resume, now);
        }
    }
}

/// What the simulated store answers, which never waits.
fn at_once<T>(asked: impl Future<Output = T>) -> T {
    match pin!(asked).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the simulated store waits"),
    }
}

/// What a snapshot shows.
pub(super) fn view_of(snapshot: &Snapshot) -> View {
    let mut view = View::default();
    view.replace(snapshot);
    view
}
