//! What the tests of this suite have in common.

use std::net::IpAddr;

use serde_json::Value;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{LabError, Node, Pod, Result};

/// What a trace says, in JSON, and its exit status.
pub fn traced(node: &Node, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let told = node.twillctl_told(&[&["trace"], arguments, &["-o", "json"]].concat())?;
    let unreadable = |_| LabError::wrong(format!("{arguments:?}: {told:?}"));
    Ok((told.status, serde_json::from_str(&told.stdout).map_err(unreadable)?))
}

/// Until a trace ends with this status; what it prints then, without its last spaces.
pub fn comes_to_tell(node: &Node, arguments: &[&str], status: i32, words: &[&str]) -> Result<String> {
    deadline::until_some(&format!("trace {arguments:?} ends with {status} and says {words:?}"), PATIENCE, || {
        let told = node.twillctl_told(&[&["trace"], arguments].concat())?;
        let text = format!("{}{}", told.stdout, told.stderr);
        let says = told.status == Some(status) && words.iter().all(|word| text.contains(word));
        Ok(if says { Ok(text) } else { Err(told) })
    })
}

/// Whether a ping of so many bytes, with its IP header, and not to be fragmented is answered.
pub fn answers(pod: &Pod, target: IpAddr, bytes: u64) -> bool {
    let headers = if target.is_ipv6() { 48 } else { 28 };
    pod.ping(target, bytes - headers).is_ok()
}

/// The kinds of the objects that a half of a path names.
pub fn kinds(legs: &Value) -> Vec<String> {
    let steps = legs.as_array().into_iter().flatten().flat_map(|leg| leg["steps"].as_array().into_iter().flatten());
    let objects = steps.flat_map(|step| step["objects"].as_array().into_iter().flatten());
    objects.filter_map(|object| object["kind"].as_str().map(str::to_owned)).collect()
}
