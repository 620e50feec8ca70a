//! Named network namespaces, and work inside them.
//!
//! A thread of its own changes namespace, runs the work or starts the program, which inherits the namespace, and ends.
//! No thread of a test ever changes namespace, and sockets stay where they were made.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, setns};

use crate::confinement::confined;
use crate::process::{self, Process};
use crate::{LabError, Result};

/// Where iproute2 keeps the namespaces that have a name.
pub const DIRECTORY: &str = "/run/netns";

/// A named network namespace. Creating it is explicit; removing it is the business of [`crate::cleanup`], or of
/// [`Namespace::remove`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: String,
    path: PathBuf,
}

impl Namespace {
    /// Names a namespace that may or may not exist.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        let path = Path::new(DIRECTORY).join(&name);
        Self { name, path }
    }

    /// Makes a namespace, with its loopback up, and without duplicate address detection on whatever comes into it: a
    /// tentative address answers nobody for a second.
    pub fn create(name: impl Into<String>) -> Result<Self> {
        let namespace = Self::named(name);
        let add = || process::run_on_host(process::command(&["ip", "netns", "add", &namespace.name]));
        twill_testkit::exclusively(add).map_err(LabError::io("waiting to make a namespace"))??;
        for scope in ["all", "default"] {
            namespace.set_sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        namespace.ip_batch("link set lo up\n")?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file: CNI_NETNS.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The inode by which `/proc/<pid>/ns/net` shows it.
    pub fn inode(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path).map_err(LabError::io(format!("looking at {}", self.path.display())))?.ino())
    }

    /// Takes its name away; the kernel removes it when nobody is in it any more. Succeeds where it is gone.
    pub fn remove(&self) -> Result<()> {
        let what = format!("removing {}", self.path.display());
        match nix::mount::umount2(&self.path, nix::mount::MntFlags::MNT_DETACH) {
            // Not mounted: the file is what is left of an interrupted creation.
            Ok(()) | Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EINVAL) => {}
            Err(errno) => return Err(LabError::errno(what)(errno)),
        }
        match fs::remove_file(&self.path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(LabError::io(what)(cause)),
            _ => Ok(()),
        }
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let what = format!("entering the namespace {}", self.name);
        let file = File::open(&self.path).map_err(LabError::io(what.clone()))?;
        let inside = || {
            setns(&file, CloneFlags::CLONE_NEWNET).map_err(LabError::errno(what.clone()))?;
            Ok(work())
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Starts a prepared command inside.
    pub fn start(&self, command: &mut Command) -> Result<Child> {
        let what = format!("{} in {}", process::words(command), self.name);
        self.enter(|| command.spawn())?.map_err(LabError::io(what))
    }

    /// Starts a program that stays, its output appended to `log`.
    pub fn start_process(&self, name: &str, mut command: Command, log: &Path) -> Result<Process> {
        Process::prepare(&mut command, log)?;
        let child = self.start(&mut command)?;
        Ok(Process::new(format!("{name} of {}", self.name), child, log))
    }

    /// Runs a command inside to its end, whatever that is.
    pub fn output(&self, command: &mut Command) -> Result<std::process::Output> {
        let what = format!("{} in {}", process::words(command), self.name);
        let run = || command.stdin(Stdio::null()).output();
        self.enter(run)?.map_err(LabError::io(what))
    }

    /// Runs a command inside and yields its standard output; another status than 0 is an error.
    pub fn execute(&self, mut command: Command) -> Result<String> {
        let output = self.output(&mut command)?;
        process::expect_success(&command, &self.name, output)
    }

    /// The same from a [place](crate::confinement) there from which no other namespace can be entered.
    pub fn execute_confined(&self, command: &Command) -> Result<String> {
        let output = self.output(&mut confined(command))?;
        process::expect_success(command, &self.name, output)
    }

    /// [`Self::execute`] for words.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.execute(process::command(words))
    }

    /// Runs words and reads the JSON that they print; nothing counts as `[]`, as `ip -j` has it.
    pub fn run_json(&self, words: &[&str]) -> Result<serde_json::Value> {
        let text = self.run(words)?;
        if text.trim().is_empty() {
            return Ok(serde_json::json!([]));
        }
        let unreadable = |e: serde_json::Error| LabError::Unreadable {
            what: words.join(" "),
            cause: e.to_string(),
            text: text.clone(),
        };
        serde_json::from_str(&text).map_err(unreadable)
    }

    /// Runs lines of `ip` in one process.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        let mut command = process::command(&["ip", "-batch", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.start(&mut command)?;
        let mut stdin = child.stdin.take().expect("it was piped");
        stdin.write_all(lines.as_bytes()).map_err(LabError::io("writing to ip -batch"))?;
        drop(stdin);
        let output = child.wait_with_output().map_err(LabError::io("waiting for ip -batch"))?;
        process::expect_success(&command, &format!("{}, lines:\n{lines}", self.name), output).map(drop)
    }

    /// Writes a sysctl below /proc/sys.
    pub fn set_sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = Path::new("/proc/sys").join(path);
        self.enter(|| fs::write(&file, value))?.map_err(LabError::io(format!("{path} = {value} in {}", self.name)))
    }
}
