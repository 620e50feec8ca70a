//! The end of a lab, whatever the end of its owner.
//!
//! All of a lab is found by its prefix: the namespaces, the processes in them, the directory below [`ROOT`], the
//! cgroups of containers and the results that libcni keeps. So removing it needs no memory of what was made, may be interrupted, and may be repeated.
//! It is done by the owner, when a [`crate::Lab`] is dropped; by a guard, another process, which sees that the owner has
//! ended because a pipe closes, be it by an interrupt, a kill or a panic; and by whoever makes the next lab, for labs
//! whose owner and guard were both killed.

pub mod cgroups;

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::deadline::{self, PATIENCE};
use crate::namespace::{self, Namespace};
use crate::{LabError, Result, binaries};

/// Where labs keep their files, a directory each.
pub const ROOT: &str = "/run/twill-lab";
/// Where libcni keeps the results of ADD.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// The owner of a lab that is to outlive whoever made it.
const KEPT: &str = "kept";
/// For how long a lab's directory may be without an owner while it is being made or removed.
const OWNERLESS: Duration = Duration::from_mins(1);

/// The directory of a lab.
pub fn directory(prefix: &str) -> PathBuf {
    Path::new(ROOT).join(prefix)
}

/// The name of a lab's CNI network. It carries the prefix, since libcni's file names begin with it.
pub fn network(prefix: &str) -> String {
    format!("{prefix}-net")
}

/// That no lab bears this name; the error says how to remove it.
pub fn expect_free(name: &str) -> Result<()> {
    if !directory(name).exists() {
        return Ok(());
    }
    Err(LabError::wrong(format!("a lab called {name} stands already: hack/lab down --name {name}")))
}

/// Takes the prefix for the running process: makes the directory of the lab, on a tmpfs of its own, as /run is on a node.
pub fn claim(prefix: &str) -> Result<PathBuf> {
    let directory = directory(prefix);
    fs::create_dir_all(ROOT).map_err(LabError::io(format!("making {ROOT}")))?;
    fs::create_dir(&directory).map_err(LabError::io(format!("making {}", directory.display())))?;
    mount(Some("twill-lab"), &directory, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .map_err(LabError::errno(format!("mounting a tmpfs on {}", directory.display())))?;
    let owner = format!("{} {}", std::process::id(), start_time(std::process::id()).unwrap_or_default());
    write_owner(prefix, &owner)?;
    Ok(directory)
}

/// Lets the lab outlive its maker.
pub fn keep(prefix: &str) -> Result<()> {
    write_owner(prefix, KEPT)
}

fn write_owner(prefix: &str, owner: &str) -> Result<()> {
    let file = directory(prefix).join("owner");
    fs::write(&file, owner).map_err(LabError::io(format!("writing {}", file.display())))
}

/// Removes all of a lab. Succeeds where there is nothing of it. What fails keeps nothing else from being removed; the
/// error tells all that failed.
pub fn remove(prefix: &str) -> Result<()> {
    let mut outcomes = match namespaces_of(prefix) {
        Ok(namespaces) => {
            let ended = end_processes(&namespaces);
            std::iter::once(ended).chain(namespaces.iter().map(Namespace::remove)).collect()
        }
        Err(error) => vec![Err(error)],
    };
    let directory = directory(prefix);
    outcomes.push(remove_results(prefix));
    outcomes.push(cgroups::remove(prefix));
    outcomes.push(match umount2(&directory, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(errno) => Err(LabError::errno(format!("unmounting {}", directory.display()))(errno)),
    });
    outcomes.push(remove_if_there(fs::remove_dir_all(&directory), &format!("removing {}", directory.display())));
    LabError::join(outcomes)
}

/// Removes what libcni keeps of the lab's network.
fn remove_results(prefix: &str) -> Result<()> {
    let directory = Path::new(CNI_RESULTS);
    let begin = format!("{}-", network(prefix));
    let results = entries(directory)?.into_iter().filter(|name| name.starts_with(&begin));
    let remove = |name: String| remove_if_there(fs::remove_file(directory.join(&name)), &format!("removing {name}"));
    LabError::join(results.map(remove))
}

/// Removes the labs whose owner is gone.
pub fn sweep() -> Result<()> {
    let is_left = |prefix: &String| match fs::read_to_string(directory(prefix).join("owner")) {
        Ok(owner) => owner != KEPT && !is_alive(&owner),
        Err(_) => is_old(prefix),
    };
    LabError::join(entries(Path::new(ROOT))?.into_iter().filter(is_left).map(|prefix| remove(&prefix)))
}

/// Whether a lab's directory, which names no owner, is more than just being made, or just being removed.
fn is_old(prefix: &str) -> bool {
    let modified = fs::metadata(directory(prefix)).and_then(|directory| directory.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > OWNERLESS))
}

/// The labs that are there: the prefix, and whether it is kept.
pub fn labs() -> Result<Vec<(String, bool)>> {
    let kept = |prefix: &String| fs::read_to_string(directory(prefix).join("owner")).is_ok_and(|o| o == KEPT);
    Ok(entries(Path::new(ROOT))?.into_iter().map(|prefix| (prefix.clone(), kept(&prefix))).collect())
}

/// The namespaces that carry a prefix.
pub fn namespaces_of(prefix: &str) -> Result<Vec<Namespace>> {
    let names = entries(Path::new(namespace::DIRECTORY))?;
    Ok(names.into_iter().filter(|n| n.starts_with(&format!("{prefix}-"))).map(Namespace::named).collect())
}

fn entries(directory: &Path) -> Result<BTreeSet<String>> {
    let what = || format!("listing {}", directory.display());
    let listing = match fs::read_dir(directory) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.map_err(LabError::io(what()))?,
    };
    let names = listing.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<std::io::Result<BTreeSet<_>>>().map_err(LabError::io(what()))?;
    Ok(names.into_iter().filter(|name| !name.starts_with('.')).collect())
}

fn remove_if_there(result: std::io::Result<()>, what: &str) -> Result<()> {
    match result {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(LabError::io(what)(cause)),
        _ => Ok(()),
    }
}

/// Kills every process that runs in one of the namespaces, by its ID, until there is none.
fn end_processes(namespaces: &[Namespace]) -> Result<()> {
    let inodes: BTreeSet<u64> = namespaces.iter().filter_map(|n| n.inode().ok()).collect();
    deadline::until_some("no process is left in the lab", PATIENCE, || {
        let processes = processes_in(&inodes)?;
        for pid in &processes {
            match kill(*pid, Signal::SIGKILL) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(errno) => return Err(LabError::errno(format!("killing {pid}"))(errno)),
            }
        }
        Ok(if processes.is_empty() { Ok(()) } else { Err(format!("{processes:?}")) })
    })
}

fn processes_in(inodes: &BTreeSet<u64>) -> Result<Vec<Pid>> {
    let own = std::process::id().cast_signed();
    let pids = entries(Path::new("/proc"))?.into_iter().filter_map(|name| name.parse::<i32>().ok());
    let is_inside = |pid: &i32| {
        // A process that has just ended, or is a zombie, is in no namespace.
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|namespace| inodes.contains(&namespace.ino()))
    };
    Ok(pids.filter(|pid| *pid != own).filter(is_inside).map(Pid::from_raw).collect())
}

/// When a process started, in ticks since the boot (proc(5), /proc/pid/stat, field 22): with its ID, this is a process
/// for ever.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19).map(str::to_owned)
}

fn is_alive(owner: &str) -> bool {
    let Some((pid, started)) = owner.split_once(' ') else { return false };
    pid.parse().is_ok_and(|pid| start_time(pid).is_some_and(|s| s == started))
}

/// The process that removes a lab when its owner has ended.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts it.
    pub fn post(prefix: &str) -> Result<Self> {
        let mut command = Command::new(binaries::lab_program()?);
        command.args(["guard", prefix]).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        // Standard error goes nowhere either: whoever reads the owner's must not have to wait for the guard's end.
        command.stderr(Stdio::null());
        Ok(Self { child: command.spawn().map_err(LabError::io("starting the guard of the lab"))? })
    }

    /// What the guard does: waits until its standard input ends, then removes the lab, unless it is kept.
    pub fn stand(prefix: &str) -> Result<()> {
        std::io::stdin().read_to_end(&mut Vec::new()).map_err(LabError::io("waiting for the owner of the lab"))?;
        let owner = fs::read_to_string(directory(prefix).join("owner")).unwrap_or_default();
        if owner == KEPT {
            return Ok(());
        }
        remove(prefix)?;
        // What the owner had begun when it was killed may be finished only now.
        std::thread::sleep(Duration::from_millis(300));
        remove(prefix)
    }

    /// Ends it, after the lab was removed or kept.
    pub fn relieve(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().map(drop).map_err(LabError::io("waiting for the guard of the lab"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as of a lab whose maker was killed before it wrote its name, of that age.
    fn ownerless(prefix: &str, age: Duration) -> PathBuf {
        let directory = directory(prefix);
        fs::create_dir_all(&directory).expect("root may");
        let modified = std::time::SystemTime::now() - age;
        fs::File::open(&directory).and_then(|file| file.set_modified(modified)).expect("it is ours");
        directory
    }

    #[test]
    fn an_old_directory_without_an_owner_is_swept_and_a_young_one_stays() {
        if !twill_testkit::is_root("making a lab's directory") {
            return;
        }
        let own = std::process::id();
        let old = ownerless(&format!("old{own}"), OWNERLESS * 2);
        let young = ownerless(&format!("young{own}"), Duration::ZERO);
        let swept = sweep();
        let stand = (old.exists(), young.exists());
        fs::remove_dir(&young).expect("it stands");
        swept.expect("nothing stands in the way");
        assert_eq!(stand, (false, true));
    }

    #[test]
    fn what_cannot_be_removed_keeps_nothing_else_from_going_and_all_errors_are_told() {
        if !twill_testkit::is_root("making a lab's directory") {
            return;
        }
        let prefix = format!("stuck{}", std::process::id());
        let directory = ownerless(&prefix, Duration::ZERO);
        // Directories are no namespaces.
        let stuck = ["a", "b"].map(|name| Path::new(namespace::DIRECTORY).join(format!("{prefix}-{name}")));
        stuck.iter().for_each(|path| fs::create_dir_all(path).expect("root may"));
        let removed = remove(&prefix);
        stuck.iter().for_each(|path| fs::remove_dir(path).expect("it stands"));
        let error = removed.expect_err("two of its names are stuck").to_string();
        assert!(stuck.iter().all(|path| error.contains(&path.display().to_string())), "{error}");
        assert!(!directory.exists());
    }
}
