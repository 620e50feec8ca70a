//! containerd 1.6 by the Container Runtime Interface, as a kubelet calls it.

use std::net::{IpAddr, SocketAddr};

use twill_tests::clients::containerd::PAUSE;
use twill_tests::clients::cri::v1::{DnsConfig, PortMapping, Protocol};
use twill_tests::clients::cri::{Cri, Sandbox};
use twill_tests::clients::needs::with_machine;
use twill_tests::clients::{Containerd, Machine, Podman, page, root_fs};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, LabError, Node, Result};

const PROGRAMS: [&str; 6] = ["containerd", "ctr", "containerd-shim-runc-v2", "runc", "podman", "conmon"];

struct Scene<'a> {
    lab: &'a Lab,
    node: &'a Node,
    machine: &'a Machine<'a>,
}

/// A containerd whose sandboxes serve a page on port 80: so a pod needs no further container. No network is installed.
fn with_cri(scenario: impl FnOnce(&Scene<'_>, &mut Cri) -> Result<()>) {
    with_machine(&PROGRAMS, Lab::builder().nodes(1), |lab, machine| {
        let root = root_fs::make(machine, "pod")?;
        let serve = ["httpd", "-f", "-p", "80", "-h", root_fs::PAGES];
        let archive = Podman::on(machine)?.image(PAUSE, &root, &serve)?;
        let containerd = Containerd::start(machine)?;
        containerd.import(&archive)?;
        let mut cri = Cri::connect(containerd.socket())?;
        scenario(&Scene { lab, node: lab.node(1), machine }, &mut cri)?;
        containerd.stop()
    });
}

impl Scene<'_> {
    /// Installs the network, and waits until containerd has it.
    fn install(&self, cri: &mut Cri) -> Result<()> {
        self.machine.install(&[])?;
        deadline::until_some("containerd has noticed the network", PATIENCE, || cri.network_ready())
    }

    fn sandbox(&self, name: &str) -> Sandbox {
        Sandbox { name: name.into(), uid: format!("uid-{name}"), cgroup: self.machine.cgroup(), ..Sandbox::default() }
    }

    /// Nothing of a sandbox may be left, compared with `before`.
    fn expect_as(&self, before: &str) -> Result<()> {
        assert_eq!(self.node.attachments()?, before, "something was left behind");
        assert_eq!(self.machine.namespaces()?, [""; 0], "a namespace was left behind");
        Ok(())
    }
}

fn addresses(cri: &mut Cri, id: &str) -> Result<Vec<IpAddr>> {
    let network = cri.status(id)?.network.ok_or_else(|| LabError::wrong("the sandbox has no network"))?;
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|other| other.ip));
    all.map(|text| text.parse().map_err(|e| LabError::wrong(format!("{text:?}: {e}")))).collect()
}

#[test]
fn containerd_notices_the_list_that_is_installed_and_that_it_is_taken_back() {
    with_cri(|scene, cri| {
        let why = cri.network_ready()?.expect_err("there is no network yet");
        assert!(why.contains("not initialized"), "{why}");
        scene.install(cri)?;
        // The same once more, as a DaemonSet does at each start.
        scene.install(cri)?;
        scene.machine.uninstall(&[])?;
        let refused = cri.run(&scene.sandbox("late"));
        assert!(refused.is_err(), "a sandbox without a network: {refused:?}");
        Ok(())
    });
}

#[test]
fn a_sandbox_has_addresses_of_both_families_and_serves_and_leaves_nothing() {
    with_cri(|scene, cri| {
        scene.install(cri)?;
        let before = scene.node.attachments()?;
        let id = cri.run(&scene.sandbox("web"))?;
        let addresses = addresses(cri, &id)?;
        assert_eq!(addresses.iter().map(IpAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
        for address in &addresses {
            page::expect(scene.node.namespace(), SocketAddr::new(*address, 80), "pod")?;
        }
        let pod = scene.node.query_store("SELECT pod_namespace, pod_name FROM attachment")?;
        assert_eq!(pod, "default|web");
        cri.stop(&id)?;
        scene.expect_as(&before)?;
        // A kubelet stops a sandbox as often as it likes.
        cri.stop(&id)?;
        cri.remove(&id)?;
        scene.expect_as(&before)
    });
}

#[test]
fn a_second_attempt_of_a_pod_is_served_while_the_first_still_stands() {
    with_cri(|scene, cri| {
        scene.install(cri)?;
        let before = scene.node.attachments()?;
        let first = cri.run(&scene.sandbox("web"))?;
        let second = cri.run(&Sandbox { attempt: 1, ..scene.sandbox("web") })?;
        let (one, other) = (addresses(cri, &first)?, addresses(cri, &second)?);
        assert!(one.iter().all(|address| !other.contains(address)), "{one:?} {other:?}");
        cri.stop(&first)?;
        page::expect(scene.node.namespace(), SocketAddr::new(other[0], 80), "pod")?;
        cri.stop(&second)?;
        scene.expect_as(&before)
    });
}

#[test]
fn a_sandbox_publishes_a_port_and_is_limited_and_takes_both_with_it() {
    with_cri(|scene, cri| {
        scene.install(cri)?;
        let before = (scene.node.attachments()?, scene.machine.run(&["tc", "qdisc", "show"])?);
        let port = PortMapping {
            protocol: Protocol::Tcp.into(),
            container_port: 80,
            host_port: 8080,
            ..PortMapping::default()
        };
        let id = cri.run(&Sandbox {
            ports: vec![port],
            annotations: vec![
                ("kubernetes.io/ingress-bandwidth", "8M".into()),
                ("kubernetes.io/egress-bandwidth", "16M".into()),
            ],
            dns: Some(DnsConfig { servers: vec!["192.0.2.53".into()], ..DnsConfig::default() }),
            ..scene.sandbox("web")
        })?;
        let shapers = scene.machine.run(&["tc", "qdisc", "show"])?;
        for rate in ["rate 8Mbit", "rate 16Mbit"] {
            assert!(shapers.lines().any(|line| line.contains("tbf") && line.contains(rate)), "{shapers}");
        }
        let published = |node: &IpAddr| SocketAddr::new(*node, 8080);
        for node in scene.node.addresses() {
            page::expect(scene.lab.outside(), published(node), "pod")?;
            page::expect(scene.node.namespace(), published(node), "pod")?;
        }
        page::expect(scene.node.namespace(), published(&[127, 0, 0, 1].into()), "pod")?;
        cri.stop(&id)?;
        cri.remove(&id)?;
        page::expect_none(scene.lab.outside(), published(&scene.node.addresses()[0]))?;
        assert_eq!(scene.machine.run(&["tc", "qdisc", "show"])?, before.1, "a shaper was left behind");
        scene.expect_as(&before.0)
    });
}
