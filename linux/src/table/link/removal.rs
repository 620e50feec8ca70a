//! Removing one device without waiting for the kernel's grace periods.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Device, by_index, delete};
use crate::netlink::Errand;
use crate::{Error, Netlink};

/// How often a device that still stands is looked at: a fraction of what the kernel takes to unlist one.
const POLL: Duration = Duration::from_micros(100);
/// The kernel takes a hundredth of it, when it is busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes a device (a veth with its peer) and returns when nobody can find it any more, in whatever namespace: names,
/// routes, addresses, neighbours are gone then and may be made anew. What the kernel does after that, 15 ms and more, goes
/// on by itself (see [`Errand`]). `false` where it was gone already.
pub fn remove(netlink: &mut Netlink, device: Device) -> Result<bool, Error> {
    let request = delete(device);
    let errand = netlink.another()?.leave(&request)?;
    let outcome = watch(netlink, device, &errand).unwrap_or_else(|_| {
        // Its child was killed, perhaps before it asked.
        netlink.apply(&[request])
    });
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
