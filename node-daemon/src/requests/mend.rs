//! Putting right what [`sight`](super::sight) showed: each attachment under its lock, and only if it is so still.
//!
//! A row is freed by the rules of the sweep, which would come to it by itself. What was seen by whoever asks is the first
//! observation, the look under the lock the second; the addresses cool as after every end.

use std::path::Path;

use twill_attach::course::adopt::adopt;
use twill_attach::course::removal::{Link, Removal, remove};
use twill_attach::{Error, Kernel, Linux};
use twill_cluster::inquiry::{MOST_MENDED, Reply};
use twill_ipam::store::Observed;
use twill_ipam::{Attachment, KeyHash, State};

use crate::store::{NodeStore, run_dir};

const MEND: &str = "mending what an operator has named";

/// Mends rows, by their numbers, and host ends, by their names.
pub(super) fn mend(store: &NodeStore, rows: &[i64], links: &[String]) -> Reply {
    let mut kernel = Linux::of_daemon();
    let known = store.with(|store| Ok((store.attachments()?, run_dir(store.path()))));
    let (known, run_dir) = match known.map_err(Error::store(MEND)) {
        Ok(known) => known,
        Err(error) => return Reply::Failed { cause: error.to_string() },
    };
    // Looked at only where something is to be taken over.
    let seen = if links.is_empty() { Ok(Observed::default()) } else { kernel.observe().map_err(Error::kernel(MEND)) };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return Reply::Failed { cause: error.to_string() },
    };
    let (mut done, mut left) = (Vec::new(), Vec::new());
    let mut sort = |what: String, became: Result<&'static str, String>| match became {
        Ok(how) => done.push(format!("{what}: {how}")),
        Err(why) => left.push(format!("{what}: {why}")),
    };
    for id in rows.iter().take(MOST_MENDED) {
        if let Some(row) = known.iter().find(|row| row.id.0 == *id) {
            sort(row.title(), free(&mut kernel, &run_dir, store, row));
        }
    }
    for name in links.iter().take(MOST_MENDED) {
        sort(format!("interface {name}"), take_over(&mut kernel, &run_dir, store, name, &seen));
    }
    Reply::Mend { done, left }
}

fn free(kernel: &mut Linux, run_dir: &Path, store: &NodeStore, row: &Attachment) -> Result<&'static str, String> {
    let link = if row.state == State::Attached { Link::Spares } else { Link::Goes };
    match remove(kernel, run_dir, &mut store.clone(), row, link, MEND) {
        Ok(Removal::Done) => Ok("freed, its addresses cool"),
        Ok(Removal::Spared | Removal::Changed) => Err("it is in use after all, or somebody works on it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The row of a pod that lives on comes back.
fn take_over(
    kernel: &mut Linux,
    run_dir: &Path,
    store: &NodeStore,
    name: &str,
    seen: &Observed,
) -> Result<&'static str, String> {
    let hash = KeyHash::of_host_ifname(name).ok_or("it is no name of a host end")?;
    match adopt(kernel, run_dir, &mut store.clone(), hash, seen) {
        Ok(true) => Ok("taken over, its addresses are given to nobody else"),
        Ok(false) => Err("it is gone, somebody works on it, or somebody else has one of its addresses".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
