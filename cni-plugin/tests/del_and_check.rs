//! DEL and CHECK by the built plugin, stand-alone, in network namespaces.
#![allow(missing_docs, clippy::unwrap_used)]

mod room;

use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use room::{Room, address, host_ifname, room};
use serde_json::{Value, json};

#[test]
fn a_del_succeeds_again_and_for_what_was_never_added() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    room.del("p1", &conf).silent();
    assert!(!room.run_dir().exists(), "a DEL makes nothing");
    room.add("p1", &conf).result();
    room.del("p1", &conf).silent();
    room.assert_empty();
    room.del("p1", &conf).silent();
    room.del("other", &conf).silent();
}

#[test]
fn a_del_needs_no_namespace() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    for (pod, netns) in [("p1", ""), ("p2", "/run/netns/never-was"), ("p3", "/etc/passwd"), ("p4", "/")] {
        room.pod(pod);
        room.add(pod, &conf).result();
        room.verb_in("DEL", pod, netns, &conf).silent();
        room.assert_empty();
    }
    room.pod("p5");
    room.add("p5", &conf).result();
    room.remove_namespace("p5");
    room.del("p5", &conf).silent();
    room.assert_empty();
}

#[test]
fn a_del_needs_only_the_name_of_its_configuration() {
    let Some(room) = room() else { return };
    room.pod("p1");
    room.add("p1", &room.dual()).result();
    let broken = room.conf(json!({
        "subnets": ["10.42.0.0/99", {}], "mtu": "x", "prevResult": {"cniVersion": "9.9.9", "ips": 7},
    }));
    room.del("p1", &broken).silent();
    room.assert_empty();
}

#[test]
fn a_del_works_by_the_kernel_alone_when_the_store_is_lost_or_newer() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    room.add("p1", &conf).result();
    std::fs::remove_dir_all(room.run_dir()).unwrap();
    room.del("p1", &conf).silent();
    assert_eq!(room.kernel(), "");

    room.pod("p2");
    room.add("p2", &conf).result();
    let found = std::fs::read_dir(room.run_dir()).unwrap().map(|entry| entry.unwrap().path());
    for file in found.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("node.db")) {
        std::fs::write(file, "this is no database").unwrap();
    }
    room.del("p2", &conf).silent();
    assert_eq!(room.kernel(), "");
    assert!(!room.run_dir().join("node.db.damaged").exists(), "a DEL makes no store in its place");
}

#[test]
fn a_del_without_a_store_removes_the_link_whatever_its_alias() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let host = host_ifname(&room.add("p1", &conf).result());
    room.ip("node", &format!("link set {host} alias somebody's"));
    std::fs::write(room.run_dir().join("node.db"), "this is no database").unwrap();
    room.del("p1", &conf).silent();
    assert_eq!(room.kernel(), "");
}

#[test]
fn a_del_removes_a_link_whose_alias_is_no_text() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let host = host_ifname(&room.add("p1", &conf).result());
    let mut set = Command::new("ip");
    set.args(["-n", &room.name("node"), "link", "set", &host, "alias"]);
    assert!(set.arg(std::ffi::OsStr::from_bytes(b"\xff\xfe")).status().unwrap().success());
    room.del("p1", &conf).silent();
    room.assert_empty();
}

#[test]
fn a_del_without_a_row_spares_a_veth_that_is_marked_as_somebody_elses() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let host = host_ifname(&room.add("p1", &conf).result());
    room.del("p1", &conf).silent();
    room.ip("node", &format!("link add {host} type veth peer name other0"));
    room.ip("node", &format!("link set {host} alias somebody's"));
    room.del("p1", &conf).silent();
    assert!(room.ip("node", "link show other0").contains(&host));
}

#[test]
fn pods_answer_through_the_dels_of_others() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    room.pod("p2");
    let kept = room.add("p1", &conf).result();
    room.add("p2", &conf).result();
    room.del("p2", &conf).silent();
    room.assert_ping("node", &address(&kept, false));
    room.check("p1", &conf, &kept).silent();
    assert_eq!(room.rows().len(), 1);
}

/// Damages one attachment in many ways, one after the other; each is found, named, and none is mended by CHECK.
#[test]
fn a_check_names_what_is_missing_at_either_end() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let damages = |result: &Value| {
        let (host, v4, v6) = (host_ifname(result), address(result, false), address(result, true));
        [
            ("node", format!("link set {host} down"), "is down".to_owned()),
            ("node", format!("link set {host} address 02:00:00:00:00:77"), "02:00:00:00:00:77".to_owned()),
            ("node", format!("link set {host} alias nobody"), "nobody".to_owned()),
            ("node", format!("route delete {v4}/32"), format!("no route {v4}")),
            ("node", format!("-6 route delete {v6}/128"), format!("no route {v6}")),
            ("node", format!("neigh delete {v4} dev {host}"), format!("no permanent neighbour {v4}")),
            ("node", format!("neigh delete {v6} dev {host}"), format!("no permanent neighbour {v6}")),
            ("node", format!("link delete {host}"), format!("no interface {host}")),
            ("p1", "link set eth0 down".to_owned(), "eth0 is down".to_owned()),
            ("p1", "link set eth0 address 02:00:00:00:00:77".to_owned(), "02:00:00:00:00:77".to_owned()),
            ("p1", format!("addr delete {v4}/32 dev eth0"), format!("no address {v4}")),
            ("p1", format!("addr delete {v6}/128 dev eth0"), format!("no address {v6}")),
            ("p1", "route delete default".to_owned(), "no route 0.0.0.0/0 via 169.254.1.1".to_owned()),
            ("p1", "-6 route delete default".to_owned(), "no route ::/0 via fe80::1".to_owned()),
            ("p1", "neigh delete 169.254.1.1 dev eth0".to_owned(), "no permanent neighbour 169.254.1.1".to_owned()),
            ("p1", "neigh delete fe80::1 dev eth0".to_owned(), "no permanent neighbour fe80::1".to_owned()),
            ("p1", "link set eth0 name eth9".to_owned(), "no interface eth0".to_owned()),
        ]
    };
    for number in 0..17 {
        let result = room.add("p1", &conf).result();
        room.check("p1", &conf, &result).silent();
        let (namespace, damage, named) = damages(&result)[number].clone();
        room.ip(namespace, &damage);
        for _ in 0..2 {
            let text = room.check("p1", &conf, &result).error(104);
            assert!(text.contains(&named), "after {damage:?} in {namespace}: {text}");
        }
        room.del("p1", &conf).silent();
        room.assert_empty();
    }
}

#[test]
fn a_check_looks_at_reservation_and_result_too() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let result = room.add("p1", &conf).result();
    room.verb("CHECK", "p1", &conf).error(7);
    let mut other = result.clone();
    other["ips"][0]["address"] = "10.42.0.250/32".into();
    assert!(room.check("p1", &conf, &other).error(104).contains("prevResult does not list"));
    other["interfaces"][1]["name"] = "eth7".into();
    assert!(room.check("p1", &conf, &other).error(7).contains("eth0"));
    std::fs::remove_dir_all(room.run_dir()).unwrap();
    assert!(room.check("p1", &conf, &result).error(104).contains("no reservation"));
    assert!(!room.run_dir().exists(), "a CHECK makes nothing");
}

#[test]
fn a_check_allows_what_later_plugins_changed() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let mut result = room.add("p1", &conf).result();
    room.ip("p1", "link set eth0 mtu 1400");
    room.ip("p1", "addr add 192.0.2.77/32 dev eth0");
    room.ip("p1", "route add 198.51.100.0/24 via 169.254.1.1");
    result["ips"].as_array_mut().unwrap().push(json!({"interface": 1, "address": "192.0.2.77/32"}));
    room.check("p1", &conf, &result).silent();
}

#[test]
fn bad_input_is_refused_with_its_code_and_changes_nothing() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let path = room.path("p1");
    let add = [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c"), ("CNI_NETNS", path.as_str()), ("CNI_IFNAME", "eth0")];
    let good = room.dual().to_string();
    room.call(&add, "").error(6);
    room.call(&add, "[]").error(6);
    room.call(&add, r#"{"cniVersion":"3.0.0","name":"n"}"#).error(1);
    room.call(&add, r#"{"cniVersion":"1.0.0","name":"/"}"#).error(7);
    let text = room.call(&add[..1], &good).error(4);
    assert!(text.contains("CNI_CONTAINERID") && text.contains("CNI_NETNS") && text.contains("CNI_IFNAME"), "{text}");
    room.call(&[("CNI_COMMAND", "add")], &good).error(4);
    room.verb("ADD", "p1", &room.conf(json!({"subnets": ["10.42.0.1/24"]}))).error(7);
    assert!(!room.run_dir().exists());
}

#[test]
fn version_answers_whatever_stands_on_standard_input() {
    for (stdin, version) in [(r#"{"cniVersion":"0.4.0"}"#, "0.4.0"), ("", "1.1.0"), ("{", "1.1.0")] {
        let answer = call_without_room(&[("CNI_COMMAND", "VERSION"), ("CNI_IFNAME", "dummy/dummy")], stdin);
        assert_eq!(answer["cniVersion"], version);
        assert_eq!(answer["supportedVersions"].as_array().unwrap().len(), 7);
    }
}

#[test]
fn without_a_command_the_program_introduces_itself() {
    let output = Command::new(env!("CARGO_BIN_EXE_twill")).env_remove("CNI_COMMAND").output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("CNI plugin"));
}

fn call_without_room(variables: &[(&str, &str)], stdin: &str) -> Value {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_twill"))
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Another configuration than ADD had must not lead a DEL astray.
#[test]
fn a_del_with_another_configuration_frees_the_same_address() {
    let Some(room) = room() else { return };
    room.pod("p1");
    room.add("p1", &room.dual()).result();
    room.del("p1", &other_subnets(&room)).silent();
    room.assert_empty();
}

fn other_subnets(room: &Room) -> Value {
    room.conf(json!({"cniVersion": "0.4.0", "subnets": ["192.168.0.0/24"], "mtu": 1300}))
}
