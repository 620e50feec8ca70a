//! The file that a bundle is: members of bounded length, without what is known to be secret.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::report::bundle::{Member, excerpt};
use crate::report::untold::Untold;

/// A longer member is left out, in bytes.
const LONGEST: usize = 16 << 20;
/// All members together are no longer, in bytes.
const LONGEST_OF_ALL: usize = 128 << 20;
/// What stands in the place of a secret.
const LEFT_OUT: &str = "[left out]";
/// What to do about a part that is not there.
const WITHOUT: &str = "send the bundle without it, or mend what stands in the way and make another";
/// A shorter secret is not looked for: it would be found in everything.
const SHORTEST: usize = 6;

/// What is gathered.
#[derive(Debug, Default)]
pub(super) struct Archive {
    members: Vec<(Member, Vec<u8>)>,
    /// What could not be got, and why.
    unknown: Vec<Untold>,
    length: usize,
    /// Each with what stands in its place.
    secrets: BTreeMap<String, String>,
}

impl Archive {
    /// An archive in which none of these words stands, whatever is added: in case that an error repeats one.
    pub(super) fn without(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut archive = Self::default();
        secrets.into_iter().for_each(|secret| archive.hide(&secret, LEFT_OUT));
        archive
    }

    /// From now on something else stands in the place of this text.
    pub(super) fn hide(&mut self, secret: &str, instead: &str) {
        if secret.len() >= SHORTEST {
            self.secrets.insert(secret.to_owned(), instead.to_owned());
        }
    }

    /// From now on machines are disguised as they are in the excerpts of records. What is no machine ID (machine-id(5), or 8 to 64
    /// letters and digits of a file that was named) is what anybody wrote into a record: it is not looked for.
    pub(super) fn hide_machines<'a>(&mut self, ids: impl IntoIterator<Item = &'a String>) {
        for id in ids {
            let is_one = (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if is_one {
                self.hide(id, &excerpt::disguised(id));
            }
        }
    }

    /// Adds a member as JSON, or why there is none.
    pub(super) fn add(&mut self, path: &str, what: &str, found: Result<impl Serialize, impl ToString>) {
        let text = match found {
            Ok(value) => serde_json::to_string_pretty(&value).map_err(|error| error.to_string()),
            Err(cause) => Err(cause.to_string()),
        };
        match text.map(|text| self.scrubbed(&text).into_bytes()) {
            Ok(text) if text.len() > LONGEST || self.length + text.len() > LONGEST_OF_ALL => {
                let what = format!("{what}: it is {} bytes long, and there is no room for it", text.len());
                self.lacks(Untold::new(what, WITHOUT));
            }
            Ok(text) => {
                self.length += text.len();
                let member = Member { path: path.to_owned(), what: what.to_owned(), bytes: text.len() };
                self.members.push((member, text));
            }
            Err(cause) => self.lacks(Untold::new(format!("{what}: {cause}"), WITHOUT)),
        }
    }

    /// Says what is not there, and why.
    pub(super) fn lacks(&mut self, untold: Untold) {
        let Untold { what, fix } = untold;
        self.unknown.push(Untold::new(self.scrubbed(&what), self.scrubbed(&fix)));
    }

    /// The members and what is missing.
    pub(super) fn contents(&self) -> (Vec<Member>, Vec<Untold>) {
        (self.members.iter().map(|(member, _)| member.clone()).collect(), self.unknown.clone())
    }

    /// Writes it to a file that is not there yet, below one directory; that of nobody but its owner.
    pub(super) fn write(&self, file: &Path, directory: &str, now: u64) -> io::Result<u64> {
        let made = make(file)?;
        let written = self.pack(&made, directory, now).and_then(|()| made.metadata());
        if written.is_err() {
            // Half a bundle is of no use; that it stays there is the lesser evil.
            std::fs::remove_file(file).ok();
        }
        written.map(|metadata| metadata.len())
    }

    fn pack(&self, into: impl Write, directory: &str, now: u64) -> io::Result<()> {
        let mut tar = tar::Builder::new(GzEncoder::new(into, Compression::default()));
        for (member, text) in &self.members {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(now);
            tar.append_data(&mut header, format!("{directory}/{}", member.path), text.as_slice())?;
        }
        tar.into_inner()?.finish()?.flush()
    }

    fn scrubbed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (secret, instead) in &self.secrets {
            let quoted = serde_json::to_string(secret).unwrap_or_default();
            let quoted = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
            for word in [secret.as_str(), quoted].into_iter().filter(|word| text.contains(word)).collect::<Vec<_>>() {
                text = text.replace(word, instead);
            }
        }
        text
    }
}

/// Makes a file that is not there yet; that of nobody but its owner.
fn make(file: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)
}

/// Whether a file can be made there, which leaves none.
pub(super) fn can_be_made(file: &Path) -> io::Result<()> {
    make(file).and_then(|_| std::fs::remove_file(file))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn unpacked(archive: &Archive) -> Vec<(String, String)> {
        let mut bytes = Vec::new();
        archive.pack(&mut bytes, "b", 7).unwrap();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let read = |entry: io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        };
        tar.entries().unwrap().map(read).collect()
    }

    #[test]
    fn what_is_known_to_be_secret_stands_nowhere_and_short_words_are_no_secrets() {
        let mut archive = Archive::without(["hunter\"22".to_owned(), "a".to_owned()]);
        archive.add("a.json", "a", Ok::<_, String>(["it was hunter\"22", "a"]));
        archive.add("b.json", "b", Err::<(), _>("no hunter\"22"));
        assert_eq!(unpacked(&archive), [("b/a.json".to_owned(), "[\n  \"it was [left out]\",\n  \"a\"\n]".to_owned())]);
        assert_eq!(archive.contents().1, [Untold::new("b: no [left out]", WITHOUT)]);
    }

    #[test]
    fn machines_are_disguised_wherever_they_are_named() {
        let mut archive = Archive::default();
        let id = "0123456789abcdef0123456789abcdef".to_owned();
        archive.hide_machines([&id, &"\"a\": {}, ".to_owned(), &"short".to_owned()]);
        archive.add("a.json", "a", Ok::<_, String>([format!("machine {id}"), "short".to_owned()]));
        let wanted = format!("[\n  \"machine {}\",\n  \"short\"\n]", excerpt::disguised(&id));
        assert_eq!(unpacked(&archive), [("b/a.json".to_owned(), wanted)]);
    }

    #[test]
    fn whether_a_file_can_be_made_is_known_before_and_none_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        can_be_made(&file).unwrap();
        assert!(!file.exists());
        std::fs::write(&file, "x").unwrap();
        assert_eq!(can_be_made(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(can_be_made(&directory.path().join("none/a")).is_err());
    }

    #[test]
    fn what_is_too_long_is_left_out_and_told() {
        let mut archive = Archive::default();
        archive.add("long.json", "long", Ok::<_, String>("x".repeat(LONGEST)));
        for n in 0..9 {
            archive.add(&format!("{n}.json"), "much", Ok::<_, String>("x".repeat(LONGEST - 2)));
        }
        let (members, unknown) = archive.contents();
        assert_eq!((members.len(), unknown.len()), (8, 2));
        assert!(unknown[0].what.starts_with("long: it is 16777218 bytes long"), "{unknown:?}");
    }

    #[test]
    fn a_file_that_is_there_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("b.tar.gz");
        let mut archive = Archive::default();
        archive.add("a.json", "a", Ok::<_, String>(1));
        let bytes = archive.write(&file, "b", 0).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), bytes);
        assert_eq!(archive.write(&file, "b", 0).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), bytes);
        assert!(archive.write(&dir.path().join("no/b"), "b", 0).is_err());
    }
}
