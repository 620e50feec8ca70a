//! The pods that are attached, which need list and plugin to be removed: by the node's store, and by the kernel, for the
//! store may be lost, or be another than the one that is known.

use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use twill_ipam::alias::Alias;
use twill_ipam::store::Role;
use twill_ipam::{KeyHash, Store};
use twill_linux::table::{self, SeenLink};
use twill_linux::{Netlink, ports};

use super::InstallError;

/// Attachments of a node, at least one.
#[derive(Debug)]
pub struct Pods {
    stored: usize,
    run_dir: PathBuf,
    /// Those that only the kernel knows, by the names of their host ends.
    seen: Vec<String>,
}

impl fmt::Display for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.stored, self.run_dir.display())?;
        let Some(first) = self.seen.first() else { return Ok(()) };
        write!(f, ", and {} that only the kernel knows, among them {first}", self.seen.len())
    }
}

/// Those that are attached; `None` where there are none.
pub fn attached(run_dir: &Path) -> Result<Option<Pods>, InstallError> {
    let stored = stored(run_dir)?;
    let seen: Vec<_> = seen()?.difference(&stored).map(|hash| hash.host_ifname()).collect();
    let none = stored.is_empty() && seen.is_empty();
    Ok((!none).then(|| Pods { stored: stored.len(), run_dir: run_dir.to_owned(), seen }))
}

fn stored(run_dir: &Path) -> Result<BTreeSet<KeyHash>, InstallError> {
    if !run_dir.join("node.db").exists() {
        return Ok(BTreeSet::new());
    }
    match Store::open(run_dir, Role::Reader).and_then(|store| store.attachments()) {
        // A store of another boot: its pods are gone with it.
        Err(twill_ipam::Error::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        rows => Ok(rows?.into_iter().map(|row| row.hash).collect()),
    }
}

/// By host ends that have our alias, and by published ports.
fn seen() -> Result<BTreeSet<KeyHash>, InstallError> {
    let links = table::links(&mut Netlink::open()?)?;
    let mut seen: BTreeSet<_> = links.iter().filter_map(host_end).collect();
    let standing = ports::standing()?.unwrap_or_default();
    seen.extend(standing.owners().into_iter().filter_map(KeyHash::parse));
    Ok(seen)
}

fn host_end(link: &SeenLink) -> Option<KeyHash> {
    let hash = KeyHash::of_host_ifname(link.name.as_str()).filter(|_| link.kind.as_deref() == Some("veth"))?;
    let alias: Alias = link.alias.as_deref()?.parse().ok()?;
    (alias.hash == hash).then_some(hash)
}
