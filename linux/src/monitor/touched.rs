//! Which devices' filters may have changed since somebody looked: the kernel shows them a device at a time, with the lock of all of its
//! interfaces held, so that whoever keeps many looks at few.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::netlink::frame::Frame;

/// RTM_NEWQDISC, RTM_DELQDISC; RTM_NEWTFILTER, RTM_DELTFILTER (include/uapi/linux/rtnetlink.h).
const OF_TRAFFIC_CONTROL: [u16; 4] = [36, 37, 44, 45];

/// What the monitor has heard of filters and of the hooks that they stand at.
#[derive(Debug, Default)]
pub struct Touched(Mutex<Devices>);

/// Devices by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// These.
    Some(BTreeSet<u32>),
    /// Each there is: something was not heard.
    All,
}

impl Default for Devices {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Devices {
    /// Whether the device of that number is one of them.
    pub fn has(&self, index: u32) -> bool {
        match self {
            Self::Some(devices) => devices.contains(&index),
            Self::All => true,
        }
    }
}

impl Touched {
    /// Those since the last call.
    pub fn take(&self) -> Devices {
        mem::take(&mut *self.lock())
    }

    /// Something may have been missed.
    pub fn all(&self) {
        *self.lock() = Devices::All;
    }

    pub(super) fn note(&self, frame: &Frame<'_>) {
        // tcm_ifindex stands at byte 4 of struct tcmsg.
        let index = frame.payload.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        if OF_TRAFFIC_CONTROL.contains(&frame.kind)
            && let (Some(index), Devices::Some(devices)) = (index, &mut *self.lock())
        {
            devices.insert(index);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Devices> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_of_filters_names_a_device_and_what_was_lost_all_of_them() {
        let touched = Touched::default();
        let tell = |kind| {
            let payload = [&[0; 4], &7_u32.to_ne_bytes()[..], &[0; 12]].concat();
            touched.note(&Frame { kind, flags: 0, sequence: 0, port: 0, payload: &payload });
        };
        tell(16);
        assert_eq!(touched.take(), Devices::default(), "RTM_NEWLINK");
        tell(45);
        let devices = touched.take();
        assert!(devices.has(7) && !devices.has(8));
        assert!(!touched.take().has(7), "what was taken is not given again");
        touched.all();
        tell(44);
        assert!(touched.take().has(8));
    }
}
