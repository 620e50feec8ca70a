//! `twillctl` knows of other nodes what it is told: from where it runs in tests, no other network namespace can be entered.

use twill_tests::namespace::DIRECTORY;
use twill_tests::{Lab, LabError, with_lab};

#[test]
fn from_where_twillctl_runs_no_other_namespace_can_be_entered() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let other = two.namespace().path().to_string_lossy().into_owned();
        let name = two.namespace().name();
        let pid = two.daemon_pid().ok_or_else(|| LabError::wrong("no daemon runs"))?;
        // Each way is one as long as nobody is confined, else it would show nothing that it fails.
        let ways = [
            (format!("nsenter --net={other} true"), "No such file or directory"),
            (format!("ip netns exec {name} true"), "No such file or directory"),
            (format!("nsenter --net=/proc/{pid}/ns/net true"), "Permission denied"),
            (format!("nsenter --mount=/proc/{pid}/ns/mnt true"), "Permission denied"),
            ("unshare --net true".to_owned(), "Operation not permitted"),
            ("nsenter --net=/proc/self/ns/net true".to_owned(), "Operation not permitted"),
            (format!("mount -t tmpfs none {DIRECTORY}"), "permission denied"),
            (format!("umount --lazy {DIRECTORY}"), "must be superuser"),
        ];
        for (way, why) in &ways {
            one.run(&["unshare", "--mount", "--propagation", "private", "sh", "-ec", way])?;
            let refused = one.run_script(way, &[]).expect_err(way).to_string();
            assert!(refused.contains(why), "{way}: {refused}");
        }
        // It is the node's own namespace all the same, and nothing more is kept from it.
        let own = one.run_script("readlink /proc/self/ns/net", &[])?;
        assert_eq!(own, format!("net:[{}]", one.namespace().inode()?));
        one.run_script("ip link add spare type veth peer name other && ip link delete spare", &[])?;
        assert!(one.twillctl(&["status", "--wait", "1m"])?.contains("no problems"));
        Ok(())
    });
}
