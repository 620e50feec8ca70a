//! Named network namespaces of a test, which go with it, also by a panic; and, where the test was killed before it could
//! remove them, with the next test that makes some.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};

use crate::skip;

/// Where iproute2 keeps the namespaces that have a name.
const DIRECTORY: &str = "/run/netns";
/// What all names begin with; the process ID of their owner follows.
const MARK: &str = "twt-";
/// Held while named namespaces are made, by the lab too.
const LOCK: &str = "/run/twill-lab/.lock";

/// The namespaces of one test.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    made: Mutex<Vec<String>>,
}

impl Namespaces {
    /// A prefix of the test's own. `None`, after saying so, without root or without iproute2.
    pub fn claim() -> Option<Self> {
        static SWEPT: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !skip::is_root("making network namespaces") || !skip::has_program("ip") {
            return None;
        }
        SWEPT.call_once(sweep);
        let prefix = format!("{MARK}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Some(Self { prefix, made: Mutex::default() })
    }

    /// The name, for iproute2, of the namespace that the test calls `what`.
    pub fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }

    /// Its file.
    pub fn path(&self, what: &str) -> PathBuf {
        Path::new(DIRECTORY).join(self.name(what))
    }

    /// Makes it, with its loopback up. Panics where that fails: whoever got this far is root.
    #[track_caller]
    pub fn add(&self, what: &str) {
        let name = self.name(what);
        self.lock().push(name.clone());
        let made = exclusively(|| ip(&["netns", "add", &name])).unwrap_or_else(|e| panic!("locking {LOCK}: {e}"));
        assert!(made.status.success(), "ip netns add {name}: {}", String::from_utf8_lossy(&made.stderr));
        let up = ip(&["-n", &name, "link", "set", "lo", "up"]);
        assert!(up.status.success(), "lo up in {name}: {}", String::from_utf8_lossy(&up.stderr));
    }

    /// Removes it before the end of the test.
    #[track_caller]
    pub fn remove(&self, what: &str) {
        let name = self.name(what);
        let removed = ip(&["netns", "delete", &name]);
        assert!(removed.status.success(), "ip netns delete {name}: {}", String::from_utf8_lossy(&removed.stderr));
        self.lock().retain(|kept| *kept != name);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.made.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in self.lock().iter() {
            // The test may have removed it by its own means, as part of what it tests.
            if Path::new(DIRECTORY).join(name).exists() {
                delete(name);
            }
        }
    }
}

/// One at a time makes named namespaces: iproute2 sets up their directory with several system calls.
///
/// # Errors
///
/// That the lock cannot be had.
pub fn exclusively<T>(work: impl FnOnce() -> T) -> std::io::Result<T> {
    let path = Path::new(LOCK);
    fs::create_dir_all(path.parent().expect("it lies in a directory"))?;
    let file = File::create(path)?;
    file.lock()?;
    let result = work();
    drop(file);
    Ok(result)
}

/// Removes the namespaces of tests that were killed.
fn sweep() {
    let names = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            delete(&name);
        }
    }
}

/// The process ID in the name of a test's namespace.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(MARK)?.split('-').next()?.parse().ok()
}

fn delete(name: &str) {
    let removed = ip(&["netns", "delete", name]);
    if !removed.status.success() {
        eprintln!("ip netns delete {name}: {}", String::from_utf8_lossy(&removed.stderr));
    }
}

fn ip(arguments: &[&str]) -> Output {
    Command::new("ip").args(arguments).output().unwrap_or_else(|e| panic!("running ip {}: {e}", arguments.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_a_dead_process_go_and_those_of_a_living_one_stay() {
        let Some(own) = Namespaces::claim() else { return };
        own.add("stays");
        // Above any that the kernel gives (PID_MAX_LIMIT, 2^22).
        let dead = format!("{MARK}4194305-0-node");
        assert!(exclusively(|| ip(&["netns", "add", &dead])).expect("the lock").status.success());
        sweep();
        assert!(own.path("stays").exists());
        assert!(!Path::new(DIRECTORY).join(&dead).exists());
        let stays = own.path("stays");
        drop(own);
        assert!(!stays.exists());
    }

    #[test]
    fn only_names_of_tests_have_an_owner() {
        assert_eq!(owner("twt-12-0-node"), Some(12));
        for other in ["tw12x0-node", "twt-", "twt-x-0", "cni-12", ""] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
