//! A look at the machine. It changes nothing, and every part of it is bounded: nft and the plugin are ended where they do not
//! end by themselves, and of what others may make large only so much is read.
//!
//! What cannot be seen says why, in words; the rest is seen all the same.

mod certificates;
mod cni;
mod directory;
mod holders;
pub(crate) mod network;
mod sysctl;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use twill_linux::arrival::{self, Arrival, Shut};
use twill_linux::clock;
use twill_linux::forward::{self, Barrier, Passage};
use twill_linux::nft::{self, Version};
use twill_linux::trial::{self, Feature};

use crate::identity;
use crate::names::{HOST_ENDS, OUR_TABLE};
use crate::scope::{Scope, Tunnel};
use crate::suspects::{SUSPECTS, Suspect, running};

pub use certificates::{Certificate, Validity};
pub use cni::{Network, Plugin};
pub use directory::{Directory, is_same_directory};
pub use holders::Holders;
pub use network::{Interface, Links, Own, Route};
pub use sysctl::{Settings, Sysctls, Table};

pub use crate::unseen::Unseen;

/// What was seen, or why it could not be.
pub type Seen<T> = Result<T, Unseen>;
/// What was found to be right, or what is wrong, in words.
pub type Told<T> = Result<T, String>;

/// All that was seen.
#[derive(Debug, Clone)]
pub struct Observations {
    /// The kernel's release, as in "6.1.0-18-amd64".
    pub kernel: Seen<String>,
    /// What the kernel can.
    pub features: Seen<Vec<(Feature, Told<()>)>>,
    /// Which nft there is.
    pub nft: Told<Version>,
    /// Settings of the kernel.
    pub sysctls: Sysctls,
    /// The table of connections; absent where none is kept.
    pub conntrack: Option<Table>,
    /// The chains of others that drop what pods send and get.
    pub barriers: Seen<Vec<Barrier>>,
    /// What becomes of what other nodes send by the tunnel; absent where there is none.
    pub inbound: Option<Seen<Inbound>>,
    /// Programs that may undo what Twill makes, and whether they were told not to.
    pub suspects: Vec<(&'static Suspect, bool)>,
    /// Interfaces, addresses, routes.
    pub links: Seen<Links>,
    /// Who has the tunnel's port; absent where there is no tunnel.
    pub holders: Option<Seen<Holders>>,
    /// The time of day, in seconds since 1970.
    pub now: u64,
    /// Whether the kernel counts its clock as kept in step with a better one.
    pub clock_kept: Seen<bool>,
    /// What is shown to etcd.
    pub certificates: Vec<Certificate>,
    /// The plugin.
    pub plugin: Seen<Plugin>,
    /// The networks that a runtime reads, in its order.
    pub networks: Seen<Vec<Network>>,
    /// What this process may do: CapEff (proc(5)).
    pub capabilities: Seen<u64>,
    /// The run directory.
    pub run_dir: Seen<Directory>,
    /// The state directory.
    pub state_dir: Seen<Directory>,
    /// The machine ID.
    pub machine_id: Told<String>,
    /// The host name.
    pub host_name: Seen<String>,
}

/// How far others let in what comes by the tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inbound {
    /// Whether it comes over IPv6, for each family that was looked at. Empty where none is known.
    pub families: BTreeSet<bool>,
    /// The chains of others that are sure to drop it in one of them.
    pub shut: Vec<Shut>,
}

/// Looks. For a thread that may block for some seconds.
pub fn observe(scope: &Scope) -> Observations {
    let links = network::look(&scope.underlay, &scope.cluster.pools);
    let concerned = links.iter().flat_map(Links::concerned).map(|interface| interface.name.clone()).collect();
    Observations {
        kernel: read("/proc/sys/kernel/osrelease"),
        features: trial::all().map(outcomes).map_err(Unseen::from),
        nft: nft::version().map_err(|error| error.to_string()),
        sysctls: sysctl::look(concerned),
        conntrack: sysctl::conntrack(),
        inbound: scope.cluster.tunnel.map(|tunnel| inbound(tunnel, &links)),
        barriers: forward::look(&passage(scope)).map_err(Unseen::from),
        suspects: suspects(&running(Path::new("/proc"))),
        holders: scope.cluster.tunnel.map(|tunnel| holders::look(tunnel.port)),
        links,
        now: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        clock_kept: clock::is_kept().map_err(|cause| Unseen::of_io("adjtimex", &cause)),
        certificates: scope.tls.iter().flat_map(certificates::look).collect(),
        plugin: cni::plugin(&scope.cni.bin),
        networks: cni::networks(&scope.cni.conf, &scope.run_dir),
        capabilities: capabilities(),
        run_dir: directory::look(&scope.run_dir),
        state_dir: directory::look(&scope.state_dir),
        machine_id: identity::machine_id(&scope.machine_id_file),
        host_name: read("/proc/sys/kernel/hostname"),
    }
}

fn outcomes(trial: trial::Trial) -> Vec<(Feature, Told<()>)> {
    trial.outcomes.into_iter().map(|(feature, outcome)| (feature, outcome.map_err(|error| error.to_string()))).collect()
}

fn passage(scope: &Scope) -> Passage {
    let (ipv4, ipv6) = (scope.cluster.ipv4, scope.cluster.ipv6);
    Passage { interfaces: HOST_ENDS, own: OUR_TABLE, ipv4, ipv6, open: false }
}

/// Whether others let in what comes by the tunnel, in each family in which it does.
fn inbound(tunnel: Tunnel, links: &Seen<Links>) -> Seen<Inbound> {
    let families = links.as_ref().map_err(Clone::clone)?.families(tunnel);
    let arrivals: Vec<_> = families.iter().map(|ipv6| Arrival { ipv6: *ipv6, port: tunnel.port }).collect();
    let shut = match arrivals.is_empty() {
        true => Vec::new(),
        false => arrival::look(OUR_TABLE, &arrivals)?,
    };
    Ok(Inbound { families, shut })
}

fn suspects(running: &BTreeSet<String>) -> Vec<(&'static Suspect, bool)> {
    let there = SUSPECTS.iter().filter(|suspect| running.contains(suspect.command));
    there.map(|suspect| (suspect, suspect.is_settled(Path::new("/")))).collect()
}

/// The only line of a file.
fn read(path: &str) -> Seen<String> {
    let text = std::fs::read_to_string(path).map_err(|error| Unseen::of_io(path, &error))?;
    Ok(text.trim().to_owned())
}

fn capabilities() -> Seen<u64> {
    let path = "/proc/thread-self/status";
    let text = std::fs::read_to_string(path).map_err(|error| Unseen::of_io(path, &error))?;
    let digits = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    mask.ok_or_else(|| Unseen::garbage(format!("{path} has no CapEff")))
}

#[cfg(test)]
mod tests;
