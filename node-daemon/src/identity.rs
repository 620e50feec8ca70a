//! Who this machine is.

use std::path::{Path, PathBuf};

use twill_conf::{NodeName, digest::digest};
use twill_linux::MacAddr;

/// The file with the machine's identity cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("machine ID in {}: {cause}; 'systemd-machine-id-setup' makes one, or name another file with machine_id_file", path.display())]
pub struct NoMachineId {
    path: PathBuf,
    cause: String,
}

/// Reads a machine ID (machine-id(5)): the first word of the file.
pub fn machine_id(path: &Path) -> Result<String, NoMachineId> {
    twill_checkup::identity::machine_id(path).map_err(|cause| NoMachineId { path: path.to_owned(), cause })
}

/// The MAC of this node's VTEP: derived, so that a device made anew has the MAC that the others know.
pub fn vtep_mac(name: &NodeName, machine_id: &str) -> MacAddr {
    MacAddr::local(&digest(&["vtep", name.as_str(), machine_id]))
}

/// A word that no other run of the daemon has (random(4): a fresh UUID at each read).
pub fn run_word() -> Result<String, std::io::Error> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uuid.trim().chars().filter(|c| *c != '-').take(16).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vtep_mac_is_local_unicast_and_differs_between_machines() {
        let name: NodeName = "n1".parse().unwrap();
        let (one, two) = (vtep_mac(&name, "aaaaaaaa"), vtep_mac(&name, "bbbbbbbb"));
        assert_ne!(one, two);
        assert_eq!(one.0[0] & 0x03, 0x02, "locally administered, unicast");
        assert_eq!(one, vtep_mac(&name, "aaaaaaaa"), "the same each time");
    }

    #[test]
    fn an_empty_machine_id_is_refused_with_the_file_and_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine-id");
        std::fs::write(&path, "\n").unwrap();
        let text = machine_id(&path).unwrap_err().to_string();
        assert!(text.contains("machine-id") && text.contains("systemd-machine-id-setup"), "{text}");
    }
}
