//! The programs under test: static ones, as they are shipped, in the profile `lab`, which compiles faster than `release`.
//!
//! They are built when the first lab of a process is made, so that a test never runs yesterday's program; where nothing
//! has changed that takes a fraction of a second. `TWILL_BIN` names a directory with programs that are to be used as they
//! are, such as `dist`.

use std::env;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::{LabError, Result, needs, process};

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    directory: PathBuf,
    cnitool: PathBuf,
}

impl Binaries {
    /// Finds the programs, and builds them first unless `TWILL_BIN` is set.
    pub fn ready() -> Result<Self> {
        Self::ready_by(Show::Nothing)
    }

    /// The same for someone who waits, and whom the first time takes minutes: on standard error, a terminal shows cargo's
    /// own progress, anything else a line.
    pub fn ready_visibly() -> Result<Self> {
        if env::var_os("TWILL_BIN").is_some() {
            return Self::ready();
        }
        eprintln!("building the programs twill, twilld and twillctl (the first time takes minutes, later seconds)");
        Self::ready_by(if std::io::stderr().is_terminal() { Show::Progress } else { Show::Nothing })
    }

    fn ready_by(show: Show) -> Result<Self> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let directory = match env::var_os("TWILL_BIN") {
            Some(directory) => needs::workspace().join(directory),
            // The error is kept as text: every lab of the process is to see it.
            None => BUILT.get_or_init(|| build(show).map_err(|e| e.to_string())).clone().map_err(LabError::Wrong)?,
        };
        for program in ["twill", "twilld", "twillctl"] {
            let path = directory.join(program);
            if !path.exists() {
                return Err(LabError::Missing { what: program, path });
            }
        }
        let path = needs::workspace().join("target/tools/cnitool");
        let cnitool = needs::cnitool().ok_or(LabError::Missing { what: "cnitool", path })?;
        Ok(Self { directory, cnitool })
    }

    /// The directory with `twill`: CNI_PATH.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The plugin.
    pub fn plugin(&self) -> PathBuf {
        self.directory.join("twill")
    }

    /// The daemon.
    pub fn daemon(&self) -> PathBuf {
        self.directory.join("twilld")
    }

    /// The operator's tool.
    pub fn ctl(&self) -> PathBuf {
        self.directory.join("twillctl")
    }

    /// The real cnitool.
    pub fn cnitool(&self) -> &Path {
        &self.cnitool
    }
}

/// What the build shows while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Nothing,
    Progress,
}

/// Builds the three programs and yields the directory that they are in.
fn build(show: Show) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = format!("{}-unknown-linux-musl", env::consts::ARCH);
    let mut command = Command::new(cargo);
    command.current_dir(needs::workspace()).args(["build", "--profile=lab", "--target", &target]);
    match show {
        Show::Nothing => command.arg("--quiet").stderr(Stdio::piped()),
        Show::Progress => command.stderr(Stdio::inherit()),
    };
    command.args(["--message-format=json-render-diagnostics"]);
    command.args(["--package=twill-cni-plugin", "--package=twill-node-daemon", "--package=twill-ctl"]);
    process::without_this_package(&mut command);
    let output = command.stdin(Stdio::null()).output().map_err(LabError::io("running cargo build"))?;
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    // Of a failure, what the compiler said for people is all that helps.
    process::expect_success(&command, "the workspace", Output { stdout: Vec::new(), ..output })?;
    let plugin = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "twill")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    let plugin = plugin.ok_or_else(|| LabError::wrong("cargo build named no executable `twill`"))?;
    Ok(plugin.parent().expect("an executable lies in a directory").to_owned())
}

/// The program `twill-lab`, which lies beside the running one, or above it for a test.
pub fn lab_program() -> Result<PathBuf> {
    let current = env::current_exe().map_err(LabError::io("looking for the running program"))?;
    let mut directories = current.ancestors().skip(1).take(2);
    let found = directories.find_map(|directory| Some(directory.join("twill-lab")).filter(|p| p.exists()));
    found.ok_or(LabError::Missing { what: "twill-lab", path: current })
}
