//! From keys and values to a [`NetworkConf`].

use ipnetwork::IpNetwork;

use super::{NetworkConf, Requested, capabilities, dns, routes, unsupported};
use crate::section::{Section, unknown_key};
use crate::{Error, PoolName, node, prefix};

/// The keys of ours, and those that the CNI specification 1.1.0 and its conventions name for the object that a plugin
/// is handed. (`plugins` never arrives: a runtime takes the list apart.)
const KNOWN: [&str; 25] = [
    "type",
    "name",
    "cniVersion",
    "runDir",
    "subnets",
    "pools",
    "mtu",
    "spoofCheck",
    "hostEndFilter",
    "routes",
    "dns",
    "ingressRate",
    "ingressBurst",
    "egressRate",
    "egressBurst",
    "prevResult",
    "capabilities",
    "runtimeConfig",
    "args",
    "ipMasq",
    "ipam",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
];

pub(super) fn whole(root: &Section<'_>) -> Result<NetworkConf, Error> {
    let known =
        |key: &str| KNOWN.contains(&key) || key.starts_with("cni.dev/") || key.eq_ignore_ascii_case("runtimeConfig");
    if let Some(key) = root.keys().find(|key| !known(key)) {
        return Err(unknown_key(key.to_owned(), key, &KNOWN));
    }
    let identity = identity(root)?;
    specification(root)?;
    unsupported::refuse(root)?;
    let subnets = subnets(root)?;
    let pools = pools(root)?;
    if !subnets.is_empty() && !pools.is_empty() {
        let text = pools.iter().map(PoolName::as_str).collect::<Vec<_>>().join(", ");
        return Err(Error::value(
            "pools",
            text,
            "either pools of the cluster or \"subnets\" of this node alone, not both",
        ));
    }
    let least = if subnets.iter().any(IpNetwork::is_ipv6) { 1280 } else { 68 };
    let mtu = root.integer("mtu", least..=65_535, "the MTU of the pod's interface in bytes")?;
    let spoof_check = root.boolean("spoofCheck")?.unwrap_or(true);
    let host_end_filter = root.boolean("hostEndFilter")?.unwrap_or(false);
    if let Some(other) = root.raw("prevResult") {
        root.section("prevResult", "the result of the plugin before, an object").map(|_| other)?;
    }
    let (requested, routes, dns) = (capabilities::requested(root)?, routes::read(root)?, dns::read(root)?);
    Ok(NetworkConf { subnets, pools, mtu, spoof_check, host_end_filter, requested, routes, dns, ..identity })
}

/// `cniVersion`; `None` where it is absent or empty.
pub(super) fn version<'a>(root: &Section<'a>) -> Result<Option<&'a str>, Error> {
    Ok(root.string("cniVersion", "a version, as in \"1.0.0\"")?.filter(|version| !version.is_empty()))
}

pub(super) fn identity(root: &Section<'_>) -> Result<NetworkConf, Error> {
    let cni_version = version(root)?;
    let name = root.name("name")?.ok_or_else(|| Error::missing("name", "the name of the network, as in \"twill\""))?;
    let run_dir = match root.string("runDir", "an absolute path")? {
        Some(text) => node::parse_run_dir("runDir", text)?,
        None => node::RUN_DIR.into(),
    };
    let prev_result = root.raw("prevResult").filter(|value| value.is_object()).cloned();
    let cni_version = cni_version.unwrap_or("0.1.0").to_owned();
    Ok(NetworkConf {
        cni_version,
        name,
        run_dir,
        subnets: Vec::new(),
        pools: Vec::new(),
        mtu: None,
        spoof_check: true,
        host_end_filter: false,
        requested: Requested::default(),
        routes: Vec::new(),
        dns: None,
        prev_result,
    })
}

/// The specification's own keys that the runtime acts on; only their kinds are ours to check.
fn specification(root: &Section<'_>) -> Result<(), Error> {
    root.string("type", "the name of the plugin, \"twill\"")?;
    for key in ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
        root.boolean(key)?;
    }
    for version in root.list("cniVersions", "a list of versions")?.unwrap_or_default() {
        version.string("a version, as in \"1.0.0\"")?;
    }
    Ok(())
}

fn subnets(root: &Section<'_>) -> Result<Vec<IpNetwork>, Error> {
    let right = "a list of prefixes, as in [\"10.42.0.0/24\"]";
    let Some(items) = root.list("subnets", right)? else { return Ok(Vec::new()) };
    if items.is_empty() {
        return Err(Error::value("subnets", "[]", format!("{right}, or no such key where a daemon runs")));
    }
    let mut subnets: Vec<IpNetwork> = Vec::with_capacity(items.len());
    for item in items {
        let cidr = prefix::parse(&item.path, item.string(prefix::PREFIX)?)?;
        prefix::validate(&item.path, cidr)?;
        if let Some(i) = subnets.iter().position(|other| prefix::overlap(cidr, *other)) {
            let how = prefix::relation(cidr, subnets[i]);
            let right = format!("subnets may not overlap, and this one {how} {} of subnets[{i}]", subnets[i]);
            return Err(Error::value(item.path, cidr, right));
        }
        subnets.push(cidr);
    }
    Ok(subnets)
}

fn pools(root: &Section<'_>) -> Result<Vec<PoolName>, Error> {
    let mut pools = Vec::new();
    for item in root.list("pools", "a list of names of pools, as in [\"default\"]")?.unwrap_or_default() {
        let name = item.name()?;
        if pools.contains(&name) {
            return Err(Error::value(item.path, name, "each pool once"));
        }
        pools.push(name);
    }
    Ok(pools)
}
