//! The oracle: what must hold after each action, and when all has come to rest.

use std::net::IpAddr;
use std::time::Duration;

use twill_ipam::Block;
use twill_ipam::address::COOLING;

use super::machine::{Machine, view_of};
use super::world::{Live, World};
use crate::View;
use crate::keeper::Problem;

const TEN_MINUTES: Duration = Duration::from_secs(600);

impl World {
    /// A pod has an address from now on.
    pub(super) fn went_live(&mut self, ip: IpAddr, live: Live) {
        let machine = &self.machines[live.machine];
        let name = machine.name.clone();
        let other = self.live.iter().find(|(there, other)| *there == ip && !other.excused).map(|(_, other)| *other);
        if !live.excused {
            if machine.meddled {
                self.fail(format!("{name} gave {ip} out although somebody else had written its record"));
            }
            if let Some(other) = other {
                self.fail(format!("{ip} was given to {} and to {}", other.container, live.container));
            }
            let early = self
                .released
                .get(&ip)
                .is_some_and(|(container, _, at)| *container != live.container && self.now.since(*at) < COOLING);
            if early {
                self.fail(format!("{ip} was given to {} before it was cool", live.container));
            }
        }
        self.released.remove(&ip);
        self.live.push((ip, live));
        self.check_live();
    }

    /// Every live address lies inside a block that its node owns.
    fn check_live(&mut self) {
        let mut wrong = None;
        for (ip, live) in &self.live {
            let machine = &self.machines[live.machine];
            if live.excused || machine.unaware {
                continue;
            }
            let owner = self.view.blocks.iter().find(|(block, _)| block.contains(*ip)).map(|(_, record)| &record.value);
            let own = owner
                .is_some_and(|record| record.node.as_str() == machine.name && record.machine_id == machine.machine_id);
            if !own {
                wrong = Some(format!("{ip} of {} is in no block of its node {}", live.container, machine.name));
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// Looks at etcd where it has changed.
    pub(super) fn check(&mut self) {
        let snapshot = self.look();
        if snapshot.revision == self.view.revision {
            return;
        }
        let view = view_of(&snapshot);
        let before = std::mem::replace(&mut self.view, view.clone());
        self.check_blocks(&view);
        for block in view.blocks.keys().filter(|block| !before.blocks.contains_key(*block)) {
            self.count("claim");
            self.check_claim(*block, &view);
        }
        if !self.operated {
            for block in before.blocks.keys().filter(|block| !view.blocks.contains_key(*block)) {
                self.count("give back");
                self.check_return(*block);
            }
        }
        self.check_live();
    }

    fn check_blocks(&mut self, view: &View) {
        let blocks: Vec<&Block> = view.blocks.keys().collect();
        if let Some(pair) = blocks.windows(2).find(|pair| pair[0].overlaps(*pair[1])) {
            self.fail(format!("{} and {} overlap", pair[0], pair[1]));
        }
        let pools = view.config.as_ref().map_or(&[][..], |config| &config.value.pools);
        for (block, record) in &view.blocks {
            let fits = |pool: &&twill_conf::cluster::Pool| Block::new(pool.cidr).is_some_and(|p| p.covers(*block));
            if !pools.iter().any(|pool| fits(&pool)) {
                self.fail(format!("{block} lies in no pool"));
            }
            if !view.nodes.contains_key(&record.value.node) {
                self.fail(format!("{block} belongs to {}, which is not there", record.value.node));
            }
        }
    }

    fn check_claim(&mut self, block: Block, view: &View) {
        let Some(restored) = &self.restored else { return };
        let node = &view.blocks[&block].value.node;
        let machine = self.machines.iter().find(|machine| machine.name == node.as_str());
        let Some(daemon) = machine.and_then(|machine| machine.daemon.as_ref()) else { return };
        // What a machine still has in its store was its own.
        let own = machine.is_some_and(|machine| machine.books.blocks().contains(&block));
        if own || restored.before.get(&block) == Some(node) || !restored.noticed.contains_key(&daemon.run) {
            return;
        }
        if self.now.since(restored.at) < TEN_MINUTES {
            return self.fail(format!("{node} claimed {block} soon after etcd was restored"));
        }
        let Some((lost, owner)) = restored.lost.iter().find(|(lost, _)| lost.overlaps(block)) else { return };
        let knew = restored.known.get(&daemon.run).is_some_and(|known| known.contains(lost));
        let pods =
            self.live.iter().any(|(ip, live)| lost.contains(*ip) && self.machines[live.machine].name == owner.as_str());
        if knew && pods && owner != node {
            self.fail(format!("{node} claimed {block}, which etcd had lost and {owner} has pods in"));
        }
    }

    fn check_return(&mut self, block: Block) {
        let fresh = |live: &Live| !live.excused && !self.machines[live.machine].unaware;
        if let Some((ip, _)) = self.live.iter().find(|(ip, live)| block.contains(*ip) && fresh(live)) {
            return self.fail(format!("{block} was given back with {ip} in use"));
        }
        let released = self.released.iter().filter(|(ip, _)| block.contains(**ip));
        let ages: Vec<Duration> = released.map(|(_, (_, _, at))| self.now.since(*at)).collect();
        if ages.iter().any(|age| *age < COOLING) {
            self.fail(format!("{block} was given back with an address that cools"));
        }
        // A node that is drained waits for nothing, and what it has begun goes on when that ends.
        let drained = |machine: &Machine| {
            let lately = machine.told_of_drain.is_some_and(|at| self.now.since(at) < TEN_MINUTES);
            (lately || machine.books.drain.is_some()) && machine.books.blocks().contains(&block)
        };
        let is_drained = self.machines.iter().any(drained);
        if ages.iter().any(|age| *age < TEN_MINUTES) && !is_drained {
            self.fail(format!("{block} was given back soon after it was used"));
        }
    }

    /// Faults end, everybody is there, and time passes: then all is as it should be.
    pub(super) fn come_to_rest(&mut self) {
        self.etcd.calm();
        self.etcd.deliver();
        self.act(super::Action::Off(3));
        for n in 0..3 {
            self.act(super::Action::Heal(n));
            self.act(super::Action::On(n));
        }
        for seconds in [1, 31, 601, 601, 601, 61] {
            self.act(super::Action::Wait(seconds));
            for n in 0..3 {
                self.run(n);
                self.check();
            }
        }
        if self.failure.is_none() {
            self.check_rest();
        }
    }

    fn check_rest(&mut self) {
        for n in 0..3 {
            let machine = &self.machines[n];
            let daemon = machine.daemon.as_ref().expect("it is on");
            let problems = daemon.keeper.problems();
            let excused = |problem: &Problem| {
                matches!(
                    problem,
                    Problem::RecordChanged { .. }
                        | Problem::NameTaken { .. }
                        | Problem::BlockLost { .. }
                        | Problem::BlockDisputed { .. }
                        | Problem::BlockOutsidePools { .. }
                )
            };
            if machine.meddled || problems.iter().any(excused) {
                continue;
            }
            let owned = self.view.blocks.iter().filter(|(_, record)| {
                record.value.node.as_str() == machine.name && record.value.machine_id == machine.machine_id
            });
            let owned: Vec<Block> = owned.map(|(block, _)| *block).collect();
            let open: Vec<Block> = machine.books.open().collect();
            if owned != open {
                let name = &machine.name;
                return self.fail(format!("{name} owns {owned:?} and has open {open:?}; {problems:?}"));
            }
            let given: Vec<IpAddr> = machine.books.given.keys().copied().collect();
            let mut live: Vec<IpAddr> = self.live.iter().filter(|(_, l)| l.machine == n).map(|(ip, _)| *ip).collect();
            live.sort_unstable();
            if given != live {
                return self.fail(format!("{} has {given:?} on record and {live:?} live", machine.name));
            }
        }
    }
}
