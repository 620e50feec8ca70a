//! This process, by the names that all programs have for it (Prometheus' client libraries, "process metrics"), from proc(5).

use std::fmt;
use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

/// Looks when it is asked. What cannot be known is not told.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut tell = |name: &str, help: &str, unit: Option<&Unit>, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        let stat = Stat::read();
        let of_stat = |field: fn(&Stat) -> f64| stat.as_ref().map(field);
        let bytes = Some(&Unit::Bytes);
        tell("process_resident_memory", "Resident memory size.", bytes, of_stat(|stat| stat.resident))?;
        tell("process_virtual_memory", "Virtual memory size.", bytes, of_stat(|stat| stat.virtual_memory))?;
        tell("process_threads", "Number of threads.", None, of_stat(|stat| stat.threads))?;
        let since = "Start time of the process since unix epoch.";
        tell("process_start_time", since, Some(&Unit::Seconds), stat.as_ref().and_then(Stat::began))?;
        tell("process_open_fds", "Number of open file descriptors.", None, open_files())?;
        #[allow(clippy::cast_precision_loss, reason = "a limit beyond 2^53 is none")]
        let limit = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft as f64);
        tell("process_max_fds", "Maximum number of open file descriptors.", None, limit)?;
        let Some(spent) = processor_time() else { return Ok(()) };
        let counter = ConstCounter::new(spent.as_secs_f64());
        let help = "Total user and system CPU time spent.";
        counter.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), counter.metric_type())?)
    }
}

/// Of `/proc/self/stat` what is told.
struct Stat {
    threads: f64,
    /// Since the boot, in ticks.
    start: f64,
    /// In bytes.
    virtual_memory: f64,
    /// In bytes.
    resident: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let pages = constant(SysconfVar::PAGE_SIZE)?;
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?, pages)
    }

    fn parse(text: &str, page: f64) -> Option<Self> {
        // The second field is the name in parentheses, and may hold anything; what follows begins with the third.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self { threads: field(20)?, start: field(22)?, virtual_memory: field(23)?, resident: field(24)? * page })
    }

    /// Since the epoch, in seconds: the kernel keeps when it was booted by the calendar.
    fn began(&self) -> Option<f64> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(boot + self.start / constant(SysconfVar::CLK_TCK)?)
    }
}

#[allow(clippy::cast_precision_loss, reason = "pages and ticks are small numbers")]
fn constant(name: SysconfVar) -> Option<f64> {
    sysconf(name).ok().flatten().map(|value| value as f64)
}

#[allow(clippy::cast_precision_loss, reason = "a process has fewer files")]
fn open_files() -> Option<f64> {
    // The directory is open while it is read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

/// Without that of `nft`, whose runs are processes of their own.
fn processor_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let times = [usage.user_time(), usage.system_time()];
    let micros: i64 = times.iter().map(|time| time.tv_sec() * 1_000_000 + time.tv_usec()).sum();
    u64::try_from(micros).ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_process_whose_name_is_a_trap_are_read() {
        let text = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 5 6 0 0 20 0 9 0 1234 8192 3 18446744073709551615 1 1";
        let stat = Stat::parse(text, 4096.0).unwrap();
        assert_eq!((stat.threads, stat.start, stat.virtual_memory, stat.resident), (9.0, 1234.0, 8192.0, 12288.0));
        assert!(Stat::parse("7 (a", 1.0).is_none() && Stat::parse("7 (a) R 1", 1.0).is_none());
    }

    #[test]
    fn this_process_began_after_the_machine_was_booted_and_has_files_open() {
        let stat = Stat::read().unwrap();
        assert!(stat.began().unwrap() > 1.6e9 && stat.resident > 4096.0 && stat.threads >= 1.0);
        assert!(open_files().unwrap() >= 3.0 && processor_time().is_some());
    }
}
