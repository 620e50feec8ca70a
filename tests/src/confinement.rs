//! Where `twillctl` runs in tests: a place from which no other network namespace can be entered.
//!
//! Whatever it tells of other nodes it has learnt through etcd, therefore, and it cannot have looked. The network namespaces with
//! a name have no path there, since a mount namespace of its own hides them; `CAP_SYS_ADMIN`, without which setns(2) and
//! umount(2) fail, and `CAP_SYS_PTRACE`, without which `/proc/<pid>/ns` of a process with more capabilities cannot be read, are
//! out of the bounding set (capabilities(7)), so that no program that it starts gets them back. The process ID stays that of
//! who is started: signals reach `twillctl` itself.
//!
//! `twillctl doctor --preflight` is the exception: it tries what the kernel can in a namespace that it makes, which needs
//! `CAP_SYS_ADMIN`. Its tests start it by themselves.

use std::process::Command;

/// The status where the place could not be made: none of `twillctl`'s.
const NOT_CONFINED: i32 = 126;
/// What is not to be had there.
const CAPABILITIES: &str = "-sys_admin,-sys_ptrace";

/// The same command, which goes to that place first. Its environment and its directory are kept, its standard streams are
/// for the caller to set.
pub fn confined(command: &Command) -> Command {
    let script = format!(
        "mount -t tmpfs -o ro,mode=0755 none {} &&
        exec setpriv --no-new-privs --inh-caps=-all --bounding-set={CAPABILITIES} -- \"$0\" \"$@\"
        exit {NOT_CONFINED}",
        crate::namespace::DIRECTORY
    );
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    outer
}
