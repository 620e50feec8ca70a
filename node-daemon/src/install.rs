//! `twilld install` and `twilld uninstall`: the plugin and the network's list, where a runtime looks for them.
//!
//! The list is what makes a kubelet call its node ready, so it is written last, and only when an ADD would find
//! addresses. Whoever runs them may be killed and start them again at any point: each file is whole or not there, and
//! what is there already is left alone.

mod error;
mod file;
mod flags;
mod net_d;
mod ready;
mod wait;

use std::path::{Path, PathBuf};

use twill_conf::network::list::{Author, NetworkList, PLUGIN};
use twill_conf::node::{NodeLayer, RUN_DIR, Setting};
use twill_ipam::Store;
use twill_ipam::store::Role;

pub use error::InstallError;
use file::Done;
pub use flags::{InstallFlags, UninstallFlags};
use flags::{Knowledge, Place};

/// A reference plugin. Without it containerd refuses every sandbox, after ours has attached it.
const LOOPBACK: &str = "loopback";
/// Of a program that anybody may run.
const PROGRAM: u32 = 0o755;
/// Of a file that anybody may read.
const READABLE: u32 = 0o644;

/// Installs plugin and list. Everything that can be refused is looked at before anything is changed.
pub fn install(flags: &InstallFlags) -> Result<(), InstallError> {
    let run_dir = run_dir(&flags.knowledge)?;
    let source = flags.plugin.clone().map_or_else(beside_us, Ok)?;
    let program = file::read_program(&source)?;
    let network =
        NetworkList { name: flags.network_name.clone(), run_dir: run_dir.clone(), subnets: flags.subnets.clone() };
    let text = network.to_json().map_err(|source| match network.subnets.is_empty() {
        true => source.into(),
        false => InstallError::Flag { flag: "--subnets", source },
    })?;
    let list = flags.place.list();
    let may_replace = || match net_d::author(&list)? {
        Some(Author::Edited { .. } | Author::Other) if flags.place.force => Ok(()),
        Some(Author::Edited { more }) => Err(InstallError::Edited { path: list.clone(), more }),
        Some(Author::Other) => Err(InstallError::Foreign(list.clone())),
        Some(Author::Install) | None => Ok(()),
    };
    may_replace()?;

    let plugin = flags.place.cni_bin_dir.join(PLUGIN);
    say(&plugin, file::put(&plugin, &program, PROGRAM)?);
    // Whose addresses are its own needs nobody.
    if !flags.no_wait && flags.subnets.is_empty() {
        wait::until_served(&run_dir, flags.timeout())?;
        // Much may have happened meanwhile.
        may_replace()?;
    }
    say(&list, file::put(&list, text.as_bytes(), READABLE)?);
    for other in net_d::sorting_before(&list)? {
        warn(&format!(
            "{} sorts before {}: runtimes take the first, and go on using its network until it is removed",
            other.display(),
            flags.place.conflist_name
        ));
    }
    if !flags.place.cni_bin_dir.join(LOOPBACK).exists() {
        warn(&format!(
            "{} has no plugin {LOOPBACK}, which containerd calls for every pod of a kubelet: install CNI's reference plugins",
            flags.place.cni_bin_dir.display()
        ));
    }
    if flags.stay { wait::until_stopped() } else { Ok(()) }
}

/// Takes the list back, so that no further pod comes, and then the plugin.
pub fn uninstall(flags: &UninstallFlags) -> Result<(), InstallError> {
    let (list, plugin) = (flags.place.list(), flags.place.cni_bin_dir.join(PLUGIN));
    let is_list_ours = match net_d::author(&list)? {
        Some(Author::Edited { more }) if !flags.place.force => return Err(InstallError::Edited { path: list, more }),
        Some(Author::Other) => {
            warn(&format!("{} is not Twill's: it stays", list.display()));
            false
        }
        Some(Author::Install | Author::Edited { .. }) | None => true,
    };
    if !flags.place.force {
        refuse_while_pods_need_it(&run_dir(&flags.knowledge)?)?;
    }
    if is_list_ours {
        say(&list, file::remove(&list)?);
    }
    if let Some(user) = net_d::others_of_twill(&list)?.first() {
        warn(&format!("{} stays, since {} needs it", plugin.display(), user.display()));
        return Ok(());
    }
    say(&plugin, file::remove(&plugin)?);
    Ok(())
}

/// A pod whose plugin is gone can never be removed: each DEL fails.
fn refuse_while_pods_need_it(run_dir: &Path) -> Result<(), InstallError> {
    if !run_dir.join("node.db").exists() {
        return Ok(());
    }
    let attached = Store::open(run_dir, Role::Reader).and_then(|store| store.attachments());
    match attached {
        // A store of another boot: its pods are gone with it.
        Err(twill_ipam::Error::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(InstallError::Store(source)),
        Ok(pods) if pods.is_empty() => Ok(()),
        Ok(pods) => Err(InstallError::Attached { count: pods.len(), run_dir: run_dir.to_owned() }),
    }
}

/// The run directory, as the daemon of the same file and environment finds it.
fn run_dir(knowledge: &Knowledge) -> Result<PathBuf, InstallError> {
    let mut said = NodeLayer::default();
    if let Some(text) = &knowledge.run_dir {
        said.set(Setting::RunDir, &Setting::RunDir.flag(), text)?;
    }
    let file = NodeLayer::from_file(knowledge.config.as_deref())?;
    let all = file.overlay(NodeLayer::from_environment(std::env::vars())?).overlay(said);
    Ok(all.run_dir.unwrap_or_else(|| RUN_DIR.into()))
}

/// The plugin that came with this program.
fn beside_us() -> Result<PathBuf, InstallError> {
    let us = std::env::current_exe().map_err(InstallError::io("finding", Path::new("/proc/self/exe")))?;
    Ok(us.with_file_name(PLUGIN))
}

impl Place {
    fn list(&self) -> PathBuf {
        self.cni_conf_dir.join(self.conflist_name.as_str())
    }
}

fn say(path: &Path, done: Done) {
    println!("{done} {}", path.display());
}

fn warn(text: &str) {
    eprintln!("twilld: warning: {text}");
}
