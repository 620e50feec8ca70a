//! Messages of traffic control, as far as its users share them: the hooks of a device, and the filters on what comes in.

use std::fmt;

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_CREATE, NLM_F_EXCL, Nla, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};

use super::link::Device;
use crate::netlink::Request;
use crate::{Error, Netlink};

/// The qdisc that has no queue, but hooks for filters.
const CLSACT: &str = "clsact";
/// TC_H_MIN_INGRESS of TC_H_CLSACT: where filters see what comes in.
const COMING_IN: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };
/// ETH_P_ALL (include/uapi/linux/if_ether.h), in network order.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();

/// Gives a device the hooks that filters are put at. Refused with EEXIST where it has some; those of the qdisc `ingress`, which stands in
/// the same place, are as good for what comes in. On a device that is up the kernel stops its queues for that (qdisc_graft in
/// net/sched/sch_api.c): packets that are sent meanwhile are dropped.
pub fn hooks(device: Device) -> Request {
    let handle = TcHandle { major: u16::MAX, minor: 0 };
    let header = TcHeader { handle, parent: TcHandle::CLSACT, ..header(device) };
    create(
        RouteNetlinkMessage::NewQueueDiscipline(message(header, CLSACT, vec![])),
        fmt::from_fn(move |f| write!(f, "add qdisc dev {} {CLSACT}", device.name)),
    )
}

/// Where a filter stands among those of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Those of a lower one are asked first.
    pub(super) priority: u16,
    /// Its name among those of its priority; zero leaves the choice to the kernel.
    pub(super) handle: TcHandle,
}

/// Adds a filter of that kind on all that comes in by a device with [`hooks`]. `does`: what it does, for errors.
pub(super) fn add_filter(
    device: Device,
    place: Place,
    kind: &'static str,
    options: Vec<DefaultNla>,
    does: impl fmt::Display + Send + Sync + 'static,
) -> Request {
    let header = filter_header(device, place);
    create(
        RouteNetlinkMessage::NewTrafficFilter(message(header, kind, options)),
        fmt::from_fn(move |f| write!(f, "add filter dev {} ingress {kind} {does}", device.name)),
    )
}

/// Deletes a filter of that kind on what comes in by a device.
pub(super) fn delete_filter(device: Device, place: Place, kind: &'static str) -> Request {
    let message = message(filter_header(device, place), kind, vec![]);
    let priority = place.priority;
    let attempt = fmt::from_fn(move |f| write!(f, "delete filter dev {} ingress pref {priority} {kind}", device.name));
    Request::new(RouteNetlinkMessage::DelTrafficFilter(message), 0, attempt)
}

fn filter_header(device: Device, Place { priority, handle }: Place) -> TcHeader {
    let info = u32::from(priority) << 16 | u32::from(ALL_PROTOCOLS);
    TcHeader { parent: COMING_IN, info, handle, ..header(device) }
}

/// Whether the device of that number has the hooks that [`hooks`] gives it. The kernel shows the queues of all devices.
pub(super) fn has_hooks(netlink: &mut Netlink, index: u32) -> Result<bool, Error> {
    let queues = netlink.dump(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()))?;
    Ok(queues.iter().any(|queue| match queue {
        RouteNetlinkMessage::NewQueueDiscipline(seen) => {
            seen.header.index == index.cast_signed() && is_of_kind(seen, CLSACT)
        }
        _ => false,
    }))
}

/// The filters on what comes in by the device of that number, in the order in which they are asked. What the kernel shows of each priority
/// beside them, without a handle, is left out.
pub(super) fn filters(netlink: &mut Netlink, index: u32) -> Result<Vec<TcMessage>, Error> {
    let mut request = TcMessage::default();
    request.header = TcHeader { index: index.cast_signed(), parent: COMING_IN, ..TcHeader::default() };
    let found = netlink.dump(RouteNetlinkMessage::GetTrafficFilter(request))?;
    let filters = found.into_iter().filter_map(|filter| match filter {
        RouteNetlinkMessage::NewTrafficFilter(seen) if seen.header.handle != TcHandle::default() => Some(seen),
        _ => None,
    });
    Ok(filters.collect())
}

/// Whether what was seen is of that kind.
pub(super) fn is_of_kind(seen: &TcMessage, wanted: &str) -> bool {
    seen.attributes.iter().any(|attribute| matches!(attribute, TcAttribute::Kind(kind) if kind == wanted))
}

/// The value of an option of a filter of BPF, or of a qdisc or filter of a kind that the crate does not know.
pub(super) fn option(seen: &TcMessage, kind: u16) -> Option<Vec<u8>> {
    let options = seen.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    options.flatten().find_map(|option| match option {
        TcOption::Bpf(option) => (option.kind() == kind).then(|| value(option)),
        // The options of such a kind come as the one attribute that holds them.
        TcOption::Other(holder) => {
            let held = value(holder);
            let found = NlasIterator::new(held.as_slice()).flatten().find(|option| option.kind() == kind)?;
            Some(found.value().to_vec())
        }
        _ => None,
    })
}

fn value(attribute: &impl Nla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}

pub(super) fn header(device: Device) -> TcHeader {
    TcHeader { index: device.index.cast_signed(), ..TcHeader::default() }
}

pub(super) fn message(header: TcHeader, kind: &str, options: Vec<DefaultNla>) -> TcMessage {
    let mut message = TcMessage::default();
    message.header = header;
    message.attributes = vec![TcAttribute::Kind(kind.to_owned())];
    if !options.is_empty() {
        message.attributes.push(TcAttribute::Options(options.into_iter().map(TcOption::Other).collect()));
    }
    message
}

pub(super) fn create(message: RouteNetlinkMessage, attempt: impl fmt::Display + Send + Sync + 'static) -> Request {
    Request::new(message, NLM_F_CREATE | NLM_F_EXCL, attempt)
}

pub(super) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind, bytes)
}
