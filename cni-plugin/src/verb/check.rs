//! CHECK: whether the attachment is as ADD left it, by the store, by the chain's result and by the kernel at both ends.
//!
//! It writes nothing, and it names everything that differs, not only the first thing.

use twill_attach::observe::{End, Extra, filter_difference, host_differences, pod_differences};
use twill_attach::plan::{Plan, host_ifname};
use twill_attach::ports::of;
use twill_attach::{limit, publish};
use twill_ipam::store::Role;
use twill_ipam::{Attachment, State, Store};
use twill_linux::Netlink;

use crate::error::Error;
use crate::request::Request;
use crate::result::Expected;
use crate::verb::{open_namespace, pod_ifname, pod_mac};

const LOOK: &str = "looking at what stands";

/// Succeeds where nothing differs; [`Error::Differences`] otherwise.
pub(crate) fn check(request: &Request) -> Result<(), Error> {
    let host_name = host_ifname(request.hash);
    let previous = request.conf.prev_result.as_ref();
    let previous =
        previous.ok_or_else(|| Error::Previous("CHECK needs the result of the ADD, and it is missing".into()))?;
    let expected = Expected::read(previous, request.target.ifname.as_str(), request.netns(), host_name.as_str())?;
    let namespace = open_namespace(request)?;
    let row = row(request)?;

    let mut wrong = row_differences(row.as_ref(), &expected);
    if !expected.host_listed {
        wrong.push(format!("prevResult does not list the node's interface {host_name}"));
    }
    let plan = plan(request, row.as_ref(), &expected);
    let mut netlink = Netlink::open().map_err(Error::kernel(LOOK))?;
    let host = End::read(&mut netlink, host_name).map_err(Error::kernel(LOOK))?;
    let unfiltered = host.as_ref().map(|end| filter_difference(&mut netlink, &plan, end)).transpose();
    let unfiltered = unfiltered.map_err(Error::kernel(LOOK))?.flatten();
    let mut netlink = Netlink::open_in(&namespace).map_err(Error::namespace)?;
    let pod = End::read(&mut netlink, plan.ifname).map_err(Error::kernel(LOOK))?;
    let ruled = host.as_ref().map(End::ruled).unwrap_or_default();
    let extra = Extra::read(&mut netlink, pod.as_ref(), &plan, ruled).map_err(Error::kernel(LOOK))?;
    wrong.extend(host_differences(&plan, host.as_ref(), pod.as_ref()));
    wrong.extend(unfiltered);
    wrong.extend(pod_differences(&plan, pod.as_ref(), &extra));
    if let Some(row) = row.as_ref().filter(|row| !row.extras.is_empty()) {
        let beyond = extras_differences(row, host.as_ref());
        wrong.extend(beyond.map_err(Error::kernel(LOOK))?);
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::Differences(wrong)) }
}

/// The store's row. Where there is no store at all, there is no row: that is a difference, not a failure.
fn row(request: &Request) -> Result<Option<Attachment>, Error> {
    if !request.has_store() {
        return Ok(None);
    }
    let store = Store::open(request.run_dir(), Role::Reader).map_err(Error::store("opening the node store"))?;
    store.attachment(request.hash).map_err(Error::store("reading the node store"))
}

fn row_differences(row: Option<&Attachment>, expected: &Expected) -> Vec<String> {
    let Some(row) = row else { return vec!["the node's store has no reservation for it".to_owned()] };
    let mut wrong = Vec::new();
    match row.state {
        State::Attached => {}
        State::Reserved => wrong.push("the node's store has it as reserved: its ADD did not finish".to_owned()),
        State::Deleting => wrong.push("the node's store has it as being deleted".to_owned()),
    }
    for (ip, _) in &row.addresses {
        if !expected.addresses.iter().any(|listed| listed.ip() == *ip) {
            wrong.push(format!("prevResult does not list the address {ip} that the node's store has for it"));
        }
    }
    wrong
}

/// Of published ports and limits, by what the store has: a runtime may ask CHECK otherwise than it asked ADD.
fn extras_differences(row: &Attachment, host: Option<&End>) -> Result<Vec<String>, twill_linux::Error> {
    let mut wrong = publish::differences(host.map(End::device), &of(row))?;
    if let (Some(bandwidth), Some(host)) = (row.extras.bandwidth, host) {
        let mut netlink = Netlink::open()?;
        wrong.extend(limit::differences(&mut netlink, row.hash, host.link.index, bandwidth)?);
    }
    Ok(wrong)
}

/// What shall stand: the store's addresses, or without a row those of the chain's result.
fn plan(request: &Request, row: Option<&Attachment>, expected: &Expected) -> Plan {
    let addresses = match row {
        Some(row) => row.addresses.iter().map(|(ip, _)| *ip).collect(),
        None => expected.addresses.iter().map(|address| address.ip()).collect(),
    };
    Plan {
        hash: request.hash,
        ifname: pod_ifname(request),
        mac: expected.mac.unwrap_or(pod_mac(request)),
        answers: request.conf.requested.mac.is_some(),
        // Not looked at: another plugin may have changed it.
        mtu: 0,
        addresses,
        // What the alias says: the configuration may be another by now.
        sources: None,
        unchecked: row.map_or(!request.conf.spoof_check, |row| row.extras.unchecked),
        routes: request.conf.routes.clone(),
    }
}
