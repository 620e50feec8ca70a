//! What a runtime finds: the plugin, and the networks in its directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use twill_conf::network::list::{self, Author, PLUGIN};
use twill_conf::node::RUN_DIR;
use twill_linux::program::{converse, dies_with_its_starter};

use super::{Seen, Told, Unseen, is_same_directory};
use crate::net_d;

/// How long the plugin may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// A longer file is no plugin of ours, in bytes.
const LONGEST_PLUGIN: u64 = 256 << 20;
/// No more is read of a network's file, in bytes.
const LONGEST_LIST: u64 = 1 << 20;
/// No more of what the plugin says, in bytes.
const LONGEST_WORD: usize = 4096;

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
        version: Told<String>,
    },
}

/// A file that a runtime reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its path.
    pub file: PathBuf,
    /// Whose it is.
    pub author: Author,
    /// The run directory that it names to Twill's plugin, which else takes the default one.
    pub run_dir: Option<PathBuf>,
    /// Whether that is the daemon's.
    pub meets: bool,
}

pub(super) fn plugin(directory: &Path) -> Seen<Plugin> {
    let path = directory.join(PLUGIN);
    let failed = |cause: io::Error| Unseen::of_io(path.display(), &cause);
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
fn introduction(path: &Path) -> Told<String> {
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let said = dies_with_its_starter(&mut command)
        .spawn()
        .and_then(|child| converse(child, b"", PATIENCE, LONGEST_WORD, || true))
        .map_err(|cause| cause.to_string())?;
    let said = String::from_utf8_lossy(&said.stderr);
    let version = said.strip_prefix(PLUGIN).and_then(|rest| rest.trim_start().split_once(':')).map(|(word, _)| word);
    version.map(str::to_owned).ok_or_else(|| "it does not say its version".to_owned())
}

/// `run_dir`: the daemon's.
pub(super) fn networks(directory: &Path, run_dir: &Path) -> Seen<Vec<Network>> {
    let failed = |path: &Path, cause: io::Error| Unseen::of_io(path.display(), &cause);
    let files = net_d::read_by_runtimes(directory).map_err(|cause| failed(directory, cause))?;
    let network = |file: PathBuf| {
        let mut text = Vec::new();
        let opened = File::open(&file).map_err(|cause| failed(&file, cause))?;
        opened.take(LONGEST_LIST).read_to_end(&mut text).map_err(|cause| failed(&file, cause))?;
        let named = list::network(&text).1;
        let meets = is_same_directory(named.as_deref().unwrap_or(Path::new(RUN_DIR)), run_dir);
        Ok(Network { author: list::author(&text), run_dir: named, meets, file })
    };
    files.into_iter().map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(directory: &Path, text: &str) {
        let path = directory.join(PLUGIN);
        twill_testkit::write_program(&path, &format!("{text}\n# {}\n", list::INTRODUCTION));
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
        let much = "#!/bin/sh\necho 'twill 0.1.8: a CNI plugin; so' >&2; head -c 200000 /dev/zero >&2";
        program(directory.path(), much);
        assert_eq!(look(), Ok(Plugin::Ours { version: Ok("0.1.8".to_owned()) }), "more than fits into a pipe");
        fs::set_permissions(directory.path().join(PLUGIN), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(look(), Ok(Plugin::NotExecutable));
    }

    #[test]
    fn networks_come_in_the_order_of_a_runtime_with_their_authors() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let networks = |path: &Path| networks(path, Path::new("/r"));
        assert_eq!(networks(&directory.path().join("none")), Ok(Vec::new()));
        write("10-x.conf", r#"{"type":"bridge"}"#);
        write("05-twill.conflist", r#"{"name":"n","plugins":[{"type":"twill","runDir":"/r"}]}"#);
        write("00-readme.txt", "");
        let found = networks(directory.path()).unwrap();
        let told: Vec<_> = found.iter().map(|network| (network.author.clone(), network.run_dir.clone())).collect();
        assert_eq!(told, [(Author::Install, Some("/r".into())), (Author::Other, None)]);
        assert!(found[0].meets);
        // Without one it is the plugin's default.
        write("05-twill.conflist", r#"{"name":"n","plugins":[{"type":"twill"}]}"#);
        assert!(!networks(directory.path()).unwrap()[0].meets);
        let daemons = |run_dir: &str| super::networks(directory.path(), Path::new(run_dir)).unwrap()[0].meets;
        assert!(daemons(RUN_DIR) && !daemons("/run/other"));
    }
}
