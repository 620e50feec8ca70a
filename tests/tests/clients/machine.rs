//! The machines themselves: what a killed test would leave of them is nothing.

use std::path::Path;

use twill_tests::clients::needs::with_machine;
use twill_tests::clients::{Containerd, root_fs};
use twill_tests::{Lab, LabError, cleanup};

/// What `/proc` shows of all processes: number and command line.
fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter_map(|path| std::fs::read_to_string(path.join("cmdline")).ok()).collect()
}

#[test]
fn whatever_ends_a_lab_ends_containerd_its_shims_and_its_containers() {
    let programs = ["containerd", "ctr", "containerd-shim-runc-v2", "runc"];
    with_machine(&programs, Lab::builder().nodes(1), |lab, machine| {
        machine.install(&[])?;
        let containerd = Containerd::start(machine)?;
        let root = root_fs::make(machine, "here")?;
        // A word that no other process of this computer has in its command line.
        let mark = format!("600.{}", std::process::id());
        containerd.run(&["--detach"], &root, "a", &["sleep", &mark])?;
        let cgroup = machine.cgroup();
        let cgroups = || Ok::<_, LabError>(cgroups_of(cgroup.trim_start_matches('/')));
        let of_ours =
            || processes().into_iter().filter(|line| line.contains(&mark) || line.contains(lab.prefix())).count();
        assert!(of_ours() >= 4, "containerd, a shim, a container, the machine's first: {:?}", processes());
        assert!(!cgroups()?.is_empty());
        // As the guard of a test that was killed does it.
        cleanup::remove(lab.prefix())?;
        let left: Vec<_> = processes().into_iter().filter(|line| line.contains(&mark)).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(cgroups()?, [""; 0]);
        assert!(!Path::new(cleanup::ROOT).join(lab.prefix()).exists());
        Ok(())
    });
}

fn cgroups_of(name: &str) -> Vec<String> {
    let trees = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    trees.map(|tree| tree.join(name)).filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}
