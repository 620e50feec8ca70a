//! The systemd units: that systemd takes them, how far they shut the daemon in, and that they agree with the programs.

use std::fs;
use std::path::Path;
use std::process::Command;

use twill_tests::needs::workspace;
use twill_tests::process::{command, run_on_host};
use twill_tests::{LabError, Result};

/// The most that `systemd-analyze security` may say, in tenths: 0 is the best, 100 the worst. The daemon has to administer the
/// network and to enter the namespaces of pods.
const EXPOSURE: [(&str, u32); 2] = [("twilld.service", 35), ("twilld-install.service", 25)];

/// The units' directory in the sources.
fn units() -> std::path::PathBuf {
    workspace().join("conf/samples/systemd")
}

/// The values of a key in a unit, in order; what an empty one resets is for the caller.
pub fn values(unit: &str, key: &str) -> Result<Vec<String>> {
    let path = units().join(unit);
    let text = fs::read_to_string(&path).map_err(LabError::io(format!("reading {}", path.display())))?;
    let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Ok(lines.map(str::to_owned).collect())
}

/// A tree with the package's files, the machine's own targets and the programs that the units start.
fn staged(root: &Path) -> Result<()> {
    let script = r#"
        set -eu
        mkdir -p "$1/usr/lib/systemd" "$1/usr/sbin" "$1/bin" "$1/usr/share/doc/twill"
        cp -r /lib/systemd/system "$1/usr/lib/systemd/"
        ln -s usr/lib "$1/lib"
        cp "$2"/*.service "$1/usr/lib/systemd/system/"
        for program in usr/sbin/twilld bin/mkdir; do printf '#!/bin/sh\n' >"$1/$program"; chmod 0755 "$1/$program"; done
    "#;
    let mut command = Command::new("sh");
    command.args(["-euc", script, "stage"]).arg(root).arg(units());
    run_on_host(command).map(drop)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() -> Result<()> {
    if !twill_testkit::has_program("systemd-analyze") {
        return Ok(());
    }
    let root = tempfile::tempdir().map_err(LabError::io("making a directory"))?;
    staged(root.path())?;
    let verify = |unit: &str| {
        let mut command = command(&["systemd-analyze", "verify", "--recursive-errors=no"]);
        command.arg(format!("--root={}", root.path().display()));
        command.arg(root.path().join("usr/lib/systemd/system").join(unit));
        let output = command.output().map_err(LabError::io("running systemd-analyze"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // What the machine's own units say of each other is not ours.
        Ok::<_, LabError>((
            output.status.success(),
            said.lines().filter(|line| line.contains("twill")).map(str::to_owned).collect::<Vec<_>>(),
        ))
    };
    for (unit, _) in EXPOSURE {
        assert_eq!(verify(unit)?, (true, Vec::new()), "{unit}");
    }
    // It would see what is wrong.
    let bad = root.path().join("usr/lib/systemd/system/twilld.service");
    fs::write(bad, "[Service]\nExecStart=twilld-of-nowhere/relative\n").map_err(LabError::io("spoiling a unit"))?;
    assert!(!verify("twilld.service")?.0, "a unit with a relative program is accepted");
    Ok(())
}

#[test]
fn the_units_shut_the_daemon_in_as_far_as_they_say() -> Result<()> {
    if !twill_testkit::has_program("systemd-analyze") {
        return Ok(());
    }
    for (unit, most) in EXPOSURE {
        let mut command = command(&["systemd-analyze", "security", "--offline=yes", "--no-pager"]);
        command.arg(format!("--threshold={most}")).arg(units().join(unit));
        run_on_host(command)?;
    }
    Ok(())
}

#[test]
fn the_daemons_unit_keeps_what_must_outlive_the_daemon_and_waits_for_what_it_tells() -> Result<()> {
    let one = |key: &str| Ok::<_, LabError>(values("twilld.service", key)?.join(" "));
    for (key, wanted) in [
        ("Type", "notify"),
        ("Restart", "always"),
        // By the defaults of twilld: /run/twill and /var/lib/twill.
        ("RuntimeDirectory", "twill"),
        ("RuntimeDirectoryPreserve", "yes"),
        ("StateDirectory", "twill"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("MemoryDenyWriteExecute", "yes"),
        ("ExecStart", "/usr/sbin/twilld"),
    ] {
        assert_eq!(one(key)?, wanted, "{key}");
    }
    assert_eq!(twill_conf::node::RUN_DIR, "/run/twill");
    assert_eq!(twill_conf::node::STATE_DIR, "/var/lib/twill");
    // The daemon calls its event loop hung after 20 s, and systemd has to be told for longer than that.
    assert!(one("WatchdogSec")?.parse::<u64>().is_ok_and(|seconds| seconds >= 40), "{}", one("WatchdogSec")?);
    Ok(())
}
