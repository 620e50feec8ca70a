//! `twilld install` and `twilld uninstall` as an operator sees them: directories of their own, and the built program.

#![allow(clippy::unwrap_used, reason = "these are tests, though not marked so")]

use std::fs;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use twill_ipam::store::{BlockState, Node, Reservation, Role};
use twill_ipam::{BootTime, Key, Store};

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node's directories, and a plugin to install.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap() };
        machine.new_plugin(Path::new("/bin/true"));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn plugin(&self) -> PathBuf {
        self.path("bin/twill")
    }

    fn list(&self) -> PathBuf {
        self.path("net.d/05-twill.conflist")
    }

    /// A program stands for the plugin that came with the daemon.
    fn new_plugin(&self, program: &Path) {
        fs::copy(program, self.path("new-twill")).unwrap();
    }

    fn command(&self, command: &str, more: &[&str]) -> Command {
        let mut twilld = Command::new(env!("CARGO_BIN_EXE_twilld"));
        twilld.arg(command).args(["--cni-bin-dir", &self.path("bin").to_string_lossy()]);
        twilld.args(["--cni-conf-dir", &self.path("net.d").to_string_lossy()]);
        twilld.args(["--run-dir", &self.path("run").to_string_lossy()]).args(more);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TWILLD_")) {
            twilld.env_remove(name);
        }
        twilld.stdin(Stdio::null());
        twilld
    }

    fn installation(&self, more: &[&str]) -> Command {
        let mut command = self.command("install", more);
        command.arg("--plugin").arg(self.path("new-twill"));
        command
    }

    fn install(&self, more: &[&str]) -> Output {
        self.installation(more).output().unwrap()
    }

    fn uninstall(&self, more: &[&str]) -> Output {
        self.command("uninstall", more).output().unwrap()
    }

    /// What the daemon writes when it has its first block.
    fn serve(&self) -> Store {
        let mut store = Store::open(&self.path("run"), Role::Daemon).unwrap();
        store.put_block("10.42.7.0/26".parse().unwrap(), &"default".parse().unwrap(), BlockState::Open).unwrap();
        let node = Node { name: "n1".into(), mtu: 1450, ipv4: true, ipv6: false, exhausted: Vec::new() };
        store.set_node(&node).unwrap();
        store
    }

    /// The names of all files in both directories.
    fn files(&self) -> Vec<String> {
        let entries = ["bin", "net.d"].iter().filter_map(|name| fs::read_dir(self.path(name)).ok()).flatten();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn read_list(&self) -> Value {
        serde_json::from_slice(&fs::read(self.list()).unwrap()).unwrap()
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[track_caller]
fn failed(output: Output) -> String {
    assert!(!output.status.success(), "it succeeded: {}", text(&output));
    text(&output)
}

/// A program that waits, and the first line that it wrote to standard error.
fn start(command: &mut Command) -> (Child, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    child.stderr = Some(stderr.into_inner());
    (child, line)
}

/// The exit status in time; a program that stays is killed, and the test fails.
#[track_caller]
fn end(mut child: Child) -> (bool, String) {
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it still runs");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.success(), said)
}

fn stop(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
}

#[test]
fn a_node_that_serves_gets_plugin_and_list_at_once() {
    let machine = Machine::new();
    drop(machine.serve());
    succeeded(machine.install(&[]));
    assert_eq!(machine.files(), ["05-twill.conflist", "twill"]);
    assert_eq!(fs::read(machine.plugin()).unwrap(), fs::read("/bin/true").unwrap());
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(machine.plugin()), mode(machine.list())), (0o755, 0o644));
    let capabilities = json!({ "portMappings": true, "bandwidth": true, "ips": true, "mac": true, "dns": true });
    let plugin = json!({ "type": "twill", "runDir": machine.path("run"), "capabilities": capabilities });
    let versions = json!(["0.4.0", "1.0.0", "1.1.0"]);
    let list = json!({ "cniVersion": "1.0.0", "cniVersions": versions, "name": "twill", "plugins": [plugin] });
    assert_eq!(machine.read_list(), list);
}

#[test]
fn the_list_comes_when_the_node_can_serve_and_not_before() {
    let machine = Machine::new();
    let (child, line) = start(&mut machine.installation(&[]));
    assert!(line.contains("waiting") && line.contains("twilld has not run there"), "{line}");
    assert_eq!(machine.files(), ["twill"], "the plugin is there, the list is not");
    let store = machine.serve();
    let (success, said) = end(child);
    assert!(success, "{said}");
    assert_eq!(machine.files(), ["05-twill.conflist", "twill"]);
    drop(store);
}

#[test]
fn a_node_without_a_block_of_each_family_does_not_serve() {
    let machine = Machine::new();
    let mut store = machine.serve();
    let node = Node { ipv6: true, ..store.node().unwrap().unwrap() };
    store.set_node(&node).unwrap();
    let said = failed(machine.install(&["--timeout", "0"]));
    assert!(said.contains("no block of IPv6 addresses"), "{said}");
    assert_eq!(machine.files(), ["twill"]);
    store.put_block("fd42::/122".parse().unwrap(), &"six".parse().unwrap(), BlockState::Closing).unwrap();
    failed(machine.install(&["--timeout", "0"]));
    store.put_block("fd42::/122".parse().unwrap(), &"six".parse().unwrap(), BlockState::Open).unwrap();
    succeeded(machine.install(&["--timeout", "0"]));
}

#[test]
fn a_node_that_never_serves_is_an_error_that_says_what_is_missing() {
    let machine = Machine::new();
    let said = failed(machine.install(&["--timeout", "1"]));
    assert!(said.contains("after 1s") && said.contains("no node store"), "{said}");
    let said = succeeded(machine.install(&["--no-wait"]));
    assert!(said.contains("unchanged") && machine.list().exists(), "{said}");
}

#[test]
fn waiting_ends_when_it_is_told_to_and_leaves_no_list() {
    let machine = Machine::new();
    let (child, _) = start(&mut machine.installation(&[]));
    stop(&child);
    let (success, said) = end(child);
    assert!(!success && said.contains("stopped while waiting"), "{said}");
    assert_eq!(machine.files(), ["twill"]);
}

#[test]
fn one_that_is_to_stay_stays_until_it_is_told_to_stop() {
    let machine = Machine::new();
    let mut command = machine.installation(&["--stay"]);
    // With no store it says that it waits: from then on it heeds signals.
    let (mut child, _) = start(&mut command);
    drop(machine.serve());
    let started = Instant::now();
    while !machine.list().exists() {
        assert!(started.elapsed() < PATIENCE, "no list came");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(child.try_wait().unwrap().is_none(), "it ended");
    stop(&child);
    assert!(end(child).0);
    assert_eq!(machine.files(), ["05-twill.conflist", "twill"]);
}

#[test]
fn a_plugin_that_runs_is_replaced_and_runs_on() {
    let machine = Machine::new();
    machine.new_plugin(Path::new("/bin/sleep"));
    succeeded(machine.install(&["--no-wait"]));
    let mut running = Command::new(machine.plugin()).arg("60").spawn().unwrap();
    let busy = fs::OpenOptions::new().write(true).open(machine.plugin()).unwrap_err();
    machine.new_plugin(Path::new("/bin/true"));
    let output = machine.install(&["--no-wait"]);
    let still_runs = running.try_wait().unwrap().is_none();
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(succeeded(output).contains("replaced"));
    assert_eq!(busy.kind(), std::io::ErrorKind::ExecutableFileBusy, "it must have been running: {busy}");
    assert!(still_runs);
    assert!(Command::new(machine.plugin()).arg("60").status().unwrap().success(), "the new one runs");
    assert_eq!(machine.files(), ["05-twill.conflist", "twill"]);
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let machine = Machine::new();
    succeeded(machine.install(&["--no-wait"]));
    let inodes = || [machine.plugin(), machine.list()].map(|path| fs::metadata(path).unwrap().ino());
    let before = inodes();
    let said = succeeded(machine.install(&["--no-wait"]));
    assert_eq!(said.matches("unchanged").count(), 2, "{said}");
    assert_eq!(inodes(), before);
    // A mode that keeps a runtime from starting it is mended.
    fs::set_permissions(machine.plugin(), fs::Permissions::from_mode(0o644)).unwrap();
    succeeded(machine.install(&["--no-wait"]));
    assert_eq!(fs::metadata(machine.plugin()).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(inodes()[1], before[1]);
}

#[test]
fn what_a_killed_installation_left_is_no_hindrance_and_goes() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("bin")).unwrap();
    fs::write(machine.path("bin/.twill.new"), "half of it").unwrap();
    fs::create_dir_all(machine.path("net.d")).unwrap();
    fs::write(machine.path("net.d/.05-twill.conflist.new"), "{").unwrap();
    succeeded(machine.install(&["--no-wait"]));
    assert_eq!(machine.files(), ["05-twill.conflist", "twill"]);
}

#[test]
fn many_installations_at_once_leave_whole_files() {
    let machine = Machine::new();
    let children: Vec<_> = (0..8).map(|_| machine.installation(&["--no-wait"]).spawn().unwrap()).collect();
    for child in children {
        succeeded(child.wait_with_output().unwrap());
    }
    assert_eq!(machine.files(), ["05-twill.conflist", "twill"]);
    machine.read_list();
}

#[test]
fn somebody_elses_list_stays_and_nothing_else_is_changed() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("net.d")).unwrap();
    for foreign in [r#"{"name":"n","plugins":[{"type":"bridge"}]}"#, "no JSON"] {
        fs::write(machine.list(), foreign).unwrap();
        let said = failed(machine.install(&["--no-wait"]));
        assert!(said.contains("is not Twill's") && said.contains("05-twill.conflist"), "{said}");
        assert_eq!(machine.files(), ["05-twill.conflist"]);
        assert_eq!(fs::read_to_string(machine.list()).unwrap(), foreign);
        succeeded(machine.uninstall(&["--force"]));
        assert_eq!(fs::read_to_string(machine.list()).unwrap(), foreign);
    }
    succeeded(machine.install(&["--no-wait", "--force"]));
    assert_eq!(machine.read_list()["name"], "twill");
}

#[test]
fn a_list_that_was_edited_is_not_lost_and_one_of_other_values_is_replaced() {
    let machine = Machine::new();
    succeeded(machine.install(&["--no-wait"]));
    let said = succeeded(machine.install(&["--no-wait", "--network-name", "pods"]));
    assert!(said.contains("replaced"), "{said}");
    let mut list = machine.read_list();
    assert_eq!(list["name"], "pods");
    list["plugins"][0]["mtu"] = 1400.into();
    fs::write(machine.list(), list.to_string()).unwrap();
    for said in [failed(machine.install(&["--no-wait"])), failed(machine.uninstall(&[]))] {
        assert!(said.contains("was edited") && said.contains("\"mtu\""), "{said}");
    }
    assert_eq!((machine.read_list(), machine.files().len()), (list, 2));
    succeeded(machine.uninstall(&["--force"]));
    assert!(machine.files().is_empty());
}

#[test]
fn a_list_that_sorts_before_is_told_of() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("net.d")).unwrap();
    for name in ["00-first.conf", "00-first.bak", "10-later.conflist"] {
        fs::write(machine.path("net.d").join(name), "{}").unwrap();
    }
    let said = succeeded(machine.install(&["--no-wait"]));
    assert!(said.contains("00-first.conf sorts before 05-twill.conflist"), "{said}");
    assert!(!said.contains("00-first.bak") && !said.contains("10-later"), "{said}");
    let said = succeeded(machine.install(&["--no-wait", "--conflist-name", "00-early.conflist"]));
    assert!(!said.contains("sorts before"), "{said}");
}

#[test]
fn a_missing_plugin_that_containerd_needs_is_told_of() {
    let machine = Machine::new();
    let said = succeeded(machine.install(&["--no-wait"]));
    assert!(said.contains("warning") && said.contains("no plugin loopback"), "{said}");
    fs::write(machine.path("bin/loopback"), "").unwrap();
    let said = succeeded(machine.install(&["--no-wait"]));
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn a_stand_alone_node_gets_its_subnets_and_waits_for_nobody() {
    let machine = Machine::new();
    succeeded(machine.install(&["--subnets", "10.42.0.0/24,fd42::/64", "--network-name", "alone"]));
    let list = machine.read_list();
    assert_eq!(list["plugins"][0]["subnets"], json!(["10.42.0.0/24", "fd42::/64"]));
    assert_eq!(list["name"], "alone");
}

#[test]
fn bad_values_are_refused_by_name_and_nothing_is_changed() {
    let machine = Machine::new();
    let cases: [(&[&str], &str); 7] = [
        (&["--subnets", "10.42.0.0/33"], "--subnets"),
        (&["--conflist-name", "../x.conflist"], "--conflist-name"),
        (&["--conflist-name", "05-twill.conf"], "ends in .conflist"),
        (&["--network-name", ".n"], "--network-name"),
        (&["--run-dir", "relative"], "--run-dir"),
        (&["--no-wait", "--timeout", "5"], "--timeout"),
        (&["--timeout", "soon"], "--timeout"),
    ];
    for (words, named) in cases {
        // The run directory is given by the machine already; a second one would be refused for that.
        let mut command = Command::new(env!("CARGO_BIN_EXE_twilld"));
        command.arg("install").arg("--cni-bin-dir").arg(machine.path("bin"));
        command.arg("--cni-conf-dir").arg(machine.path("net.d")).arg("--plugin").arg(machine.path("new-twill"));
        let said = failed(command.args(words).output().unwrap());
        assert!(said.contains(named), "{words:?}: {said}");
        assert!(machine.files().is_empty(), "{words:?}");
    }
}

#[test]
fn what_is_no_program_is_not_installed() {
    let machine = Machine::new();
    let plugin = machine.path("new-twill");
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(failed(machine.install(&["--no-wait"])).contains("not executable"));
    fs::remove_file(&plugin).unwrap();
    let said = failed(machine.install(&["--no-wait"]));
    assert!(said.contains("no such file") && said.contains("new-twill") && said.contains("--plugin"), "{said}");
    fs::create_dir(&plugin).unwrap();
    assert!(failed(machine.install(&["--no-wait"])).contains("it is no file"));
    assert!(machine.files().is_empty());
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_the_cause() {
    let machine = Machine::new();
    fs::write(machine.path("bin"), "a file").unwrap();
    let said = failed(machine.install(&["--no-wait"]));
    assert!(said.contains(&machine.path("bin").display().to_string()) && said.contains("exists"), "{said}");
    assert!(!machine.list().exists());
}

#[test]
fn the_run_directory_is_the_daemons() {
    let machine = Machine::new();
    let file = machine.path("twilld.toml");
    fs::write(&file, "run_dir = \"/run/by-file\"\n").unwrap();
    let installed_with = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twilld"));
        command.args(["install", "--no-wait", "--cni-bin-dir"]).arg(machine.path("bin"));
        command.arg("--cni-conf-dir").arg(machine.path("net.d")).arg("--plugin").arg(machine.path("new-twill"));
        command.env_remove("TWILLD_RUN_DIR").env("TWILLD_CONFIG", &file).envs(variables.iter().copied());
        succeeded(command.output().unwrap());
        machine.read_list()["plugins"][0]["runDir"].clone()
    };
    assert_eq!(installed_with(&[]), "/run/by-file");
    assert_eq!(installed_with(&[("TWILLD_RUN_DIR", "/run/by-variable")]), "/run/by-variable");
}

#[test]
fn uninstall_takes_both_back_and_may_be_repeated() {
    let machine = Machine::new();
    succeeded(machine.uninstall(&[]));
    succeeded(machine.install(&["--no-wait"]));
    fs::write(machine.path("net.d/10-other.conflist"), r#"{"plugins":[{"type":"bridge"}]}"#).unwrap();
    fs::write(machine.path("bin/bridge"), "").unwrap();
    for _ in 0..2 {
        succeeded(machine.uninstall(&[]));
        assert_eq!(machine.files(), ["10-other.conflist", "bridge"]);
    }
}

#[test]
fn the_plugin_stays_while_another_list_names_it() {
    let machine = Machine::new();
    succeeded(machine.install(&["--no-wait"]));
    fs::write(machine.path("net.d/20-own.conflist"), r#"{"plugins":[{"type":"twill","mtu":1400}]}"#).unwrap();
    let said = succeeded(machine.uninstall(&[]));
    assert!(said.contains("stays, since") && said.contains("20-own.conflist"), "{said}");
    assert_eq!(machine.files(), ["20-own.conflist", "twill"]);
}

#[test]
fn nothing_is_taken_back_while_pods_are_attached() {
    let machine = Machine::new();
    let mut store = machine.serve();
    succeeded(machine.install(&[]));
    let key =
        Key { network: "twill".parse().unwrap(), container: "c1".parse().unwrap(), ifname: "eth0".parse().unwrap() };
    let netns = Path::new("/run/netns/c1");
    let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &[], requested: &[] };
    let row = store.reserve(&wanted, BootTime::now()).unwrap();
    let said = failed(machine.uninstall(&[]));
    assert!(said.contains("still attached (1 in "), "{said}");
    assert_eq!(machine.files().len(), 2);
    store.release(row.id, BootTime::now()).unwrap();
    succeeded(machine.uninstall(&[]));
    assert!(machine.files().is_empty());
}

#[test]
fn without_a_command_it_is_the_daemon_as_before() {
    let machine = Machine::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twilld"));
    command.env_clear().env("TWILLD_CONFIG", machine.path("none.toml"));
    let said = failed(command.args(["--node-name", "n1"]).output().unwrap());
    assert!(said.contains("none.toml"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_twilld"));
    let said = failed(command.args(["--node-name", "n1", "install"]).output().unwrap());
    assert!(said.contains("cannot be used with"), "the daemon's flags are not the command's: {said}");
}
