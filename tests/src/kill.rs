//! A program that is killed, or interrupted, at its N-th system call, or for which that call fails, whichever it is: what
//! `kill -9`, another process, or a kernel without memory at the worst moment comes to.
//!
//! The program runs traced (ptrace(2)), with all processes that it makes; each of their system calls counts as it is
//! entered, so the victim dies before the call does anything, which is after all that came before it.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long a program may take, which waits ten seconds for others at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The process that makes the call; others of the program go on, as after `kill -9` of one process.
    Caller,
    /// All of the program's processes, as when a container runtime's cgroup is killed.
    All,
}

/// How a traced run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The system calls that were entered, those of all processes together.
    pub calls: usize,
    /// The exit status of the first process; `None` where a signal ended it.
    pub status: Option<i32>,
}

/// Runs a command to its end and kills it at the system call `at`, counted from 1 after the start of the program; one
/// that it never makes kills nobody. The calling thread is the tracer, in whose namespace the program runs.
pub fn run(command: &mut Command, at: usize, victim: Victim) -> io::Result<Trace> {
    trace(command, at, &mut Strike::Kill(victim))
}

/// The same, but the program only waits at that system call while `meanwhile` runs, and goes on then.
pub fn run_while(command: &mut Command, at: usize, meanwhile: &mut dyn FnMut()) -> io::Result<Trace> {
    trace(command, at, &mut Strike::Hold(meanwhile))
}

/// The same, but that system call does nothing and fails with `errno`. Only on x86-64: elsewhere the registers differ.
#[cfg(target_arch = "x86_64")]
pub fn run_failing(command: &mut Command, at: usize, errno: Errno) -> io::Result<Trace> {
    trace(command, at, &mut Strike::Fail(errno))
}

/// What happens at the system call.
enum Strike<'a> {
    Kill(Victim),
    Hold(&'a mut dyn FnMut()),
    #[cfg(target_arch = "x86_64")]
    Fail(Errno),
}

fn trace(command: &mut Command, at: usize, strike: &mut Strike<'_>) -> io::Result<Trace> {
    let traced = || ptrace::traceme().map_err(io::Error::from);
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    #[expect(unsafe_code, reason = "there is no other way to be traced from the first instruction on")]
    unsafe {
        command.pre_exec(traced);
    }
    let child = command.spawn()?;
    let first = Pid::from_raw(child.id().cast_signed());
    // It stops by itself after exec.
    waitpid(first, Some(WaitPidFlag::__WALL))?;
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_EXITKILL
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        // As an event, or every exec were a SIGTRAP that kills.
        | Options::PTRACE_O_TRACEEXEC;
    ptrace::setoptions(first, options)?;
    let mut tracer =
        Tracer { processes: BTreeSet::from([first]), first, at, strike, failing: None, calls: 0, status: None };
    go_on(first, None)?;
    limited(first, || tracer.follow())?;
    Ok(Trace { calls: tracer.calls, status: tracer.status })
}

/// Ends a program that hangs, so that no test does.
fn limited(first: Pid, follow: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let (done, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            // Its sender goes when the program has ended.
            let hangs = ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
            hangs && kill(first, Signal::SIGKILL).is_ok()
        });
        let followed = follow();
        drop(done);
        match watchdog.join() {
            Ok(true) => Err(io::Error::new(io::ErrorKind::TimedOut, "the program hung and was killed")),
            _ => followed,
        }
    })
}

struct Tracer<'a, 'b> {
    processes: BTreeSet<Pid>,
    first: Pid,
    at: usize,
    strike: &'a mut Strike<'b>,
    /// Whose call is on its way to fail, and with what.
    failing: Option<(Pid, Errno)>,
    calls: usize,
    status: Option<i32>,
}

impl Tracer<'_, '_> {
    fn follow(&mut self) -> io::Result<()> {
        loop {
            // Only what this thread traces: other tests wait for children of their own.
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Err(Errno::ECHILD) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(status) => self.heed(status)?,
            }
        }
    }

    fn heed(&mut self, status: WaitStatus) -> io::Result<()> {
        match status {
            WaitStatus::PtraceSyscall(pid) => {
                if is_entry(pid)? {
                    self.calls += 1;
                    if self.calls == self.at {
                        return self.strike(pid);
                    }
                } else if let Some((_, errno)) = self.failing.take_if(|(failing, _)| *failing == pid) {
                    answer(pid, errno)?;
                }
                go_on(pid, None)
            }
            WaitStatus::PtraceEvent(pid, ..) => {
                // The process that was made; after exec the caller itself.
                let made = ptrace::getevent(pid)?;
                self.processes.insert(Pid::from_raw(made as libc::pid_t));
                go_on(pid, None)
            }
            // The first stop of a process that was just made.
            WaitStatus::Stopped(pid, Signal::SIGSTOP) => {
                self.processes.insert(pid);
                go_on(pid, None)
            }
            WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal)),
            WaitStatus::Exited(pid, code) => {
                if pid == self.first {
                    self.status = Some(code);
                }
                self.processes.remove(&pid);
                Ok(())
            }
            WaitStatus::Signaled(pid, ..) => {
                self.processes.remove(&pid);
                Ok(())
            }
            WaitStatus::Continued(_) | WaitStatus::StillAlive => Ok(()),
        }
    }

    fn strike(&mut self, caller: Pid) -> io::Result<()> {
        let victim = match self.strike {
            Strike::Kill(victim) => *victim,
            Strike::Hold(meanwhile) => {
                meanwhile();
                return go_on(caller, None);
            }
            #[cfg(target_arch = "x86_64")]
            Strike::Fail(errno) => {
                if skip(caller)? {
                    self.failing = Some((caller, *errno));
                }
                return go_on(caller, None);
            }
        };
        for pid in self.processes.iter().filter(|pid| victim == Victim::All || **pid == caller) {
            match kill(*pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// What the kernel never refuses, so that nobody looks whether it did. To give a lock back is another.
#[cfg(target_arch = "x86_64")]
const NEVER_FAIL: [libc::c_long; 6] = [
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_geteuid,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_set_tid_address,
];

/// Turns a system call that is being entered into one that does not exist, if it is one that can fail.
#[cfg(target_arch = "x86_64")]
fn skip(pid: Pid) -> io::Result<bool> {
    let registers = ptrace::getregs(pid)?;
    let call = registers.orig_rax.cast_signed();
    if NEVER_FAIL.contains(&call) || (call == libc::SYS_fcntl && gives_a_lock_back(pid, &registers)?) {
        return Ok(false);
    }
    ptrace::setregs(pid, libc::user_regs_struct { orig_rax: u64::MAX, ..registers })?;
    Ok(true)
}

/// Whether a call of fcntl is F_SETLK with F_UNLCK, which is the first member of its `struct flock`.
#[cfg(target_arch = "x86_64")]
fn gives_a_lock_back(pid: Pid, registers: &libc::user_regs_struct) -> io::Result<bool> {
    if registers.rsi != u64::from(libc::F_SETLK.cast_unsigned()) {
        return Ok(false);
    }
    let word = ptrace::read(pid, std::ptr::with_exposed_provenance_mut(registers.rdx as usize))?;
    Ok(word & 0xffff == i64::from(libc::F_UNLCK))
}

/// Makes a system call that is being left return an error.
#[cfg(target_arch = "x86_64")]
fn answer(pid: Pid, errno: Errno) -> io::Result<()> {
    let registers = ptrace::getregs(pid)?;
    Ok(ptrace::setregs(pid, libc::user_regs_struct { rax: i64::from(-(errno as i32)).cast_unsigned(), ..registers })?)
}

#[cfg(not(target_arch = "x86_64"))]
fn answer(_: Pid, _: Errno) -> io::Result<()> {
    Ok(())
}

fn is_entry(pid: Pid) -> io::Result<bool> {
    match ptrace::syscall_info(pid) {
        Ok(info) => Ok(info.op == libc::PTRACE_SYSCALL_INFO_ENTRY),
        // It was killed meanwhile.
        Err(Errno::ESRCH) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn go_on(pid: Pid, signal: Option<Signal>) -> io::Result<()> {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_is_killed_at_none_of_its_calls_ends_as_ever_and_its_calls_are_counted() {
        let trace = run(&mut shell("exit 7"), 0, Victim::Caller).unwrap();
        assert_eq!(trace.status, Some(7));
        let more = run(&mut shell("(exit 1); env true && exit 7"), 0, Victim::Caller).unwrap();
        assert_eq!(more.status, Some(7), "a program that it starts ends as ever too");
        assert!(trace.calls > 10 && more.calls > trace.calls, "{trace:?} {more:?}");
    }

    #[test]
    fn a_program_waits_at_one_of_its_calls_and_ends_as_ever() {
        let mut held = 0;
        let trace = run_while(&mut shell("exit 7"), 5, &mut || held += 1).unwrap();
        assert_eq!((trace.status, held), (Some(7), 1));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_call_that_fails_does_nothing_and_the_program_hears_why() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("made");
        let make = || {
            let mut command = Command::new("mkdir");
            command.arg(&file).env_clear().stderr(std::process::Stdio::piped());
            command
        };
        let calls = run(&mut make(), 0, Victim::Caller).unwrap().calls;
        std::fs::remove_dir(&file).unwrap();
        let refused = (1..=calls).filter(|at| {
            let trace = run_failing(&mut make(), *at, Errno::ENOSPC).unwrap();
            let made = std::fs::remove_dir(&file).is_ok();
            trace.status == Some(1) && !made
        });
        assert!(refused.count() > 0, "mkdir(2) is one of the calls");
    }

    #[test]
    fn a_program_is_killed_before_the_call_does_anything() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("made");
        let script = format!(": >{}", file.display());
        let all = run(&mut shell(&script), 0, Victim::All).unwrap().calls;
        assert!(file.exists());
        let mut made = Vec::new();
        for at in 1..=all {
            std::fs::remove_file(&file).ok();
            let trace = run(&mut shell(&script), at, Victim::All).unwrap();
            assert_eq!((trace.status, trace.calls), (None, at));
            made.push(file.exists());
        }
        // It is made by one of the calls: not before it, and always after it.
        assert!(made.is_sorted() && !made[0] && made[all - 1], "{made:?}");
    }
}
