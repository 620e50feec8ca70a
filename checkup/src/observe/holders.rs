//! Who has a UDP port.

use std::fs;
use std::path::Path;

use twill_linux::sockets;

use super::{Seen, Unseen};

/// So many processes are looked at.
const MOST_PROCESSES: usize = 32_768;
/// So many descriptors of one.
const MOST_DESCRIPTORS: usize = 4096;

/// Who has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// How many sockets have it: in this namespace, the kernel's too.
    pub sockets: usize,
    /// The processes that have them, as in "named (process 812)": those that can be seen from here.
    pub processes: Vec<String>,
}

pub(super) fn look(port: u16) -> Seen<Holders> {
    let inodes = sockets::udp_on(port).map_err(|error| Unseen::of_io("the sockets of UDP", &error))?;
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = if wanted.is_empty() { Vec::new() } else { having(&wanted) };
    Ok(Holders { sockets: inodes.len(), processes })
}

fn having(sockets: &[String]) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).take(MOST_PROCESSES);
    let holder = |pid: u32| {
        let home = Path::new("/proc").join(pid.to_string());
        let descriptors = fs::read_dir(home.join("fd")).ok()?.flatten().take(MOST_DESCRIPTORS);
        let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.find(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))?;
        let name = fs::read_to_string(home.join("comm")).unwrap_or_default();
        Some(format!("{} (process {pid})", name.trim_end()))
    };
    pids.filter_map(holder).collect()
}
