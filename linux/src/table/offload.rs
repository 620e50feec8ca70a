//! The table of offloads: whether a device leaves the checksums of what it sends to the hardware (`ethtool -K DEV tx`).
//!
//! By the ioctl of ethtool (include/uapi/linux/ethtool.h), which works in the namespace of its socket. A change by somebody else
//! is told as an event of the link.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Outcome, Repair, settle_inside};
use crate::{Error, IfName, Netlink};

/// SIOCETHTOOL (include/uapi/linux/sockios.h).
const SIOCETHTOOL: u32 = 0x8946;
/// ETHTOOL_GTXCSUM and ETHTOOL_STXCSUM.
const GET: u32 = 0x16;
const SET: u32 = 0x17;

/// struct ethtool_value.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

nix::ioctl_readwrite_bad!(siocethtool, SIOCETHTOOL, libc::ifreq);

/// Brings the offload of each device to its value. A device that is not there is not this table's affair.
pub(super) fn settle(netlink: &Netlink, desired: &BTreeMap<IfName, bool>, outcome: &mut Outcome) -> Result<(), Error> {
    let wanted: Vec<_> = desired.iter().collect();
    settle_inside(netlink, &wanted, |(device, on)| bring(**device, **on), outcome)
}

fn bring(device: IfName, on: bool) -> Result<Option<Repair>, Error> {
    let word = if on { "on" } else { "off" };
    let change = || -> io::Result<bool> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        if (ethtool(&socket, device, GET, 0)? != 0) == on {
            return Ok(false);
        }
        ethtool(&socket, device, SET, on.into()).map(|_| true)
    };
    match change() {
        Ok(false) => Ok(None),
        Ok(true) => {
            let (object, was) = (format!("{device} tx {word}"), Some(if on { "off" } else { "on" }.to_owned()));
            Ok(Some(Repair { table: "offload", action: "changed", object, was }))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(cause) => Err(Error::Offload { device: device.to_string(), value: word, cause }),
    }
}

/// One request; what the kernel answered in its place.
pub(crate) fn ethtool(socket: &OwnedFd, device: IfName, command: u32, data: u32) -> io::Result<u32> {
    let mut value = Value { command, data };
    let data = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() };
    let mut request = libc::ifreq { ifr_name: device.to_ifr_name(), ifr_ifru: data };
    #[expect(unsafe_code, reason = "ethtool has no other interface that does not need a generic netlink family")]
    // SAFETY: the kernel reads and writes one `struct ethtool_value` where ifr_data points, and `value` outlives the call.
    unsafe { siocethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(value.data)
}
