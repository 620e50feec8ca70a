//! Somebody else who undoes what the daemon repairs: told once, with who may be doing it, and the route is there whenever he
//! looks away.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::PROTOCOL_CLUSTER;
use twill_tests::{Lab, LabError, with_lab};

/// How often the other one strikes, a fifth of a second apart.
const STRIKES: usize = 40;
/// Between two contested repairs the daemon rests (`reconcile/feud.rs`).
const RESPITE: Duration = Duration::from_millis(800);
/// So many repairs are none of a feud yet, and two more may be on their way when it is one.
const BEFORE: u32 = 5 + 2;

#[test]
fn who_undoes_repairs_again_and_again_is_told_of_once() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (node, other) = (lab.node(1), lab.node(2));
        let (a, b) = (node.attach("a")?, other.attach("b")?);
        let block = lab.etcd().blocks_of("n2")?.into_iter().find(ipnetwork::IpNetwork::is_ipv4);
        let block = block.ok_or_else(|| LabError::wrong("n2 has no block"))?.to_string();

        // A process of that name is all that can be seen of who it may be.
        let manager = lab.directory().join("systemd-network");
        std::fs::copy("/bin/sleep", &manager).map_err(LabError::io("copying sleep"))?;
        let mut command = Command::new(&manager);
        command.arg("60");
        let mut running = node.namespace().start_process("manager", command, &lab.directory().join("manager.log"))?;

        let strike = format!(
            "hits=0; for strike in $(seq {STRIKES}); do
                 if ip route del {block} proto {PROTOCOL_CLUSTER} 2>/dev/null; then hits=$((hits + 1)); fi; sleep 0.2
             done; echo $hits"
        );
        let begun = Instant::now();
        let hits = node.run(&["sh", "-euc", &strike])?;
        let most = BEFORE + u32::try_from(begun.elapsed().as_millis() / RESPITE.as_millis()).unwrap_or(u32::MAX);
        // He hits as often as it was repaired: without rests that is each time.
        let hits: u32 = hits.trim().parse().map_err(|_| LabError::wrong(hits.clone()))?;
        assert!((BEFORE..=most).contains(&hits), "{hits} repairs, {most} at most");
        node.says(&format!("route {block} via"))?;
        let log = node.daemon_log();
        let told: Vec<&str> = log.lines().filter(|line| line.contains("repaired again and again")).collect();
        assert_eq!(told.len(), 1, "{log}");
        assert!(told[0].contains(&format!("route {block} via")), "{}", told[0]);
        assert!(told[0].contains("systemd-networkd runs here: set ManageForeignRoutes=no"), "{}", told[0]);
        let repairs =
            log.lines().filter(|line| line.contains("repaired route: added") && line.contains(&block)).count();
        assert!((1..=5).contains(&repairs), "{repairs} lines\n{log}");

        deadline::until("the route is back, and the pods reach each other", PATIENCE, || {
            Ok(a.ping(b.address(false)?, 56).is_ok())
        })?;
        running.end(Signal::SIGKILL).map(drop)
    });
}
