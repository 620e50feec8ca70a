//! containerd 1.6 by its own client: `ctr run --cni`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use twill_tests::clients::needs::with_machine;
use twill_tests::clients::{Containerd, Machine, root_fs};
use twill_tests::{Lab, LabError, Node, Result, deadline};

const PROGRAMS: [&str; 4] = ["containerd", "ctr", "containerd-shim-runc-v2", "runc"];
/// Twice the sweep's grace period and two of its rounds.
const SWEPT: Duration = Duration::from_secs(90);

struct Scene<'a> {
    node: &'a Node,
    machine: &'a Machine<'a>,
    containerd: Containerd<'a>,
    root: PathBuf,
}

/// Runs `scenario` with a containerd, after which no attachment may be left.
fn with_containerd(scenario: impl FnOnce(&Scene<'_>) -> Result<()>) {
    with_machine(&PROGRAMS, Lab::builder().nodes(1), |lab, machine| {
        machine.install(&[])?;
        let (containerd, root) = (Containerd::start(machine)?, root_fs::make(machine, "here")?);
        let scene = Scene { node: lab.node(1), machine, containerd, root };
        let before = scene.node.attachments()?;
        scenario(&scene)?;
        assert_eq!(scene.node.attachments()?, before, "something was left behind");
        scene.containerd.stop()
    });
}

impl Scene<'_> {
    /// A container that stays, and whose end `ctr` does not wait for.
    fn detach(&self, id: &str) -> Result<()> {
        self.containerd.run(&["--detach"], &self.root, id, &["sleep", "600"]).map(drop)
    }

    /// Ends a detached container. Nobody calls DEL for it.
    fn end(&self, id: &str) -> Result<()> {
        self.containerd.ctr(&["task", "kill", "--signal", "SIGKILL", id])?;
        self.containerd.ctr(&["task", "delete", id])?;
        self.containerd.ctr(&["container", "delete", id]).map(drop)
    }

    /// The attachments that the store has, by container, with an address of each.
    fn stored(&self) -> Result<Vec<(String, String)>> {
        let sql = "SELECT container, text FROM attachment JOIN address ON attachment = attachment.id \
                   WHERE text LIKE '%.%' ORDER BY container";
        let rows = self.node.query_store(sql)?;
        let pairs = rows.lines().filter_map(|row| row.split_once('|'));
        Ok(pairs.map(|(container, address)| (container.to_owned(), address.to_owned())).collect())
    }

    /// GC of the network, as a runtime would call it that knows only `containers`.
    fn collect(&self, containers: &[&str]) -> Result<()> {
        let known: Vec<_> = containers.iter().map(|id| json!({ "containerID": id, "ifname": "eth0" })).collect();
        let input = json!({
            "cniVersion": "1.1.0", "name": "twill", "type": "twill", "runDir": self.node.run_dir(),
            "cni.dev/valid-attachments": known,
        });
        let call = "printf %s \"$1\" | CNI_COMMAND=GC CNI_PATH=/opt/cni/bin /opt/cni/bin/twill";
        self.machine.run(&["sh", "-c", call, "gc", &input.to_string()]).map(drop)
    }
}

#[test]
fn a_container_has_the_network_and_leaves_nothing() {
    with_containerd(|scene| {
        let show = ["ip", "-o", "address", "show", "eth0"];
        let seen = scene.containerd.run(&["--rm"], &scene.root, "a", &show)?;
        assert!(seen.contains(" inet 10.42.") && seen.contains(" inet6 fd42::"), "{seen}");
        Ok(())
    });
}

#[test]
fn a_container_whose_program_is_missing_leaves_nothing() {
    with_containerd(|scene| {
        let failed = scene.containerd.run(&["--rm"], &scene.root, "a", &["no-such-program"]);
        assert!(failed.is_err(), "it ran: {failed:?}");
        Ok(())
    });
}

/// `ctr run -d` never calls DEL: its containers' namespaces go, and with them the veths; the rows stay.
#[test]
fn what_ctr_never_deletes_is_collected_and_what_runs_stays() {
    with_containerd(|scene| {
        scene.detach("lives")?;
        scene.detach("dies")?;
        scene.end("dies")?;
        let containers = || Ok::<_, LabError>(scene.stored()?.into_iter().map(|(id, _)| id).collect::<Vec<_>>());
        assert_eq!(containers()?, ["default-dies", "default-lives"], "somebody called DEL");
        scene.collect(&["default-lives"])?;
        assert_eq!(containers()?, ["default-lives"]);
        let (_, address) = scene.stored()?.remove(0);
        scene.node.run(&["ping", "-n", "-c1", "-W3", &address])?;
        scene.end("lives")?;
        scene.collect(&[])
    });
}

#[test]
#[ignore = "the sweep's grace period is half a minute"]
fn what_ctr_never_deletes_is_swept() {
    with_containerd(|scene| {
        scene.detach("lives")?;
        scene.detach("dies")?;
        scene.end("dies")?;
        deadline::until_some("the sweep has freed the row", SWEPT, || {
            let stored = scene.stored()?;
            Ok(if stored.iter().any(|(id, _)| id == "default-dies") { Err(stored) } else { Ok(()) })
        })?;
        // The daemon cannot see the path that this one has: /proc/<number of another namespace>/ns/net.
        let (id, address) = scene.stored()?.remove(0);
        assert_eq!(id, "default-lives");
        scene.node.run(&["ping", "-n", "-c1", "-W3", &address])?;
        scene.end("lives")?;
        scene.collect(&[])
    });
}
