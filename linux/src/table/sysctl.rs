//! The table of sysctls: files under /proc/sys, read, compared, and written only where they differ.
//!
//! Those under net/ belong to the namespace of the thread that opens them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use super::{Outcome, Repair, settle_inside};
use crate::{Error, Netlink, advertisements};

/// Brings every sysctl to its value. Paths are below /proc/sys, with '/' between their parts, since names of interfaces
/// may have dots. An interface's own come before those of `all`, and what others have of router advertisements is kept
/// when the machine begins to forward ([`advertisements`]).
pub(super) fn settle(
    netlink: &Netlink,
    desired: &BTreeMap<String, String>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let (of_all, own): (Vec<_>, Vec<_>) = desired.iter().partition(|(path, _)| path.contains("/all/"));
    let ordered: Vec<_> = own.into_iter().chain(of_all).collect();
    settle_inside(netlink, &ordered, |(path, value)| bring(path, value), outcome)
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
    let stands = |value: &str| standing.split_whitespace().eq(value.split_whitespace());
    if value.split('|').any(stands) {
        return Ok(None);
    }
    let value = value.split('|').next().unwrap_or_default();
    if path == advertisements::FORWARDING && value == "1" {
        advertisements::keep()?;
    }
    fs::write(&file, value).map_err(failed(value))?;
    let (object, was) = (format!("{path} = {value}"), Some(standing.trim().to_owned()));
    Ok(Some(Repair { table: "sysctl", action: "changed", object, was }))
}
