//! The cluster, and what happens to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;
use twill_conf::NodeName;
use twill_conf::cluster::ClusterConf;
use twill_ipam::{Block, BootTime};

use super::action::Action;
use super::machine::{Machine, view_of};
use crate::removal::Found;
use crate::simulated::{Backup, SimulatedStore};
use crate::store::Range;
use crate::txn::{Op, Outcome, Txn};
use crate::view::Snapshot;
use crate::{View, key, reconfigure};

/// A pod that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub(super) machine: usize,
    pub(super) container: u64,
    /// What an operator did, or somebody with the node's identity, may give its address to another.
    pub(super) excused: bool,
}

/// A restored backup.
#[derive(Debug, Clone)]
pub(super) struct Restored {
    pub(super) at: BootTime,
    /// What was owned before, and by whom.
    pub(super) before: BTreeMap<Block, NodeName>,
    /// Of that, what was not after.
    pub(super) lost: BTreeMap<Block, NodeName>,
    /// What each machine's daemon knew, by its run.
    pub(super) known: BTreeMap<String, BTreeSet<Block>>,
    /// Nodes that have noticed, and when.
    pub(super) noticed: BTreeMap<String, BootTime>,
}

/// All there is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) etcd: SimulatedStore,
    pub(super) now: BootTime,
    pub(super) machines: Vec<Machine>,
    pub(super) live: Vec<(IpAddr, Live)>,
    /// Addresses that were given back: by whom, on which machine, when.
    pub(super) released: BTreeMap<IpAddr, (u64, usize, BootTime)>,
    containers: u64,
    found: Option<(usize, Found)>,
    backup: Option<Backup>,
    pub(super) restored: Option<Restored>,
    /// etcd as the last check saw it.
    pub(super) view: View,
    /// What is being done takes blocks away rightly.
    pub(super) operated: bool,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) failure: Option<String>,
}

/// The second pool's blocks have this length; 0: there is no second pool.
fn configuration(second: u8) -> ClusterConf {
    let mut pools = vec![json!({ "name": "one", "cidr": "10.42.0.0/28", "block": 30 })];
    if second > 0 {
        pools.push(json!({ "name": "two", "cidr": "10.43.0.0/28", "block": second }));
    }
    let text = json!({ "pool": pools, "backend": { "type": "vxlan" } }).to_string();
    ClusterConf::from_json(text.as_bytes()).expect("the model's configuration is valid")
}

impl World {
    pub(super) fn new() -> Self {
        let etcd = SimulatedStore::new();
        let put = Op::Put { key: key::CONFIG.into(), value: configuration(30).to_json(), lease: None };
        etcd.apply(&Txn { when: Vec::new(), then: vec![put] });
        let machines = [("a", "m0"), ("b", "m1"), ("c", "m2"), ("a", "twin")];
        let mut world = Self {
            view: view_of(&etcd.look(&Range::watched())),
            etcd,
            now: BootTime(Duration::from_secs(1_000_000)),
            machines: machines.iter().map(|(name, id)| Machine::new(name, id)).collect(),
            live: Vec::new(),
            released: BTreeMap::new(),
            containers: 0,
            found: None,
            backup: None,
            restored: None,
            operated: false,
            counts: BTreeMap::new(),
            failure: None,
        };
        for machine in 0..3 {
            world.machines[machine].start(true, world.now);
        }
        world
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    pub(super) fn look(&self) -> Snapshot {
        self.etcd.look(&Range::watched())
    }

    /// Lets something happen.
    pub(super) fn act(&mut self, action: Action) {
        let (etcd, now) = (self.etcd.clone(), self.now);
        self.operated = false;
        match action {
            Action::See(n) => self.see(n),
            Action::Step(n) => {
                if self.machines[n].step(&etcd, now) {
                    self.count("step");
                }
            }
            Action::Run(n) => self.run(n),
            Action::Look(n) => self.machines[n].look(now),
            Action::Wait(seconds) => {
                self.pass(seconds);
                self.count("wait");
            }
            Action::Add(n) => self.add(n),
            Action::Fill(n) => {
                for _ in 0..8 {
                    self.add(n);
                }
            }
            Action::Del(n, which) => self.delete_pod(n, which),
            Action::Empty(n) => {
                while self.live.iter().any(|(_, live)| live.machine == n) {
                    self.delete_pod(n, 0);
                }
            }
            Action::Crash(n) => {
                if self.machines[n].daemon.is_some() {
                    self.machines[n].start(false, now);
                    self.count("crash");
                }
            }
            Action::Off(n) => self.off(n),
            Action::On(n) => {
                if self.machines[n].daemon.is_none() {
                    self.machines[n].start(true, now);
                    self.count(if n == 3 { "twin" } else { "on" });
                }
            }
            Action::Cut(n) => {
                self.machines[n].cut = true;
                self.count("cut");
            }
            Action::Heal(n) => self.heal(n),
            Action::Expire => self.expire(),
            Action::Next(fate) => {
                etcd.destine([fate]);
                self.count(match fate {
                    crate::simulated::Fate::Lost => "lost",
                    crate::simulated::Fate::AnswerLost => "answer lost",
                    crate::simulated::Fate::Late => "late",
                    crate::simulated::Fate::Twice => "twice",
                    _ => "unavailable",
                });
            }
            Action::Deliver => {
                etcd.deliver();
                self.count("deliver");
            }
            Action::Compact => {
                etcd.compact();
                self.count("compact");
            }
            Action::Lag(n) => {
                if let Some(daemon) = &mut self.machines[n].daemon {
                    (daemon.broken, daemon.lagging) = (true, true);
                    self.count("lag");
                }
            }
            Action::Configure(second) => self.configure(second),
            Action::Judge(n) => self.judge(n),
            Action::Delete => self.delete_node(true),
            Action::DeleteEmpty => self.delete_node(false),
            Action::Drain(n, on) => {
                if self.machines[n].drain(on, now) {
                    self.count(if on { "drain" } else { "end of a drain" });
                }
            }
            Action::Mirror(n) => {
                if self.machines[n].mirror(&etcd, now) {
                    self.count("mirror");
                }
            }
            Action::Backup => {
                self.backup = Some(etcd.backup());
                self.count("backup");
            }
            Action::Restore => self.restore(),
            Action::Meddle(n) => self.meddle(n),
        }
    }

    /// Time passes. The daemons look at their stores every five seconds, and so see what has happened up to now.
    fn pass(&mut self, seconds: u64) {
        if seconds >= 5 {
            self.machines.iter_mut().for_each(|machine| machine.look(self.now));
        }
        self.now.0 += Duration::from_secs(seconds);
    }

    fn see(&mut self, n: usize) {
        let must = self.restored.is_some() && !self.machines[n].cut;
        let before = self.machines[n].daemon.as_ref().map(|daemon| daemon.view.history);
        self.machines[n].see(&self.etcd, self.now);
        self.count("see");
        let Some(daemon) = &self.machines[n].daemon else { return };
        let (history, run, name) = (daemon.view.history, daemon.run.clone(), self.machines[n].name.clone());
        if Some(history) > before && self.restored.is_none() && !self.counts.contains_key("compact") {
            self.fail(format!("{name} found a break of history, and there was none"));
        }
        let now = self.now;
        if Some(history) > before {
            // It begins again, as after a start.
            self.machines[n].meddled = false;
        }
        let truth = view_of(&self.look());
        let seen = self.machines[n].daemon.as_ref().map(|daemon| &daemon.view);
        let in_step = seen
            .is_none_or(|view| view.blocks == truth.blocks && view.nodes == truth.nodes && view.config == truth.config);
        if !in_step && !self.machines[n].cut {
            self.fail(format!("{name} has seen all and does not know what etcd holds"));
        }
        // What was sent before may come through after it: nobody can call that back.
        let called_back = !self.etcd.has_late();
        if let Some(restored) = self.restored.as_mut().filter(|_| must && called_back)
            && Some(history) > before
            && restored.known.contains_key(&run)
        {
            restored.noticed.entry(run).or_insert(now);
        }
    }

    /// Sees and works until there is nothing to do.
    pub(super) fn run(&mut self, n: usize) {
        self.count("run");
        for _ in 0..12 {
            self.see(n);
            let mut worked = false;
            for _ in 0..200 {
                if !self.machines[n].step(&self.etcd, self.now) {
                    break;
                }
                worked = true;
                if self.machines[n].daemon.as_ref().is_some_and(|daemon| daemon.queue.len() > 500) {
                    self.fail("a keeper asks for more and more".into());
                }
            }
            self.check();
            self.machines[n].resume(self.now);
            self.machines[n].look(self.now);
            if !worked || self.failure.is_some() {
                break;
            }
        }
        let machine = &mut self.machines[n];
        if machine.daemon.as_ref().is_some_and(|daemon| daemon.queue.is_empty()) && !machine.cut {
            machine.unaware = false;
        }
    }

    fn add(&mut self, n: usize) {
        if self.machines[n].daemon.is_none() {
            return;
        }
        self.containers += 1;
        let container = self.containers;
        let Some(ip) = self.machines[n].books.reserve(container, self.now) else { return };
        self.count("add");
        let excused = self.machines[n].unaware;
        self.went_live(ip, Live { machine: n, container, excused });
    }

    fn delete_pod(&mut self, n: usize, which: usize) {
        let mine = self.live.iter().enumerate().filter(|(_, (_, live))| live.machine == n);
        let Some(at) = mine.map(|(at, _)| at).nth(which) else { return };
        let (ip, live) = self.live.remove(at);
        self.machines[n].books.release(ip, self.now);
        if !live.excused {
            self.released.insert(ip, (live.container, n, self.now));
        }
        self.count("del");
    }

    fn off(&mut self, n: usize) {
        if self.machines[n].daemon.take().is_some() {
            self.live.retain(|(_, live)| live.machine != n);
            self.released.retain(|_, (_, machine, _)| *machine != n);
            self.machines[n].unaware = false;
            self.count("off");
        }
    }

    fn heal(&mut self, n: usize) {
        if std::mem::take(&mut self.machines[n].cut) {
            if let Some(daemon) = &mut self.machines[n].daemon {
                daemon.broken = true;
            }
            self.count("heal");
        }
    }

    fn alive(&self, n: usize) -> bool {
        let machine = &self.machines[n];
        !machine.cut && machine.daemon.as_ref().is_some_and(super::machine::Daemon::is_registered)
    }

    /// Leases are renewed by those that are alive.
    fn renew(&mut self) {
        for n in 0..self.machines.len() {
            if self.alive(n) {
                let key = key::alive(&self.machines[n].name.parse().unwrap());
                let put = Op::Put { key, value: b"{}".to_vec(), lease: None };
                self.etcd.apply(&Txn { when: Vec::new(), then: vec![put] });
            }
        }
    }

    fn expire(&mut self) {
        self.pass(60);
        for name in ["a", "b", "c"] {
            let key = key::alive(&name.parse().unwrap());
            self.etcd.apply(&Txn { when: Vec::new(), then: vec![Op::Delete { key }] });
        }
        self.renew();
        self.count("expire");
    }

    fn judge(&mut self, n: usize) {
        self.renew();
        self.found = Some((n, self.find(n)));
    }

    fn find(&self, n: usize) -> Found {
        let name: NodeName = self.machines[n].name.parse().expect("a name");
        let mirror = self.etcd.look(&Range::prefix(&format!("addresses/{name}/")));
        let alive = self.etcd.look(&Range::key(&key::alive(&name)));
        Found::of(&name, &self.look(), &mirror, &alive, self.now.0.as_secs())
    }

    fn delete_node(&mut self, is_off: bool) {
        self.renew();
        let Some((n, found)) = self.found.take() else { return };
        let Ok(plan) = found.plan(is_off) else { return };
        self.operated = true;
        if plan.iter().all(|txn| matches!(self.etcd.apply(txn), Outcome::Done(_))) {
            self.count(if is_off { "delete node" } else { "delete empty node" });
            // What it claimed since it was read goes too, as `twillctl` sees to.
            if let Ok(rest) = self.find(n).rest() {
                for txn in &rest {
                    self.etcd.apply(txn);
                }
            }
            let name = self.machines[n].name.clone();
            // What it had before a restore, nobody has to leave to it any more: the operator says that it is off.
            if let Some(restored) = &mut self.restored {
                restored.lost.retain(|_, owner| owner.as_str() != name);
            }
            // Of a machine that runs the assertion was a lie.
            for n in 0..self.machines.len() {
                if is_off && self.machines[n].name == name && self.machines[n].daemon.is_some() {
                    self.machines[n].meddled = false;
                    self.count("delete node that runs");
                    self.excuse(n, |_| true);
                }
            }
            let deleted = |block: &Block| found.blocks.iter().any(|(there, _)| there == block);
            for block in self.view.blocks.keys().filter(|block| deleted(block)) {
                self.released.retain(|ip, _| !block.contains(*ip));
            }
        }
    }

    /// What may be given to others by no fault of the node's.
    fn excuse(&mut self, n: usize, which: impl Fn(IpAddr) -> bool) {
        self.machines[n].unaware |= self.machines[n].daemon.is_some();
        for (ip, live) in &mut self.live {
            live.excused |= live.machine == n && which(*ip);
        }
        self.released.retain(|ip, (_, machine, _)| *machine != n || !which(*ip));
    }

    fn configure(&mut self, second: u8) {
        let view = view_of(&self.look());
        let revision = view.config.as_ref().map_or(0, |config| config.modified);
        if let Ok(mut txn) = reconfigure::plan(&view, revision, &configuration(second)) {
            // The configuration has no nonce; in the model's small histories the same one may be written at the same revision.
            self.containers += 1;
            for op in &mut txn.then {
                if let Op::Put { value, .. } = op {
                    value.extend(std::iter::repeat_n(b' ', self.containers as usize));
                }
            }
            self.etcd.apply(&txn);
            self.count("configure");
        }
    }

    fn meddle(&mut self, n: usize) {
        let name: NodeName = self.machines[n].name.parse().expect("a name");
        let view = view_of(&self.look());
        let (Some(record), Some(daemon)) = (view.nodes.get(&name), &self.machines[n].daemon) else { return };
        let history = daemon.view.history;
        let word = if history > 0 { format!("{}.{history}-", daemon.run) } else { format!("{}-", daemon.run) };
        let written = record.value.nonce.starts_with(&word);
        let value = json!({ "machine_id": self.machines[n].machine_id, "nonce": "foreign" });
        let put = Op::Put { key: key::node(&name), value: value.to_string().into_bytes(), lease: None };
        self.etcd.apply(&Txn { when: Vec::new(), then: vec![put] });
        self.excuse(n, |_| true);
        // One that has not written its record yet in this run will take it for an older one of its own.
        self.machines[n].meddled |= written;
        self.count("meddle");
    }

    fn restore(&mut self) {
        let Some(backup) = self.backup.clone() else { return };
        let owners = |view: &View| -> BTreeMap<Block, NodeName> {
            view.blocks.iter().map(|(block, record)| (*block, record.value.node.clone())).collect()
        };
        // What a restore before this one lost, its owner may still put back.
        let mut before = self.restored.take().map(|restored| restored.before).unwrap_or_default();
        before.extend(owners(&view_of(&self.look())));
        self.etcd.forget();
        self.etcd.restore(&backup);
        let after_view = view_of(&self.look());
        let after = owners(&after_view);
        let lost: BTreeMap<Block, NodeName> = before
            .iter()
            .filter(|(block, owner)| after.get(block) != Some(*owner))
            .map(|(b, o)| (*b, o.clone()))
            .collect();
        let mut known = BTreeMap::new();
        for n in 0..self.machines.len() {
            let Some(daemon) = &mut self.machines[n].daemon else { continue };
            daemon.broken = true;
            if daemon.mark.as_ref().is_some_and(|mark| mark.revision > after_view.revision) {
                known.insert(daemon.run.clone(), daemon.view.blocks.keys().copied().collect());
            }
            self.excuse(n, |_| true);
        }
        self.machines.iter_mut().for_each(|machine| machine.meddled = false);
        self.released.clear();
        self.restored = Some(Restored { at: self.now, before, lost, known, noticed: BTreeMap::new() });
        self.view = after_view;
        self.count("restore");
    }
}
