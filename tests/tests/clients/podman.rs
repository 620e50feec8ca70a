//! podman 4.3 with the CNI back end.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use twill_tests::clients::needs::with_machine;
use twill_tests::clients::{Machine, Podman, page, root_fs};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::VXLAN;
use twill_tests::{Lab, Node, Result};

const PROGRAMS: [&str; 3] = ["podman", "runc", "conmon"];

/// Podman with the network `twill` on a node, and what it is to leave behind: nothing.
struct Scene<'a> {
    node: &'a Node,
    machine: &'a Machine<'a>,
    podman: Podman<'a>,
    root: PathBuf,
}

/// Runs `scenario`, after which no container may be left, and looks whether anything else is.
fn with_podman(scenario: impl FnOnce(&Lab, &Scene<'_>) -> Result<()>) {
    with_machine(&PROGRAMS, Lab::builder().nodes(1), |lab, machine| {
        machine.install(&[])?;
        let (podman, root) = (Podman::on(machine)?, root_fs::make(machine, "here")?);
        let scene = Scene { node: lab.node(1), machine, podman, root };
        deadline::until("the tunnel stands", PATIENCE, || {
            Ok(scene.node.interfaces()?.iter().any(|name| name == VXLAN))
        })?;
        let before = scene.node.attachments()?;
        scenario(lab, &scene)?;
        assert_eq!(scene.podman.podman(&["ps", "--all", "--quiet"])?, "", "a container is left");
        assert_eq!(scene.node.attachments()?, before, "something was left behind");
        assert_eq!(machine.namespaces()?, [""; 0], "a namespace was left behind");
        Ok(())
    });
}

impl Scene<'_> {
    /// Another network of the same plugin.
    fn add_network(&self, name: &str) -> Result<()> {
        let plugin =
            json!({ "type": "twill", "runDir": self.node.run_dir(), "capabilities": { "ips": true, "mac": true } });
        let list = json!({ "cniVersion": "1.0.0", "name": name, "plugins": [plugin] });
        self.machine.write(&format!("/etc/cni/net.d/20-{name}.conflist"), &list.to_string())
    }

    fn start(&self, name: &str, options: &[&str], command: &[&str]) -> Result<()> {
        self.podman.run(&[&["--detach", "--name", name], options].concat(), &self.root, command).map(drop)
    }

    /// Removes it, be it running or not.
    fn remove(&self, name: &str) -> Result<()> {
        self.podman.podman(&["rm", "--force", "--time", "0", name]).map(drop)
    }

    fn networks(&self, name: &str) -> Result<Value> {
        Ok(self.podman.inspect(name)?["NetworkSettings"]["Networks"].clone())
    }
}

#[test]
fn a_container_that_ends_by_itself_leaves_nothing() {
    with_podman(|_, scene| {
        let words = ["ip", "-o", "address", "show", "eth0"];
        let seen = scene.podman.run(&["--rm", "--network", "twill"], &scene.root, &words)?;
        assert!(seen.contains(" inet 10.42.") && seen.contains(" inet6 fd42::"), "{seen}");
        Ok(())
    });
}

#[test]
fn a_container_reaches_the_node_and_another_and_leaves_nothing_when_killed() {
    with_podman(|lab, scene| {
        scene.start("a", &["--network", "twill"], &["sleep", "600"])?;
        scene.start("b", &["--network", "twill"], &["sleep", "600"])?;
        let address = text(&scene.networks("a")?["twill"]["IPAddress"]);
        scene.podman.podman(&["exec", "b", "ping", "-c1", "-W3", &address])?;
        let node = lab.node(1).addresses()[0].to_string();
        scene.podman.podman(&["exec", "b", "ping", "-c1", "-W3", &node])?;
        scene.podman.podman(&["kill", "a"])?;
        scene.podman.podman(&["wait", "a"])?;
        scene.podman.podman(&["rm", "a"])?;
        scene.remove("b")
    });
}

#[test]
fn a_container_in_two_networks_has_an_interface_of_each_and_one_default_route() {
    with_podman(|lab, scene| {
        scene.add_network("second")?;
        scene.start("a", &["--network", "twill", "--network", "second"], &["sleep", "600"])?;
        let networks = scene.networks("a")?;
        // By the node's `ip`: busybox shows routes of all tables.
        let namespace = text(&scene.podman.inspect("a")?["NetworkSettings"]["SandboxKey"]);
        let namespace = namespace.rsplit('/').next().unwrap_or_default();
        for (network, other) in [("twill", "second"), ("second", "twill")] {
            let address = text(&networks[network]["IPAddress"]);
            assert_ne!(address, text(&networks[other]["IPAddress"]));
            // Replies leave by the interface that the request came to, or the node drops them.
            let node = lab.node(1).namespace();
            node.run(&["ping", "-n", "-c1", "-W3", &address])?;
            node.run(&["ping", "-n", "-c1", "-W3", &text(&networks[network]["GlobalIPv6Address"])])?;
        }
        for family in ["-4", "-6"] {
            let routes = scene.machine.run(&["ip", "-n", namespace, family, "route", "show", "default"])?;
            assert_eq!(routes.lines().count(), 1, "{routes}");
        }
        scene.remove("a")
    });
}

#[test]
fn a_container_gets_the_address_and_the_mac_that_are_asked_for() {
    with_podman(|lab, scene| {
        let (free, mac) = (lab.node(1).last_address(false)?.to_string(), "02:11:22:33:44:55");
        scene.start("a", &["--network", "twill", "--ip", &free, "--mac-address", mac], &["sleep", "600"])?;
        let seen = scene.podman.podman(&["exec", "a", "ip", "address", "show", "eth0"])?;
        assert!(seen.contains(&format!("inet {free}/32")) && seen.contains(mac), "{seen}");
        lab.node(1).run(&["ping", "-n", "-c1", "-W3", &free])?;
        scene.remove("a")
    });
}

#[test]
fn an_address_that_another_has_is_refused_by_name_and_nothing_is_left() {
    with_podman(|_, scene| {
        scene.start("a", &["--network", "twill"], &["sleep", "600"])?;
        let taken = text(&scene.networks("a")?["twill"]["IPAddress"]);
        let refused = scene.start("b", &["--network", "twill", "--ip", &taken], &["sleep", "600"]);
        let said = refused.expect_err("two containers of one address").to_string();
        assert!(said.contains(&taken), "{said}");
        scene.remove("b")?;
        scene.remove("a")
    });
}

#[test]
fn a_reload_of_the_network_keeps_address_and_mac_and_connections_come_again() {
    with_podman(|lab, scene| {
        scene.start("a", &["--network", "twill"], &["sleep", "600"])?;
        let before = scene.networks("a")?;
        for _ in 0..2 {
            scene.podman.podman(&["network", "reload", "a"])?;
            assert_eq!(scene.networks("a")?, before);
            lab.node(1).run(&["ping", "-n", "-c1", "-W3", &text(&before["twill"]["IPAddress"])])?;
        }
        scene.remove("a")
    });
}

#[test]
fn a_published_port_is_served_in_both_families_and_after_a_reload_and_goes_with_the_container() {
    with_podman(|lab, scene| {
        let serve = ["httpd", "-f", "-p", "80", "-h", root_fs::PAGES];
        let node = lab.node(1);
        scene.start("web", &["--network", "twill", "--publish", "8080:80"], &serve)?;
        let served = || {
            for address in node.addresses() {
                page::expect(lab.outside(), SocketAddr::new(*address, 8080), "here")?;
            }
            page::expect(node.namespace(), SocketAddr::new([127, 0, 0, 1].into(), 8080), "here")
        };
        served()?;
        scene.podman.podman(&["network", "reload", "web"])?;
        served()?;
        scene.remove("web")?;
        page::expect_none(lab.outside(), SocketAddr::new(node.addresses()[0], 8080))
    });
}

#[test]
fn the_successor_of_a_container_has_its_published_port_at_once() {
    with_podman(|lab, scene| {
        let serve = ["httpd", "-f", "-p", "80", "-h", root_fs::PAGES];
        let published = SocketAddr::new(lab.node(1).addresses()[0], 8080);
        for name in ["old", "new"] {
            scene.start(name, &["--network", "twill", "--publish", "8080:80"], &serve)?;
            page::expect(lab.outside(), published, "here")?;
            scene.remove(name)?;
        }
        page::expect_none(lab.outside(), published)
    });
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
