//! How a device is set, for people to read: its MTU and which offloads are off. In the namespace of the calling thread.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::IfName;
use crate::table::offload::ethtool;

/// What is looked at, by ethtool's names, with the command that reads it (include/uapi/linux/ethtool.h).
const OFFLOADS: [(&str, u32); 6] = [
    ("rx-checksumming", 0x14),
    ("tx-checksumming", 0x16),
    ("scatter-gather", 0x18),
    ("tcp-segmentation-offload", 0x1e),
    ("generic-segmentation-offload", 0x23),
    ("generic-receive-offload", 0x2b),
];

nix::ioctl_readwrite_bad!(
    /// SIOCGIFMTU (netdevice(7)).
    siocgifmtu,
    libc::SIOCGIFMTU,
    libc::ifreq
);

/// A device's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// In bytes.
    pub mtu: u32,
    /// The offloads that are off, by ethtool's names.
    pub off: Vec<&'static str>,
}

/// Looks. An offload that a device does not know is not off.
pub fn settings(device: IfName) -> io::Result<Settings> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let none = libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 };
    let mut request = libc::ifreq { ifr_name: device.to_ifr_name(), ifr_ifru: none };
    // SAFETY: the kernel reads the name and writes the MTU of one `struct ifreq`, and `request` is one and outlives the call.
    let mtu = unsafe {
        siocgifmtu(socket.as_raw_fd(), &raw mut request)?;
        request.ifr_ifru.ifru_mtu
    };
    let is_off = |command| ethtool(&socket, device, command, 0).is_ok_and(|value| value == 0);
    let off = OFFLOADS.into_iter().filter(|(_, command)| is_off(*command)).map(|(name, _)| name).collect();
    Ok(Settings { mtu: u32::try_from(mtu).unwrap_or_default(), off })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_an_mtu_and_one_that_is_not_there_has_none() {
        let loopback = settings(IfName::new("lo").unwrap()).unwrap();
        assert!(loopback.mtu >= 1500, "{loopback:?}");
        assert!(settings(IfName::new("no-such-device").unwrap()).is_err());
    }
}
