//! `bandwidth`: rates in bits a second, bursts in bits. As the reference plugin has it, the limits may stand in the
//! network's configuration too, at its top, and go before those that a runtime asks for.

use super::requested::{Bandwidth, Shape};
use crate::Error;
use crate::section::Section;

/// How containerd and CRI-O say "any burst" (2^32 - 1; CRI-O multiplies it by 8).
const UNLIMITED: u64 = u32::MAX as u64;
/// The greatest rate that can be told in bits, and the greatest burst.
const MOST: u64 = i64::MAX as u64;
/// The least burst for a rate without one: a packet of the greatest size, 64 KiB.
const LEAST_BURST: u64 = 64 * 1024 * 8;

/// `None` where neither direction is limited.
pub(super) fn read(section: &Section<'_>) -> Result<Option<Bandwidth>, Error> {
    let ingress = shape(section, "ingressRate", "ingressBurst")?;
    let egress = shape(section, "egressRate", "egressBurst")?;
    Ok((ingress.is_some() || egress.is_some()).then_some(Bandwidth { ingress, egress }))
}

/// For each direction the first that limits it.
pub(super) fn join(first: Option<Bandwidth>, second: Option<Bandwidth>) -> Option<Bandwidth> {
    match (first, second) {
        (Some(first), Some(second)) => {
            Some(Bandwidth { ingress: first.ingress.or(second.ingress), egress: first.egress.or(second.egress) })
        }
        (one, other) => one.or(other),
    }
}

fn shape(section: &Section<'_>, rate: &str, burst: &str) -> Result<Option<Shape>, Error> {
    let bits = section.integer(burst, 0..=MOST, "a burst in bits")?.unwrap_or(0);
    let unlimited = bits == UNLIMITED || bits >= UNLIMITED * 8;
    let rate = match section.integer(rate, 0..=MOST, "a rate in bits a second, or 0 for no limit")? {
        Some(small @ 1..8) => return Err(Error::value(section.key(rate), small, "at least 8, a byte a second")),
        None | Some(0) if bits > 0 && !unlimited => {
            return Err(Error::value(section.key(burst), bits, format!("a burst needs its rate ({rate})")));
        }
        None | Some(0) => return Ok(None),
        Some(rate) => rate,
    };
    let burst = match bits {
        // A tenth of a second, as an operator of a token bucket would choose.
        0 => Some((rate / 10).max(LEAST_BURST)),
        small @ 1..8 => return Err(Error::value(section.key(burst), small, "at least 8, a byte")),
        _ if unlimited => None,
        bits => Some(bits),
    };
    Ok(Some(Shape { rate, burst }))
}
