//! By which addresses a pod may send: a filter of classic BPF on what comes in by the host end of its veth.
//!
//! It stands before the host end is up, so nothing of the pod passes it by, and goes with the device. Each packet is asked about where it comes
//! in and nowhere else; a rule of nftables that asks the same costs the packets of others too, in both directions.
//!
//! - What a pod sends by its own addresses passes, and ARP.
//! - Of IPv6 the unspecified address speaks to groups (RFC 4862 section 5.4.2, RFC 3590 section 4), and a link-local one to groups and
//!   to link-local addresses: the node's services would take it for a neighbour of their own.
//! - Everything else is dropped.
//!
//! It does not hold who may administer a network namespace (CAP_NET_ADMIN in the pod): a packet that an IFB has sent on bears a mark by which
//! no traffic control looks at it again, and a veth carries that mark over (`tc_skip_classify` of `struct sk_buff`). Nor does it hold what
//! somebody lets pass on the node by `tcx` (since Linux 6.6), which is asked before it. So it is made only where a configuration asks
//! for it, and who finds none has to ask by a rule.

mod program;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::tc::{TcHandle, TcMessage};

use super::link::Device;
use super::tc;
use crate::netlink::Request;
use crate::{Error, Netlink};

use self::program::program;

/// include/uapi/linux/pkt_cls.h.
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_FLAGS: u16 = 8;
/// The program's result is what becomes of the packet.
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const BPF: &str = "bpf";
/// Before all others of traffic control: none of them may let a packet pass that this one drops. By its handle it is told from those of others.
const PLACE: tc::Place = tc::Place { priority: 1, handle: TcHandle { major: 0x7477, minor: 1 } };

/// By which addresses a pod may send: its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources(pub BTreeSet<IpAddr>);

/// Has a device take no other packets than these, in two requests. The first is refused with EEXIST where it has [`tc::hooks`] already.
pub fn limit(device: Device, sources: &Sources) -> [Request; 2] {
    [tc::hooks(device), add(device, sources)]
}

fn add(device: Device, sources: &Sources) -> Request {
    let program = program(sources);
    let instructions = u16::try_from(program.len()).unwrap_or(u16::MAX);
    let options = vec![
        DefaultNla::new(TCA_BPF_OPS_LEN, instructions.to_ne_bytes().to_vec()),
        DefaultNla::new(TCA_BPF_OPS, program::bytes(&program)),
        DefaultNla::new(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes().to_vec()),
    ];
    let sources = sources.clone();
    tc::add_filter(device, PLACE, BPF, options, fmt::from_fn(move |f| write!(f, "for sources {sources}")))
}

/// What a device has of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// It takes no other packets than it shall: its first filter is the one that [`limit`] makes.
    Stands,
    /// It has the hooks that [`limit`] gives it, and not that filter, or another one before it.
    Lost,
    /// It has no hooks of its own, or has them for filters of another kind: nobody has made it one, or somebody has taken the hooks away, which
    /// are not put back on a device that is up (see [`tc::hooks`]).
    Absent,
}

/// What the device of that number has of a filter that lets pass these sources.
pub fn look(netlink: &mut Netlink, index: u32, sources: &Sources) -> Result<Filter, Error> {
    let filters = in_place(netlink, index)?;
    // Of those with one priority the kernel asks, and shows, the one first that was added last.
    let found = filters.first().filter(|seen| is_ours(seen)).and_then(seen_program);
    if found == Some(program::bytes(&program(sources))) {
        return Ok(Filter::Stands);
    }
    let is_free = filters.iter().all(|seen| tc::is_of_kind(seen, BPF));
    Ok(if is_free && tc::has_hooks(netlink, index)? { Filter::Lost } else { Filter::Absent })
}

/// Puts the filter of [`limit`] before all others, where it is [`Filter::Lost`]; true if there was another of its name. Those of others stay,
/// and no packet is lost by it.
pub fn put_back(netlink: &mut Netlink, device: Device, sources: &Sources) -> Result<bool, Error> {
    let stood = in_place(netlink, device.index)?.iter().any(is_ours);
    let old = stood.then(|| tc::delete_filter(device, PLACE, BPF));
    let requests: Vec<_> = old.into_iter().chain([add(device, sources)]).collect();
    netlink.apply(&requests)?;
    Ok(stood)
}

/// The filters of our priority, in the order in which they are asked.
fn in_place(netlink: &mut Netlink, index: u32) -> Result<Vec<TcMessage>, Error> {
    let mut filters = tc::filters(netlink, index)?;
    filters.retain(|seen| seen.header.info >> 16 == u32::from(PLACE.priority));
    Ok(filters)
}

fn is_ours(seen: &TcMessage) -> bool {
    seen.header.handle == PLACE.handle
}

/// The program of a filter whose result is what becomes of the packet; `None` of any other filter.
fn seen_program(seen: &TcMessage) -> Option<Vec<u8>> {
    let flags = tc::option(seen, TCA_BPF_FLAGS)?.try_into().ok().map(u32::from_ne_bytes)?;
    tc::option(seen, TCA_BPF_OPS).filter(|_| flags & TCA_BPF_FLAG_ACT_DIRECT != 0)
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        self.0.iter().try_for_each(|address| write!(f, "{}{address}", std::mem::replace(&mut before, ",")))
    }
}
