//! Programs that run to their end, and programs that run until they are told to stop.
//!
//! Whatever stays is in a process group of its own, so that an interrupt at the terminal reaches the owner of the lab
//! alone, and [`crate::cleanup`] ends the rest.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{LabError, Result, deadline};

/// A command of words, as one writes it at a prompt.
pub fn command<S: AsRef<OsStr>>(words: &[S]) -> Command {
    let (program, arguments) = words.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Leaves out what cargo has told the running program of its own package: another build is not meant by it, and would begin anew whenever
/// it is said and was not before, or the other way round (ring's build script asks for it).
pub fn without_this_package(command: &mut Command) {
    let of_it = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"].iter().any(|begin| name.starts_with(begin));
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_it(&name.to_string_lossy())) {
        command.env_remove(name);
    }
}

/// What a program wrote, where it ended well; else the error with all of its output.
pub fn expect_success(command: &Command, place: &str, output: Output) -> Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let both = format!("{}\n{}", text(&output.stderr), text(&output.stdout));
    Err(LabError::Command {
        command: words(command),
        place: place.into(),
        status: output.status,
        output: both.trim().to_owned(),
    })
}

/// Runs a command on the host's side, to its end.
pub fn run_on_host(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(LabError::io(words(&command)))?;
    expect_success(&command, "the host", output)
}

/// The command line, for messages.
pub fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Keeps the calling thread, and what it starts from now on, on one processor.
pub fn pin(processor: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &only)?)
}

/// A program that runs until it is stopped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Prepares a command to outlive its caller's attention: its own process group, its output appended to `log`.
    pub fn prepare(command: &mut Command, log: &Path) -> Result<()> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let file = |what: &str| open().map_err(LabError::io(format!("opening {} for {what}", log.display())));
        let (out, err): (File, File) = (file("output")?, file("errors")?);
        command.process_group(0).stdin(Stdio::null()).stdout(out).stderr(err);
        Ok(())
    }

    /// Takes charge of a child that was [prepared](Self::prepare).
    pub fn new(name: impl Into<String>, child: Child, log: &Path) -> Self {
        Self { name: name.into(), child, log: log.into() }
    }

    /// The process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).map_err(LabError::errno(format!("sending {signal} to {} ({pid})", self.name)))
    }

    /// The exit status, once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(LabError::io(format!("asking after {}", self.name)))
    }

    /// Waits for the end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let what = format!("{} has ended", self.name);
        deadline::until_some(&what, patience, || Ok(self.ended()?.ok_or("it runs")))
    }

    /// Sends a signal that ends it, and waits for that.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        match self.signal(signal) {
            Err(LabError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(LabError::Io { cause, .. }) if cause.raw_os_error() == Some(nix::libc::ESRCH) => {}
            other => other?,
        }
        self.wait(deadline::PATIENCE)
    }
}
