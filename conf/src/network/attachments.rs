//! The attachments that a runtime calls valid when it asks for GC (CNI specification 1.1.0, "GC").
//!
//! The list decides what is kept, so it must be there, and all of it must be understood: a list of which a part was skipped
//! would remove what the runtime named. `null` is how Go writes an empty list.

use super::NetworkConf;
use super::read::identity;
use crate::section::{Dialect, Item, Section, parse_json};
use crate::{ContainerId, Error, IfName};

/// The specification's name of the list, and that of libcni before 1.2. Newer ones send both.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// An attachment that a GC leaves alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidAttachment {
    /// Its container.
    pub container: ContainerId,
    /// The name of its interface in the pod.
    pub ifname: IfName,
}

impl NetworkConf {
    /// Reads what a GC needs: as [`for_delete`](Self::for_delete), and the attachments that are to stay. Where both of the
    /// keys are there, what either names is valid: what is kept too much the next GC removes, what is removed too much
    /// nobody brings back.
    pub fn for_gc(text: &[u8]) -> Result<(Self, Vec<ValidAttachment>), Error> {
        let entries = parse_json(super::DOCUMENT, text)?;
        let root = Section::root(&entries, Dialect::Json);
        let conf = identity(&root)?;
        Ok((conf, valid(&root)?))
    }
}

fn valid(root: &Section<'_>) -> Result<Vec<ValidAttachment>, Error> {
    if !KEYS.iter().any(|key| root.has(key)) {
        let right = "the list of the attachments that are to stay, [] for none: without it nothing is removed";
        return Err(Error::missing(KEYS[0], right));
    }
    let mut valid = Vec::new();
    for key in KEYS {
        for entry in root.list(key, "a list of {\"containerID\": …, \"ifname\": …}")?.unwrap_or_default() {
            valid.push(attachment(entry)?);
        }
    }
    Ok(valid)
}

fn attachment(entry: Item<'_>) -> Result<ValidAttachment, Error> {
    let entry = entry.section("an object with \"containerID\" and \"ifname\"")?;
    let missing = |key: &str, what: &str| Error::missing(entry.key(key), what);
    Ok(ValidAttachment {
        container: entry.name("containerID")?.ok_or_else(|| missing("containerID", "the ID of the container"))?,
        ifname: entry.name("ifname")?.ok_or_else(|| missing("ifname", "the interface's name in the container"))?,
    })
}
