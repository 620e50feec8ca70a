//! The daemon within the bounds of its unit, as far as they can be drawn without systemd: with the capabilities that it has and no
//! others, without new privileges, on a machine that cannot be written but for the two directories; and its system calls, and
//! those of the programs that it starts, held against the unit's filter.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use twill_tests::cni::{Call, Verb};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::needs::workspace;
use twill_tests::process::{command, run_on_host};
use twill_tests::{Lab, LabError, Node, Pod, Result, with_lab};

use super::units::values;

/// Run in a mount namespace of its own, with the lab's directory and the sources': the machine's file systems cannot be written, but for
/// the lab's, which stands for the unit's directories, and for the kernel's own.
const STRICT: &str = r#"
    lab="$(stat --format %m "$1")"
    while read -r _ mount _; do
        case "$mount" in
            "$lab" | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) continue ;;
        esac
        # Those of other labs come and go.
        mount -o remount,bind,ro "$mount" 2>/dev/null || :
    done </proc/self/mounts
    for written in /usr /etc /run "$2"; do
        ! touch "$written/twill-was-here" 2>/dev/null || { echo "the machine can be written: $written"; exit 1; }
    done
    shift 2
    exec "$@"
"#;

/// It sets nothing, but ProtectClock takes it away, with all that could set the clock: the daemon does without an answer (`checkup`).
const ASKS_THE_CLOCK: &str = "adjtimex";

/// The kernel's capabilities in the order of their numbers: include/uapi/linux/capability.h of Linux 6.1.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The unit's capabilities.
fn capabilities() -> Result<Vec<String>> {
    let words = values("twilld.service", "CapabilityBoundingSet")?.join(" ").to_lowercase();
    let kept: Vec<_> =
        words.split_whitespace().filter_map(|word| Some(word.strip_prefix("cap_")?.to_owned())).collect();
    assert!(!kept.is_empty() && kept.len() < 10, "{kept:?}");
    Ok(kept)
}

/// As `/proc/PID/status` has them.
fn mask() -> Result<String> {
    let number = |name: &String| CAPABILITIES.iter().position(|known| known == name);
    let numbers: Option<Vec<_>> = capabilities()?.iter().map(number).collect();
    let numbers = numbers.ok_or_else(|| LabError::wrong("the unit names a capability that there is not"))?;
    Ok(format!("{:016x}", numbers.iter().fold(0_u64, |mask, number| mask | 1 << number)))
}

/// What `setpriv` calls the unit's capabilities.
fn bounding_set() -> Result<String> {
    Ok(format!("-all,+{}", capabilities()?.join(",+")))
}

/// The system calls that the unit lets through.
fn allowed() -> Result<BTreeSet<String>> {
    let mut allowed = BTreeSet::new();
    for filter in values("twilld.service", "SystemCallFilter")? {
        match filter.strip_prefix('~') {
            None => filter.split_whitespace().try_for_each(|set| {
                expand(set, &mut |call| {
                    allowed.insert(call);
                })
            })?,
            Some(denied) => denied.split_whitespace().try_for_each(|set| {
                expand(set, &mut |call| {
                    allowed.remove(&call);
                })
            })?,
        }
    }
    Ok(allowed)
}

/// The calls of a set, by systemd's own word, and of the sets in it.
fn expand(name: &str, each: &mut dyn FnMut(String)) -> Result<()> {
    if !name.starts_with('@') {
        each(name.to_owned());
        return Ok(());
    }
    let said = run_on_host(command(&["systemd-analyze", "syscall-filter", "--no-pager", name]))?;
    let members = said.lines().filter(|line| line.starts_with(' ')).map(str::trim);
    members.filter(|line| !line.starts_with('#') && !line.is_empty()).try_for_each(|member| expand(member, each))
}

/// A daemon within the unit's bounds, its system calls written down in `log`.
fn start_within_bounds(node: &Node, log: &str) -> Result<()> {
    let bounds = bounding_set()?;
    let (bounding, inheritable) = (format!("--bounding-set={bounds}"), "--inh-caps=-all");
    let (directory, sources) = (node.directory().to_string_lossy(), workspace().to_string_lossy());
    let mut words = vec!["unshare", "--mount", "--propagation", "slave", "sh", "-euc", STRICT, "strict"];
    words.extend([&*directory, &*sources]);
    // The tracer is a grandchild: the daemon's process stays the one that is started here.
    words.extend(["strace", "-D", "-f", "-qq", "--signal=none", "--seccomp-bpf", "-o", log]);
    words.extend(["setpriv", "--no-new-privs", &bounding, inheritable]);
    node.start_daemon_by(&words, &["--sweep-grace-ms", "200"])
}

/// A further interface of a pod, whose DEL was killed in the middle: the daemon ends it, and takes its rules out of the pod's namespace.
fn finish_a_del(node: &Node, pod: &Pod) -> Result<()> {
    let mut input = node.network().plugin_input(None);
    input["name"] = "other".into();
    let (plugin, container, netns) = (node.binaries().plugin(), pod.container(), pod.namespace().path());
    let verb = Verb::Add;
    let call = Call { plugin: &plugin, verb, container: &container, netns, ifname: "eth1", input: &input };
    call.run_in(node.namespace())?.expect_success()?;
    let rules = || pod.namespace().run(&["ip", "-N", "rule", "show"]);
    assert!(rules()?.contains("proto 117"), "a further interface has rules: {}", rules()?);
    let store = node.run_dir().join("node.db");
    let killed = "UPDATE attachment SET state = 'deleting' WHERE ifname = 'eth1'";
    node.run(&["sqlite3", "-cmd", ".timeout 5000", &store.to_string_lossy(), killed])?;
    deadline::until("the daemon has ended the DEL", PATIENCE, || {
        let rows = node.query_store("SELECT hash FROM attachment WHERE ifname = 'eth1'")?;
        Ok(rows.is_empty() && !rules()?.contains("proto 117"))
    })
}

/// Adds a pod on a node whose daemon is shut in, and has the daemon repair and probe.
fn work(lab: &Lab) -> Result<()> {
    let (node, other) = (lab.node(1), lab.node(2));
    lab.converged()?;
    let (pod, remote) = (node.attach("a")?, other.attach("b")?);
    for ipv6 in [false, true] {
        let target = remote.address(ipv6)?;
        deadline::until(&format!("the pod reaches {target}"), PATIENCE, || Ok(pod.ping(target, 56).is_ok()))?;
    }
    finish_a_del(node, &pod)?;
    // What somebody takes away is put back: by netlink, by nft and by a sysctl.
    node.run(&["ip", "link", "delete", "vxlan.twill"])?;
    node.run(&["nft", "delete", "table", "inet", "twill"])?;
    node.namespace().set_sysctl("net/ipv4/ip_forward", "0")?;
    let all = || {
        let forwards = node.run(&["cat", "/proc/sys/net/ipv4/ip_forward"])?.trim() == "1";
        let table = node.run(&["nft", "list", "tables"])?.contains("table inet twill\n")
            || node.run(&["nft", "list", "tables"])?.ends_with("table inet twill");
        let device = node.interfaces()?.iter().any(|name| name == "vxlan.twill");
        Ok(if forwards && table && device { Ok(()) } else { Err((forwards, table, device)) })
    };
    deadline::until_some("the daemon repairs everything", PATIENCE, all)?;
    deadline::until("the pod reaches the other again", PATIENCE, || Ok(pod.ping(remote.address(false)?, 56).is_ok()))?;
    // What an operator has it try: pods of its own, by the plugin, and what the kernel can.
    node.twillctl(&["test", "--nodes", "n1,n2"])?;
    let looked = node.twillctl_told(&["doctor", "--node", "n1", "-o", "json"])?.stdout;
    let report: Value = serde_json::from_str(&looked).map_err(|_| LabError::wrong(looked.clone()))?;
    let rows = report["checks"].as_array().into_iter().flatten();
    let good: Vec<_> = rows.filter(|row| row["node"] == "n1" && row["state"] == "ok").collect();
    for check in ["kernel", "nft"] {
        assert!(good.iter().any(|row| row["check"] == check), "{looked}");
    }
    pod.del().map(drop)
}

#[test]
fn the_daemon_serves_and_repairs_within_the_bounds_of_its_unit() {
    for program in ["strace", "setpriv", "systemd-analyze", "unshare"] {
        if !twill_testkit::has_program(program) {
            return;
        }
    }
    with_lab(Lab::builder().nodes(2).asleep(), |lab| {
        let node = lab.node(1);
        let log = node.directory().join("calls");
        lab.node(2).start_daemon()?;
        start_within_bounds(node, &log.to_string_lossy())?;
        work(lab)?;
        let pid = node.daemon_pid().ok_or_else(|| LabError::wrong("no daemon runs"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(LabError::io("reading its status"))?;
        let mask = mask()?;
        for wanted in ["NoNewPrivs:\t1", &format!("CapBnd:\t{mask}"), &format!("CapEff:\t{mask}")] {
            assert!(status.contains(wanted), "{wanted}: {status}");
        }
        for wrong in ["Operation not permitted", "Permission denied", "Read-only file system"] {
            assert!(!node.daemon_log().contains(wrong), "{}", node.daemon_log());
        }
        node.stop_daemon()?;
        let text = fs::read_to_string(&log).map_err(LabError::io("reading its system calls"))?;
        hold_against_the_filter(&text)
    });
}

/// From the daemon's own start on: before, the programs that shut it in are at work.
fn hold_against_the_filter(text: &str) -> Result<()> {
    let begin = text.lines().position(|line| line.contains("execve(") && line.contains("/twilld\""));
    let lines: Vec<_> = text.lines().skip(begin.ok_or_else(|| LabError::wrong("no daemon was traced"))?).collect();
    let calls: BTreeSet<_> = lines.iter().filter_map(|line| call(line)).collect();
    let allowed = allowed()?;
    let is_denied = |call: &&&str| !allowed.contains(**call) && **call != ASKS_THE_CLOCK;
    let denied: Vec<_> = calls.iter().filter(is_denied).collect();
    assert!(calls.contains("setns") && calls.contains("execve") && calls.len() > 30, "{calls:?}");
    assert!(denied.is_empty(), "the unit's filter forbids {denied:?}");

    let families = values("twilld.service", "RestrictAddressFamilies")?.join(" ");
    let sockets = lines.iter().filter_map(|line| line.split_once(" socket(")?.1.split(',').next());
    let foreign: BTreeSet<_> = sockets.filter(|family| !families.split(' ').any(|known| known == *family)).collect();
    assert!(foreign.is_empty(), "the unit forbids sockets of {foreign:?}");

    let namespaces = lines.iter().filter(|line| line.contains(" setns(") || line.contains(" unshare("));
    let other: Vec<_> = namespaces.filter(|line| !line.contains("CLONE_NEWNET")).collect();
    assert!(other.is_empty(), "RestrictNamespaces=net forbids {other:?}");
    let executable = lines.iter().filter(|line| line.contains("PROT_WRITE|PROT_EXEC"));
    assert_eq!(executable.collect::<Vec<_>>(), Vec::<&&str>::new(), "MemoryDenyWriteExecute forbids that");
    Ok(())
}

/// The name of the call on a line of strace.
fn call(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (name, _) = rest.split_once('(')?;
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_').then_some(name)
}
