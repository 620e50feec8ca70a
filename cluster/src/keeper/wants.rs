//! What ADDs that wait now want: a block of certain pools, or the block of one address.
//!
//! A want is done by a claim, as any other block is claimed, or refused for a reason that waiting does not mend. Whatever is
//! neither waits on: a block on its way, another claim of the family, etcd.

use std::collections::BTreeMap;
use std::net::IpAddr;

use twill_conf::PoolName;
use twill_conf::cluster::{ClusterConf, Given, Pool};
use twill_ipam::{Family, Want};

use super::claims::{Claim, Claims};
use super::holdings::Holdings;
use super::place::cut;
use super::refusal::{Full, Reason, Refusal};
use super::{Facts, Identity};
use crate::View;

/// What pools and blocks are judged by: the configuration, and this node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) view: &'a View,
    pub(super) config: &'a ClusterConf,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) holdings: &'a Holdings,
    pub(super) me: &'a Identity,
}

impl<'a> Ground<'a> {
    /// `None` where there is no configuration, or not known yet what this node is.
    pub(super) fn new(
        view: &'a View,
        facts: Option<&'a Facts>,
        holdings: &'a Holdings,
        me: &'a Identity,
    ) -> Option<Self> {
        let config = &view.config.as_ref()?.value;
        Some(Self { view, config, labels: &facts?.labels, holdings, me })
    }

    /// Whether no pool gives to every pod on this node.
    pub(super) fn is_for_nobody(&self) -> bool {
        self.config.pools.iter().all(|pool| pool.given(self.labels) != Given::Default)
    }
}

/// What is to become of the wants.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// To be claimed: the first want of a family first.
    pub(super) claims: Vec<(Family, Claim)>,
    /// Not to be done.
    pub(super) refused: Vec<(Want, Refusal)>,
}

/// Judges all of them.
pub(super) fn judge(wants: &[Want], ground: Ground<'_>, claims: &mut Claims) -> Verdict {
    let mut verdict = Verdict::default();
    for want in wants {
        let done = match want.address {
            Some(ip) => address(ip, &want.pools, ground, claims).map(Vec::from_iter),
            None => {
                let waiting = wants.iter().filter(|other| other.address.is_none() && other.pools == want.pools).count();
                block(&want.pools, waiting as u64, ground, claims)
            }
        };
        match done {
            Ok(claims) => verdict.claims.extend(claims),
            Err(refusal) => verdict.refused.push((want.clone(), refusal)),
        }
    }
    verdict
}

/// The block that an address lies in, if it is to be claimed.
fn address(
    ip: IpAddr,
    wanted: &[PoolName],
    ground: Ground<'_>,
    claims: &Claims,
) -> Result<Option<(Family, Claim)>, Refusal> {
    let pools = &ground.config.pools;
    let Some(pool) = pools.iter().find(|pool| pool.cidr.contains(ip)) else {
        return Err(Refusal::InNoPool(pools.iter().map(|pool| pool.cidr).collect()));
    };
    if !wanted.is_empty() && !wanted.contains(&pool.name) {
        return Err(Refusal::NotNamed(pool.name.clone()));
    }
    match Reason::of(pool, ground.labels) {
        Some(Reason::Disabled) => return Err(Refusal::InDisabled(pool.name.clone())),
        Some(reason) if wanted.is_empty() => {
            return Err(Refusal::OtherNodes { pool: (pool.name.clone(), reason), labels: ground.labels.clone() });
        }
        Some(_) | None => {}
    }
    if pool.reserved.iter().any(|range| range.contains(ip)) {
        return Err(Refusal::Reserved(pool.name.clone()));
    }
    let block = cut(ip, pool.block);
    match ground.view.overlapping(block) {
        // It is being opened, or given back; or it has another size, and does not hold the address.
        Some((_, record)) if record.value.node == ground.me.node => Ok(None),
        Some((there, record)) => Err(Refusal::Owned { block: *there, owner: record.value.node.clone() }),
        None if claims.avoids(block) => Ok(None),
        None => Ok(Some((block.family(), Claim { block, pool: pool.name.clone() }))),
    }
}

/// A block of the wanted pools for each of their families in which those that wait are more than the free addresses.
fn block(
    wanted: &[PoolName],
    waiting: u64,
    ground: Ground<'_>,
    claims: &mut Claims,
) -> Result<Vec<(Family, Claim)>, Refusal> {
    let serving = serving(wanted, ground)?;
    let mut found = Vec::new();
    for family in [Family::V4, Family::V6] {
        let pools: Vec<&Pool> = serving.iter().copied().filter(|pool| Family::of(pool.cidr.ip()) == family).collect();
        let free = pools.iter().map(|pool| ground.holdings.free(pool)).fold(0, u64::saturating_add);
        if pools.is_empty() || free >= waiting {
            continue;
        }
        match pools.iter().find(|pool| claims.has_room(pool, ground.view)) {
            Some(pool) => {
                found.extend(claims.place(pool, ground.view, ground.me).map(|claim| (family, claim)));
            }
            // What is free goes to some of them; a block that is on its way to others.
            None if free == 0
                && pools.iter().all(|pool| claims.is_full(pool, ground.view) && !claims.flies_to(pool)) =>
            {
                return Err(Refusal::Exhausted(pools.into_iter().map(Full::new).collect()));
            }
            None => {}
        }
    }
    Ok(found)
}

/// The pools that serve an ADD that names `wanted`, or none.
fn serving<'a>(wanted: &[PoolName], ground: Ground<'a>) -> Result<Vec<&'a Pool>, Refusal> {
    let pools = &ground.config.pools;
    if wanted.is_empty() {
        let serving: Vec<_> = pools.iter().filter(|pool| pool.given(ground.labels) == Given::Default).collect();
        return if serving.is_empty() { Err(no_pool(ground.config, ground.labels)) } else { Ok(serving) };
    }
    let named: Vec<_> = pools.iter().filter(|pool| wanted.contains(&pool.name)).collect();
    if named.is_empty() {
        let known = pools.iter().map(|pool| pool.name.clone()).collect();
        return Err(Refusal::Unknown { wanted: wanted.to_vec(), known });
    }
    let serving: Vec<_> = named.iter().copied().filter(|pool| !pool.disabled).collect();
    match serving.is_empty() {
        true => Err(Refusal::Disabled(named.into_iter().map(|pool| pool.name.clone()).collect())),
        false => Ok(serving),
    }
}

/// Why no pool gives to every pod of a node with these labels.
pub(super) fn no_pool(config: &ClusterConf, labels: &BTreeMap<String, String>) -> Refusal {
    let reason = |pool: &Pool| Some((pool.name.clone(), Reason::of(pool, labels)?));
    Refusal::NoPool { labels: labels.clone(), pools: config.pools.iter().filter_map(reason).collect() }
}
