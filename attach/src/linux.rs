//! The hands of every course, by netlink and nft in the namespace of the calling thread.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use twill_ipam::alias::{self, Proof};
use twill_ipam::store::Observed;
use twill_ipam::{BootTime, KeyHash, Liveness};
use twill_linux::table::link::{self, Device, SeenLink};
use twill_linux::table::{route, rule};
use twill_linux::{Error, Netlink};

use crate::kernel::{Beyond, Kernel, Remains};
use crate::plan::host_ifname;
use crate::{limit, ports, publish, standing};

/// The kernel of this machine. A connection is made when it is first needed.
#[derive(Debug)]
pub struct Linux {
    host: Option<Netlink>,
    whose: Whose,
}

/// In what kind of process a course runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// One that works for a single call: it leaves the waiting for a device's end to a child ([`link::remove`]).
    Call,
    /// One that stays, and has threads: it waits itself.
    Daemon,
}

impl Linux {
    /// For a process that works for a single call.
    pub fn of_call() -> Self {
        Self { host: None, whose: Whose::Call }
    }

    /// For a daemon.
    pub fn of_daemon() -> Self {
        Self { host: None, whose: Whose::Daemon }
    }

    /// The same over a connection that is there.
    pub fn over(self, host: Netlink) -> Self {
        Self { host: Some(host), ..self }
    }

    /// The connection.
    pub fn host(&mut self) -> Result<&mut Netlink, Error> {
        match &mut self.host {
            Some(host) => Ok(host),
            none => Ok(none.insert(Netlink::open()?)),
        }
    }

    /// Looks for the host end of `hash`.
    pub(crate) fn host_end(&mut self, hash: KeyHash, proof: Proof) -> Result<HostEnd, Error> {
        Ok(match link::by_name(self.host()?, &host_ifname(hash))? {
            None => HostEnd::Absent,
            Some(link) => match foreign(&link, hash, proof) {
                Some(why) => HostEnd::Foreign(why),
                None => HostEnd::Ours(link),
            },
        })
    }

    /// Removes a host end, looked up a moment ago, and with it everything: the pod's end, addresses, routes, neighbours. By
    /// number: nobody else's device of that name can be hit. Nobody can find any of it when this returns.
    ///
    /// The pod's rules ([`further`](crate::further)) do not go with the interface: they are looked for in `namespaces`. Of
    /// one that cannot be seen they stay, and lead to an empty table.
    pub(crate) fn remove_end<'a>(
        &mut self,
        hash: KeyHash,
        end: &SeenLink,
        namespaces: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), Error> {
        rule::forget(namespaces, &alias::ruled(end.alias.as_deref(), hash));
        self.remove(Device { index: end.index, name: end.name })
    }

    /// Removes a device. That it went away meanwhile, with the pod's namespace, is as good.
    fn remove(&mut self, device: Device) -> Result<(), Error> {
        let whose = self.whose;
        let host = self.host()?;
        match whose {
            Whose::Call => link::remove(host, device).map(drop),
            Whose::Daemon => match host.apply(&[link::delete(device)]) {
                Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
                done => done,
            },
        }
    }

    /// Removes the IFB of `hash`, if it stands and is ours. If it is somebody else's: why.
    pub(crate) fn remove_ifb(&mut self, hash: KeyHash, proof: Proof) -> Result<Option<String>, Error> {
        let name = limit::ifb_name(hash);
        let Some(seen) = link::by_name(self.host()?, &name)? else { return Ok(None) };
        if let Some(why) = limit::foreign(&seen, hash, proof) {
            return Ok(Some(why));
        }
        self.remove(Device { index: seen.index, name }).map(|()| None)
    }

    fn clear_link(&mut self, remains: &Remains<'_>) -> Result<(), Error> {
        match self.host_end(remains.hash, remains.proof)? {
            HostEnd::Absent | HostEnd::Foreign(_) => Ok(()),
            HostEnd::Ours(link) => self.remove_end(remains.hash, &link, remains.namespaces.iter().copied()),
        }
    }
}

impl Kernel for Linux {
    fn now(&self) -> BootTime {
        BootTime::now()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn keep(&mut self, held: Liveness) {
        std::mem::forget(held);
    }

    fn reconnect(&mut self) {
        self.host = None;
    }

    fn stands(&mut self, hash: KeyHash, proof: Proof) -> Result<bool, Error> {
        Ok(matches!(self.host_end(hash, proof)?, HostEnd::Ours(_)))
    }

    fn standing(&mut self) -> Result<BTreeSet<KeyHash>, Error> {
        standing::host_ends(self.host()?)
    }

    fn leads_to_any(&mut self, addresses: &[IpAddr]) -> Result<bool, Error> {
        let routes = route::of_pods(self.host()?)?;
        Ok(routes.iter().any(|route| addresses.contains(&route.key.destination.ip())))
    }

    fn owners(&mut self) -> Result<BTreeSet<KeyHash>, Error> {
        standing::owners(self.host()?)
    }

    fn observe(&mut self) -> Result<Observed, Error> {
        standing::observe(self.host()?)
    }

    fn clear(&mut self, remains: &Remains<'_>) -> Result<(), Error> {
        let Remains { hash, proof, beyond, .. } = *remains;
        let withdrawn = match beyond {
            Beyond::Known(row) if row.extras.ports.is_empty() => Ok(()),
            Beyond::Known(row) => publish::withdraw(hash, &ports::of(row)),
            Beyond::Unknown => publish::withdraw_any(hash),
        };
        let unlimited = if beyond.ifb() { self.remove_ifb(hash, proof).map(drop) } else { Ok(()) };
        let removed = self.clear_link(remains);
        withdrawn.and(unlimited).and(removed)
    }
}

/// What stands under the name of a host end.
#[derive(Debug)]
pub(crate) enum HostEnd {
    /// Nothing.
    Absent,
    /// A veth with our alias, or with none: an ADD may have been killed before it set it.
    Ours(SeenLink),
    /// Something else, and why it is.
    Foreign(String),
}

/// Why a link that has the name of the host end of `hash` is not it.
pub(crate) fn foreign(link: &SeenLink, hash: KeyHash, proof: Proof) -> Option<String> {
    let (ifname, kind, alias) = (link.name.as_str(), link.kind.as_deref(), link.alias.as_deref());
    alias::HostEnd { ifname, kind, alias, routes: Vec::new() }.foreign(hash, proof)
}
