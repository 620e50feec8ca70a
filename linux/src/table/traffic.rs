//! Traffic control: how fast packets leave a device, and the way by which those that come in by one leave by another.
//!
//! A device shapes only what it sends. What a pod receives is what the host's end of its veth sends; what it sends comes in
//! there, so it is redirected to an IFB, a device that has no other end: whatever is sent to it is shaped, and then comes in
//! again as if nothing had happened. Used by the plugin; a device's deletion takes all of this with it, but for the IFB.
//!
//! Redirecting is a u32 filter that matches everything, since not every kernel has `matchall`.

use std::collections::BTreeMap;
use std::fmt;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcAttribute, TcFilterU32Option, TcHandle,
    TcHeader, TcMessage, TcOption,
};

use super::link::Device;
use super::tc::{Place, add_filter, create, header, is_of_kind, message, nested, option};
use crate::netlink::Request;
use crate::{Error, Netlink};

/// A queue holds a burst and what the rate sends in this time, as with the reference plugin `bandwidth`. It is what tc calls
/// the latency: how long a byte waits at most while the bucket is full. While it is empty, it is longer by a burst's time.
const QUEUE_MILLIS: u64 = 25;

/// include/uapi/linux/pkt_sched.h: attributes and structures of the token bucket filter.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;
/// Bytes of a `struct tc_ratespec`, whose rate is its last four, and of a `struct tc_tbf_qopt`.
const RATESPEC: usize = 12;
const TBF: usize = 2 * RATESPEC + 12;

/// include/uapi/linux/pkt_cls.h, tc_act/tc_mirred.h.
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TC_ACT_STOLEN: u32 = 4;
const TCA_EGRESS_REDIR: u32 = 1;
/// After the filter of the pod's sources ([`super::source`]): what is redirected is seen by no filter behind.
const PLACE: Place = Place { priority: 2, handle: TcHandle { major: 0, minor: 0 } };

/// A token bucket: how fast, and how much at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes. No packet that is larger passes: at least an MTU and an Ethernet header.
    pub burst: u32,
}

impl Bucket {
    /// Bytes that wait, before more are dropped.
    fn limit(self) -> u32 {
        let waiting = self.rate.saturating_mul(QUEUE_MILLIS) / 1000;
        u32::try_from(waiting.saturating_add(self.burst.into())).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tbf rate {}bps burst {}b", self.rate, self.burst)
    }
}

/// Shapes what a device sends. Refused with EEXIST where somebody shapes it already.
pub fn shape(device: Device, bucket: Bucket) -> Request {
    let mut parms = [0; TBF];
    parms[1] = TC_LINKLAYER_ETHERNET;
    let rate32 = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    parms[RATESPEC - 4..RATESPEC].copy_from_slice(&rate32.to_ne_bytes());
    parms[2 * RATESPEC..2 * RATESPEC + 4].copy_from_slice(&bucket.limit().to_ne_bytes());
    let mut options = vec![DefaultNla::new(TCA_TBF_PARMS, parms.to_vec())];
    if rate32 == u32::MAX {
        options.push(DefaultNla::new(TCA_TBF_RATE64, bucket.rate.to_ne_bytes().to_vec()));
    }
    options.push(DefaultNla::new(TCA_TBF_BURST, bucket.burst.to_ne_bytes().to_vec()));
    let header = TcHeader { parent: TcHandle::ROOT, ..header(device) };
    let attempt = fmt::from_fn(move |f| write!(f, "add qdisc dev {} root {bucket}", device.name));
    create(RouteNetlinkMessage::NewQueueDiscipline(message(header, "tbf", options)), attempt)
}

/// Redirects all that comes in by a device to another one. For a device that has [`tc::hooks`](super::tc::hooks).
pub fn redirect(device: Device, to: Device) -> Request {
    // struct tc_mirred: index, capabilities, action, two counts, what it does, and to where.
    let mirred = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to.index].map(u32::to_ne_bytes).concat();
    let action = [
        DefaultNla::new(TCA_ACT_KIND, b"mirred\0".to_vec()),
        nested(TCA_ACT_OPTIONS, &[DefaultNla::new(TCA_MIRRED_PARMS, mirred)]),
    ];
    // struct tc_u32_sel with one key, whose mask is zero.
    let mut selector = vec![0; 32];
    (selector[0], selector[2]) = (TC_U32_TERMINAL, 1);
    let options = vec![DefaultNla::new(TCA_U32_SEL, selector), nested(TCA_U32_ACT, &[nested(1, &action)])];
    add_filter(device, PLACE, "u32", options, fmt::from_fn(move |f| write!(f, "redirect dev {}", to.name)))
}

/// How fast a device sends, in bytes a second; `None` where it is not shaped by a token bucket.
pub fn rate(netlink: &mut Netlink, index: u32) -> Result<Option<u64>, Error> {
    Ok(rates(netlink)?.remove(&index))
}

/// How fast the devices send that are shaped by a token bucket, by their numbers. A dump of all queues: asked for a single
/// one, the kernel answers only those who listen for events.
pub fn rates(netlink: &mut Netlink) -> Result<BTreeMap<u32, u64>, Error> {
    let queues = netlink.dump(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()))?;
    let shaped = queues.into_iter().filter_map(|queue| match queue {
        RouteNetlinkMessage::NewQueueDiscipline(seen) if seen.header.parent == TcHandle::ROOT => {
            Some((seen.header.index.cast_unsigned(), rate_of(&seen)?))
        }
        _ => None,
    });
    Ok(shaped.collect())
}

fn rate_of(seen: &TcMessage) -> Option<u64> {
    let wide = || option(seen, TCA_TBF_RATE64)?.try_into().ok().map(u64::from_ne_bytes);
    let narrow = || {
        let parms = option(seen, TCA_TBF_PARMS)?;
        Some(u32::from_ne_bytes(parms.get(RATESPEC - 4..RATESPEC)?.try_into().ok()?).into())
    };
    is_of_kind(seen, "tbf").then(|| wide().or_else(narrow)).flatten()
}

/// Where all that comes in by a device is redirected to, by number; `None` where it is not.
pub fn redirection(netlink: &mut Netlink, index: u32) -> Result<Option<u32>, Error> {
    Ok(super::tc::filters(netlink, index)?.iter().find_map(target))
}

fn target(seen: &TcMessage) -> Option<u32> {
    let options = seen.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let actions = options.flatten().filter_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
        _ => None,
    });
    actions.flatten().find_map(mirror)
}

fn mirror(action: &TcAction) -> Option<u32> {
    let options = action.attributes.iter().filter_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => Some(options),
        _ => None,
    });
    options.flatten().find_map(|option| match option {
        TcActionOption::Mirror(TcActionMirrorOption::Parms(parms)) => Some(parms.ifindex),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_holds_a_burst_and_what_comes_in_25_milliseconds_and_never_wraps() {
        assert_eq!(Bucket { rate: 1_000_000, burst: 10_000 }.limit(), 35_000);
        assert_eq!(Bucket { rate: u64::MAX, burst: u32::MAX }.limit(), u32::MAX);
    }
}
