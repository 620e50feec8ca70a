//! The files with the passwords of sessions.
//!
//! A file may be written anew while the daemon runs, and is missing or empty for a moment then: its sessions go on with the password that
//! it had, and only another one makes other sessions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use twill_bgp::speaker::Password;
use twill_cluster::record::Told;

/// No file with a password is longer, in bytes.
const LONGEST: u64 = 4096;

/// The passwords, as they were last read.
#[derive(Debug, Default)]
pub struct Secrets {
    good: BTreeMap<PathBuf, Password>,
    /// What was read in this review, and why not.
    read: BTreeMap<PathBuf, Result<(), String>>,
}

impl Secrets {
    /// From now on each file is read once more.
    pub(super) fn begin(&mut self) {
        let read = std::mem::take(&mut self.read);
        // Of a file that nobody names any more nothing is kept.
        self.good.retain(|file, _| read.contains_key(file));
    }

    /// The password in a file; `None` where there is none, and was none before.
    pub(super) fn of(&mut self, file: &Path) -> Option<Password> {
        if !self.read.contains_key(file) {
            let read = read(file).map(|password| drop(self.good.insert(file.to_owned(), password)));
            self.read.insert(file.to_owned(), read);
        }
        self.good.get(file).cloned()
    }

    /// What an operator is told, for each file.
    pub(super) fn troubles(&self) -> impl Iterator<Item = Told> {
        self.read.iter().filter_map(|(file, read)| {
            let cause = read.as_ref().err()?;
            let what = match self.good.contains_key(file) {
                true => "sessions go on with the password that it had",
                false => "the peers whose password it has are left alone",
            };
            Some(Told {
                what: format!("the BGP password file {} cannot be read: {cause}; {what}", file.display()),
                fix: "put the password into the first line of that file, readable by twilld".to_owned(),
            })
        })
    }
}

/// The first line of a file, without its end.
fn read(file: &Path) -> Result<Password, String> {
    let open = || {
        // What is no file might let whoever opens it wait.
        let is_file = std::fs::metadata(file)?.is_file();
        let mut text = Vec::new();
        if is_file {
            File::open(file)?.take(LONGEST).read_to_end(&mut text)?;
        }
        std::io::Result::Ok((is_file, text))
    };
    let (is_file, text) = open().map_err(|error| error.to_string())?;
    if !is_file {
        return Err("it is no regular file".to_owned());
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Password::new(line).map_err(|invalid| invalid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_for_a_moment_costs_no_session_and_another_password_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let mut secrets = Secrets::default();
        let mut review = |text: Option<&str>| {
            match text {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap_or_default(),
            }
            secrets.begin();
            let password = secrets.of(&file).map(|password| password.reveal().to_vec());
            (password, secrets.troubles().map(|told| told.what).collect::<Vec<_>>())
        };
        let (none, told) = review(None);
        assert!(none.is_none() && told.len() == 1 && told[0].contains("left alone"), "{told:?}");
        let first = Some(b"first".to_vec());
        assert_eq!(review(Some("first\r\nmore\n")), (first.clone(), Vec::new()));
        for broken in [None, Some("")] {
            let (password, told) = review(broken);
            assert_eq!(password, first);
            assert!(told.len() == 1 && told[0].contains("go on"), "{told:?}");
        }
        assert_eq!(review(Some("second")), (Some(b"second".to_vec()), Vec::new()));
        assert!(read(directory.path()).unwrap_err().contains("no regular file"));
    }
}
