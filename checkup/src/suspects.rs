//! Programs that have opinions of a machine's network, and how each is told to leave Twill's part of it alone.

mod files;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use twill_conf::node::Pattern;

use crate::names::{A_HOST_END, OUR_TUNNELS};
use files::{is_no, is_yes, last, lines};

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
    /// Whether its files, below a root, say all that the remedy asks for. They are read as the program reads them: what a file of
    /// /etc says counts rather than one of that name in /run or /usr/lib, and what comes later rather than what came before.
    settled: Settled,
}

/// How it is found out whether a program was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Networkd,
    NetworkManager,
    Dhcpcd,
    Connman,
    Firewalld,
    /// It leaves Twill's part alone as far as this goes.
    Always,
    /// It can be told nothing.
    Never,
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
        settled: Settled::Networkd,
    },
    Suspect {
        command: "NetworkManager",
        name: "NetworkManager",
        firewall: false,
        remedy: NETWORK_MANAGER,
        settled: Settled::NetworkManager,
    },
    Suspect {
        command: "dhcpcd",
        name: "dhcpcd",
        firewall: false,
        remedy: "set denyinterfaces tw* vxlan*.twill in dhcpcd.conf",
        settled: Settled::Dhcpcd,
    },
    Suspect {
        command: "connmand",
        name: "connman",
        firewall: false,
        remedy: "set NetworkInterfaceBlacklist=tw,vxlan in main.conf",
        settled: Settled::Connman,
    },
    Suspect { command: "flanneld", name: "flannel", firewall: false, remedy: OVERLAY, settled: Settled::Never },
    Suspect { command: "calico-node", name: "Calico", firewall: false, remedy: OVERLAY, settled: Settled::Never },
    Suspect {
        command: "firewalld",
        name: "firewalld",
        firewall: true,
        remedy: "let its reload leave other tables alone (FlushAllOnReload=no)",
        settled: Settled::Firewalld,
    },
    Suspect {
        command: "dockerd",
        name: "Docker",
        firewall: true,
        remedy: "look whether something restarts it",
        // It sets the policy of FORWARD, which is looked at by itself.
        settled: Settled::Always,
    },
];

impl Suspect {
    /// Whether its files, below `root`, say that it leaves Twill's part alone: all that the remedy asks for.
    pub fn is_settled(&self, root: &Path) -> bool {
        match self.settled {
            Settled::Networkd => networkd(root),
            Settled::NetworkManager => network_manager(root),
            Settled::Dhcpcd => dhcpcd(root),
            Settled::Connman => connman(root),
            Settled::Firewalld => {
                let files = [root.join("etc/firewalld/firewalld.conf")];
                last(&files, "", "FlushAllOnReload").is_some_and(|value| is_no(&value))
            }
            Settled::Always => true,
            Settled::Never => false,
        }
    }
}

/// Names of interfaces of Twill's, one of each kind.
fn ours() -> impl Iterator<Item = &'static str> {
    [A_HOST_END].into_iter().chain(OUR_TUNNELS)
}

fn fits(pattern: &str, name: &str) -> bool {
    Pattern::new(pattern).matches(name)
}

fn networkd(root: &Path) -> bool {
    let conf = files::of_systemd(root, "systemd/networkd.conf");
    let is_off = |key: &str| last(&conf, "Network", key).is_some_and(|value| is_no(&value));
    let networks = files::networks(root);
    let is_unmanaged = |name: &str| networks.iter().find_map(|file| unmanaged(file, name)).unwrap_or(false);
    ["ManageForeignRoutes", "ManageForeignRoutingPolicyRules"].into_iter().all(is_off) && ours().all(is_unmanaged)
}

/// What a .network file says of an interface of this name; `None` where it is not for it (systemd.network(5)). One that asks for more
/// than a name may be for it or not: it is not taken to leave it alone.
fn unmanaged(file: &PathBuf, name: &str) -> Option<bool> {
    let lines = lines(file);
    let (names, more): (Vec<_>, Vec<_>) =
        lines.iter().filter(|(section, ..)| section == "Match").partition(|(_, key, _)| key == "Name");
    let patterns = || names.iter().flat_map(|(.., value)| value.split_whitespace());
    if patterns().any(|pattern| pattern.strip_prefix('!').is_some_and(|pattern| fits(pattern, name)))
        || !patterns().any(|pattern| fits(pattern, name))
    {
        return None;
    }
    let says = last(std::slice::from_ref(file), "Link", "Unmanaged").is_some_and(|value| is_yes(&value));
    Some(says && more.is_empty())
}

fn network_manager(root: &Path) -> bool {
    let mut specs: Vec<String> = Vec::new();
    for (section, key, value) in files::of_network_manager(root).iter().flat_map(|file| lines(file)) {
        let listed = value.split([';', ',']).map(|spec| spec.trim().to_owned()).filter(|spec| !spec.is_empty());
        match (section.as_str(), key.trim_end()) {
            ("keyfile", "unmanaged-devices") => specs = listed.collect(),
            ("keyfile", "unmanaged-devices+") => specs.extend(listed),
            ("keyfile", "unmanaged-devices-") => {
                let less: Vec<String> = listed.collect();
                specs.retain(|spec| !less.contains(spec));
            }
            _ => {}
        }
    }
    let names = |spec: &str, name: &str| match spec.strip_prefix("interface-name:") {
        Some(pattern) => pattern.strip_prefix('=').map_or_else(|| fits(pattern, name), |exact| exact == name),
        None => spec == "*" || spec == name,
    };
    ours().all(|name| {
        let mut excepted = specs.iter().filter_map(|spec| spec.strip_prefix("except:"));
        !excepted.any(|spec| names(spec, name)) && specs.iter().any(|spec| names(spec, name))
    })
}

fn dhcpcd(root: &Path) -> bool {
    let text = std::fs::read_to_string(root.join("etc/dhcpcd.conf")).unwrap_or_default();
    let denied: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter_map(|line| line.strip_prefix("denyinterfaces")?.strip_prefix([' ', '\t']))
        .flat_map(|list| list.split([' ', '\t', ',']))
        .collect();
    ours().all(|name| denied.iter().any(|pattern| fits(pattern, name)))
}

fn connman(root: &Path) -> bool {
    let blacklist = last(&[root.join("etc/connman/main.conf")], "General", "NetworkInterfaceBlacklist");
    let blacklist = blacklist.unwrap_or_default();
    // Each is what a name begins with.
    let beginnings: Vec<&str> = blacklist.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    ours().all(|name| beginnings.iter().any(|beginning| name.starts_with(beginning)))
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

    /// Whether a program is settled by these files.
    fn settled(command: &str, files: &[(&str, &str)]) -> bool {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        SUSPECTS.iter().find(|suspect| suspect.command == command).unwrap().is_settled(root.path())
    }

    const ROUTES: &str = "[Network]\n ManageForeignRoutes = no\nManageForeignRoutingPolicyRules=false\n";
    const UNMANAGED: &str = "[Match]\nName=tw* vxlan*.twill\n[Link]\nUnmanaged=yes\n";

    #[test]
    fn networkd_is_settled_by_all_three_settings_and_by_none_of_them_less() {
        let told = |files: &[(&str, &str)]| settled("systemd-network", files);
        let (conf, network) = ("etc/systemd/networkd.conf.d/twill.conf", "etc/systemd/network/10-twill.network");
        assert!(told(&[(conf, ROUTES), (network, UNMANAGED)]), "with white space around the sign too");
        assert!(!told(&[]) && !told(&[(conf, ROUTES)]) && !told(&[(network, UNMANAGED)]));
        assert!(!told(&[(conf, "[Network]\nManageForeignRoutes=no\n"), (network, UNMANAGED)]), "rules too");
        assert!(!told(&[(conf, "[Network]\n#ManageForeignRoutes=no\n"), (network, UNMANAGED)]), "a comment");
        assert!(!told(&[(conf, ROUTES), (network, "[Match]\nName=tw*\n[Link]\nUnmanaged=yes\n")]), "the tunnel too");
        let other = "[Match]\nName=tw* vxlan*.twill\nType=ether\n[Link]\nUnmanaged=yes\n";
        assert!(!told(&[(conf, ROUTES), (network, other)]), "whether that is so nobody knows");
    }

    #[test]
    fn of_networkds_files_the_administrators_win_and_the_first_network_that_fits() {
        let told = |files: &[(&str, &str)]| settled("systemd-network", files);
        let network = ("usr/lib/systemd/network/20-twill.network", UNMANAGED);
        let package = ("usr/lib/systemd/networkd.conf.d/50-twill.conf", ROUTES);
        assert!(told(&[package, network]));
        let yes = "[Network]\nManageForeignRoutes=yes\n";
        assert!(!told(&[package, network, ("etc/systemd/networkd.conf.d/50-twill.conf", "")]), "it is masked");
        assert!(!told(&[package, network, ("run/systemd/networkd.conf.d/60-x.conf", yes)]), "it comes later");
        assert!(told(&[package, network, ("etc/systemd/networkd.conf.d/10-x.conf", yes)]), "it came before");
        assert!(told(&[package, network, ("etc/systemd/networkd.conf", yes)]), "it came before");
        let all = |name: &'static str| (name, "[Match]\nName=*\n[Network]\nDHCP=yes\n");
        assert!(!told(&[package, network, all("etc/systemd/network/10-all.network")]), "it is tried first");
        assert!(told(&[package, network, all("etc/systemd/network/90-all.network")]));
        let not_ours = "[Match]\nName=!tw* !vxlan* *\n[Network]\nDHCP=yes\n";
        assert!(told(&[package, network, ("etc/systemd/network/10-all.network", not_ours)]));
    }

    #[test]
    fn network_manager_is_settled_by_interfaces_that_are_not_excepted() {
        let told = |files: &[(&str, &str)]| settled("NetworkManager", files);
        let file = "etc/NetworkManager/conf.d/twill.conf";
        let both = "[keyfile]\nunmanaged-devices = interface-name:tw*;interface-name:vxlan*.twill\n";
        assert!(told(&[(file, both)]));
        assert!(!told(&[(file, "[keyfile]\nunmanaged-devices=interface-name:tw*\n")]), "the tunnel too");
        assert!(!told(&[(file, "[main]\nunmanaged-devices=interface-name:tw*;interface-name:vxlan*.twill\n")]));
        let except = "[keyfile]\nunmanaged-devices=*,except:interface-name:tw*\n";
        assert!(!told(&[(file, except)]) && told(&[(file, "[keyfile]\nunmanaged-devices=*\n")]));
        let base = "etc/NetworkManager/NetworkManager.conf";
        let docker = "[keyfile]\nunmanaged-devices=interface-name:docker0\n";
        assert!(told(&[(base, docker), (file, both)]), "what comes later");
        assert!(!told(&[("usr/lib/NetworkManager/conf.d/twill.conf", both), (base, docker)]), "what comes later");
        assert!(!told(&[("usr/lib/NetworkManager/conf.d/twill.conf", both), (file, "")]), "it is masked");
        let more = "[keyfile]\nunmanaged-devices+=interface-name:docker0\n";
        assert!(told(&[(file, both), ("etc/NetworkManager/conf.d/x.conf", more)]));
    }

    #[test]
    fn the_others_are_settled_by_all_of_twills_interfaces_too() {
        assert!(settled("dhcpcd", &[("etc/dhcpcd.conf", "denyinterfaces tw* vxlan*.twill\n")]));
        assert!(settled("dhcpcd", &[("etc/dhcpcd.conf", "denyinterfaces tw*\n denyinterfaces vxlan*\n")]));
        assert!(!settled("dhcpcd", &[("etc/dhcpcd.conf", "denyinterfaces tw*\n")]));
        let blacklist = |list| format!("[General]\nNetworkInterfaceBlacklist = {list}\n");
        assert!(settled("connmand", &[("etc/connman/main.conf", &blacklist("vmnet,tw,vxlan"))]));
        assert!(!settled("connmand", &[("etc/connman/main.conf", &blacklist("tw"))]));
        assert!(settled("firewalld", &[("etc/firewalld/firewalld.conf", "FlushAllOnReload=no\n")]));
        assert!(!settled("firewalld", &[("etc/firewalld/firewalld.conf", "#FlushAllOnReload=no\n")]));
        assert!(settled("dockerd", &[]) && !settled("flanneld", &[]));
    }
}
