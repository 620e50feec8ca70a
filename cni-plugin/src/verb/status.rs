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
//! What is looked at, and what it means, is [`serving`]'s, by which the daemon tells its readiness too.
//!
//! Code 51 where, be there addresses or not, pods that are attached suffer. Of that only one thing is known for certain here,
//! without asking the daemon or other nodes: that what they send goes no further than the node, since somebody switched
//! forwarding off.

use std::time::Duration;

use twill_attach::serving::{self, Supply, Trouble};
use twill_ipam::store::{Environment, Role};
use twill_ipam::{BootTime, Store};

use crate::error::Error;
use crate::request::network::Status;

/// How long it waits for the store: readers wait for nobody but those that make or rebuild it, which takes milliseconds.
const PATIENCE: Duration = Duration::from_millis(250);

const LOOK: &str = "looking for addresses";

/// Succeeds where an ADD could be served; [`Error::Unavailable`] otherwise.
pub(crate) fn status(request: &Status) -> Result<(), Error> {
    let seen = match serving::place(request.run_dir()) {
        None => look(request)?,
        Some(wrong) => Supply { wrong: vec![wrong], ..Supply::default() },
    };
    let cut_off = serving::cut_off(&seen.pods);
    let limited = !cut_off.is_empty();
    let wrong: Vec<_> = cut_off.into_iter().chain(seen.wrong).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Unavailable { network: request.conf.name.clone(), wrong, limited })
}

fn look(request: &Status) -> Result<Supply, Error> {
    let quick = Environment { patience: PATIENCE, ..Environment::default() };
    let because = |trouble| Ok(Supply { wrong: vec![trouble], ..Supply::default() });
    let store = match Store::open_in(request.run_dir(), Role::Reader, &quick) {
        Ok(store) => store,
        // Stand-alone, the first ADD makes it.
        Err(error) if error.is_absence() && request.is_standalone() => return Ok(Supply::default()),
        Err(error) if error.is_absence() => {
            let what = "the node has no store, and so no addresses: twilld has not made one since it booted".to_owned();
            return because(Trouble::with(what, serving::DAEMON));
        }
        Err(error) => return because(Trouble::from(&error)),
    };
    serving::supply(&store, &request.conf.subnets, &request.conf.pools, BootTime::now()).map_err(Error::store(LOOK))
}
