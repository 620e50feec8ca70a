//! Keys of the specification that this version does not serve. Where one asks for something, to ignore it would attach
//! a pod otherwise than its owner was promised: it is refused. Where one asks for nothing (`"ipam": {}`) it is let pass.

use serde_json::Value;

use crate::Error;
use crate::section::{Section, shorten};

pub(super) fn refuse(root: &Section<'_>) -> Result<(), Error> {
    asks_for_nothing(root, "ipam", "leave it out; Twill manages addresses by itself, and ranges stand in \"subnets\"")?;
    if root.boolean("ipMasq")? == Some(true) {
        let right = "leave it out; whether a pool is masqueraded stands in the cluster configuration (masquerade)";
        return Err(unsupported("ipMasq".into(), &Value::Bool(true), right));
    }
    asks_for_nothing(root, "dns", "leave it out; name servers are the runtime's affair in this version")?;
    each_asks_for_nothing(
        root,
        "capabilities",
        "leave it false; this version has no capabilities: chain the plugin that has them",
    )?;
    each_asks_for_nothing(root, "runtimeConfig", "leave it out; this version has no capabilities")?;
    let Some(args) = root.section("args", "an object")? else { return Ok(()) };
    let Some(cni) = args.section("cni", "an object")? else { return Ok(()) };
    for key in ["ips", "mac"] {
        asks_for_nothing(&cni, key, "leave it out; this version gives no address that is asked for")?;
    }
    Ok(())
}

fn each_asks_for_nothing(root: &Section<'_>, key: &str, right: &str) -> Result<(), Error> {
    let Some(section) = root.section(key, "an object")? else { return Ok(()) };
    section.keys().try_for_each(|key| asks_for_nothing(&section, key, right))
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
