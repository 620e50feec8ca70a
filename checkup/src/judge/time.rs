//! The time of day. Twill itself goes by none; certificates do.

use std::io::ErrorKind;

use twill_conf::node::NODE_FILE;

use super::Findings;
use crate::finding::Check;
use crate::observe::{Certificate, Observations, Validity};
use crate::scope::Scope;

/// No machine runs this program before it was written: 2026-01-01, in seconds since 1970.
const WRITTEN: u64 = 1_767_225_600;
const DAY: i64 = 86_400;
/// So long before a certificate ends that is said, in days, and not before so many parts of its time are over: one that is made
/// anew every day is none to speak of.
const AHEAD: i64 = 14;
const PARTS: i64 = 3;

pub(super) fn clock(_: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Clock;
    if seen.now < WRITTEN {
        let days = (WRITTEN - seen.now) / 86_400;
        let what = format!("it is at least {days} days slow: certificates count as not valid yet, and logs mislead");
        return findings.problem(CHECK, "", what, "set it, and let chrony or systemd-timesyncd keep it");
    }
    match &seen.clock_kept {
        Ok(true) => findings.ok(CHECK, "plausible, and the kernel counts it as kept in step"),
        Ok(false) => {
            let what = "nothing keeps it in step, as far as the kernel knows: logs of several nodes cannot be compared, and by and by \
                        certificates are judged by a wrong time";
            findings.note(
                CHECK,
                "",
                what,
                "let chrony or systemd-timesyncd keep it ('timedatectl' shows whether one does)",
            );
        }
        // Everybody may ask, but for whose system calls are filtered.
        Err(unseen) if unseen.kind == ErrorKind::PermissionDenied => {
            findings.ok(CHECK, "plausible; whether it is kept in step the unit's ProtectClock lets nobody ask");
        }
        Err(unseen) => {
            let what = format!("it is plausible, and whether something keeps it cannot be seen: {}", unseen.why);
            findings.note(CHECK, "", what, unseen.remedy());
        }
    }
}

pub(super) fn certificates(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Certificates;
    if scope.tls.is_none() {
        return match scope.etcd {
            true => findings.ok(CHECK, "etcd is used without TLS"),
            false => {
                let fix = format!("name etcd, and with TLS its certificates, in {NODE_FILE}, and look again");
                findings.note(CHECK, "", "none was looked at: how etcd is reached is not known here", fix)
            }
        };
    }
    if seen.now < WRITTEN {
        let what = "their dates were not compared with the clock, which is wrong";
        return findings.note(CHECK, "", what, "set the clock, and look again");
    }
    let now = i64::try_from(seen.now).unwrap_or(i64::MAX);
    for Certificate { file, role, validity } in &seen.certificates {
        let subject = file.display().to_string();
        let fix = format!("put a new one in its place: twilld takes it up without a restart ({role})");
        match validity {
            Err(why) => {
                let fix = "name a file in PEM that twilld can read, in etcd_ca and etcd_cert";
                findings.problem(CHECK, subject, format!("{role} certificate cannot be read: {why}"), fix);
            }
            Ok(validity) if validity.to < now => {
                let ago = days(now - validity.to);
                findings.problem(
                    CHECK,
                    subject,
                    format!("{role} certificate has expired {ago} ago: etcd is not reached with it"),
                    fix,
                );
            }
            Ok(validity) if validity.from > now => {
                let ahead = days(validity.from - now);
                let what = format!("{role} certificate is not valid for another {ahead}: is the clock slow?");
                findings.problem(
                    CHECK,
                    subject,
                    what,
                    "look at the clock of this machine, and of the one that made it",
                );
            }
            Ok(Validity { from, to }) if to - now < (AHEAD * DAY).min((to - from) / PARTS) => {
                findings.note(CHECK, subject, format!("{role} certificate expires in {}", days(to - now)), fix);
            }
            Ok(_) => {}
        }
    }
    let first = seen.certificates.iter().filter_map(|one| one.validity.as_ref().ok()).map(|validity| validity.to).min();
    findings.else_ok(CHECK, first.map_or_else(|| "valid".to_owned(), |to| format!("valid for {}", days(to - now))));
}

fn days(seconds: i64) -> String {
    match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / DAY),
    }
}
