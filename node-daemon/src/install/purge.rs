//! `twilld uninstall --purge`: what the daemon and the plugin made on the node is taken away too, so that the kernel, the run
//! directory and the state directory are as if Twill had never been there.
//!
//! It promises to go on after an error, to tell all of them, and to do nothing where nothing is left. Of what is found, only what is
//! Twill's goes: devices by their names, host ends and limiting devices by kind and alias, routes by their protocols, tables by their
//! names, files by theirs. Sysctls stay, since others may rely on them by now: that the machine forwards above all. What etcd
//! knows of the node is for `twillctl node delete`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use twill_conf::node::{NodeLayer, STATE_DIR};
use twill_fabric::{firewall, vxlan};
use twill_ipam::KeyHash;
use twill_ipam::alias::Alias;
use twill_linux::nft::Firewall;
use twill_linux::state::{KernelState, Ownership, PROTOCOL_POD};
use twill_linux::table::{self, Device, SeenLink, link, route};
use twill_linux::{Error, Netlink, ports};

use super::{InstallError, warn};
use crate::doorbell;
use crate::lock;

/// What is ours in the run directory, beside what begins as the store's files do: the store is several.
const RUN_FILES: [&str; 8] =
    ["ops.lock", "firewall.json", "firewall.new", "bgp", "bgp.new", doorbell::NAME, ".lock", lock::NAME];
const STORE_FILES: &str = "node.";
/// What is ours in the state directory.
const STATE_FILES: [&str; 2] = ["view.json", "view.json.new"];

/// The state directory, as the daemon finds it.
pub fn state_dir(node: &NodeLayer) -> PathBuf {
    node.state_dir.clone().unwrap_or_else(|| STATE_DIR.into())
}

/// Removes all of it. The caller holds the locks of the run directories, of which there is one at least, so that no daemon puts it back.
pub fn purge(run_dirs: &[&Path], state_dir: &Path) -> Result<(), InstallError> {
    let mut failures = Vec::new();
    // Tables name devices, and not the other way round.
    tables(run_dirs[0], &mut failures);
    if let Err(error) = objects(&mut failures) {
        failures.push(error.to_string());
    }
    let is_of_run = |name: &str| RUN_FILES.contains(&name) || name.starts_with(STORE_FILES);
    for run_dir in run_dirs {
        directory(run_dir, is_of_run, &mut failures);
    }
    directory(state_dir, |name| STATE_FILES.contains(&name), &mut failures);
    if failures.is_empty() { Ok(()) } else { Err(InstallError::Purge(failures)) }
}

fn tables(run_dir: &Path, failures: &mut Vec<String>) {
    let mut nft = Firewall::new(&run_dir.join("firewall.json"), Arc::default());
    for table in [firewall::TABLE, ports::TABLE] {
        match nft.remove(table) {
            Ok(true) => println!("removed table inet {table}"),
            Ok(false) => {}
            Err(error) => failures.push(error.to_string()),
        }
    }
}

fn objects(failures: &mut Vec<String>) -> Result<(), Error> {
    let mut netlink = Netlink::open()?;
    let netlink = &mut netlink;
    for seen in table::links(netlink)?.iter().filter(|link| is_of_a_pod(link)) {
        match link::remove(netlink, Device { index: seen.index, name: seen.name }) {
            Ok(true) => println!("removed {}", seen.name),
            Ok(false) => {}
            Err(error) => failures.push(error.to_string()),
        }
    }
    // Nothing shall stand of what is ours.
    let ours = Ownership { devices: vxlan::devices().into(), ..Ownership::default() };
    let outcome = table::reconcile(netlink, &KernelState::default(), &ours)?;
    outcome.repairs.iter().for_each(|repair| println!("{repair}"));
    failures.extend(outcome.errors.iter().map(Error::to_string));
    // What a pod left behind whose device somebody else took away.
    for left in route::of_pods(netlink)? {
        match netlink.apply(&[route::remove(left.key, PROTOCOL_POD, left.target.index())]) {
            Ok(()) => println!("removed route {}", left.key.destination),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Ok(())
}

/// A host end or a limiting device: by name, kind and alias.
fn is_of_a_pod(link: &SeenLink) -> bool {
    let name = link.name.as_str();
    let named = match link.kind.as_deref() {
        Some("veth") => KeyHash::of_host_ifname(name),
        Some(link::IFB) => KeyHash::of_ifb_name(name),
        _ => None,
    };
    let alias = link.alias.as_deref().and_then(|alias| alias.parse::<Alias>().ok());
    named.is_some_and(|hash| alias.is_some_and(|alias| alias.hash == hash))
}

/// Removes our files, and the directory where nothing else is in it. One that is a mount stays, empty.
fn directory(path: &Path, is_ours: impl Fn(&str) -> bool, failures: &mut Vec<String>) {
    let removed = (|| {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(&is_ours) && !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(path)
    })();
    match removed {
        Ok(()) => println!("removed {}", path.display()),
        Err(cause) => match cause.kind() {
            ErrorKind::NotFound | ErrorKind::ResourceBusy => {}
            ErrorKind::DirectoryNotEmpty => {
                warn(&format!("{} stays, since there is more in it than Twill's files", path.display()));
            }
            _ => failures.push(format!("removing {}: {cause}", path.display())),
        },
    }
}
