//! STATUS: whether an ADD that came now could be served, by what this node knows by itself.
//!
//! It is polled every few seconds, so it asks nobody, waits for nobody and writes nothing: it looks at the run directory,
//! the store and a sysctl.
//!
//! Code 50 where an ADD would fail and go on failing: the run directory cannot be written or is full; the store is of another
//! major version, or it was lost and only the daemon can rebuild it; no daemon has made the node known or opened a block
//! for it; a family has no address that is free or cools. That etcd is away is no failure while there are addresses, and
//! where there are none it makes no difference why.
//!
//! A network that names pools is served block by block as its pods come, so that it has none yet is no failure; that its pools
//! have none left is.
//!
//! Addresses that cool are none either: they are free within half a minute without anybody's doing, an ADD that comes too
//! early is told to try again, and a node that is small and busy would turn NotReady and back all day.
//!
//! Code 51 where, be there addresses or not, pods that are attached suffer. Of that only one thing is known for certain here,
//! without asking the daemon or other nodes: that what they send goes no further than the node, since somebody switched
//! forwarding off.

use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use twill_attach::{MORE_SUBNETS, sysctl};
use twill_ipam::store::{BlockUse, Environment, Outlook, Role};
use twill_ipam::{BootTime, Error as Ipam, Family, Store};

use crate::error::{Error, Trouble};
use crate::request::network::Status;

/// How long it waits for the store: readers wait for nobody but those that make or rebuild it, which takes milliseconds.
const PATIENCE: Duration = Duration::from_millis(250);
/// The room in bytes that the file system of the run directory must have: the store grows by less with an ADD.
const ROOM: u64 = 128 * 1024;

const WRITABLE: &str = "give the run directory a file system that is writable and has room";
const FORWARD: &str = "set net.ipv4.ip_forward and net.ipv6.conf.all.forwarding to 1, as twilld or the next ADD does";
const DAEMON: &str = "see whether twilld runs on this node and reaches etcd";

const LOOK: &str = "looking for addresses";

/// Succeeds where an ADD could be served; [`Error::Unavailable`] otherwise.
pub(crate) fn status(request: &Status) -> Result<(), Error> {
    let seen = match place(request.run_dir()) {
        Ok(()) => look(request)?,
        Err(why) => Seen { wrong: vec![trouble(why, WRITABLE)], ..Seen::default() },
    };
    let cut_off = seen.pods.iter().filter(|family| sysctl::stops_at_the_node(**family == Family::V6));
    let cut_off: Vec<_> = cut_off
        .map(|family| {
            let what = "is switched off, so that the pods here reach nobody but the node";
            trouble(format!("forwarding of {family} {what}"), FORWARD)
        })
        .collect();
    let limited = !cut_off.is_empty();
    let wrong: Vec<_> = cut_off.into_iter().chain(seen.wrong).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Unavailable { network: request.conf.name.clone(), wrong, limited })
}

/// What the store told.
#[derive(Debug, Default)]
struct Seen {
    /// Why an ADD would fail.
    wrong: Vec<Trouble>,
    /// The families in which there are pods.
    pods: Vec<Family>,
}

fn trouble(what: String, remedy: &'static str) -> Trouble {
    Trouble { what, remedy: Some(remedy) }
}

/// Whether locks and store can be made and written.
fn place(run_dir: &Path) -> Result<(), String> {
    let standing = run_dir.ancestors().find(|path| path.exists()).unwrap_or(run_dir);
    let refused = |why: &str| Err(format!("the run directory {} {why}", run_dir.display()));
    if !standing.is_dir() {
        return refused(&format!("cannot be: {} is no directory", standing.display()));
    }
    if let Err(errno) = access(standing, AccessFlags::W_OK | AccessFlags::X_OK) {
        return refused(&format!("cannot be written: {errno}"));
    }
    // What cannot be told is no reason to refuse.
    let Ok(system) = statvfs(standing) else { return Ok(()) };
    let full = system.blocks_available() * system.fragment_size() < ROOM
        || (system.files() > 0 && system.files_available() == 0);
    if full { refused("is on a file system that is full") } else { Ok(()) }
}

fn look(request: &Status) -> Result<Seen, Error> {
    let quick = Environment { patience: PATIENCE, ..Environment::default() };
    let store = match Store::open_in(request.run_dir(), Role::Reader, &quick) {
        Ok(store) => store,
        // Stand-alone, the first ADD makes it.
        Err(error) if error.is_absence() && request.is_standalone() => return Ok(Seen::default()),
        Err(error) if error.is_absence() => {
            let what = "the node has no store, and so no addresses: twilld has not made one since it booted".to_owned();
            return Ok(Seen { wrong: vec![trouble(what, DAEMON)], ..Seen::default() });
        }
        Err(error) => return Ok(Seen { wrong: vec![by_its_own_words(&error)], ..Seen::default() }),
    };
    let now = BootTime::now();
    let mut seen = Seen::default();
    match store.outlook(&request.conf.subnets, &request.conf.pools, now) {
        Ok(outlooks) => {
            seen.wrong = outlooks.iter().filter_map(|outlook| shortage(outlook, request.is_standalone())).collect();
        }
        // The configuration is at fault, and an ADD says the same.
        Err(error @ Ipam::Overlap { .. }) => return Err(Error::store(LOOK)(error)),
        // Stand-alone, the next ADD rebuilds it.
        Err(Ipam::NotRebuilt) if request.is_standalone() => {}
        Err(error @ Ipam::NotRebuilt) => seen.wrong.push(trouble(error.to_string(), DAEMON)),
        Err(error) => seen.wrong.push(by_its_own_words(&error)),
    }
    let blocks = store.blocks(now).map_err(Error::store(LOOK))?;
    seen.pods = [Family::V4, Family::V6].into_iter().filter(|family| has_pods(&blocks, *family)).collect();
    Ok(seen)
}

/// The store's errors say what to do, where something is to be done.
fn by_its_own_words(error: &Ipam) -> Trouble {
    Trouble { what: error.to_string(), remedy: None }
}

/// Why a family has no address for another pod, if it has none.
fn shortage(outlook: &Outlook, standalone: bool) -> Option<Trouble> {
    let Outlook { family, total, assigned, cooling, free, ref exhausted, on_demand } = *outlook;
    if free > 0 || cooling > 0 || (on_demand && exhausted.is_empty()) {
        return None;
    }
    let names: Vec<_> = exhausted.iter().map(twill_conf::PoolName::as_str).collect();
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
    Some(trouble(format!("no {family} address is left on this node: {counted}"), remedy))
}

fn has_pods(blocks: &[BlockUse], family: Family) -> bool {
    blocks.iter().any(|block| block.block.family() == family && block.assigned > 0)
}
