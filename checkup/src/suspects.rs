//! Programs that have opinions of a machine's network, and how each is told to leave Twill's part of it alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A program that may undo what Twill makes.
#[derive(Debug, PartialEq, Eq)]
pub struct Suspect {
    /// As the kernel calls its process: 15 bytes at most (comm, proc(5)).
    pub command: &'static str,
    /// Its name.
    pub name: &'static str,
    /// It meddles with rulesets, not with links and routes.
    pub firewall: bool,
    /// How it is told.
    pub remedy: &'static str,
    /// Where it is told: its files, and directories of them, and words that stand in one of them then.
    pub settled: Option<(&'static [&'static str], &'static [&'static str])>,
}

const NETWORKD: &str = "set ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no in networkd.conf, and Unmanaged=yes in a \
                        .network file for Name=tw* vxlan*.twill";
const NETWORK_MANAGER: &str =
    "set unmanaged-devices=interface-name:tw*;interface-name:vxlan*.twill in a file of /etc/NetworkManager/conf.d";
const OVERLAY: &str = "two networks for pods on one node: take one of them off";

/// All that are known.
pub const SUSPECTS: [Suspect; 8] = [
    Suspect {
        command: "systemd-network",
        name: "systemd-networkd",
        firewall: false,
        remedy: NETWORKD,
        settled: Some((
            &[
                "/etc/systemd/networkd.conf",
                "/etc/systemd/networkd.conf.d",
                "/run/systemd/networkd.conf.d",
                "/usr/lib/systemd/networkd.conf.d",
            ],
            &["ManageForeignRoutes=no", "ManageForeignRoutes=false"],
        )),
    },
    Suspect {
        command: "NetworkManager",
        name: "NetworkManager",
        firewall: false,
        remedy: NETWORK_MANAGER,
        settled: Some((
            &[
                "/etc/NetworkManager/NetworkManager.conf",
                "/etc/NetworkManager/conf.d",
                "/usr/lib/NetworkManager/conf.d",
            ],
            &["interface-name:tw*"],
        )),
    },
    Suspect {
        command: "dhcpcd",
        name: "dhcpcd",
        firewall: false,
        remedy: "set denyinterfaces tw* vxlan*.twill in dhcpcd.conf",
        settled: Some((&["/etc/dhcpcd.conf"], &["denyinterfaces tw*"])),
    },
    Suspect {
        command: "connmand",
        name: "connman",
        firewall: false,
        remedy: "set NetworkInterfaceBlacklist=tw,vxlan in main.conf",
        settled: Some((&["/etc/connman/main.conf"], &["NetworkInterfaceBlacklist=tw"])),
    },
    Suspect { command: "flanneld", name: "flannel", firewall: false, remedy: OVERLAY, settled: None },
    Suspect { command: "calico-node", name: "Calico", firewall: false, remedy: OVERLAY, settled: None },
    Suspect {
        command: "firewalld",
        name: "firewalld",
        firewall: true,
        remedy: "let its reload leave other tables alone (FlushAllOnReload=no)",
        settled: Some((&["/etc/firewalld/firewalld.conf"], &["FlushAllOnReload=no"])),
    },
    Suspect {
        command: "dockerd",
        name: "Docker",
        firewall: true,
        remedy: "look whether something restarts it",
        // It sets the policy of FORWARD, which is looked at by itself.
        settled: Some((&[], &[])),
    },
];

impl Suspect {
    /// Whether its files, below `root`, say that it leaves Twill's part alone.
    pub fn is_settled(&self, root: &Path) -> bool {
        let Some((places, words)) = self.settled else { return false };
        let mut files = Vec::new();
        for place in places {
            let path = root.join(place.trim_start_matches('/'));
            match std::fs::read_dir(&path) {
                Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path())),
                Err(_) => files.push(path),
            }
        }
        places.is_empty() || files.iter().any(|file| says(file, words))
    }
}

/// Whether a line of the file, without its white space, begins with one of the words, or holds one behind a key.
fn says(file: &PathBuf, words: &[&str]) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    lines.into_iter().any(|line| words.iter().any(|word| line.contains(word)))
}

/// The names of the processes that run, as the kernel has them.
pub fn running(proc: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let comm = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok());
    comm.map(|name| name.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_longer_than_the_kernels() {
        let longest = SUSPECTS.iter().map(|suspect| suspect.command.len()).max();
        assert_eq!(longest, Some(15), "the kernel cuts off what is longer");
    }

    #[test]
    fn processes_are_known_by_their_names() {
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert!(running(Path::new("/proc")).contains(own.trim_end()));
    }

    #[test]
    fn what_a_program_is_told_is_found_in_its_files_and_not_in_comments() {
        let root = tempfile::tempdir().unwrap();
        let [networkd, manager] = &SUSPECTS[..2] else { unreachable!("there are eight") };
        let directory = root.path().join("etc/systemd/networkd.conf.d");
        std::fs::create_dir_all(&directory).unwrap();
        assert!(!networkd.is_settled(root.path()));
        std::fs::write(directory.join("twill.conf"), "[Network]\n#ManageForeignRoutes=no\n").unwrap();
        assert!(!networkd.is_settled(root.path()));
        std::fs::write(directory.join("twill.conf"), "[Network]\n ManageForeignRoutes=no\n").unwrap();
        assert!(networkd.is_settled(root.path()) && !manager.is_settled(root.path()));
    }
}
