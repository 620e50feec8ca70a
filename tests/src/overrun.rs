//! More happens in the kernel than a daemon's subscription to it has room for: the daemon stands still, and a crowd of changes
//! that are no news to it fills the room.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{LabError, Node, Result};

const DEVICE: &str = "ip link add crowd type vxlan id 7790 dstport 4799 local 192.168.77.11";
const CROWD: &str = "
for turn in $(seq 10000); do
    for last in 1 2; do echo fdb replace 02:00:00:00:88:88 dev crowd dst 192.0.2.$last self dynamic; done
done | bridge -batch -
";

/// The daemon, which stands still for as long as this lives.
#[derive(Debug)]
pub struct Frozen(Pid);

impl Frozen {
    /// Stops the daemon of a node, which must run.
    pub fn daemon_of(node: &Node) -> Result<Self> {
        let pid = node.daemon_pid().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| LabError::wrong("no daemon runs"))?;
        kill(pid, Signal::SIGSTOP).map_err(LabError::errno("stopping the daemon"))?;
        Ok(Self(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap_or_default();
    }
}

/// Somebody else's device, of which more is changed than a subscription has room for. They are told, and are no news to the
/// daemon: when it reads them it looks for what it has missed, and for nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Crowd<'a>(&'a Node);

impl<'a> Crowd<'a> {
    /// Makes the device, which is news.
    pub fn on(node: &'a Node) -> Result<Self> {
        node.run(&DEVICE.split(' ').collect::<Vec<_>>())?;
        Ok(Self(node))
    }

    /// Fills the room that a frozen daemon has for what it is told. What happens next is not told to it.
    pub fn fill(self) -> Result<()> {
        self.0.run(&["sh", "-euc", CROWD]).map(drop)
    }
}

/// How many notifications of links, routes and the like the kernel has dropped, since a listener's buffer was full: by
/// netlink_native_seq_show in net/netlink/af_netlink.c, where a socket of requests has no groups.
pub fn dropped(node: &Node) -> Result<u64> {
    let sum = "$2 == 0 && $4 != \"00000000\" { sum += $9 } END { print sum + 0 }";
    let text = node.run(&["awk", sum, "/proc/net/netlink"])?;
    text.trim().parse().map_err(|_| LabError::wrong(format!("no number: {text}")))
}
