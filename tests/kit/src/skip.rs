//! Whether a test can run here, and the line that says why not. `hack/test` counts these lines.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::{env, thread};

/// Says on standard error that the running test is skipped, and why; of a test that would say so twice, once.
///
/// Not by `eprintln!`, which the harness captures, and swallows when the test passes.
pub fn say_skipped(why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let thread = thread::current();
    // With one test thread the harness runs all tests on the main one: its name tells nothing.
    let test = thread.name().filter(|name| *name != "main");
    let mut said = SAID.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if test.is_some_and(|test| !said.insert(test.to_owned())) {
        return;
    }
    let line = format!("skipped: {}: {why}\n", test.unwrap_or("a_test"));
    // Nobody listens any more: then nobody needs to be told.
    std::io::stderr().write_all(line.as_bytes()).unwrap_or_default();
}

/// Whether the test runs as root; where not, says that it is skipped because `what` needs root.
pub fn is_root(what: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        say_skipped(&format!("{what} needs root"));
    }
    is_root
}

/// Whether a program is installed; where not, says that the test is skipped for want of it.
pub fn has_program(program: &str) -> bool {
    let is_there = finds(program).is_some();
    if !is_there {
        say_skipped(&format!("{program} is not installed, hack/setup installs it"));
    }
    is_there
}

/// Where the search path has a program.
pub fn finds(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
