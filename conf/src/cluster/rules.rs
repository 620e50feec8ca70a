//! What a cluster configuration must hold to, whoever wrote it.

use std::ops::RangeInclusive;

use super::{ClusterConf, Kind, Pool};
use crate::section::entry;
use crate::{Error, prefix};

/// 24 bits, of which 0 is taken by the kernel for "none".
pub(super) const VNI: RangeInclusive<u32> = 1..=16_777_215;
/// 0 is no port.
pub(super) const PORT: RangeInclusive<u32> = 1..=65_535;
/// What every host of IPv4 takes (RFC 791), and the greatest length of a packet.
pub(super) const MTU: RangeInclusive<u32> = 576..=65_535;
/// What every link of IPv6 carries (RFC 8200, section 5).
const IPV6_MIN_MTU: u32 = 1280;
/// Every node has them in two sets of its firewall.
pub(super) const MOST_NETWORKS: usize = 64;
/// The configuration is one value in etcd, and every node's firewall and routes grow with it.
pub(super) const MOST_POOLS: usize = 64;
/// Every ADD looks at those of the node's pools.
pub(super) const MOST_RESERVED: usize = 16;

pub(super) fn validate(conf: &ClusterConf) -> Result<(), Error> {
    if conf.pools.is_empty() {
        return Err(Error::missing("pool", "at least one [[pool]] with a name and a cidr"));
    }
    if conf.pools.len() > MOST_POOLS {
        return Err(Error::value("pool", format!("{} pools", conf.pools.len()), format!("at most {MOST_POOLS} pools")));
    }
    for (i, pool) in conf.pools.iter().enumerate() {
        alone(pool)?;
        for (j, other) in conf.pools[..i].iter().enumerate() {
            beside(i, pool, j, other)?;
        }
    }
    backend(conf)?;
    no_masquerade(conf)?;
    super::bgp::validate(conf)
}

/// A key of a pool, as an error names it.
fn key(pool: &Pool, key: &str) -> String {
    format!("{}.{key}", entry("pool", 0, Some(pool.name.as_str())))
}

fn alone(pool: &Pool) -> Result<(), Error> {
    prefix::validate(&key(pool, "cidr"), pool.cidr)?;
    let lengths = Pool::block_lengths(pool.cidr);
    if !lengths.contains(&pool.block) {
        let right = format!("the prefix length of a block, an integer from {} to {}", lengths.start(), lengths.end());
        return Err(Error::value(key(pool, "block"), pool.block, right));
    }
    reserved(pool)
}

fn reserved(pool: &Pool) -> Result<(), Error> {
    let key = key(pool, "reserved");
    if pool.reserved.len() > MOST_RESERVED {
        let found = format!("{} ranges", pool.reserved.len());
        return Err(Error::value(key, found, format!("at most {MOST_RESERVED} ranges")));
    }
    for range in &pool.reserved {
        if !(pool.cidr.contains(range.first()) && pool.cidr.contains(range.last())) {
            let right = format!("a range inside of the pool, which is {}", pool.cidr);
            return Err(Error::value(key, range, right));
        }
    }
    if super::reserved::cover(&pool.reserved, pool.cidr) {
        let found = format!("all of {}", pool.cidr);
        return Err(Error::value(key, found, "leave at least one address, or have \"disabled = true\" in its place"));
    }
    Ok(())
}

fn beside(i: usize, pool: &Pool, j: usize, other: &Pool) -> Result<(), Error> {
    if pool.name == other.name {
        let right = format!("a name that no other pool has; {} has it", entry("pool", j, None));
        return Err(Error::value(format!("{}.name", entry("pool", i, None)), &pool.name, right));
    }
    if prefix::overlap(pool.cidr, other.cidr) {
        let right = format!(
            "pools may not overlap, and this one {} {} of {}",
            prefix::relation(pool.cidr, other.cidr),
            other.cidr,
            entry("pool", j, Some(other.name.as_str()))
        );
        return Err(Error::value(key(pool, "cidr"), pool.cidr, right));
    }
    Ok(())
}

fn backend(conf: &ClusterConf) -> Result<(), Error> {
    let within = |key: &str, value: u32, what: &str, range: &RangeInclusive<u32>| {
        let right = || format!("{what}, an integer from {} to {}", range.start(), range.end());
        if range.contains(&value) { Ok(()) } else { Err(Error::value(key, value, right())) }
    };
    if let Kind::Vxlan(vxlan) = &conf.backend.kind {
        within("backend.vni", vxlan.vni, "a VXLAN network identifier", &VNI)?;
        within("backend.port", vxlan.port.into(), "a UDP port", &PORT)?;
    }
    let Some(mtu) = conf.backend.mtu else { return Ok(()) };
    within("backend.mtu", mtu, "an MTU in bytes", &MTU)?;
    if mtu < IPV6_MIN_MTU && conf.pools.iter().any(|pool| pool.cidr.is_ipv6()) {
        let right = format!("at least {IPV6_MIN_MTU}, since there are pools of IPv6, whose links carry that much");
        return Err(Error::value("backend.mtu", mtu, right));
    }
    Ok(())
}

fn no_masquerade(conf: &ClusterConf) -> Result<(), Error> {
    let networks = &conf.firewall.no_masquerade;
    if networks.len() > MOST_NETWORKS {
        let right = format!("at most {MOST_NETWORKS} networks");
        return Err(Error::value("firewall.no_masquerade", format!("{} networks", networks.len()), right));
    }
    networks
        .iter()
        .enumerate()
        .try_for_each(|(i, network)| prefix::without_host_bits(&format!("firewall.no_masquerade[{i}]"), *network))
}
