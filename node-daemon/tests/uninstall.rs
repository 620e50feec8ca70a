//! `twilld uninstall` as an operator sees it.

#![allow(clippy::unwrap_used, reason = "these are tests, though not marked so")]

use std::fs;
use std::process::Command;

use twill_ipam::BootTime;
use twill_linux::NetNs;
use twill_linux::ports::{self, Port, Protocol};
use twill_testkit::Namespaces;

mod machine;

use machine::{Machine, failed, succeeded};

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
    let row = machine.attach(&mut store);
    let said = failed(machine.uninstall(&[]));
    assert!(said.contains("still attached (1 in "), "{said}");
    assert_eq!(machine.files().len(), 2);
    store.release(row, BootTime::now()).unwrap();
    succeeded(machine.uninstall(&[]));
    assert!(machine.files().is_empty());
}

#[test]
fn the_store_that_is_asked_is_that_of_the_list() {
    let machine = Machine::new();
    let mut store = machine.serve();
    succeeded(machine.install(&[]));
    let row = machine.attach(&mut store);
    let uninstall = || machine.command_in("", "uninstall", &[]).env("TWILLD_RUN_DIR", "/run/another").output().unwrap();
    let said = failed(uninstall());
    assert!(said.contains(&format!("still attached (1 in {})", machine.path("run").display())), "{said}");
    store.release(row, BootTime::now()).unwrap();
    succeeded(uninstall());
    assert!(machine.files().is_empty());
}

#[test]
fn a_pod_that_only_the_kernel_knows_is_a_pod() {
    let Some(namespaces) = Namespaces::claim() else { return };
    if !twill_testkit::has_program("nft") {
        return;
    }
    namespaces.add("node");
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    let run = |command: &str| {
        let mut words = command.split_whitespace();
        let mut program = Command::new(words.next().unwrap());
        succeeded(node.run(|| program.args(words).output().unwrap()).unwrap())
    };
    let machine = Machine::new();
    succeeded(machine.install(&["--no-wait"]));
    let uninstall = || node.run(|| machine.uninstall(&[])).unwrap();
    run("ip link add tw000000000000a type veth peer name p");
    run("ip link set tw000000000000a alias twill1:000000000000a:10.42.0.1");
    let said = failed(uninstall());
    assert!(said.contains("1 that only the kernel knows, among them tw000000000000a"), "{said}");
    assert_eq!(machine.files().len(), 2);
    run("ip link set tw000000000000a alias somebody's");
    let (pod, owner) = ("10.42.0.1:80".parse().unwrap(), "000000000000b".to_owned());
    let port = Port { protocol: Protocol::Tcp, host: None, host_port: 8080, pod, owner };
    node.run(|| ports::publish(&[port])).unwrap().unwrap();
    assert!(failed(uninstall()).contains("among them tw000000000000b"));
    node.run(|| ports::withdraw("000000000000b")).unwrap().unwrap();
    succeeded(uninstall());
    assert!(machine.files().is_empty());
}

#[test]
fn somebody_elses_program_of_our_name_stays() {
    let machine = Machine::new();
    succeeded(machine.install(&["--no-wait"]));
    fs::write(machine.plugin(), "#!/bin/sh\n").unwrap();
    let said = succeeded(machine.uninstall(&[]));
    assert!(said.contains("bin/twill is not Twill's plugin: it stays"), "{said}");
    assert_eq!(machine.files(), ["twill"]);
    succeeded(machine.uninstall(&["--force"]));
    assert!(machine.files().is_empty());
}
