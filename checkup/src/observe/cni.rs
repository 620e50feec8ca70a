//! What a runtime finds: the plugin, and the networks in its directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use twill_conf::network::list::{self, Author, PLUGIN};

use super::Seen;
use crate::net_d;

/// How long the plugin may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(2);
/// A longer file is no plugin of ours, in bytes.
const LONGEST_PLUGIN: u64 = 256 << 20;
/// No more is read of a network's file, in bytes.
const LONGEST_LIST: u64 = 1 << 20;
/// No more of what the plugin says, in bytes.
const LONGEST_WORD: u64 = 4096;

/// What stands in the plugin's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plugin {
    /// Nothing.
    Missing,
    /// Another program of that name.
    Foreign,
    /// Twill's, which nobody may execute.
    NotExecutable,
    /// Twill's.
    Ours {
        /// Its version, or why it does not tell.
        version: Seen<String>,
    },
}

/// A file that a runtime reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its path.
    pub file: PathBuf,
    /// Whose it is.
    pub author: Author,
    /// The run directory that it names to Twill's plugin.
    pub run_dir: Option<PathBuf>,
}

pub(super) fn plugin(directory: &Path) -> Seen<Plugin> {
    let path = directory.join(PLUGIN);
    let failed = |cause: io::Error| format!("{}: {cause}", path.display());
    let metadata = match fs::metadata(&path) {
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Plugin::Missing);
        }
        other => other.map_err(failed)?,
    };
    let is_ours = || list::is_plugin_in(File::open(&path)?.take(LONGEST_PLUGIN));
    if !metadata.is_file() || metadata.len() > LONGEST_PLUGIN || !is_ours().map_err(failed)? {
        return Ok(Plugin::Foreign);
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Ok(Plugin::NotExecutable);
    }
    Ok(Plugin::Ours { version: introduction(&path).map_err(|cause| format!("{}: {cause}", path.display())) })
}

/// What it says of itself where no runtime calls it: "twill 0.1.0: a CNI plugin; …".
fn introduction(path: &Path) -> Seen<String> {
    let said = (|| {
        let mut command = Command::new(path);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(ErrorKind::TimedOut, "it did not end in time"));
            }
            thread::sleep(LOOK);
        }
        let mut text = String::new();
        child.stderr.take().map_or(Ok(0), |pipe| pipe.take(LONGEST_WORD).read_to_string(&mut text))?;
        Ok(text)
    })();
    let said = said.map_err(|cause: io::Error| cause.to_string())?;
    let version = said.strip_prefix(PLUGIN).and_then(|rest| rest.trim_start().split_once(':')).map(|(word, _)| word);
    version.map(str::to_owned).ok_or_else(|| "it does not say its version".to_owned())
}

pub(super) fn networks(directory: &Path) -> Seen<Vec<Network>> {
    let failed = |path: &Path, cause: io::Error| format!("{}: {cause}", path.display());
    let files = net_d::read_by_runtimes(directory).map_err(|cause| failed(directory, cause))?;
    let network = |file: PathBuf| {
        let mut text = Vec::new();
        let opened = File::open(&file).map_err(|cause| failed(&file, cause))?;
        opened.take(LONGEST_LIST).read_to_end(&mut text).map_err(|cause| failed(&file, cause))?;
        Ok(Network { author: list::author(&text), run_dir: list::network(&text).1, file })
    };
    files.into_iter().map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(directory: &Path, text: &str) {
        let path = directory.join(PLUGIN);
        fs::write(&path, format!("{text}\n# {}\n", list::INTRODUCTION)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn what_stands_in_the_plugins_place_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let look = || plugin(directory.path());
        assert_eq!(look(), Ok(Plugin::Missing));
        fs::write(directory.path().join(PLUGIN), "#!/bin/sh\n").unwrap();
        assert_eq!(look(), Ok(Plugin::Foreign));
        program(directory.path(), "#!/bin/sh\necho 'twill 0.1.7: a CNI plugin; so' >&2; exit 1");
        assert_eq!(look(), Ok(Plugin::Ours { version: Ok("0.1.7".to_owned()) }));
        program(directory.path(), "#!/bin/sh\necho '{}'");
        assert!(matches!(look(), Ok(Plugin::Ours { version: Err(why) }) if why.contains("does not say")));
        fs::set_permissions(directory.path().join(PLUGIN), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(look(), Ok(Plugin::NotExecutable));
    }

    #[test]
    fn networks_come_in_the_order_of_a_runtime_with_their_authors() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        assert_eq!(networks(&directory.path().join("none")), Ok(Vec::new()));
        write("10-x.conf", r#"{"type":"bridge"}"#);
        write("05-twill.conflist", r#"{"name":"n","plugins":[{"type":"twill","runDir":"/r"}]}"#);
        write("00-readme.txt", "");
        let found = networks(directory.path()).unwrap();
        let told: Vec<_> = found.iter().map(|network| (network.author.clone(), network.run_dir.clone())).collect();
        assert_eq!(told, [(Author::Install, Some("/r".into())), (Author::Other, None)]);
    }
}
