//! etcd as it is run in earnest: with TLS, with a role for each node, and with certificates that are renewed.

use std::time::Duration;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::probe::Probe;
use twill_tests::{Lab, with_lab};

#[test]
fn a_cluster_with_certificates_and_roles_works_and_follows_a_new_authority_without_a_restart() {
    with_lab(Lab::builder().nodes(2).secured(), |lab| {
        let (a, b) = (lab.node(1).add_pod("a")?, lab.node(2).add_pod("b")?);
        let probe = Probe::start(a.namespace(), b.namespace(), b.address(false)?, Duration::from_millis(1))?;
        probe.until_answered(100)?;
        deadline::until("all is well", PATIENCE, || Ok(lab.node(1).twillctl(&["status"]).is_ok()))?;
        // What the role of a node lacks: the key of another.
        let foreign = lab.node(1).as_node(&["etcdctl", "put", "/twill/v1/nodes/n2", "{}"]).unwrap_err().to_string();
        assert!(foreign.contains("permission denied"), "{foreign}");

        let daemons: Vec<_> = lab.nodes().iter().map(twill_tests::Node::daemon_pid).collect();
        lab.etcd().replace_authority()?;
        deadline::until("the nodes say why etcd does not let them in", PATIENCE, || {
            let told = |log: String| log.contains("etcd's certificate is signed by none of the CAs");
            Ok(lab.nodes().iter().all(|node| told(node.daemon_log())))
        })?;
        let security = lab.etcd().security().expect("it is secured").clone();
        for node in lab.nodes() {
            security.renew(node.directory(), node.name());
        }
        // They follow the cluster again: each learns of the third.
        lab.join()?;
        lab.converged()?;
        let c = lab.node(3).add_pod("c")?;
        lab.node(1).run(&["ping", "-n", "-c1", "-W5", &c.address(false)?.to_string()])?;
        assert_eq!(lab.nodes()[..2].iter().map(twill_tests::Node::daemon_pid).collect::<Vec<_>>(), daemons);
        probe.stop()?.expect_no_loss()
    });
}
