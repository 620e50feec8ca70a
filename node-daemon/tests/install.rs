//! `twilld install` and `twilld uninstall` as an operator sees them: directories of their own, and the built program.

#![allow(clippy::unwrap_used, reason = "these are tests, though not marked so")]

use std::fs;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use twill_ipam::BootTime;
use twill_ipam::store::{BlockState, Node};

mod machine;

use machine::{Machine, failed, succeeded};

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

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
    assert_eq!(fs::read(machine.plugin()).unwrap(), fs::read(machine.path("new-twill")).unwrap());
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
fn somebody_elses_program_of_our_name_stays_and_nothing_else_is_changed() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("bin")).unwrap();
    fs::write(machine.plugin(), "#!/bin/sh\n").unwrap();
    let said = failed(machine.install(&["--no-wait"]));
    assert!(said.contains("bin/twill is there and not Twill's") && said.contains("--force"), "{said}");
    assert_eq!(machine.files(), ["twill"]);
    assert_eq!(fs::read(machine.plugin()).unwrap(), b"#!/bin/sh\n");
    succeeded(machine.install(&["--no-wait", "--force"]));
    assert_eq!(fs::read(machine.plugin()).unwrap(), fs::read(machine.path("new-twill")).unwrap());
}

#[test]
fn a_list_by_which_pods_were_attached_keeps_its_name_and_its_run_directory() {
    let machine = Machine::new();
    let mut store = machine.serve();
    succeeded(machine.install(&[]));
    let row = machine.attach(&mut store);
    let other = machine.path("other").display().to_string();
    let renamed = ["--no-wait", "--network-name", "pods"];
    let said = failed(machine.install(&renamed));
    assert!(
        said.contains("(1 in ") && said.contains("--network-name twill") && said.contains("--network-name pods"),
        "{said}"
    );
    let moved = || {
        machine
            .command_in(&other, "install", &["--no-wait"])
            .arg("--plugin")
            .arg(machine.path("new-twill"))
            .output()
            .unwrap()
    };
    let said = failed(moved());
    assert!(said.contains("(1 in ") && said.contains(&format!("--run-dir {other}")), "{said}");
    assert_eq!(machine.read_list()["name"], "twill");
    succeeded(machine.install(&["--subnets", "10.43.0.0/24"]));
    store.release(row, BootTime::now()).unwrap();
    succeeded(moved());
    assert_eq!(machine.read_list()["plugins"][0]["runDir"], other.as_str());
    let row = machine.attach(&mut store);
    succeeded(machine.install(&["--no-wait", "--network-name", "pods", "--force"]));
    store.release(row, BootTime::now()).unwrap();
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
    let edited = fs::read(machine.list()).unwrap();
    // Without --no-wait too, though nothing serves there: what comes last is there already.
    for words in [&["--no-wait"][..], &[]] {
        machine.new_plugin(Path::new(if words.is_empty() { "/bin/true" } else { "/bin/sleep" }));
        let said = succeeded(machine.install(words));
        assert!(said.contains("was edited") && said.contains("\"mtu\"") && said.contains("--force"), "{said}");
        assert!(said.contains("unchanged") && said.contains("replaced"), "{said}");
        assert_eq!(fs::read(machine.list()).unwrap(), edited);
        assert_eq!(fs::read(machine.plugin()).unwrap(), fs::read(machine.path("new-twill")).unwrap());
    }
    succeeded(machine.install(&["--no-wait", "--force"]));
    assert_eq!(machine.read_list()["plugins"][0].get("mtu"), None);
}

#[test]
fn a_list_that_was_edited_is_taken_back_and_kept_under_another_name() {
    let machine = Machine::new();
    let mut store = machine.serve();
    succeeded(machine.install(&[]));
    let mut list = machine.read_list();
    list["plugins"][0]["mtu"] = 1400.into();
    fs::write(machine.list(), list.to_string()).unwrap();
    let row = machine.attach(&mut store);
    assert!(failed(machine.uninstall(&[])).contains("still attached"));
    assert_eq!(machine.files(), ["05-twill.conflist", "twill"], "a refusal changes nothing");
    store.release(row, BootTime::now()).unwrap();
    let said = succeeded(machine.uninstall(&[]));
    assert!(said.contains("was edited") && said.contains("05-twill.conflist.edited"), "{said}");
    assert_eq!(machine.files(), ["05-twill.conflist.edited"]);
    let kept = fs::read_to_string(machine.path("net.d/05-twill.conflist.edited")).unwrap();
    assert_eq!(kept, list.to_string());
    // Once more, as the package's removal does: there is nothing left to take back, and what is kept stays.
    succeeded(machine.uninstall(&[]));
    assert_eq!(machine.files(), ["05-twill.conflist.edited"]);

    succeeded(machine.install(&["--no-wait"]));
    fs::write(machine.list(), kept).unwrap();
    fs::remove_file(machine.path("net.d/05-twill.conflist.edited")).unwrap();
    succeeded(machine.uninstall(&["--force"]));
    assert!(machine.files().is_empty(), "--force keeps nothing");
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
    fs::copy("/bin/true", &plugin).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(failed(machine.install(&["--no-wait"])).contains("it is not Twill's plugin"));
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
fn the_runtimes_directories_are_the_daemons_unless_flags_say_otherwise() {
    let machine = Machine::new();
    let file = machine.path("twilld.toml");
    let [run, bin, conf] = ["run", "their-bin", "their-net.d"].map(|part| machine.path(part));
    fs::write(&file, format!("run_dir = {run:?}\ncni_bin_dir = {bin:?}\ncni_conf_dir = {conf:?}\n")).unwrap();
    let twilld = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twilld"));
        command.args(words).env("TWILLD_CONFIG", &file).env_remove("TWILLD_RUN_DIR");
        command.env_remove("TWILLD_CNI_BIN_DIR").env_remove("TWILLD_CNI_CONF_DIR");
        succeeded(command.output().unwrap());
    };
    let new = machine.path("new-twill");
    let install = ["install", "--no-wait", "--plugin", &new.to_string_lossy()];
    let files = [bin.join("twill"), conf.join("05-twill.conflist")];
    twilld(&install);
    assert!(files.iter().all(|file| file.exists()), "{files:?}");
    let elsewhere = machine.path("elsewhere");
    twilld(&[&install[..], &["--cni-conf-dir", &elsewhere.to_string_lossy()]].concat());
    assert!(elsewhere.join("05-twill.conflist").exists());
    fs::remove_dir_all(elsewhere).unwrap();
    twilld(&["uninstall"]);
    assert!(!files.iter().any(|file| file.exists()), "{files:?}");
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

#[test]
fn a_package_can_go_whatever_stands_in_the_daemons_file_but_nothing_is_purged_by_a_guess() {
    let machine = Machine::new();
    succeeded(machine.install(&["--no-wait"]));
    let file = machine.path("twilld.toml");
    fs::write(&file, "rundir = \"/run/x\"\n").unwrap();
    let uninstall =
        |more: &[&str]| machine.command_in("", "uninstall", more).env("TWILLD_CONFIG", &file).output().unwrap();
    let said = failed(uninstall(&["--purge"]));
    assert!(said.contains("rundir: unknown key") && machine.list().exists(), "{said}");
    let said = String::from_utf8(uninstall(&[]).stderr).unwrap();
    assert!(said.contains("rundir: unknown key"), "{said}");
    assert!(!machine.list().exists() && !machine.plugin().exists());
}
