//! `twilld install` and `twilld uninstall`: the plugin and the network's list, where a runtime looks for them.
//!
//! The list is what makes a kubelet call its node ready, so it is written last, and only when an ADD would find
//! addresses. Whoever runs them may be killed and start them again at any point: each file is whole or not there, and
//! what is there already is left alone.

mod error;
mod file;
mod flags;
mod net_d;
mod pods;
mod purge;
mod ready;
mod taking_back;
mod wait;

use std::fs;
use std::path::{Path, PathBuf};

use twill_conf::network::list::{Author, NetworkList, PLUGIN, network};
use twill_conf::node::{CniDirectories, NodeLayer, RUN_DIR, Setting};

pub use error::InstallError;
use file::Done;
pub use flags::{InstallFlags, UninstallFlags};
use flags::{Knowledge, Place};
pub use taking_back::uninstall;

/// A reference plugin. Without it containerd refuses every sandbox, after ours has attached it.
const LOOPBACK: &str = "loopback";
/// Of a program that anybody may run.
const PROGRAM: u32 = 0o755;
/// Of a file that anybody may read.
const READABLE: u32 = 0o644;

/// Installs plugin and list. Everything that can be refused is looked at before anything is changed.
pub fn install(flags: &InstallFlags) -> Result<(), InstallError> {
    let node = node_layer(&flags.knowledge)?;
    let (run_dir, cni) = (run_dir(&node), node.cni());
    let source = flags.plugin.clone().map_or_else(beside_us, Ok)?;
    let program = file::read_program(&source)?;
    let wanted =
        NetworkList { name: flags.network_name.clone(), run_dir: run_dir.clone(), subnets: flags.subnets.clone() };
    let text = wanted.to_json().map_err(|source| match wanted.subnets.is_empty() {
        true => source.into(),
        false => InstallError::Flag { flag: "--subnets", source },
    })?;
    let list = flags.place.list(&cni);
    let mut stays = edited(&list, flags, &wanted)?;
    let plugin = cni.plugin();
    if !flags.place.force && file::is_foreign(&plugin)? {
        return Err(InstallError::ForeignPlugin(plugin));
    }

    say(&plugin, file::put(&plugin, &program, PROGRAM)?);
    // Whose addresses are its own needs nobody; and nothing comes after a list that stays.
    if stays.is_none() && !flags.no_wait && flags.subnets.is_empty() {
        wait::until_served(&run_dir, flags.timeout())?;
        // Much may have happened meanwhile.
        stays = edited(&list, flags, &wanted)?;
    }
    match stays {
        Some(more) => {
            say(&list, Done::Unchanged);
            warn(&format!(
                "{} was edited, it has {more}: it stays as it is, and only the plugin is brought; --force writes it anew",
                list.display()
            ));
        }
        None => say(&list, file::put(&list, text.as_bytes(), READABLE)?),
    }
    for other in net_d::sorting_before(&list)? {
        warn(&format!(
            "{} sorts before {}: runtimes take the first, and go on using its network until it is removed",
            other.display(),
            flags.place.conflist_name
        ));
    }
    if !cni.bin.join(LOOPBACK).exists() {
        warn(&format!(
            "{} has no plugin {LOOPBACK}, which containerd calls for every pod of a kubelet: install CNI's reference plugins",
            cni.bin.display()
        ));
    }
    if flags.stay { wait::until_stopped() } else { Ok(()) }
}

/// What a list that was edited by hand has more than was written: such a one stays, or the edit would be lost. An error where the list is
/// not to be replaced for another reason; `None` where it is, or where there is none.
fn edited(list: &Path, flags: &InstallFlags, wanted: &NetworkList) -> Result<Option<String>, InstallError> {
    match net_d::author(list)? {
        Some(_) if flags.place.force => Ok(None),
        Some(Author::Edited { more }) => Ok(Some(more)),
        Some(Author::Other) => Err(InstallError::Foreign(list.to_owned())),
        Some(Author::Install) => refuse_while_pods_need_it(list, wanted).map(|()| None),
        None => Ok(None),
    }
}

/// A list of ours with another name or run directory takes its place: a pod of the one before has its row and its
/// interface by these, and no DEL by the new list would find them.
fn refuse_while_pods_need_it(list: &Path, wanted: &NetworkList) -> Result<(), InstallError> {
    let (name, run_dir) = network(&fs::read(list).map_err(InstallError::io("reading", list))?);
    let run_dir = run_dir.unwrap_or_else(|| RUN_DIR.into());
    let changed = match name {
        Some(name) if name != wanted.name.as_str() => {
            (format!("--network-name {name}"), format!("--network-name {}", wanted.name))
        }
        _ if run_dir != wanted.run_dir => {
            (format!("--run-dir {}", run_dir.display()), format!("--run-dir {}", wanted.run_dir.display()))
        }
        _ => return Ok(()),
    };
    let Some(pods) = pods::attached(&run_dir)? else { return Ok(()) };
    Err(InstallError::Renamed { list: list.to_owned(), before: changed.0, after: changed.1, pods: Box::new(pods) })
}

/// The run directory, as that daemon finds it.
fn run_dir(node: &NodeLayer) -> PathBuf {
    node.run_dir.clone().unwrap_or_else(|| RUN_DIR.into())
}

/// What the daemon of the same file and environment was told.
fn node_layer(knowledge: &Knowledge) -> Result<NodeLayer, InstallError> {
    let file = NodeLayer::from_file(knowledge.config.as_deref())?;
    Ok(file.overlay(NodeLayer::from_environment(std::env::vars())?).overlay(said(knowledge)?))
}

/// What the flags say of it.
fn said(knowledge: &Knowledge) -> Result<NodeLayer, InstallError> {
    let mut said = NodeLayer::default();
    let flags = [
        (Setting::RunDir, &knowledge.run_dir),
        (Setting::CniBinDir, &knowledge.cni_bin_dir),
        (Setting::CniConfDir, &knowledge.cni_conf_dir),
    ];
    for (setting, text) in flags {
        if let Some(text) = text {
            said.set(setting, &setting.flag(), text)?;
        }
    }
    Ok(said)
}

/// The plugin that came with this program.
fn beside_us() -> Result<PathBuf, InstallError> {
    let us = std::env::current_exe().map_err(InstallError::io("finding", Path::new("/proc/self/exe")))?;
    Ok(us.with_file_name(PLUGIN))
}

impl Place {
    fn list(&self, cni: &CniDirectories) -> PathBuf {
        cni.conf.join(self.conflist_name.as_str())
    }
}

fn say(path: &Path, done: Done) {
    println!("{done} {}", path.display());
}

fn warn(text: &str) {
    eprintln!("twilld: warning: {text}");
}
