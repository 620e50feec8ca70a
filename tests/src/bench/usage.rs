//! What a running process uses, as the kernel accounts it (proc(5)): memory and processor time.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use crate::{LabError, Result};

/// What of its memory is in core, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it: the program's own pages too (Rss).
    pub resident: u64,
    /// The same, where a page that several have counts for each in part (Pss).
    pub proportional: u64,
    /// What no file is behind: heap and stacks.
    pub anonymous: u64,
    /// The most that was ever resident (VmHWM).
    pub peak: u64,
}

impl Memory {
    /// Of a process.
    pub fn of(pid: u32) -> Result<Self> {
        let [rollup, status] = ["smaps_rollup", "status"].map(|file| read(pid, file));
        let (rollup, status) = (rollup?, status?);
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.map(|kib| kib << 10).ok_or_else(|| LabError::wrong(format!("/proc/{pid} tells no {name}")))
        };
        Ok(Self {
            resident: field(&rollup, "Rss")?,
            proportional: field(&rollup, "Pss")?,
            anonymous: field(&rollup, "Anonymous")?,
            peak: field(&status, "VmHWM")?,
        })
    }
}

/// Processor time that was used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// By the process itself, of all its threads.
    pub own: Duration,
    /// By those of its children that have ended.
    pub children: Duration,
}

impl Cpu {
    /// Of a process, up to now.
    pub fn of(pid: u32) -> Result<Self> {
        let text = read(pid, "stat")?;
        Self::parse(&text).ok_or_else(|| LabError::wrong(format!("/proc/{pid}/stat cannot be read: {text}")))
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name stands in parentheses and may have spaces; utime, stime, cutime and cstime are the fields 14 to 17.
        let (_, rest) = stat.rsplit_once(')')?;
        let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(4).map_while(|field| field.parse().ok()).collect();
        let &[user, system, children_user, children_system] = ticks.as_slice() else { return None };
        // USER_HZ is 100 on all architectures that Twill is built for.
        let time = |ticks: u64| Duration::from_millis(ticks * 10);
        Some(Self { own: time(user + system), children: time(children_user + children_system) })
    }

    /// Both together.
    pub fn sum(self) -> Duration {
        self.own + self.children
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { own: self.own - earlier.own, children: self.children - earlier.children }
    }
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(LabError::io(format!("reading {path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_strange_name_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 200 0 0 150 50 3 4 20 0 3 0 100 200 300";
        let (own, children) = (Duration::from_secs(2), Duration::from_millis(70));
        assert_eq!(Cpu::parse(stat), Some(Cpu { own, children }));
        assert_eq!(Cpu::parse("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.peak >= memory.resident && memory.resident > memory.anonymous, "{memory:?}");
    }
}
