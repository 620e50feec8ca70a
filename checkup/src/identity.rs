//! Who a machine is.

use std::fs::File;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::Path;

/// So many characters of a machine ID are shown: whole it is confidential (machine-id(5)).
const SHOWN: usize = 8;
/// How long a machine ID is, in bytes: 32 where systemd makes it, and what other systems have instead.
const LENGTHS: RangeInclusive<usize> = 8..=64;
/// No more is read, in bytes.
const LONGEST_FILE: u64 = 4096;
/// What stands in the file of an image that is to become several machines (machine-id(5)).
const UNINITIALIZED: &str = "uninitialized";

/// The beginning of a machine ID, by which machines are told apart in what is shown: no more than half of it.
pub fn shortened_id(machine_id: &str) -> String {
    let shown = SHOWN.min(machine_id.chars().count() / 2);
    machine_id.chars().take(shown).chain(['…']).collect()
}

/// Reads a machine ID (machine-id(5)): the only word of the file. The error says what kind of fault it has, and never what stands
/// there, since a machine ID is confidential also where something else stands beside it.
pub fn machine_id(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let (id, is_letter) = (text.trim(), |b: u8| b.is_ascii_alphanumeric() || b == b'-');
    let fault = match id.len() {
        0 => "the file is empty".to_owned(),
        _ if text.len() as u64 > LONGEST_FILE => format!("it is longer than {LONGEST_FILE} bytes"),
        _ if id == UNINITIALIZED => {
            format!("it is {UNINITIALIZED:?}, as in an image of a machine: systemd makes one at the first boot")
        }
        length if !LENGTHS.contains(&length) => format!("it has {length} bytes"),
        _ if !id.bytes().all(is_letter) => "there is more in it than letters, digits and '-'".to_owned(),
        _ => return Ok(id.to_owned()),
    };
    Err(format!("{fault}; an ID is one word of {} to {} letters and digits", LENGTHS.start(), LENGTHS.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_machine_id_is_refused_by_its_kind_and_never_repeated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            machine_id(file.path())
        };
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(read(&format!("{id}\n")).as_deref(), Ok(id));
        for (text, words) in [
            ("\n", "empty"),
            ("uninitialized\n", "first boot"),
            ("0123456", "7 bytes"),
            (&id.repeat(3), "96 bytes"),
            (&format!("{id}\n{id}"), "65 bytes"),
            (&format!("{id} secret"), "more in it than letters"),
            (&id.repeat(1000), "longer than"),
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.contains(words), "{text:?}: {fault}");
            assert!(!fault.contains("secret") && !fault.contains(&id[..8]) && fault.len() < 200, "{fault}");
        }
        std::fs::write(file.path(), [0xff; 32]).unwrap();
        assert!(machine_id(file.path()).unwrap_err().contains("UTF-8"));
        assert!(machine_id(Path::new("/nowhere/machine-id")).unwrap_err().contains("No such file"));
    }
}
