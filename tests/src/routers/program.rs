//! A router's process: started, signalled, and ended by its ID when its value goes.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::Host;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::{LabError, Result};

/// A program on a host, which may run or not.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    namespace: Namespace,
    directory: PathBuf,
    process: Option<Process>,
}

impl Program {
    /// One on a host. It does not run yet.
    pub(super) fn on(host: &Host) -> Self {
        let (name, directory) = (host.name().to_owned(), host.directory().to_owned());
        Self { name, namespace: host.namespace().clone(), directory, process: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A file of the program's.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file of the program's.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.file(name);
        std::fs::write(&file, text).map_err(LabError::io(format!("writing {}", file.display())))?;
        Ok(file)
    }

    fn log_file(&self) -> PathBuf {
        self.file("log")
    }

    /// What it wrote in all its lives.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Starts it, where it does not run.
    pub(super) fn start(&mut self, command: Command) -> Result<()> {
        if self.process.is_none() {
            self.process = Some(self.namespace.start_process(&self.name, command, &self.log_file())?);
        }
        Ok(())
    }

    /// An error where it has ended by itself, with its last words.
    pub(super) fn expect_running(&mut self) -> Result<()> {
        let log = self.log();
        let Some(process) = &mut self.process else {
            return Err(LabError::wrong(format!("{} does not run", self.name)));
        };
        match process.ended()? {
            None => Ok(()),
            Some(status) => Err(LabError::wrong(format!("{} has ended: {status}\n{log}", self.name))),
        }
    }

    pub(super) fn pid(&self) -> Result<u32> {
        let process = self.process.as_ref();
        process.map(Process::pid).ok_or_else(|| LabError::wrong(format!("{} does not run", self.name)))
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        match &self.process {
            Some(process) => process.signal(signal),
            None => Err(LabError::wrong(format!("{} does not run", self.name))),
        }
    }

    /// Ends it by a signal, where it runs.
    pub(super) fn end(&mut self, signal: Signal) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.end(signal).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The lab ends what is left in its namespaces; this is for those that outlive their router.
        if let Err(error) = self.end(Signal::SIGKILL) {
            eprintln!("{}: {error}", self.name);
        }
    }
}

/// The executable's path, so that a program of /usr/sbin is found by users without that in their PATH.
pub(super) fn command(program: &'static str) -> Result<Command> {
    let missing = || LabError::Missing { what: program, path: Path::new("/usr/sbin").join(program) };
    twill_testkit::finds(program).map(Command::new).ok_or_else(missing)
}
