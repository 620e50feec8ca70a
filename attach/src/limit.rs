//! The limits of a pod's bandwidth: a token bucket at the host's end for what the pod receives, and an IFB with one for
//! what it sends.

use nix::errno::Errno;
use twill_conf::network::{Bandwidth, Shape};
use twill_ipam::KeyHash;
use twill_ipam::alias::{self, Proof};
use twill_linux::table::link::{self, Device, SeenLink};
use twill_linux::table::tc;
use twill_linux::table::traffic::{self, Bucket};
use twill_linux::{IfName, Netlink};

use crate::error::Error;
use crate::linux::Linux;
use crate::plan::Plan;

const LIMIT: &str = "limiting the pod's bandwidth";

/// Bytes of an Ethernet header: a bucket counts it.
const ETHERNET: u64 = 14;
/// The burst where the runtime names none, or calls it unlimited: what comes in a tenth of a second, and no less than the
/// greatest packet. With a bucket without bounds the rate would be none.
const TENTH: u64 = 10;
const LEAST_BURST: u64 = 64 * 1024;

/// The name of the IFB.
pub(crate) fn ifb_name(hash: KeyHash) -> IfName {
    IfName::new(&hash.ifb_name()).expect("two letters and 13 hexadecimal digits are a name")
}

/// Refuses a burst that no packet of the pod's size fits into.
pub(crate) fn verify(bandwidth: Option<Bandwidth>, mtu: u32) -> Result<(), Error> {
    let Some(Bandwidth { ingress, egress }) = bandwidth else { return Ok(()) };
    let least = 8 * (u64::from(mtu) + ETHERNET);
    for (key, shape) in [("ingressBurst", ingress), ("egressBurst", egress)] {
        if let Some(burst) = shape.and_then(|shape| shape.burst).filter(|burst| *burst < least) {
            let expected =
                format!("at least {least} bits, a packet of the interface's MTU, {mtu} bytes, with its header");
            return Err(Error::Configuration(twill_conf::Error::value(key, burst, expected)));
        }
    }
    Ok(())
}

fn bucket(shape: Shape) -> Bucket {
    let rate = shape.rate / 8;
    let burst = shape.burst.map_or_else(|| (rate / TENTH).max(LEAST_BURST), |bits| bits / 8);
    Bucket { rate, burst: u32::try_from(burst).unwrap_or(u32::MAX) }
}

/// Makes what limits the pod behind `device`.
pub(crate) fn limit(linux: &mut Linux, device: Device, plan: &Plan, bandwidth: Bandwidth) -> Result<(), Error> {
    if let Some(shape) = bandwidth.ingress {
        let request = traffic::shape(device, bucket(shape));
        linux.host().and_then(|host| host.apply(&[request])).map_err(Error::kernel(LIMIT))?;
    }
    if let Some(shape) = bandwidth.egress {
        let ifb = make_ifb(linux, plan)?;
        let host = linux.host().map_err(Error::kernel(LIMIT))?;
        match host.apply(&[tc::hooks(device)]) {
            // With the filter of the pod's sources.
            Err(error) if error.errno() == Some(Errno::EEXIST) => {}
            done => done.map_err(Error::kernel(LIMIT))?,
        }
        let requests = [traffic::shape(ifb, bucket(shape)), traffic::redirect(device, ifb)];
        host.apply(&requests).map_err(Error::kernel(LIMIT))?;
    }
    Ok(())
}

/// Makes the IFB. One that a killed ADD left goes first: the caller holds the liveness lock.
fn make_ifb(linux: &mut Linux, plan: &Plan) -> Result<Device, Error> {
    let name = ifb_name(plan.hash);
    let requests = link::create_ifb(name, plan.mtu, &plan.alias().to_string());
    match linux.host().and_then(|host| host.apply(&requests)) {
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            if let Some(why) = linux.remove_ifb(plan.hash, Proof::Alias).map_err(Error::kernel(LIMIT))? {
                return Err(Error::ForeignDevice { step: LIMIT, name, why });
            }
            linux.host().and_then(|host| host.apply(&requests)).map_err(Error::kernel(LIMIT))?;
        }
        done => done.map_err(Error::kernel(LIMIT))?,
    }
    let made = linux.host().and_then(|host| link::by_name(host, &name)).map_err(Error::kernel(LIMIT))?;
    made.map(|made| Device { index: made.index, name }).ok_or(Error::LinkVanished { step: LIMIT, name })
}

/// Why a device of the IFB's name is not the one of `hash`.
pub(crate) fn foreign(seen: &SeenLink, hash: KeyHash, proof: Proof) -> Option<String> {
    alias::foreign_ifb(seen.kind.as_deref(), seen.alias.as_deref(), hash, proof)
}

/// What does not limit the pod as it should, a sentence each. `device`: the number of the host's end.
pub fn differences(
    host: &mut Netlink,
    hash: KeyHash,
    device: u32,
    bandwidth: Bandwidth,
) -> Result<Vec<String>, twill_linux::Error> {
    let mut wrong = Vec::new();
    if let Some(shape) = bandwidth.ingress {
        wrong.extend(differs("what the pod receives", traffic::rate(host, device)?, shape));
    }
    let Some(shape) = bandwidth.egress else { return Ok(wrong) };
    let name = ifb_name(hash);
    let Some(ifb) = link::by_name(host, &name)? else {
        wrong.push(format!("the node has no interface {name}, which limits what the pod sends"));
        return Ok(wrong);
    };
    wrong.extend(foreign(&ifb, hash, Proof::Name).map(|why| format!("the node's interface {name} is not ours: {why}")));
    if !ifb.up {
        wrong.push(format!("the node's interface {name} is down"));
    }
    wrong.extend(differs("what the pod sends", traffic::rate(host, ifb.index)?, shape));
    if traffic::redirection(host, device)? != Some(ifb.index) {
        wrong.push(format!("what the pod sends does not go by {name}"));
    }
    Ok(wrong)
}

fn differs(what: &str, found: Option<u64>, wanted: Shape) -> Option<String> {
    let wanted = wanted.rate / 8;
    let found = match found {
        Some(found) if found == wanted => return None,
        Some(found) => format!("limited to {found} bytes a second"),
        None => "not limited".to_owned(),
    };
    Some(format!("{what} is {found} instead of to {wanted}"))
}
