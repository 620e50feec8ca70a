//! Whether an ADD that came now could be served, by what this node knows by itself: for STATUS, and for the daemon's readiness,
//! which are to agree.
//!
//! It asks nobody, waits for nobody and writes nothing: it looks at the run directory, the store and a sysctl.

use std::path::Path;

use ipnetwork::IpNetwork;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use twill_conf::PoolName;
use twill_ipam::store::{BlockUse, Outlook};
use twill_ipam::{BootTime, Error, Family, Store};

use crate::{MORE_SUBNETS, sysctl};

/// The room in bytes that the file system of the run directory must have: the store grows by less with an ADD.
const ROOM: u64 = 128 * 1024;

const WRITABLE: &str = "give the run directory a file system that is writable and has room";
const FORWARD: &str = "set net.ipv4.ip_forward and net.ipv6.conf.all.forwarding to 1, as twilld or the next ADD does";
/// What to look at where the daemon has not done its part.
pub const DAEMON: &str = "see whether twilld runs on this node and reaches etcd";

/// Why a network is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong.
    pub what: String,
    /// What an operator can do, where that is not the same thing said again.
    pub remedy: Option<&'static str>,
}

impl Trouble {
    /// With what an operator can do.
    pub fn with(what: String, remedy: &'static str) -> Self {
        Self { what, remedy: Some(remedy) }
    }
}

impl From<&Error> for Trouble {
    /// The store's errors say what to do, where something is to be done.
    fn from(error: &Error) -> Self {
        Self { what: error.to_string(), remedy: None }
    }
}

/// What the store told.
#[derive(Debug, Default)]
pub struct Supply {
    /// Why an ADD would fail.
    pub wrong: Vec<Trouble>,
    /// The families in which there are pods.
    pub pods: Vec<Family>,
}

/// Whether locks and store can be made and written; else why not.
pub fn place(run_dir: &Path) -> Option<Trouble> {
    let standing = run_dir.ancestors().find(|path| path.exists()).unwrap_or(run_dir);
    let refused = |why: &str| Some(Trouble::with(format!("the run directory {} {why}", run_dir.display()), WRITABLE));
    if !standing.is_dir() {
        return refused(&format!("cannot be: {} is no directory", standing.display()));
    }
    if let Err(errno) = access(standing, AccessFlags::W_OK | AccessFlags::X_OK) {
        return refused(&format!("cannot be written: {errno}"));
    }
    // What cannot be told is no reason to refuse.
    let system = statvfs(standing).ok()?;
    let full = system.blocks_available() * system.fragment_size() < ROOM
        || (system.files() > 0 && system.files_available() == 0);
    if full { refused("is on a file system that is full") } else { None }
}

/// What an ADD of these subnets, or of these pools, would find in the store.
///
/// # Errors
/// [`Error::Overlap`]: the configuration is at fault, and an ADD says the same. What cannot be read of the blocks.
pub fn supply(store: &Store, subnets: &[IpNetwork], pools: &[PoolName], now: BootTime) -> Result<Supply, Error> {
    let standalone = !subnets.is_empty();
    let mut supply = Supply::default();
    match store.outlook(subnets, pools, now) {
        Ok(outlooks) => {
            supply.wrong = outlooks.iter().filter_map(|outlook| shortage(outlook, standalone)).collect();
        }
        Err(error @ Error::Overlap { .. }) => return Err(error),
        // Stand-alone, the next ADD rebuilds it.
        Err(Error::NotRebuilt) if standalone => {}
        Err(error @ Error::NotRebuilt) => supply.wrong.push(Trouble::with(error.to_string(), DAEMON)),
        Err(error) => supply.wrong.push(Trouble::from(&error)),
    }
    let blocks = store.blocks(now)?;
    supply.pods = [Family::V4, Family::V6].into_iter().filter(|family| has_pods(&blocks, *family)).collect();
    Ok(supply)
}

/// Of which of these families, in which there are pods, what the pods send goes no further than the node: somebody has switched
/// forwarding off. By the namespace of the calling thread.
pub fn cut_off(pods: &[Family]) -> Vec<Trouble> {
    let cut_off = pods.iter().filter(|family| sysctl::stops_at_the_node(**family == Family::V6));
    let what = "is switched off, so that the pods here reach nobody but the node";
    cut_off.map(|family| Trouble::with(format!("forwarding of {family} {what}"), FORWARD)).collect()
}

/// Why a family has no address for another pod, if it has none.
fn shortage(outlook: &Outlook, standalone: bool) -> Option<Trouble> {
    let Outlook { family, total, assigned, cooling, free, ref exhausted, on_demand } = *outlook;
    if free > 0 || cooling > 0 || (on_demand && exhausted.is_empty()) {
        return None;
    }
    let names: Vec<_> = exhausted.iter().map(PoolName::as_str).collect();
    let further = match names.is_empty() {
        true => String::new(),
        false => format!(", and no further block is to be had of {}", names.join(", ")),
    };
    let remedy = match (standalone, !names.is_empty()) {
        (true, _) => MORE_SUBNETS,
        (false, true) => "add a pool, or remove pods",
        (false, false) => DAEMON,
    };
    let counted = format!("{assigned} of {total} are in use and none cools{further}");
    Some(Trouble::with(format!("no {family} address is left on this node: {counted}"), remedy))
}

fn has_pods(blocks: &[BlockUse], family: Family) -> bool {
    blocks.iter().any(|block| block.block.family() == family && block.assigned > 0)
}
