//! The files that a program's settings stand in, in the order in which it reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A setting: its section, its key, and its value.
pub(super) type Line = (String, String, String);

/// Where a directory of a program's may lie, the one that wins first (systemd.unit(5), NetworkManager.conf(5)).
const BASES: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];

/// The files of that ending in a directory of a program's, by their names: of several with one name that in /etc wins, then that in
/// /run. `directory`: below those, as in "systemd/networkd.conf.d".
pub(super) fn fragments(root: &Path, bases: &[&str], directory: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    for base in bases {
        let entries = std::fs::read_dir(root.join(base).join(directory)).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|has| has == ending)) {
            if let Some(name) = path.file_name() {
                found.entry(name.to_owned()).or_insert(path);
            }
        }
    }
    found.into_values().collect()
}

/// The main file and its fragments, as systemd reads them: later ones win.
pub(super) fn of_systemd(root: &Path, main: &str) -> Vec<PathBuf> {
    let main_file = BASES.iter().map(|base| root.join(base).join(main)).find(|path| path.exists());
    let fragments = fragments(root, &BASES, &format!("{main}.d"), "conf");
    main_file.into_iter().chain(fragments).collect()
}

/// All .network files, in the order in which systemd-networkd tries them on an interface.
pub(super) fn networks(root: &Path) -> Vec<PathBuf> {
    fragments(root, &BASES, "systemd/network", "network")
}

/// What NetworkManager reads: later ones win.
pub(super) fn of_network_manager(root: &Path) -> Vec<PathBuf> {
    let (own, directory) = (fragments(root, &["etc"], "NetworkManager/conf.d", "conf"), "NetworkManager/conf.d");
    let is_own = |path: &PathBuf| own.iter().any(|own| own.file_name() == path.file_name());
    // Those of the distribution come first, and one that has the name of the administrator's is not read.
    let others = ["usr/lib", "run"].map(|base| fragments(root, &[base], directory, "conf"));
    let mut files: Vec<_> = others.into_iter().flatten().filter(|path| !is_own(path)).collect();
    files.push(root.join("etc/NetworkManager/NetworkManager.conf"));
    files.extend(own);
    files
}

/// The settings in a file, in their order; none of one that cannot be read.
pub(super) fn lines(file: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (mut section, mut found) = (String::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            found.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// The last value that the files give a setting.
pub(super) fn last(files: &[PathBuf], section: &str, key: &str) -> Option<String> {
    let lines = files.iter().flat_map(|file| lines(file));
    lines.filter(|(of, name, _)| of == section && name == key).map(|(.., value)| value).next_back()
}

/// Whether a value says no (systemd.syntax(7)).
pub(super) fn is_no(value: &str) -> bool {
    ["no", "n", "false", "f", "off", "0"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

/// Whether it says yes.
pub(super) fn is_yes(value: &str) -> bool {
    ["yes", "y", "true", "t", "on", "1"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}
