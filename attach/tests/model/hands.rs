//! The hands of a process: each effect on the board is a step of its own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::MutexGuard;
use std::time::Duration;

use nix::errno::Errno;
use twill_attach::kernel::{Builder, Kernel, Remains};
use twill_attach::plan::host_ifname;
use twill_attach::{Error, Plan};
use twill_conf::network::Bandwidth;
use twill_ipam::alias::{Alias, HostEnd, LocalAddress, Proof};
use twill_ipam::guard::{Guard, stands};
use twill_ipam::store::Observed;
use twill_ipam::strings::Puppeteer as _;
use twill_ipam::{BootTime, Extras, KeyHash, Liveness};
use twill_linux::ports::Port;

use crate::board::{Board, Kind, Link, Shared};
use crate::stage::Strings;

/// Hands of one process.
pub(crate) struct Hands {
    pub(crate) strings: Rc<Strings>,
    pub(crate) board: Shared,
    /// The locks that it keeps to its end.
    held: Vec<Liveness>,
    /// The pod's namespace.
    pod: Option<Pod>,
}

/// A pod's namespace, as an ADD has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pod {
    /// Its path.
    pub(crate) path: (u8, bool),
    /// The instance that was opened there.
    pub(crate) instance: u64,
}

fn refused(attempt: &str, errno: Errno) -> twill_linux::Error {
    twill_linux::Error::Refused { attempt: attempt.to_owned(), errno, message: None }
}

impl Hands {
    pub(crate) fn new(strings: &Rc<Strings>, board: &Shared, pod: Option<Pod>) -> Self {
        Self { strings: strings.clone(), board: board.clone(), held: Vec::new(), pod }
    }

    /// The same process's, for what else it does.
    pub(crate) fn again(&self) -> Self {
        Self::new(&self.strings, &self.board, None)
    }

    /// The board, for a look.
    fn look(&self) -> MutexGuard<'_, Board> {
        self.strings.pause();
        self.board.lock()
    }

    /// The board, for a change.
    fn change(&self, attempt: &str) -> Result<MutexGuard<'_, Board>, twill_linux::Error> {
        let mut board = self.look();
        if board.refuses() {
            return Err(refused(attempt, Errno::EBUSY));
        }
        Ok(board)
    }

    fn is_sweep(&self, board: &Board) -> bool {
        board.processes[self.strings.process].kind == Kind::Sweep
    }

    /// What the pair of a process needs that is gone with it.
    fn vanished(&self, plan: &Plan) -> Error {
        Error::LinkVanished { step: "waiting", name: host_ifname(plan.hash) }
    }
}

impl Kernel for Hands {
    fn now(&self) -> BootTime {
        self.strings.now()
    }

    fn sleep(&self, time: Duration) {
        self.strings.sleep(time);
    }

    fn keep(&mut self, held: Liveness) {
        self.held.push(held);
    }

    fn reconnect(&mut self) {}

    fn stands(&mut self, hash: KeyHash, _: Proof) -> Result<bool, twill_linux::Error> {
        let mut board = self.look();
        let sweep = self.is_sweep(&board);
        Ok(board.sees(hash, sweep))
    }

    fn standing(&mut self) -> Result<BTreeSet<KeyHash>, twill_linux::Error> {
        let mut board = self.look();
        let (sweep, all) = (self.is_sweep(&board), board.links.keys().copied().collect::<Vec<_>>());
        Ok(all.into_iter().filter(|hash| board.sees(*hash, sweep)).collect())
    }

    fn leads_to_any(&mut self, addresses: &[IpAddr]) -> Result<bool, twill_linux::Error> {
        Ok(self.look().routes.iter().any(|(ip, _)| addresses.contains(ip)))
    }

    fn owners(&mut self) -> Result<BTreeSet<KeyHash>, twill_linux::Error> {
        Ok(self.look().ifbs.clone())
    }

    fn observe(&mut self) -> Result<Observed, twill_linux::Error> {
        let mut board = self.look();
        board.renamed = None;
        board.oracle.see();
        let names: Vec<_> = board.links.iter().map(|(hash, link)| (hash.host_ifname(), alias(*hash, link))).collect();
        let ends = names.iter().zip(board.links.values()).map(|((ifname, alias), link)| HostEnd {
            ifname,
            kind: Some("veth"),
            alias: Some(alias),
            routes: board.routes.iter().filter(|(_, to)| *to == link.serial).map(|(ip, _)| *ip).collect(),
        });
        let tunnel = board.tunnel.map(|ip| LocalAddress { ip, ifname: "vxlan.twill" });
        let observed = Observed::from(&ends.collect::<Vec<_>>(), tunnel.as_slice());
        let rates: Vec<_> = board.ifbs.iter().map(|hash| (hash.ifb_name(), 8_000_000)).collect();
        let extras = Extras::observed([], rates.iter().map(|(name, rate)| (name.as_str(), *rate)), []);
        Ok(Observed { extras, ..observed })
    }

    fn clear(&mut self, remains: &Remains<'_>) -> Result<(), twill_linux::Error> {
        let hash = remains.hash;
        if remains.beyond.ifb() {
            self.change("delete ifb")?.ifbs.remove(&hash);
        }
        let mut board = self.change("delete link")?;
        let sweep = self.is_sweep(&board);
        if board.sees(hash, sweep) {
            board.takes(self.strings.process, hash);
            board.unlink(hash);
        }
        Ok(())
    }
}

fn alias(hash: KeyHash, link: &Link) -> String {
    Alias { hash, addresses: link.addresses.clone(), ruled: Vec::new(), unchecked: false, filtered: false }.to_string()
}

impl Builder for Hands {
    type Kernel = Self;
    /// The number of the link.
    type Pair = u64;

    fn kernel(&mut self) -> &mut Self {
        self
    }

    fn pod_has_interface(&mut self) -> Result<bool, Error> {
        let path = self.pod.expect("an ADD has a namespace").path;
        let board = self.look();
        match board.namespaces.get(&path) {
            Some(instance) => Ok(board.has_interface(*instance)),
            None => Err(Error::Namespace(refused("open", Errno::ENOENT))),
        }
    }

    fn forward(&mut self, _: &[IpAddr]) -> Result<(), twill_linux::Error> {
        Ok(())
    }

    fn make_pair(&mut self, plan: &Plan) -> Result<Option<u64>, Error> {
        let step = "making the veth pair";
        let instance = self.pod.expect("an ADD has a namespace").instance;
        self.board.lock().processes[self.strings.process].building = true;
        let stale = self.look().sees(plan.hash, false);
        if stale {
            let mut board = self.change("delete link").map_err(Error::kernel(step))?;
            board.takes(self.strings.process, plan.hash);
            board.unlink(plan.hash);
        }
        let mut board = self.change("add link").map_err(Error::kernel(step))?;
        if !board.namespaces.values().any(|there| *there == instance) {
            return Err(Error::kernel(step)(refused("add link", Errno::EINVAL)));
        }
        if board.links.contains_key(&plan.hash) || board.has_interface(instance) {
            return Ok(None);
        }
        let serial = board.serial();
        let link = Link { serial, instance, addresses: plan.addresses.clone(), configured: false, hidden: false };
        board.links.insert(plan.hash, link);
        Ok(Some(serial))
    }

    fn lead_to_pod(&mut self, plan: &Plan, pair: &u64) -> Result<(), Error> {
        for ip in &plan.addresses {
            let step = "leading the node to the pod";
            let mut board = self.change("add route").map_err(Error::kernel(step))?;
            if board.links.get(&plan.hash).is_none_or(|link| link.serial != *pair) {
                return Err(self.vanished(plan));
            }
            if stands(Guard::ExclusiveRoute) && board.routes.iter().any(|(there, _)| there == ip) {
                return Err(Error::AddressTaken { address: *ip, source: refused("add route", Errno::EEXIST) });
            }
            board.routes.push((*ip, *pair));
        }
        Ok(())
    }

    fn configure_pod(&mut self, plan: &Plan, pair: &u64) -> Result<Vec<IpAddr>, Error> {
        let mut board = self.change("add address").map_err(Error::kernel("configuring the pod's interface"))?;
        if board.links.get(&plan.hash).is_none_or(|link| link.serial != *pair) {
            return Err(self.vanished(plan));
        }
        board.configure(plan.hash);
        Ok(Vec::new())
    }

    fn limit(&mut self, plan: &Plan, _: &u64, _: Bandwidth) -> Result<(), Error> {
        self.change("add ifb").map_err(Error::kernel("limiting the pod's bandwidth"))?.ifbs.insert(plan.hash);
        Ok(())
    }

    fn publish(&mut self, _: &u64, _: &[Port]) -> Result<(), twill_linux::Error> {
        Ok(())
    }

    fn withdraw(&mut self, _: KeyHash) -> Result<(), twill_linux::Error> {
        Ok(())
    }

    fn is_ready(&mut self, plan: &Plan, pair: &u64) -> Result<bool, Error> {
        let mut board = self.look();
        if board.links.get(&plan.hash).is_none_or(|link| link.serial != *pair) {
            return Err(self.vanished(plan));
        }
        board.processes[self.strings.process].confirming = true;
        Ok(true)
    }
}
