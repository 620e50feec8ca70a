//! A file that the operator wants the result in. That it can be written is known before anything is tried.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::report::untold::Untold;

/// A file that is open. What stands there stays until [`Self::write`]; one that was made for this goes again without it.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    file: File,
    is_new: bool,
}

impl Target {
    /// Opens it, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |cause| Error::File { what: "write", path: path.to_owned(), cause };
        let is_new = !path.exists();
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, is_new })
    }

    /// Writes it; or says what could not be written, and why.
    pub(super) fn write(mut self, text: &str) -> Result<(), Untold> {
        match self.replace(text) {
            Ok(()) => {
                self.is_new = false;
                Ok(())
            }
            Err(cause) => {
                let what = format!("{} is not written: {cause}", self.path.display());
                Err(Untold::new(what, "make room there, or name another file; what was found stands above"))
            }
        }
    }

    fn replace(&mut self, text: &str) -> io::Result<()> {
        // A pipe has no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.is_new {
            // An empty file tells nothing; that it stays is the lesser evil.
            std::fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_file_is_replaced_by_the_result_alone_and_a_new_one_goes_without_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result");
        drop(Target::open(&path).unwrap());
        assert!(!path.exists());
        Target::open(&path).unwrap().write("a long text").unwrap();
        drop(Target::open(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a long text");
        Target::open(&path).unwrap().write("short").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told_at_once_and_a_full_disk_at_the_end() {
        assert!(Target::open(Path::new("/nowhere/at/all")).is_err());
        let told = Target::open(Path::new("/dev/full")).unwrap().write("text").unwrap_err();
        assert!(told.what.starts_with("/dev/full is not written: "), "{told}");
    }
}
