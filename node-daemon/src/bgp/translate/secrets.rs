//! The files with the passwords of sessions.

use std::path::{Path, PathBuf};

use twill_bgp::speaker::{Invalid, Password};
use twill_cluster::record::Told;

/// A file that gives no password.
#[derive(Debug)]
pub(super) struct NoPassword {
    file: PathBuf,
    cause: String,
}

/// The first line of a file, without its end. It is read each time: another password makes another session.
pub(super) fn read(file: &Path) -> Result<Password, NoPassword> {
    let failed = |cause: String| NoPassword { file: file.to_owned(), cause };
    let text = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Password::new(line).map_err(|invalid: Invalid| failed(invalid.to_string()))
}

impl NoPassword {
    /// What an operator is told.
    pub(super) fn of(self, peer: &str) -> Told {
        let Self { file, cause } = self;
        Told {
            what: format!("no session with {peer}: its password cannot be read of {}: {cause}", file.display()),
            fix: "put the password into the first line of that file, readable by twilld".to_owned(),
        }
    }
}
