//! The table of sysctls: files under /proc/sys, read, compared, and written only where they differ.
//!
//! Those under net/ belong to the namespace of the thread that opens them, so they are handled on a thread inside the
//! socket's namespace where that is not the caller's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use super::{Outcome, Repair};
use crate::{Error, Netlink};

/// Brings every sysctl to its value. Paths are below /proc/sys, with '/' between their parts, since names of interfaces
/// may have dots. An interface's own come before those of `all`: when `net/ipv6/conf/all/forwarding` is set, an interface
/// whose `accept_ra` is not yet 2 loses the default route that it learned (addrconf_forward_change, net/ipv6/addrconf.c).
pub(super) fn settle(
    netlink: &Netlink,
    desired: &BTreeMap<String, String>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    if desired.is_empty() {
        return Ok(());
    }
    let (of_all, own): (Vec<_>, Vec<_>) = desired.iter().partition(|(path, _)| path.contains("/all/"));
    let work = || own.iter().chain(&of_all).map(|(path, value)| bring(path, value)).collect::<Vec<_>>();
    let results = match netlink.namespace() {
        Some(namespace) => namespace.run(work)?,
        None => work(),
    };
    for result in results {
        match result {
            Ok(repair) => outcome.repairs.extend(repair),
            Err(error) => outcome.errors.push(error),
        }
    }
    Ok(())
}

fn bring(path: &str, value: &str) -> Result<Option<Repair>, Error> {
    let file = Path::new("/proc/sys").join(path);
    let failed = |value: &str| {
        let (path, value) = (path.to_owned(), value.to_owned());
        move |cause| Error::Sysctl { path, value, cause }
    };
    if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
        let cause = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it does not lie below /proc/sys");
        return Err(failed(value)(cause));
    }
    let standing = fs::read_to_string(&file).map_err(failed(""))?;
    if standing.split_whitespace().eq(value.split_whitespace()) {
        return Ok(None);
    }
    fs::write(&file, value).map_err(failed(value))?;
    let object = format!("{path} = {value} (was {})", standing.trim());
    Ok(Some(Repair { table: "sysctl", action: "changed", object }))
}
