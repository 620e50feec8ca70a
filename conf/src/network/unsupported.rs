//! Keys of the specification that this version does not serve. Where one asks for something, to ignore it would attach
//! a pod otherwise than its owner was promised: it is refused. Where one asks for nothing (`"ipam": {}`) it is let pass.

use serde_json::Value;

use crate::Error;
use crate::section::{Section, shorten};

pub(super) fn refuse(root: &Section<'_>) -> Result<(), Error> {
    let right = "leave it out; Twill manages addresses by itself: ranges stand in \"subnets\", routes in \"routes\", name \
                 servers in \"dns\"";
    asks_for_nothing(root, "ipam", right)?;
    if root.boolean("ipMasq")? == Some(true) {
        let right = "leave it out; whether a pool is masqueraded stands in the cluster configuration (masquerade)";
        return Err(unsupported("ipMasq".into(), &Value::Bool(true), right));
    }
    Ok(())
}

/// The capability `ipRanges`, which tells an address manager where to give addresses from.
pub(super) fn refuse_ranges(runtime: &Section<'_>) -> Result<(), Error> {
    asks_for_nothing(runtime, "ipRanges", "leave it out; ranges stand in \"subnets\", or are the cluster's pools")
}

fn asks_for_nothing(section: &Section<'_>, key: &str, right: &str) -> Result<(), Error> {
    match section.raw(key) {
        Some(value) if !is_empty(value) => Err(unsupported(section.key(key), value, right)),
        _ => Ok(()),
    }
}

/// Null, false, "", an empty list, or an object or list of only such.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(entries) => entries.values().all(is_empty),
    }
}

fn unsupported(key: String, value: &Value, right: &str) -> Error {
    Error::Unsupported { key, value: shorten(&value.to_string()), expected: right.to_owned() }
}
