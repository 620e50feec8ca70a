//! `twilld uninstall`: the list is taken back, so that no further pod comes, and then the plugin, each only if it is
//! Twill's, and neither while a pod needs them. A list that somebody edited is kept under a name that no runtime reads. When no list
//! needs the plugin any more, the rules go that `twilld` put into the tables of others, whatever stands in the plugin's place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use twill_checkup::observe::is_same_directory;
use twill_conf::network::list::{self, Author};
use twill_conf::node::{NodeLayer, RUN_DIR};
use twill_linux::forward;

use super::file::{self, Done};
use super::flags::UninstallFlags;
use super::pods::attached;
use super::{InstallError, READABLE, net_d, node_layer, purge, run_dir, said, say, warn};
use crate::lock;

/// Takes both back, and with `--purge` all else. Where pods are attached everything stays.
pub fn uninstall(flags: &UninstallFlags) -> Result<(), InstallError> {
    let node = match node_layer(&flags.knowledge) {
        // A package must be able to go, whatever stands in the daemon's file; but what is purged has to be known.
        Err(error) if !flags.purge => {
            warn(&format!("{error}: what the flags and the list say counts, and else the default places"));
            said(&flags.knowledge)?
        }
        other => other?,
    };
    if !flags.purge {
        return take_back(flags, &node, |_| Ok(())).map(drop);
    }
    // The locks that no daemon goes on without: dropped when all is purged.
    let mut held: Vec<(PathBuf, Flock<File>)> = Vec::new();
    let needed_by = take_back(flags, &node, |run_dirs| {
        for run_dir in run_dirs {
            // A directory by another of its names is locked already; only now is each one there for sure.
            if !held.iter().any(|(other, _)| is_same_directory(other, run_dir)) {
                held.push((run_dir.clone(), lock::take(run_dir)?));
            }
        }
        Ok(())
    })?;
    if let Some(user) = needed_by {
        return Err(InstallError::Needed(user));
    }
    let run_dirs: Vec<&Path> = held.iter().map(|(run_dir, _)| run_dir.as_path()).collect();
    purge::purge(&run_dirs, &purge::state_dir(&node))
}

/// Takes back list and plugin, and yields the other list because of which the plugin stays, if there is one; `begin` is told the run
/// directories before, and may refuse.
fn take_back(
    flags: &UninstallFlags,
    node: &NodeLayer,
    begin: impl FnOnce(&[PathBuf]) -> Result<(), InstallError>,
) -> Result<Option<PathBuf>, InstallError> {
    let cni = node.cni();
    let (list, plugin) = (flags.place.list(&cni), cni.plugin());
    let ours = match net_d::author(&list)? {
        Some(Author::Other) => {
            warn(&format!("{} is not Twill's: it stays", list.display()));
            None
        }
        Some(author) => {
            let text = fs::read(&list).map_err(InstallError::io("reading", &list))?;
            let keeps = matches!(author, Author::Edited { .. }) && !flags.place.force;
            Some((text, keeps.then(|| aside(&list))))
        }
        None => None,
    };
    let run_dirs = run_dirs(flags, node, ours.as_ref().map(|(text, _)| text.as_slice()));
    begin(&run_dirs)?;
    // Who purges takes away the stores of all of them.
    let stores = if flags.purge { run_dirs.as_slice() } else { &run_dirs[..1] };
    refuse_while_pods_need_it(flags, stores)?;
    match &ours {
        Some((text, kept)) => {
            if let Some(kept) = kept {
                file::put(kept, text, READABLE)?;
            }
            let removed = file::remove(&list)?;
            // From now on no runtime begins another ADD. One that began before may have made its row since.
            if let Err(refused) = refuse_while_pods_need_it(flags, stores) {
                file::put(&list, text, READABLE)?;
                return Err(refused);
            }
            say(&list, removed);
            if let Some(kept) = kept {
                warn(&format!("{} was edited, and is kept as {}", list.display(), kept.display()));
            }
        }
        None if !list.exists() => say(&list, Done::Absent),
        None => {}
    }
    if let Some(user) = net_d::others_of_twill(&list)?.into_iter().next() {
        warn(&format!("{} stays, since {} needs it", plugin.display(), user.display()));
        return Ok(Some(user));
    }
    close_chains_of_others();
    if !flags.place.force && file::is_foreign(&plugin)? {
        warn(&format!("{} is not Twill's plugin: it stays; --force removes it", plugin.display()));
        return Ok(None);
    }
    say(&plugin, file::remove(&plugin)?);
    Ok(None)
}

/// Where an edited list is kept: beside its place, with an ending that no runtime reads.
fn aside(list: &Path) -> PathBuf {
    let mut name = list.to_owned().into_os_string();
    name.push(".edited");
    name.into()
}

/// Takes back what `open_forward` put into the tables of others. Where there is no nft, or nobody may use it, nothing was put.
fn close_chains_of_others() {
    match forward::close() {
        Ok(closed) => closed.iter().for_each(|place| println!("removed the rules for pods from {place}")),
        Err(error) => warn(&format!("whether tables of others have rules for pods cannot be known: {error}")),
    }
}

/// The run directory whose store knows the pods: as it was said, or as the list says that the plugin was told. After it that of the
/// daemon, where it is another: by its file or its environment.
fn run_dirs(flags: &UninstallFlags, node: &NodeLayer, text: Option<&[u8]>) -> Vec<PathBuf> {
    let daemons = run_dir(node);
    match text {
        Some(text) if flags.knowledge.run_dir.is_none() => {
            let plugins = list::network(text).1.unwrap_or_else(|| RUN_DIR.into());
            let other = (!is_same_directory(&plugins, &daemons)).then_some(daemons);
            [plugins].into_iter().chain(other).collect()
        }
        _ => vec![daemons],
    }
}

/// A pod whose plugin is gone can never be removed: each DEL fails.
fn refuse_while_pods_need_it(flags: &UninstallFlags, run_dirs: &[PathBuf]) -> Result<(), InstallError> {
    if flags.place.force {
        return Ok(());
    }
    for run_dir in run_dirs {
        if let Some(pods) = attached(run_dir)? {
            return Err(InstallError::Attached(pods));
        }
    }
    Ok(())
}
