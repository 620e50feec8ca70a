//! What a running process uses, as the kernel accounts it (proc(5)): memory and processor time; and what the whole machine
//! does.

use std::fs;
use std::ops::Sub;
use std::time::{Duration, Instant};

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
        Some(Self { own: time(user + system), children: time(children_user + children_system) })
    }

    /// Of a process's present threads, up to now, to the nanosecond: [`Cpu::of`] counts whole ticks.
    pub fn of_threads(pid: u32) -> Result<Duration> {
        let path = format!("/proc/{pid}/task");
        let threads = fs::read_dir(&path).map_err(LabError::io(format!("listing {path}")))?;
        let mut sum = Duration::ZERO;
        for thread in threads {
            let thread = thread.map_err(LabError::io(format!("listing {path}")))?.file_name();
            let text = read(pid, &format!("task/{}/schedstat", thread.to_string_lossy()))?;
            let times = Scheduled::parse(&text);
            sum += times.ok_or_else(|| LabError::wrong(format!("{path} tells no time: {text}")))?.ran;
        }
        Ok(sum)
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

/// What the scheduler gave a thread, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scheduled {
    ran: Duration,
    waited: Duration,
}

impl Scheduled {
    /// Nanoseconds on a processor, those waiting for one, and how often it got one (Documentation/scheduler/sched-stats.rst).
    fn parse(schedstat: &str) -> Option<Self> {
        let mut fields = schedstat.split_whitespace().map(|field| field.parse().ok().map(Duration::from_nanos));
        Some(Self { ran: fields.next()??, waited: fields.next()?? })
    }
}

/// The time in which the calling thread has a processor. Unlike the kernel's account of the thread, it has what interrupts did meanwhile on
/// every kernel: packets travel in them, and some kernels keep a separate account of them (CONFIG_IRQ_TIME_ACCOUNTING).
#[derive(Debug)]
pub struct Stopwatch {
    begin: Instant,
    waited: Duration,
}

impl Stopwatch {
    /// Begins now.
    pub fn start() -> Result<Self> {
        Ok(Self { waited: waited()?, begin: Instant::now() })
    }

    /// The time since then, without that in which others had the processor that the thread wanted. A thread that sleeps
    /// meanwhile counts that.
    pub fn stop(self) -> Result<Duration> {
        let all = self.begin.elapsed();
        Ok(all.saturating_sub(waited()?.saturating_sub(self.waited)))
    }
}

/// How long the calling thread has waited for a processor since it began.
fn waited() -> Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).map_err(LabError::io(format!("reading {path}")))?;
    let times = Scheduled::parse(&text);
    times.map(|times| times.waited).ok_or_else(|| LabError::wrong(format!("{path} tells no time: {text}")))
}

/// Processor time of the whole machine since it was started, of all its processors together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// Spent on programs and in the kernel.
    pub busy: Duration,
    /// The same and what nobody wanted, or the hypervisor gave to others.
    pub all: Duration,
}

impl Machine {
    /// Up to now.
    pub fn now() -> Result<Self> {
        let path = "/proc/stat";
        let text = fs::read_to_string(path).map_err(LabError::io(format!("reading {path}")))?;
        Self::parse(&text).ok_or_else(|| LabError::wrong(format!("{path} cannot be read: {text}")))
    }

    /// Which part of the machine is busy while the caller sleeps for so long, from 0 to 1.
    pub fn busy_for(time: Duration) -> Result<f64> {
        let before = Self::now()?;
        std::thread::sleep(time);
        Ok((Self::now()? - before).part())
    }

    fn parse(stat: &str) -> Option<Self> {
        let sum = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // What guests use is a part of the first two.
        let ticks: Vec<u64> = sum.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
        let &[user, nice, system, idle, iowait, irq, softirq, steal] = ticks.as_slice() else { return None };
        let busy = user + nice + system + irq + softirq;
        Some(Self { busy: time(busy), all: time(busy + idle + iowait + steal) })
    }

    /// Which part of the time was spent, from 0 to 1.
    pub fn part(self) -> f64 {
        if self.all.is_zero() { 0.0 } else { self.busy.as_secs_f64() / self.all.as_secs_f64() }
    }
}

impl Sub for Machine {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { busy: self.busy.saturating_sub(earlier.busy), all: self.all.saturating_sub(earlier.all) }
    }
}

/// The kernel's ticks for programs; USER_HZ is 100 on all architectures that Twill is built for.
fn time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(LabError::io(format!("reading {path}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::{self, PATIENCE};

    #[test]
    fn a_process_with_a_strange_name_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 200 0 0 150 50 3 4 20 0 3 0 100 200 300";
        let (own, children) = (Duration::from_secs(2), Duration::from_millis(70));
        assert_eq!(Cpu::parse(stat), Some(Cpu { own, children }));
        assert_eq!(Cpu::parse("7 (a) S 1"), None);
    }

    #[test]
    fn of_the_machine_waiting_and_stolen_time_is_not_spent() {
        let stat = "cpu  100 10 50 800 30 4 6 20 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let machine = Machine::parse(stat).unwrap();
        assert_eq!((machine.busy, machine.all), (Duration::from_millis(1700), Duration::from_millis(10200)));
        assert_eq!((machine - machine).part(), 0.0);
        assert_eq!(Machine::parse("cpu0 1 1 1 1 1 1 1 1 1 1\n"), None);
    }

    #[test]
    fn what_a_thread_runs_is_counted() {
        let own = std::process::id();
        let before = Cpu::of_threads(own).unwrap();
        deadline::until("it has run", PATIENCE, || Ok(Cpu::of_threads(own)? > before)).unwrap();
        assert!(Cpu::of_threads(u32::MAX).is_err());
    }

    #[test]
    fn of_a_thread_both_times_are_read() {
        let times = Scheduled { ran: Duration::from_nanos(12), waited: Duration::from_nanos(345) };
        assert_eq!(Scheduled::parse("12 345 6\n"), Some(times));
        assert_eq!(Scheduled::parse("12\n"), None);
    }

    #[test]
    fn a_stopwatch_tells_no_more_than_has_passed_and_no_less_than_the_thread_ran() {
        let clock = || Duration::from(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
        // Who loses the processor just while a time is read gets one that is wrong by that: not every time.
        deadline::until("the times agree within a millisecond", PATIENCE, || {
            let (begin, ran) = (Instant::now(), clock());
            let watch = Stopwatch::start()?;
            while begin.elapsed() < Duration::from_millis(20) {}
            let (ran, told) = (clock() - ran, watch.stop()?);
            assert!(told <= begin.elapsed(), "{told:?}");
            Ok(told + Duration::from_millis(1) >= ran)
        })
        .unwrap();
    }

    #[test]
    fn this_process_has_memory() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.peak >= memory.resident && memory.resident > memory.anonymous, "{memory:?}");
    }
}
