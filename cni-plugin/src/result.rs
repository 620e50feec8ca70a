//! The result of an ADD, in the shape of each version of the specification, from one internal form.
//!
//! Since 0.3.0 a plugin in a chain adds to the result of the one before it: [`render`] leaves everything there as it is
//! and shifts only our own indexes. [`Expected`] reads the other way, for CHECK: what the chain's result says of us.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};
use twill_conf::network::{Dns, Route, gateway};
use twill_linux::MacAddr;

use crate::error::Error;
use crate::version::Version;

/// What an ADD made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    /// The host end of the veth.
    pub(crate) host: Interface,
    /// The pod's end.
    pub(crate) pod: Interface,
    /// CNI_NETNS to the letter.
    pub(crate) sandbox: String,
    /// In bytes, of both ends.
    pub(crate) mtu: u32,
    /// Addresses with their gateways, IPv4 first.
    pub(crate) addresses: Vec<(IpAddr, IpAddr)>,
    /// What the pod reaches by it: default routes, where it has them, and the routes of the configuration.
    pub(crate) routes: Vec<Route>,
    /// What is to be known about names, where the runtime or the network says something.
    pub(crate) dns: Option<Dns>,
}

/// One end of the veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its name.
    pub(crate) name: String,
    /// Its MAC.
    pub(crate) mac: MacAddr,
}

/// An address with the length that it has in the pod: it stands alone.
fn alone(ip: IpAddr) -> String {
    IpNetwork::from(ip).to_string()
}

/// A route in the shape of a version. `None` where that cannot say in which table it is: it would be read as one of the
/// main table.
fn route(version: Version, route: &Route) -> Option<Value> {
    let mut value = json!({"dst": route.destination.to_string(), "gw": gateway(route.destination.ip())});
    if version < Version::V1_1_0 {
        return route.is_main().then_some(value);
    }
    let scope = route.scope.map(u32::from);
    let own = [("mtu", route.mtu), ("advmss", route.advmss), ("priority", route.priority), ("table", route.table)];
    for (key, number) in own.into_iter().chain([("scope", scope)]) {
        if let Some(number) = number {
            value[key] = number.into();
        }
    }
    Some(value)
}

/// `dns` in all versions; `{}` where there is nothing to say.
fn dns(dns: &Dns) -> Value {
    let mut value = json!({});
    for (key, list) in [("nameservers", &dns.nameservers), ("search", &dns.search), ("options", &dns.options)] {
        if !list.is_empty() {
            value[key] = list.clone().into();
        }
    }
    if let Some(domain) = &dns.domain {
        value["domain"] = domain.clone().into();
    }
    value
}

/// The document for stdout.
pub(crate) fn render(version: Version, attached: &Attached, previous: Option<&Value>) -> Value {
    if version < Version::V0_3_0 { by_family(version, attached) } else { by_interface(version, attached, previous) }
}

/// 0.1.0 and 0.2.0: the first address of each family, no interfaces.
fn by_family(version: Version, attached: &Attached) -> Value {
    let mut result = Map::new();
    result.insert("cniVersion".to_owned(), version.as_str().into());
    for (ip, gateway) in &attached.addresses {
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        let of_family = attached.routes.iter().filter(|route| route.destination.is_ipv6() == ip.is_ipv6());
        let routes: Vec<_> = of_family.filter_map(|wanted| route(version, wanted)).collect();
        result.entry(family).or_insert_with(|| json!({"ip": alone(*ip), "gateway": gateway, "routes": routes}));
    }
    result.insert("dns".to_owned(), attached.dns.as_ref().map_or_else(|| json!({}), dns));
    Value::Object(result)
}

/// 0.3.0 and newer: lists, ours after those of the chain before us.
fn by_interface(version: Version, attached: &Attached, previous: Option<&Value>) -> Value {
    let before = |list: &str| previous.and_then(|p| p.get(list)).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut interfaces = before("interfaces");
    let pod = interfaces.len() + 1;
    // The host end comes first: plugins after us in the chain, such as `bandwidth`, take the first one outside the pod.
    interfaces.push(interface(version, &attached.host, "", attached.mtu));
    interfaces.push(interface(version, &attached.pod, &attached.sandbox, attached.mtu));

    let mut ips = before("ips");
    let mut routes = before("routes");
    for (ip, gateway) in &attached.addresses {
        ips.push(json!({"interface": pod, "address": alone(*ip), "gateway": gateway}));
    }
    for route in attached.routes.iter().filter_map(|wanted| route(version, wanted)) {
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    ips.iter_mut().for_each(|ip| name_family(version, ip));

    let mut result = Map::new();
    result.insert("cniVersion".to_owned(), version.as_str().into());
    result.insert("interfaces".to_owned(), interfaces.into());
    result.insert("ips".to_owned(), ips.into());
    result.insert("routes".to_owned(), routes.into());
    let before = || previous.and_then(|p| p.get("dns")).cloned().unwrap_or_else(|| json!({}));
    result.insert("dns".to_owned(), attached.dns.as_ref().map_or_else(before, dns));
    Value::Object(result)
}

fn interface(version: Version, interface: &Interface, sandbox: &str, mtu: u32) -> Value {
    let mut value = json!({"name": interface.name, "mac": interface.mac.to_string(), "sandbox": sandbox});
    if sandbox.is_empty() {
        value.as_object_mut().map(|fields| fields.remove("sandbox"));
    }
    if version >= Version::V1_1_0 {
        value["mtu"] = mtu.into();
    }
    value
}

/// Before 1.0.0 each address says of which family it is, since then none does.
fn name_family(version: Version, ip: &mut Value) {
    let Some(fields) = ip.as_object_mut() else { return };
    if version >= Version::V1_0_0 {
        fields.remove("version");
    } else if let Some(address) = fields.get("address").and_then(Value::as_str) {
        let family = if address.contains(':') { "6" } else { "4" };
        fields.insert("version".to_owned(), family.into());
    }
}

/// What the result of the whole chain says of our attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The MAC of the pod's interface. A plugin after us may have changed it, and then says so here.
    pub(crate) mac: Option<MacAddr>,
    /// Whether the host end is listed.
    pub(crate) host_listed: bool,
    /// The addresses on the pod's interface.
    pub(crate) addresses: Vec<IpNetwork>,
}

impl Expected {
    /// Reads `previous` for the interface `ifname` in `sandbox` and the host end `host`.
    ///
    /// [`Error::Previous`] where it is no result, or does not list the interface.
    pub(crate) fn read(previous: &Value, ifname: &str, sandbox: &str, host: &str) -> Result<Self, Error> {
        let list = |key: &str| previous.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let field = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let interfaces = list("interfaces");
        let index = interfaces
            .iter()
            .position(|i| field(i, "name") == ifname && field(i, "sandbox") == sandbox)
            .ok_or_else(|| Error::Previous(format!("it lists no interface {ifname} in {sandbox}")))?;
        let mac = match field(&interfaces[index], "mac") {
            text if text.is_empty() => None,
            text => Some(text.to_lowercase().parse().map_err(|e| Error::Previous(format!("interface {ifname}: {e}")))?),
        };
        let addresses = list("ips")
            .iter()
            .filter(|ip| ip.get("interface").and_then(Value::as_u64) == Some(index as u64))
            .map(|ip| {
                let text = field(ip, "address");
                text.parse().map_err(|_| Error::Previous(format!("{text:?} is not an address with a prefix length")))
            })
            .collect::<Result<_, _>>()?;
        let host_listed = interfaces.iter().any(|i| field(i, "name") == host && field(i, "sandbox").is_empty());
        Ok(Self { mac, host_listed, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached() -> Attached {
        Attached {
            host: Interface { name: "tw0123456789abc".to_owned(), mac: MacAddr([0x02, 0x74, 0x77, 0, 0, 1]) },
            pod: Interface { name: "eth0".to_owned(), mac: MacAddr([0x02, 1, 2, 3, 4, 5]) },
            sandbox: "/var/run/netns/../netns/p1".to_owned(),
            mtu: 1450,
            addresses: vec![
                ("10.42.0.5".parse().unwrap(), "169.254.1.1".parse().unwrap()),
                ("fd00::5".parse().unwrap(), "fe80::1".parse().unwrap()),
            ],
            routes: ["0.0.0.0/0", "::/0"].map(|to| Route::to(to.parse().unwrap())).into(),
            dns: None,
        }
    }

    #[test]
    fn each_version_has_its_shape() {
        let table: Vec<String> = Version::ALL
            .map(|version| serde_json::to_string_pretty(&render(version, &attached(), None)).unwrap())
            .into();
        insta::assert_snapshot!(table.join("\n"));
    }

    #[test]
    fn the_result_of_the_chain_before_us_is_kept_and_our_indexes_follow_it() {
        let previous = json!({
            "cniVersion": "0.4.0",
            "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:09", "sandbox": "/x", "vendor": true}],
            "ips": [{"version": "4", "interface": 0, "address": "192.0.2.9/24"}],
            "routes": [{"dst": "192.0.2.0/24"}, {"dst": "::/0", "gw": "fe80::1"}],
            "dns": {"nameservers": ["192.0.2.53"]},
        });
        let new = render(Version::V1_1_0, &attached(), Some(&previous));
        assert_eq!(new["interfaces"][0], previous["interfaces"][0]);
        assert_eq!(new["ips"][0], json!({"interface": 0, "address": "192.0.2.9/24"}));
        assert_eq!(new["ips"][1]["interface"], 2);
        assert_eq!(new["routes"].as_array().unwrap().len(), 3, "the route that was there is not repeated");
        assert_eq!(new["dns"], previous["dns"]);
        let old = render(Version::V0_3_1, &attached(), Some(&new));
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["ips"].as_array().unwrap().last().unwrap()["version"], "6");
        assert_eq!(render(Version::V0_2_0, &attached(), Some(&previous))["dns"], json!({}));
    }

    #[test]
    fn only_the_newest_version_tells_what_a_route_has_of_its_own_and_no_other_hides_its_table() {
        let to = |text: &str| Route::to(text.parse().unwrap());
        let routes = vec![
            Route { mtu: Some(1400), advmss: Some(1300), priority: Some(5), scope: Some(0), ..to("10.0.0.0/8") },
            Route { table: Some(1000), ..to("fd00::/8") },
            Route { table: Some(254), ..to("192.0.2.0/24") },
        ];
        let attached = Attached { routes, ..attached() };
        let (main, other) =
            (json!({"dst": "10.0.0.0/8", "gw": "169.254.1.1"}), json!({"dst": "192.0.2.0/24", "gw": "169.254.1.1"}));
        assert_eq!(render(Version::V0_2_0, &attached, None)["ip4"]["routes"], json!([main, other]));
        assert_eq!(render(Version::V0_2_0, &attached, None)["ip6"]["routes"], json!([]));
        assert_eq!(render(Version::V1_0_0, &attached, None)["routes"], json!([main, other]));
        let whole = json!([
            {"dst": "10.0.0.0/8", "gw": "169.254.1.1", "mtu": 1400, "advmss": 1300, "priority": 5, "scope": 0},
            {"dst": "fd00::/8", "gw": "fe80::1", "table": 1000},
            {"dst": "192.0.2.0/24", "gw": "169.254.1.1", "table": 254},
        ]);
        assert_eq!(render(Version::V1_1_0, &attached, None)["routes"], whole);
    }

    #[test]
    fn a_check_reads_back_what_an_add_wrote() {
        for version in [Version::V0_4_0, Version::V1_0_0, Version::V1_1_0] {
            let result = render(version, &attached(), None);
            let read = Expected::read(&result, "eth0", "/var/run/netns/../netns/p1", "tw0123456789abc").unwrap();
            assert_eq!(read.mac, Some(attached().pod.mac));
            assert!(read.host_listed);
            assert_eq!(read.addresses, ["10.42.0.5/32".parse().unwrap(), "fd00::5/128".parse().unwrap()]);
        }
    }

    #[test]
    fn a_result_without_our_interface_is_refused() {
        let result = render(Version::V1_0_0, &attached(), None);
        for (ifname, sandbox) in [("eth1", "/var/run/netns/../netns/p1"), ("eth0", "/var/run/netns/p1")] {
            let error = Expected::read(&result, ifname, sandbox, "tw0123456789abc").unwrap_err();
            assert!(error.to_string().contains(ifname), "{error}");
        }
        assert!(Expected::read(&json!([]), "eth0", "/x", "tw0").is_err());
    }
}
