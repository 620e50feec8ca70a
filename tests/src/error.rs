//! What can go wrong in a lab. The texts are all that a failed test shows, so they carry what the program said.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The result of everything in the lab.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Why a step failed.
#[derive(thiserror::Error)]
pub enum LabError {
    /// A program ended with another status than 0.
    #[error("{command} (in {place}): {status}\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// The namespace, or "the host".
        place: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it wrote, standard error first.
        output: String,
    },
    /// A system call or a file.
    #[error("{what}: {cause}")]
    Io {
        /// What was attempted, and on what.
        what: String,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A condition did not come true in time.
    #[error("after {waited:?} still not: {what}; last seen: {last}")]
    Timeout {
        /// The condition.
        what: String,
        /// How long it was given.
        waited: Duration,
        /// What it was instead.
        last: String,
    },
    /// A program wrote something else than was expected.
    #[error("{what}: {cause}: {text}")]
    Unreadable {
        /// Whose output.
        what: String,
        /// Why it cannot be read.
        cause: String,
        /// The output.
        text: String,
    },
    /// Something that the lab cannot do without.
    #[error("{what} is missing at {}: run hack/setup", path.display())]
    Missing {
        /// What.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// What a test found to be otherwise than it should be.
    #[error("{0}")]
    Wrong(String),
}

// A test that returns an error prints its Debug form: the sentence is worth more there than the structure.
impl fmt::Debug for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl LabError {
    /// For `map_err` on I/O: what was attempted, and on what.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }

    /// The same for `nix`, whose errors are bare numbers.
    pub fn errno(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let what = what.into();
        move |errno| Self::Io { what, cause: errno.into() }
    }

    /// Does all of a sequence of steps; fails with the errors of all that failed.
    pub fn join(steps: impl IntoIterator<Item = Result<()>>) -> Result<()> {
        let mut errors: Vec<_> = steps.into_iter().filter_map(Result::err).collect();
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Wrong(errors.iter().map(Self::to_string).collect::<Vec<_>>().join("; "))),
        }
    }

    /// A finding of a test.
    pub fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong(what.into())
    }
}
