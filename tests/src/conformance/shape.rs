//! The shapes of what a plugin prints (CNI specification 1.1.0, "Result Types", and those of the older versions).
//!
//! Each function says what is wrong in one line without anything that changes from run to run, or that nothing is.

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

/// The result of an ADD in a version.
pub fn result(document: &Value, version: &str) -> Result<(), String> {
    let fields = object(document, "the result")?;
    if document["cniVersion"] != version {
        return Err(format!("cniVersion is not {version}"));
    }
    if matches!(version, "0.1.0" | "0.2.0") { by_family(fields) } else { by_interface(fields, version) }
}

fn by_family(fields: &Map<String, Value>) -> Result<(), String> {
    only(fields, "the result", &["cniVersion", "ip4", "ip6", "dns"])?;
    for (key, ipv6) in [("ip4", false), ("ip6", true)] {
        let Some(part) = fields.get(key) else { continue };
        only(object(part, key)?, key, &["ip", "gateway", "routes"])?;
        let network = network(&part["ip"], &format!("{key}.ip"))?;
        if network.is_ipv6() != ipv6 {
            return Err(format!("{key}.ip is of the other family"));
        }
        optional_address(&part["gateway"], &format!("{key}.gateway"))?;
        for route in list(part, "routes")? {
            only(object(route, "a route")?, "a route", &["dst", "gw"])?;
            network_and_gateway(route)?;
        }
    }
    if fields.contains_key("ip4") || fields.contains_key("ip6") { dns(fields) } else { Err("no address".into()) }
}

fn by_interface(fields: &Map<String, Value>, version: &str) -> Result<(), String> {
    only(fields, "the result", &["cniVersion", "interfaces", "ips", "routes", "dns"])?;
    let whole = Value::Object(fields.clone());
    let interfaces = list(&whole, "interfaces")?;
    let newest = version == "1.1.0";
    for interface in interfaces {
        let keys: &[&str] = if newest {
            &["name", "mac", "mtu", "sandbox", "socketPath", "pciID"]
        } else {
            &["name", "mac", "sandbox"]
        };
        only(object(interface, "an interface")?, "an interface", keys)?;
        text(interface, "name", "an interface")?;
    }
    let ips = list(&whole, "ips")?;
    if ips.is_empty() {
        return Err("no address".into());
    }
    for ip in ips {
        let old = !matches!(version, "1.0.0" | "1.1.0");
        let keys: &[&str] = &["version", "interface", "address", "gateway"];
        only(object(ip, "an address")?, "an address", if old { keys } else { &keys[1..] })?;
        let network = network(&ip["address"], "ips.address")?;
        if old && ip["version"] != if network.is_ipv6() { "6" } else { "4" } {
            return Err("ips.version is missing or wrong".into());
        }
        optional_address(&ip["gateway"], "ips.gateway")?;
        match &ip["interface"] {
            Value::Null => {}
            index if index.as_u64().is_some_and(|index| (index as usize) < interfaces.len()) => {}
            _ => return Err("ips.interface is no index into interfaces".into()),
        }
    }
    for route in list(&whole, "routes")? {
        let more: &[&str] = &["dst", "gw", "mtu", "advmss", "priority", "table", "scope"];
        only(object(route, "a route")?, "a route", if newest { more } else { &more[..2] })?;
        network_and_gateway(route)?;
    }
    dns(fields)
}

fn dns(fields: &Map<String, Value>) -> Result<(), String> {
    match fields.get("dns") {
        None => Ok(()),
        Some(dns) => only(object(dns, "dns")?, "dns", &["nameservers", "domain", "search", "options"]),
    }
}

/// An error, in whatever version.
pub fn error(document: &Value) -> Result<(), String> {
    only(object(document, "the error")?, "the error", &["cniVersion", "code", "msg", "details"])?;
    if document["code"].as_u64().is_none_or(|code| code == 0) {
        return Err("the error has no code".into());
    }
    text(document, "msg", "the error")
}

/// The answer to VERSION.
pub fn versions(document: &Value) -> Result<(), String> {
    only(object(document, "the answer")?, "the answer", &["cniVersion", "supportedVersions"])?;
    text(document, "cniVersion", "the answer")?;
    let supported = list(document, "supportedVersions")?;
    if supported.is_empty() || !supported.iter().all(Value::is_string) {
        return Err("supportedVersions is no list of versions".into());
    }
    Ok(())
}

/// The one document on a standard output.
pub fn document(stdout: &[u8]) -> Result<Value, String> {
    if stdout.is_empty() {
        return Err("nothing on standard output".into());
    }
    serde_json::from_slice(stdout).map_err(|_| "standard output is not one JSON document".into())
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{what} is no object"))
}

fn only(fields: &Map<String, Value>, what: &str, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(format!("{what} has a key {key:?}, which its version does not know")),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a [Value], String> {
    match &value[key] {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => Err(format!("{key} is no list")),
    }
}

fn text(value: &Value, key: &str, what: &str) -> Result<(), String> {
    if value[key].as_str().is_some_and(|text| !text.is_empty()) { Ok(()) } else { Err(format!("{what} has no {key}")) }
}

fn network(value: &Value, what: &str) -> Result<IpNetwork, String> {
    let text = value.as_str().filter(|text| text.contains('/'));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("{what} is no address with a prefix length"))
}

fn optional_address(value: &Value, what: &str) -> Result<(), String> {
    let is_address = value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok());
    if value.is_null() || is_address { Ok(()) } else { Err(format!("{what} is no address")) }
}

fn network_and_gateway(route: &Value) -> Result<(), String> {
    network(&route["dst"], "routes.dst")?;
    optional_address(&route["gw"], "routes.gw")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(document: &Value, version: &str) -> String {
        result(document, version).unwrap_err()
    }

    #[test]
    fn each_version_has_a_shape_that_the_others_do_not_pass_for() {
        let first = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/32", "gateway": "10.0.0.1",
            "routes": [{"dst": "0.0.0.0/0"}]}, "dns": {}});
        let old = json!({"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "mac": "m", "sandbox": "/x"}],
            "ips": [{"version": "4", "interface": 0, "address": "10.0.0.2/32"}], "routes": [{"dst": "::/0"}]});
        let new = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mtu": 1500}],
            "ips": [{"interface": 0, "address": "10.0.0.2/32"}], "routes": [{"dst": "::/0", "mtu": 1400}]});
        let in_version = |document: &Value, version: &str| {
            let mut document = document.clone();
            document["cniVersion"] = version.into();
            document
        };
        for (document, version) in [(&first, "0.2.0"), (&old, "0.4.0"), (&new, "1.1.0")] {
            assert_eq!(result(document, version), Ok(()));
            assert_eq!(wrong(document, "1.0.0"), "cniVersion is not 1.0.0");
        }
        assert!(wrong(&in_version(&old, "1.0.0"), "1.0.0").contains("\"version\""));
        assert!(wrong(&in_version(&new, "1.0.0"), "1.0.0").contains("\"mtu\""));
        assert!(wrong(&in_version(&new, "0.2.0"), "0.2.0").contains("\"interfaces\""));
        assert!(wrong(&in_version(&first, "0.3.0"), "0.3.0").contains("\"ip4\""));
    }

    #[test]
    fn an_error_has_a_code_and_a_message_and_nothing_is_no_document() {
        assert_eq!(error(&json!({"cniVersion": "1.0.0", "code": 7, "msg": "x"})), Ok(()));
        assert!(error(&json!({"code": 0, "msg": "x"})).is_err());
        assert!(error(&json!({"code": 7})).is_err());
        assert!(document(b"").is_err() && document(b"{}{}").is_err() && document(b"{}\n").is_ok());
    }
}
