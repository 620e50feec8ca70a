//! The design's rules about folders, files and dependencies, as far as a program can see whether they are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use twill_tests::needs::workspace;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Which of our crates each crate may use, by folder; `*` is all that are libraries.
const ARROWS: [(&str, &[&str]); 14] = [
    ("attach", &["ipam", "linux", "conf", KIT]),
    ("bgp", &[]),
    ("chart", &[]),
    ("checkup", &["cluster", "linux", "conf", KIT]),
    ("cluster", &["ipam", "conf", KIT]),
    ("cni-plugin", &["attach", "ipam", "linux", "conf", KIT]),
    ("conf", &[]),
    ("ctl", &["*"]),
    ("fabric", &["cluster", "linux", "ipam", "conf", KIT]),
    ("ipam", &["conf", KIT]),
    ("linux", &[KIT]),
    ("node-daemon", &["*"]),
    ("tests", &["*"]),
    (KIT, &[]),
];
/// What the tests of the crates share; no program contains it.
const KIT: &str = "tests/kit";
/// What the plugin must not contain: it is a short-lived process, whose start is part of every pod's.
const NOT_IN_THE_PLUGIN: [&str; 5] = ["tokio", "clap", "etcd-client", "tonic", "twill-testkit"];
/// What may read the time of day, and why nothing that a node does hangs on it.
const CALENDARS: [(&str, &str); 5] = [
    ("node-daemon/src/calendar.rs", "since when a pod has its address is told to people, and how right the clock is"),
    ("checkup/src/observe.rs", "when certificates expire, and whether the clock is right, is told to people"),
    ("ctl/src/access.rs", "how long ago something happened is told to people"),
    ("ctl/src/command/doctor.rs", "clocks of machines are compared with it, for people"),
    ("tests/kit/src/certificates.rs", "certificates are made that are valid now, or no longer"),
];
/// By these a clock is read that somebody may set. SQLite has one too.
const SETTABLE: [&str; 10] = [
    "SystemTime",
    "UNIX_EPOCH",
    "CLOCK_REALTIME",
    "CLOCK_TAI",
    "gettimeofday",
    "chrono::",
    "OffsetDateTime",
    "CURRENT_TIME",
    "strftime(",
    "unixepoch",
];
/// The longest source file, in lines.
const LONGEST: usize = 500;

fn cargo(arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).current_dir(workspace()).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The crates by folder, with the folders of those of our crates that they use for anything.
fn used_crates() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps", "--offline"])?)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let mut used = BTreeMap::new();
    for package in packages {
        let manifest = Path::new(package["manifest_path"].as_str().ok_or("no manifest_path")?);
        let paths = package["dependencies"].as_array().into_iter().flatten().filter_map(|d| d["path"].as_str());
        let folders = paths.map(|path| folder(Path::new(path))).collect::<Result<_>>()?;
        used.insert(folder(manifest.parent().ok_or("a manifest lies in a folder")?)?, folders);
    }
    Ok(used)
}

fn folder(path: &Path) -> Result<String> {
    Ok(path.strip_prefix(workspace())?.display().to_string())
}

#[test]
fn the_plugin_contains_no_runtime_no_command_line_parser_and_no_etcd_client() -> Result<()> {
    let tree = cargo(&["tree", "--offline", "--package=twill-cni-plugin", "--edges=normal", "--prefix=none"])?;
    let crates: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("twill-ipam"), "this is not the plugin's tree: {tree}");
    for unwanted in NOT_IN_THE_PLUGIN {
        let why =
            || cargo(&["tree", "--offline", "--package=twill-cni-plugin", "--edges=normal", "--invert", unwanted]);
        assert!(!crates.contains(unwanted), "the plugin contains {unwanted}:\n{}", why()?);
    }
    Ok(())
}

#[test]
fn no_program_can_take_a_guard_of_addresses_out() -> Result<()> {
    let features = |package: &str, edges: &str| {
        let (package, edges) = (format!("--package={package}"), format!("--edges={edges}"));
        cargo(&["tree", "--offline", "--locked", "--prefix=none", &package, &edges])
    };
    let switch = "twill-ipam feature \"model\"";
    assert!(features("twill-attach", "features")?.contains(switch), "the model test asks for it, and it is not seen");
    // What makes the reference of the configuration is no affair of programs either.
    let reference = "twill-conf feature \"schema\"";
    assert!(features("twill-conf", "features")?.contains(reference), "its own tests ask for it, and it is not seen");
    for program in ["twill-cni-plugin", "twill-node-daemon", "twill-ctl"] {
        let tree = features(program, "features,no-dev")?;
        assert!(!tree.contains(reference), "{program} is built with the feature `schema` of twill-conf");
        assert!(tree.contains("twill-ipam"), "this is not the tree of {program}: {tree}");
        assert!(!tree.contains(switch), "{program} is built with the feature `model` of twill-ipam");
    }
    Ok(())
}

#[test]
fn crates_depend_only_in_the_directions_of_the_design() -> Result<()> {
    let used = used_crates()?;
    let known: BTreeSet<_> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(used.keys().cloned().collect::<BTreeSet<_>>(), known, "a crate is missing here, or in the workspace");
    let programs = ["cni-plugin", "node-daemon", "ctl", "tests"];
    for (name, allowed) in ARROWS {
        // A crate that asks itself for a feature does so for its tests.
        for other in used[name].iter().filter(|other| *other != name) {
            let is_allowed = allowed.contains(&other.as_str())
                || (allowed.contains(&"*") && (name == "tests" || !programs.contains(&other.as_str())));
            assert!(is_allowed, "{name} depends on {other}");
        }
    }
    Ok(())
}

/// All Rust files below a crate's `src`.
fn sources() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories: Vec<_> = ARROWS.iter().map(|(name, _)| workspace().join(name).join("src")).collect();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > ARROWS.len(), "there must be more files than crates: {files:?}");
    Ok(files)
}

/// Unit tests in a file or folder of their own are no sources.
fn is_test(path: &Path) -> bool {
    let inside = path.strip_prefix(workspace()).unwrap_or(path);
    inside.ends_with("tests.rs") || inside.components().skip(2).any(|part| part.as_os_str() == "tests")
}

#[test]
fn no_source_file_is_over_500_lines() -> Result<()> {
    let mut long = Vec::new();
    for path in sources()?.into_iter().filter(|path| !is_test(path)) {
        let lines = fs::read_to_string(&path)?.lines().count();
        if lines > LONGEST {
            long.push(format!("{}: {lines}", folder(&path)?));
        }
    }
    assert!(long.is_empty(), "split them: {long:?}");
    Ok(())
}

#[test]
fn every_module_says_what_it_is_for() -> Result<()> {
    let mut silent = Vec::new();
    for path in sources()? {
        let text = fs::read_to_string(&path)?;
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if first.strip_prefix("//! ").is_none_or(|sentence| sentence.len() < 10) {
            silent.push(folder(&path)?);
        }
    }
    assert!(silent.is_empty(), "they do not open with `//!`: {silent:?}");
    Ok(())
}

#[test]
fn every_crate_inherits_the_lints_and_the_edition_of_the_workspace() -> Result<()> {
    for (name, _) in ARROWS {
        let manifest = fs::read_to_string(workspace().join(name).join("Cargo.toml"))?;
        for line in ["edition.workspace = true", "rust-version.workspace = true", "[lints]\nworkspace = true"] {
            assert!(manifest.contains(line), "{name}/Cargo.toml lacks {line:?}");
        }
    }
    Ok(())
}

#[test]
fn a_module_with_unsafe_blocks_gives_the_reason_at_each() -> Result<()> {
    for path in sources()? {
        let text = fs::read_to_string(&path)?;
        let lines: Vec<_> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            let before = lines[number.saturating_sub(6)..number].iter();
            let has_reason = before.rev().any(|line| line.contains("SAFETY:"));
            assert!(has_reason, "{}:{}: no SAFETY comment", folder(&path)?, number + 1);
        }
    }
    Ok(())
}

/// The lab is no part of a program.
#[test]
fn what_a_program_does_reads_no_clock_that_somebody_may_set() -> Result<()> {
    let lab = workspace().join("tests/src");
    let mut readers = BTreeSet::new();
    for path in sources()?.into_iter().filter(|path| !path.starts_with(&lab) && !is_test(path)) {
        let text = fs::read_to_string(&path)?;
        if SETTABLE.iter().any(|clock| text.contains(clock)) {
            readers.insert(folder(&path)?);
        }
    }
    let known: BTreeSet<String> = CALENDARS.map(|(path, _)| path.to_owned()).into();
    assert_eq!(readers, known, "a jump of the clock would change what those do that are not on the list");
    Ok(())
}
