//! What the process may do, its directories, and who the machine is.

use std::path::Path;

use twill_conf::NodeName;

use super::Findings;
use crate::finding::Check;
use crate::identity::shortened_id;
use crate::observe::{Directory, Observations, Seen};
use crate::scope::{Scope, Stage};
use crate::unseen::AS_ROOT;

/// Those that Twill needs, by their numbers (include/uapi/linux/capability.h).
const NEEDED: [(u32, &str, &str); 3] = [
    (12, "CAP_NET_ADMIN", "interfaces, routes and rules cannot be made"),
    (13, "CAP_NET_RAW", "the paths to other nodes cannot be probed"),
    (21, "CAP_SYS_ADMIN", "namespaces of pods cannot be entered"),
];

pub(super) fn permissions(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Permissions;
    let Some(mask) = findings.seen(CHECK, &seen.capabilities) else { return };
    let missing = NEEDED.into_iter().filter(|(bit, ..)| mask >> bit & 1 == 0);
    if scope.stage == Stage::Before {
        // Who asks is not who will serve.
        let names: Vec<&str> = missing.map(|(_, name, _)| name).collect();
        if !names.is_empty() {
            let what = format!("whoever asks lacks {}, so less can be told", names.join(", "));
            findings.unknown(CHECK, "", what, AS_ROOT);
        }
    } else {
        for (_, name, without) in missing {
            let fix = "run it as root; in a container, privileged or with this capability";
            findings.problem(CHECK, name, format!("twilld lacks it: {without}"), fix);
        }
    }
    findings.else_ok(CHECK, "all capabilities that are needed");
}

/// Below these the store of a node cannot go on, in bytes: STATUS says so at 128 KiB.
const LITTLE: u64 = 128 << 10;
const SCARCE: u64 = 4 << 20;

pub(super) fn directories(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Directories;
    let both = [
        ("run directory", scope.run_dir.as_path(), &seen.run_dir),
        ("state directory", scope.state_dir.as_path(), &seen.state_dir),
    ];
    for (role, path, seen) in both {
        directory(scope.stage, role, path, seen, findings);
    }
    if let (Stage::Serving, Ok(Directory::There { mode, tmpfs, .. })) = (scope.stage, &seen.run_dir) {
        let subject = scope.run_dir.display().to_string();
        if mode & 0o022 != 0 {
            let what = format!("others may write in the run directory (mode {mode:o}): they could give addresses away");
            findings.problem(CHECK, subject.clone(), what, format!("chmod 700 {subject}"));
        }
        if !tmpfs {
            let what = "the run directory outlives a reboot: what it says of pods is then wrong until it is swept";
            findings.note(CHECK, subject, what, "let it lie on a tmpfs, below /run");
        }
    }
    let (run, state) = (scope.run_dir.display(), scope.state_dir.display());
    let missing = [&seen.run_dir, &seen.state_dir].into_iter().any(|seen| matches!(seen, Ok(Directory::Missing)));
    let words = match missing {
        false => format!("{run} and {state} can be used"),
        true => format!("{run} and {state}: what is not there yet twilld makes; the room for that was not looked at"),
    };
    findings.else_ok(CHECK, words);
}

fn directory(stage: Stage, role: &str, path: &Path, seen: &Seen<Directory>, findings: &mut Findings) {
    const CHECK: Check = Check::Directories;
    let subject = path.display().to_string();
    match findings.seen(CHECK, seen) {
        Some(Directory::NoDirectory) => {
            let what = format!("the {role} is to be there, and a file is");
            findings.problem(CHECK, subject, what, "move it away");
        }
        Some(Directory::Missing) if stage == Stage::Serving => {
            let what = format!("the {role} is gone from under twilld");
            findings.problem(CHECK, subject, what, "restart twilld, which makes it, and look for who removed it");
        }
        Some(Directory::There { read_only: true, .. }) => {
            let what = format!("the {role} lies on a file system that is mounted read-only");
            findings.problem(
                CHECK,
                subject,
                what,
                "mount it read-write, or name another directory in the node's configuration",
            );
        }
        Some(Directory::There { writable: false, .. }) if stage == Stage::Serving => {
            let what = format!("twilld may not write in the {role}");
            findings.problem(CHECK, subject, what, "let twilld run as root, and the directory be root's");
        }
        Some(Directory::There { free, .. }) if *free < LITTLE => {
            let what = format!("{} KiB are free for the {role}: no address can be given out", free >> 10);
            findings.problem(CHECK, subject, what, "make room there, or raise the size of its file system");
        }
        Some(Directory::There { free, .. }) if *free < SCARCE => {
            let what = format!("{} KiB are free for the {role}", free >> 10);
            findings.note(CHECK, subject, what, "make room there, or raise the size of its file system");
        }
        Some(_) | None => {}
    }
}

pub(super) fn identity(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Identity;
    if let Err(why) = &seen.machine_id {
        let subject = scope.machine_id_file.display().to_string();
        let fix = "'systemd-machine-id-setup' makes one; or name another file with machine_id_file";
        findings.problem(
            CHECK,
            subject,
            format!("there is no machine ID, without which twilld does not start: {why}"),
            fix,
        );
    }
    let name = match (&scope.node_name, &seen.host_name) {
        (Some(name), _) => Some(name.clone()),
        (None, Ok(host)) => match host.parse::<NodeName>() {
            Ok(name) => Some(name),
            Err(why) => {
                let fix = "set node_name in the node's configuration, or another host name ('hostnamectl hostname')";
                findings.problem(CHECK, "host name", format!("it cannot be the node's name: {why}"), fix);
                None
            }
        },
        (None, Err(unseen)) => {
            findings.unknown(CHECK, "host name", &unseen.why, unseen.remedy());
            None
        }
    };
    if let (Some(name), Ok(id)) = (name, &seen.machine_id) {
        findings.ok(CHECK, format!("node {name}, machine {}", shortened_id(id)));
    }
}
