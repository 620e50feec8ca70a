//! How much this machine has worked (/proc/stat, proc(5)).

use std::{fs, io};

use twill_cluster::inquiry::trial::Usage;

/// The kernel's ticks for programs, in milliseconds; USER_HZ is 100 on all architectures that Twill is built for.
const TICK: u64 = 10;

/// Up to now.
pub(super) fn now() -> io::Result<Usage> {
    let machine = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let busy = busy(&fs::read_to_string("/proc/stat")?).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Usage { machine, busy_millis: busy * TICK })
}

/// Ticks that were spent on programs and in the kernel, of all processors.
fn busy(stat: &str) -> Option<u64> {
    let sum = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // What guests use is a part of the first two.
    let ticks: Vec<u64> = sum.split_whitespace().take(7).map_while(|field| field.parse().ok()).collect();
    let &[user, nice, system, _idle, _iowait, irq, softirq] = ticks.as_slice() else { return None };
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_stolen_time_is_not_spent() {
        assert_eq!(busy("cpu  100 10 50 800 30 4 6 20 7 0\ncpu0 1 1 1 1 1 1 1 1\n"), Some(170));
        assert_eq!(busy("cpu0 1 1 1 1 1 1 1 1\n"), None);
        assert!(now().is_ok_and(|usage| usage.busy_millis > 0 && !usage.machine.is_empty()));
    }
}
