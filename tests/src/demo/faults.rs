//! What happens when a daemon is killed, and when a route is deleted.

use std::time::{Duration, Instant};

use super::{Screen, two_pods};
use crate::deadline::{self, PATIENCE};
use crate::pod::Pod;
use crate::probe::Probe;
use crate::{Lab, Result};

const INTERVAL: Duration = Duration::from_millis(1);

/// Kills the daemon of the sender's node and starts it again, under a packet each millisecond.
pub(super) fn daemon_killed(lab: &Lab, pods: &[Pod], screen: &mut Screen) -> Result<()> {
    let (here, from, _, to) = two_pods(lab, pods);
    screen.step(&format!("twilld on {} is killed and started again, under a packet each millisecond", here.name()));
    let probe = Probe::start(from.namespace(), to.namespace(), to.address(false)?, INTERVAL)?;
    probe.until_answered(500)?;
    here.kill_daemon()?;
    probe.until_answered(1000)?;
    let (added, pod) = {
        let pod = here.create_pod("while-down")?;
        let added = pod.add();
        (added, pod)
    };
    screen.ask("an ADD while the daemon is dead", added.is_ok());
    here.start_daemon()?;
    probe.until_answered(1500)?;
    let report = probe.stop()?;
    screen.note(&format!("{} packets sent, {} lost; a pod was added in the meantime", report.sent, report.lost));
    screen.ask("no packet is lost while the daemon is away and comes back", report.lost == 0);
    pod.del().map(drop)
}

/// Deletes the route to the other node's block, and waits for it to be back.
pub(super) fn route_deleted(lab: &Lab, pods: &[Pod], screen: &mut Screen) -> Result<()> {
    let (here, from, there, to) = two_pods(lab, pods);
    screen.step(&format!("the route from {} to {} is deleted", here.name(), there.name()));
    let target = to.address(false)?.to_string();
    let prefix = here
        .routes(false, 116)?
        .iter()
        .filter(|route| route["dev"] == "vxlan.twill")
        .filter_map(|route| route["dst"].as_str())
        .find(|dst| {
            dst.parse::<ipnetwork::IpNetwork>().is_ok_and(|net| target.parse().is_ok_and(|ip| net.contains(ip)))
        })
        .unwrap_or_default()
        .to_owned();
    let probe = Probe::start(from.namespace(), to.namespace(), to.address(false)?, INTERVAL)?;
    probe.until_answered(200)?;
    let before = here.run(&["ip", "route", "show", &prefix])?;
    let deleted = Instant::now();
    here.run(&["ip", "route", "del", &prefix, "proto", "116"])?;
    let back =
        deadline::until("the route is back", PATIENCE, || Ok(here.run(&["ip", "route", "show", &prefix])? == before));
    let repaired = deleted.elapsed();
    probe.until_answered(200)?;
    let report = probe.stop()?;
    screen.note(&before);
    screen.note(&format!(
        "back after {} ms; {} of {} packets lost meanwhile",
        repaired.as_millis(),
        report.lost,
        report.sent
    ));
    screen.ask("the deleted route comes back within a second", back.is_ok() && repaired < Duration::from_secs(1));
    Ok(())
}
