//! The oracle: who is live with what, by what processes answered and what the kernel has; and what must never be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use twill_ipam::address::COOLING;
use twill_ipam::{Block, BootTime, KeyHash};

use crate::board::{Board, Course, Kind, Link};

/// What it knows.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The pods that must stay: the runtime was told of them, and has not asked them to go. With the number at which their
    /// ADDs ended.
    pub(crate) lives: BTreeMap<KeyHash, u64>,
    /// Addresses that a pod had, whose, and since when it has not.
    released: BTreeMap<IpAddr, (KeyHash, BootTime)>,
    /// That there ever was a store was forgotten, and nobody has looked at the kernel since: whatever goes now, nobody
    /// can know of it.
    blind: bool,
    pub(crate) failure: Option<String>,
}

impl Oracle {
    pub(crate) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// The pod of `hash` need not stay any more.
    pub(crate) fn excuse(&mut self, hash: KeyHash) -> bool {
        self.lives.remove(&hash).is_some()
    }

    /// Nothing that was before says anything of what comes.
    pub(crate) fn forget(&mut self) {
        self.lives.clear();
        self.released.clear();
    }

    /// Nobody can know any more which addresses were given back.
    pub(crate) fn blind(&mut self) {
        self.blind = true;
        self.released.clear();
    }

    /// Somebody looks at the kernel, to make a store anew.
    pub(crate) fn see(&mut self) {
        self.blind = false;
    }

    /// A link is gone.
    pub(crate) fn went(&mut self, hash: KeyHash, link: &Link, now: BootTime) {
        if link.configured && !self.blind {
            self.released.extend(link.addresses.iter().map(|ip| (*ip, (hash, now))));
        }
    }

    /// Addresses that a pod has from now on.
    fn came(&mut self, hash: KeyHash, addresses: &[IpAddr], now: BootTime) {
        for ip in addresses {
            if let Some((other, since)) = self.released.remove(ip)
                && other != hash
                && now.since(since) < COOLING
            {
                self.fail(format!("{ip} of {other} was given to {hash} before it was cool"));
            }
        }
    }

    /// What of a block somebody has, or had a moment ago.
    fn hot(&self, block: Block, now: BootTime) -> Option<IpAddr> {
        let hot = |(ip, (_, since)): (&IpAddr, &(KeyHash, BootTime))| {
            (block.contains(*ip) && now.since(*since) < COOLING).then_some(*ip)
        };
        self.released.iter().find_map(hot)
    }
}

impl Board {
    /// A pod's end gets its addresses.
    pub(crate) fn configure(&mut self, hash: KeyHash) {
        let addresses = self.links[&hash].addresses.clone();
        for ip in &addresses {
            let has = |link: &&Link| link.configured && link.addresses.contains(ip);
            let others = self.links.iter().filter(|(other, _)| **other != hash).map(|(_, link)| link);
            if let Some(other) = others.chain(&self.strays).find(has) {
                self.oracle.fail(format!("{ip} is the address of {hash} and of another pod: {other:?}"));
            }
            if self.tunnel == Some(*ip) {
                self.oracle.fail(format!("{ip} is the tunnel's address and that of {hash}"));
            }
        }
        self.oracle.came(hash, &addresses, self.now);
        self.links.get_mut(&hash).expect("it was just there").configured = true;
    }

    /// The tunnel gets its address.
    pub(crate) fn take_tunnel(&mut self, ip: IpAddr) {
        if let Some((hash, _)) = self.links.iter().find(|(_, link)| link.configured && link.addresses.contains(&ip)) {
            self.oracle.fail(format!("{ip} is the address of {hash} and the tunnel's"));
        }
        self.tunnel = Some(ip);
    }

    /// A block was closed as an empty one.
    pub(crate) fn closed(&mut self, block: Block) {
        let ips = self.links.values().filter(|link| link.configured).flat_map(|link| link.addresses.iter().copied());
        let used = ips.chain(self.tunnel).find(|ip| block.contains(*ip));
        if let Some(ip) = used.or(self.oracle.hot(block, self.now)) {
            self.oracle.fail(format!("{block} was closed as empty, and {ip} is in use or cools"));
        }
    }

    /// A process is about to take a link away.
    pub(crate) fn takes(&mut self, process: usize, hash: KeyHash) {
        let Course { kind, began, valid, undermined, .. } = &self.processes[process];
        let Some(since) = self.oracle.lives.get(&hash) else { return };
        // Where its lock was deleted, another of the same key may have come by.
        let forgotten = *undermined || *kind == Kind::Gc && !valid.contains(&hash) && since < began;
        if !forgotten {
            let why = format!("the link of {hash}, which is live, was removed by {kind:?}");
            self.oracle.fail(why);
        }
        self.oracle.excuse(hash);
    }

    /// An ADD has answered.
    pub(crate) fn answered(&mut self, process: usize, addresses: &[IpAddr]) {
        let Course { hash, overtaken, began, .. } = self.processes[process];
        let hash = hash.expect("an ADD has a key");
        let link = self.links.get(&hash);
        let stands = link.is_some_and(|link| link.configured && link.addresses == addresses);
        if overtaken {
            self.oracle.fail(format!("an ADD of {hash} succeeded although a DEL had marked its row"));
        }
        if !self.processes[process].undermined && !stands {
            self.oracle.fail(format!("an ADD of {hash} succeeded, and {link:?} stands"));
        }
        if !stands {
            return;
        }
        let since = self.serial();
        // A DEL that came before the answer counts where it is still at work or has marked the row.
        let unwanted = |(number, other): (usize, &Course)| {
            let counts = other.began > began && other.marked || self.running.contains(&number);
            other.kind == Kind::Del && other.hash == Some(hash) && counts
        };
        if !self.processes.iter().enumerate().any(unwanted) {
            self.oracle.lives.insert(hash, since);
        }
    }
}
