//! Who a machine is.

use std::path::Path;

/// So many characters of a machine ID are shown: whole it is confidential (machine-id(5)).
const SHOWN: usize = 8;

/// The beginning of a machine ID, by which machines are told apart in what is shown: no more than half of it.
pub fn shortened_id(machine_id: &str) -> String {
    let shown = SHOWN.min(machine_id.chars().count() / 2);
    machine_id.chars().take(shown).chain(['…']).collect()
}

/// Reads a machine ID (machine-id(5)): the only word of the file. The error says what is wrong with it.
pub fn machine_id(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let id = text.trim();
    if id.len() >= 8 && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        Ok(id.to_owned())
    } else {
        Err(format!("{id:?} is not 8 to 64 letters and digits"))
    }
}
