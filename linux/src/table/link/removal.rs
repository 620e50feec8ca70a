//! Removing one device without waiting for the kernel's grace periods.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Device, by_index, delete};
use crate::netlink::{Errand, Request};
use crate::{Error, Netlink};

/// How often a device that still stands is looked at: a fraction of what the kernel takes to unlist one.
const POLL: Duration = Duration::from_micros(100);
/// The kernel takes a hundredth of it, when it is busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes a device (a veth with its peer) and returns when nobody can find it any more, in whatever namespace: names,
/// routes, addresses, neighbours are gone then and may be made anew. What the kernel does after that, 15 ms and more, goes
/// on by itself (see [`Errand`]). `false` where it was gone already.
///
/// Where there is no descriptor, memory or process to be had for that, it waits for all of it: what is left standing is
/// worse.
pub fn remove(netlink: &mut Netlink, device: Device) -> Result<bool, Error> {
    remove_by(netlink, device, |netlink, request| netlink.another()?.leave(request))
}

fn remove_by(
    netlink: &mut Netlink,
    device: Device,
    leave: impl FnOnce(&Netlink, &Request) -> Result<Errand, Error>,
) -> Result<bool, Error> {
    let request = delete(device);
    let watched = leave(netlink, &request).and_then(|errand| watch(netlink, device, &errand));
    // Else there is no child, or it was killed, perhaps before it asked.
    let outcome = watched.unwrap_or_else(|_| netlink.apply(&[request]));
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until the device is gone, or the kernel has refused. The outer error: nobody is at work on it any more.
fn watch(netlink: &mut Netlink, device: Device, errand: &Errand) -> Result<Result<(), Error>, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The kernel unlists a device and answers this under one lock, so it is either there or wholly gone.
        if by_index(netlink, device.index)?.is_none() {
            return Ok(Ok(()));
        }
        if let Some(outcome) = errand.answer(POLL)? {
            return Ok(outcome);
        }
        if Instant::now() >= deadline {
            let cause = std::io::ErrorKind::TimedOut.into();
            return Err(Error::Transport { what: "wait for a device to go", cause });
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::IfName;
    use crate::table::link::{by_name, create_ifb};

    #[test]
    fn a_device_goes_also_where_no_child_can_be_started() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: network namespaces need root");
            return;
        }
        // The namespace goes with the test's thread.
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut netlink = Netlink::open().unwrap();
        let name = IfName::new("bw0000000000001").unwrap();
        netlink.apply(&create_ifb(name, 1500, "twill")).unwrap();
        let index = by_name(&mut netlink, &name).unwrap().unwrap().index;
        let mut remove = || {
            remove_by(&mut netlink, Device { index, name }, |_, _| {
                Err(Error::Transport { what: "start a process", cause: Errno::EAGAIN.into() })
            })
        };
        assert_eq!((remove().unwrap(), remove().unwrap()), (true, false));
        assert_eq!(by_name(&mut netlink, &name).unwrap(), None);
    }
}
