//! The last view on disk, for a start without etcd.
//!
//! It programs routes only. It proves no ownership: a block is opened by what etcd itself tells in this run, never by this.
//! Called by the daemon: [`write()`] some time after a change, [`read`] at the start. The file may be deleted at any time.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::View;
use crate::view::{Entry, Snapshot};

/// The file's name in the state directory.
pub const FILE: &str = "view.json";

/// The form of the file. Another one is not read.
const FORM: u32 = 1;
/// A longer file is not read, in bytes: 5,000 nodes and 10,000 blocks take less than a tenth of it.
const LONGEST: u64 = 256 << 20;

/// A view that cannot be saved or read.
#[derive(Debug, thiserror::Error)]
#[error("saved view {}: {cause}", path.display())]
pub struct SavedError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub cause: String,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    form: u32,
    /// The prefix of the cluster's keys: the view of another cluster is not ours.
    prefix: String,
    revision: i64,
    entries: Vec<SavedEntry>,
}

/// The value as text, which an operator can read.
#[derive(Serialize, Deserialize)]
struct SavedEntry {
    key: String,
    value: String,
    created: i64,
    modified: i64,
}

/// Writes the view of the cluster under `prefix`, atomically: after a crash at any point, the file holds the old view or the
/// new one. Blocks.
pub fn write(path: &Path, prefix: &str, view: &View) -> Result<(), SavedError> {
    let failed = |cause: std::io::Error| SavedError { path: path.to_owned(), cause: cause.to_string() };
    let Snapshot { revision, entries } = view.snapshot();
    let entries = entries.into_iter().filter_map(|entry| {
        let Entry { key, value, created, modified } = entry;
        Some(SavedEntry { key, value: String::from_utf8(value).ok()?, created, modified })
    });
    let saved = Saved { form: FORM, prefix: prefix.to_owned(), revision, entries: entries.collect() };
    let text = serde_json::to_vec(&saved).map_err(|error| failed(error.into()))?;
    let temporary = path.with_extension("json.new");
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut file = File::create(&temporary).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)?;
    // The new name is on the disk when its directory is.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

/// Reads the view of the cluster under `prefix`; `None` where there is no file, or it is of another prefix. A broken file is
/// an error, to be reported and otherwise ignored. Blocks.
///
/// The entries are read as those that come from etcd are: what is wrong with one of them harms only that one.
pub fn read(path: &Path, prefix: &str) -> Result<Option<View>, SavedError> {
    let failed = |cause: String| SavedError { path: path.to_owned(), cause };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
        Ok(data) if data.len() > LONGEST => {
            return Err(failed(format!("{} bytes long, at most {LONGEST}", data.len())));
        }
        Ok(_) => {}
    }
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let saved: Saved = serde_json::from_slice(&text).map_err(|error| failed(format!("not a saved view: {error}")))?;
    if saved.form != FORM {
        return Err(failed(format!("of form {}, this version reads form {FORM}", saved.form)));
    }
    if saved.prefix != prefix {
        return Ok(None);
    }
    let entries = saved.entries.into_iter().map(|entry| {
        let SavedEntry { key, value, created, modified } = entry;
        Entry { key, value: value.into_bytes(), created, modified }
    });
    let mut view = View::default();
    view.replace(&Snapshot { revision: saved.revision, entries: entries.collect() });
    Ok(Some(view))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/twill/v1/";

    fn view() -> View {
        let entry = |key: &str, value: serde_json::Value| Entry {
            key: key.into(),
            value: value.to_string().into_bytes(),
            created: 3,
            modified: 4,
        };
        let mut view = View::default();
        view.replace(&Snapshot {
            revision: 7,
            entries: vec![
                entry("nodes/n1", serde_json::json!({ "machine_id": "m1", "nonce": "x", "newer": true })),
                entry(
                    "blocks/4/0a2a0000-26",
                    serde_json::json!({ "node": "n1", "machine_id": "m1", "epoch": 3, "nonce": "y" }),
                ),
                entry(
                    "config",
                    serde_json::json!({
                        "pool": [{ "name": "main", "cidr": "10.42.0.0/16", "block": 26, "masquerade": false }],
                        "backend": { "type": "vxlan", "vni": 5 },
                    }),
                ),
            ],
        });
        assert!(view.faults.is_empty());
        view
    }

    #[test]
    fn a_saved_view_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state").join(FILE);
        assert_eq!(read(&path, PREFIX).unwrap(), None);
        write(&path, PREFIX, &view()).unwrap();
        assert_eq!(read(&path, PREFIX).unwrap(), Some(view()));
        write(&path, PREFIX, &View { revision: 8, ..View::default() }).unwrap();
        assert_eq!(read(&path, PREFIX).unwrap().unwrap().nodes.len(), 0);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn the_view_of_another_prefix_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        write(&path, PREFIX, &view()).unwrap();
        assert_eq!(read(&path, "/other/").unwrap(), None);
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        write(&path, PREFIX, &view()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for text in
            [&whole[..whole.len() / 2], b"", b"\0\0", b"{\"form\":2,\"prefix\":\"\",\"revision\":1,\"entries\":[]}"]
        {
            std::fs::write(&path, text).unwrap();
            let error = read(&path, PREFIX).unwrap_err().to_string();
            assert!(error.contains("view.json"), "{error}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = write(&file.join(FILE), PREFIX, &view()).unwrap_err().to_string();
        assert!(error.contains("view.json"), "{error}");
    }
}
