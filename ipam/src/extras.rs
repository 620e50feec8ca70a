//! What an attachment has beyond its link and its addresses, because its runtime or its network asked for it: published
//! ports, limits of its bandwidth, and that it may send by the addresses of others.
//!
//! It stands in one column of the attachment's row, as JSON, which is empty for most: an ADD or a DEL that has nothing of
//! this reads and writes nothing more than before. Fields that a newer version wrote are passed over.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};
use twill_conf::network::{Bandwidth, PortMapping, Protocol, Shape};

use crate::KeyHash;

/// Ports, limits and exemptions of one attachment. By default it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// The ports of the node that lead to it.
    pub ports: Vec<PortMapping>,
    /// How fast it may receive and send.
    pub bandwidth: Option<Bandwidth>,
    /// It may send by addresses that are not its own (`spoofCheck` of its network is false).
    pub unchecked: bool,
}

/// A port of the node and where it leads to, in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The protocol.
    pub protocol: Protocol,
    /// On which address of the node; on all of the family where it is absent.
    pub host: Option<IpAddr>,
    /// The port of the node.
    pub host_port: u16,
    /// The pod's address and port.
    pub pod: SocketAddr,
}

impl Extras {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether what the pod sends is limited, by a device that outlives its link.
    pub fn has_egress(&self) -> bool {
        self.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some())
    }

    /// Where the ports lead to for a pod with these addresses: each port to the first address of each family that it is
    /// meant for.
    pub fn published(&self, addresses: &[IpAddr]) -> Vec<Published> {
        let first = |ipv6: bool| addresses.iter().copied().find(|ip| ip.is_ipv6() == ipv6);
        let pods = [first(false), first(true)];
        let of = |mapping: &PortMapping| {
            let PortMapping { protocol, host_ip, host_port, container_port } = *mapping;
            let meant = |pod: &IpAddr| host_ip.is_none_or(|host| host.is_ipv6() == pod.is_ipv6());
            pods.into_iter()
                .flatten()
                .filter(meant)
                .map(move |pod| Published {
                    protocol,
                    host: host_ip.filter(|host| !host.is_unspecified()),
                    host_port,
                    pod: SocketAddr::new(pod, container_port),
                })
                .collect::<Vec<_>>()
        };
        self.ports.iter().flat_map(of).collect()
    }

    /// The mappings that make what is seen to be published for one pod. A port that is published on all addresses of one
    /// family alone is one of that family.
    pub fn mappings(seen: &[Published]) -> Vec<PortMapping> {
        let twin = |one: &Published| {
            let same = |other: &&Published| {
                (other.protocol, other.host, other.host_port, other.pod.port())
                    == (one.protocol, None, one.host_port, one.pod.port())
                    && other.pod.is_ipv6() != one.pod.is_ipv6()
            };
            one.host.is_none() && seen.iter().any(|other| same(&other))
        };
        // Of twins the IPv4 one speaks for both.
        let spoken_for = |one: &&Published| !(twin(one) && one.pod.is_ipv6());
        let mapping = |one: &Published| {
            let all: IpAddr = if one.pod.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
            PortMapping {
                protocol: one.protocol,
                host_ip: if twin(one) { None } else { Some(one.host.unwrap_or(all)) },
                host_port: one.host_port,
                container_port: one.pod.port(),
            }
        };
        seen.iter().filter(spoken_for).map(mapping).collect()
    }

    /// What the kernel tells of all attachments together: the elements of published ports with the text by which they are
    /// marked; the rates, in bits a second, by the names of the devices that are limited; and those whose aliases say that they
    /// are [unchecked](Self::unchecked). What is none of ours is left out.
    pub fn observed<'a>(
        published: impl IntoIterator<Item = (&'a str, Published)>,
        rates: impl IntoIterator<Item = (&'a str, u64)>,
        unchecked: impl IntoIterator<Item = KeyHash>,
    ) -> BTreeMap<KeyHash, Self> {
        let mut ports: BTreeMap<KeyHash, Vec<Published>> = BTreeMap::new();
        for (owner, one) in published {
            if let Some(hash) = KeyHash::parse(owner) {
                ports.entry(hash).or_default().push(one);
            }
        }
        let mut all: BTreeMap<KeyHash, Self> = ports
            .into_iter()
            .map(|(hash, seen)| (hash, Self { ports: Self::mappings(&seen), ..Self::default() }))
            .collect();
        for (device, rate) in rates {
            let shape = Some(Shape { rate, burst: None });
            let (ingress, egress) = (KeyHash::of_host_ifname(device), KeyHash::of_ifb_name(device));
            let Some(hash) = ingress.or(egress) else { continue };
            let bandwidth = &mut all.entry(hash).or_default().bandwidth;
            let limits = bandwidth.get_or_insert(Bandwidth { ingress: None, egress: None });
            *(if egress.is_some() { &mut limits.egress } else { &mut limits.ingress }) = shape;
        }
        for hash in unchecked {
            all.entry(hash).or_default().unchecked = true;
        }
        all
    }

    /// As it stands in the file.
    pub(crate) fn to_json(&self) -> String {
        let port = |port: &PortMapping| {
            json!({"protocol": port.protocol.as_str(), "hostIP": port.host_ip, "hostPort": port.host_port,
                   "containerPort": port.container_port})
        };
        let mut fields = Map::new();
        if !self.ports.is_empty() {
            fields.insert("ports".into(), self.ports.iter().map(port).collect());
        }
        if let Some(Bandwidth { ingress, egress }) = self.bandwidth {
            let shape = |shape: Option<Shape>| shape.map(|shape| json!({"rate": shape.rate, "burst": shape.burst}));
            fields.insert("bandwidth".into(), json!({"ingress": shape(ingress), "egress": shape(egress)}));
        }
        if self.unchecked {
            fields.insert("spoofCheck".into(), false.into());
        }
        Value::Object(fields).to_string()
    }

    /// Reads what [`to_json`](Self::to_json) wrote. What is of another form is passed over.
    pub(crate) fn from_json(text: &str) -> Option<Self> {
        let fields: Value = serde_json::from_str(text).ok()?;
        let ports = fields.get("ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let bandwidth = fields.get("bandwidth").and_then(|bandwidth| {
            let (ingress, egress) = (shape(&bandwidth["ingress"]), shape(&bandwidth["egress"]));
            (ingress.is_some() || egress.is_some()).then_some(Bandwidth { ingress, egress })
        });
        let unchecked = fields.get("spoofCheck") == Some(&Value::Bool(false));
        Some(Self { ports: ports.iter().filter_map(port).collect(), bandwidth, unchecked })
    }
}

fn port(value: &Value) -> Option<PortMapping> {
    let number = |key| u16::try_from(value.get(key)?.as_u64()?).ok();
    let named = value.get("protocol")?.as_str()?;
    // Where it cannot be read, there is no saying which: all addresses would be more than was asked for.
    let host_ip = match value.get("hostIP") {
        None | Some(Value::Null) => None,
        Some(host) => Some(host.as_str()?.parse().ok()?),
    };
    Some(PortMapping {
        protocol: Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == named)?,
        host_ip,
        host_port: number("hostPort")?,
        container_port: number("containerPort")?,
    })
}

fn shape(value: &Value) -> Option<Shape> {
    Some(Shape { rate: value.get("rate")?.as_u64()?, burst: value.get("burst").and_then(Value::as_u64) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_ip: Option<&str>, host_port: u16) -> PortMapping {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortMapping { protocol: Protocol::Udp, host_ip, host_port, container_port: 53 }
    }

    fn addresses() -> Vec<IpAddr> {
        ["10.42.0.5", "fd00::5"].map(|ip| ip.parse().unwrap()).into()
    }

    fn sample() -> Extras {
        let hosts = [None, Some("0.0.0.0"), Some("::"), Some("192.0.2.1"), Some("2001:db8::1")];
        let ports = (1..).zip(hosts).map(|(port, host)| mapping(host, port)).collect();
        let egress = Some(Shape { rate: u64::MAX, burst: None });
        let bandwidth = Some(Bandwidth { ingress: Some(Shape { rate: 8, burst: Some(9) }), egress });
        Extras { ports, bandwidth, unchecked: true }
    }

    #[test]
    fn what_is_written_is_read_back_and_what_is_unknown_is_passed_over() {
        for extras in [
            sample(),
            Extras::default(),
            Extras { bandwidth: None, ..sample() },
            Extras { unchecked: false, ..sample() },
        ] {
            assert_eq!(Extras::from_json(&extras.to_json()), Some(extras));
        }
        let newer = r#"{"ports":[{"protocol":"dccp","hostPort":1,"containerPort":1}],"wings":2}"#;
        assert_eq!(Extras::from_json(newer), Some(Extras::default()));
    }

    #[test]
    fn a_port_on_an_address_that_cannot_be_read_is_not_one_on_all_addresses() {
        for host in [r#""eth0""#, "4", "[]"] {
            let text = format!(r#"{{"ports":[{{"protocol":"udp","hostIP":{host},"hostPort":1,"containerPort":1}}]}}"#);
            assert_eq!(Extras::from_json(&text), Some(Extras::default()), "{host}");
        }
    }

    #[test]
    fn a_port_leads_to_each_family_that_it_is_meant_for_and_the_pod_has() {
        let to = |addresses: &[IpAddr]| {
            let published = sample().published(addresses);
            published.iter().map(|one| (one.host_port, one.host.is_some(), one.pod.is_ipv6())).collect::<Vec<_>>()
        };
        let both = [
            (1, false, false),
            (1, false, true),
            (2, false, false),
            (3, false, true),
            (4, true, false),
            (5, true, true),
        ];
        assert_eq!(to(&addresses()), both);
        assert_eq!(to(&addresses()[..1]), [(1, false, false), (2, false, false), (4, true, false)]);
        assert_eq!(to(&[]), []);
    }

    #[test]
    fn what_the_kernel_tells_is_sorted_by_attachment_and_what_is_not_ours_is_left_out() {
        let published = sample().published(&addresses());
        let elements = published.iter().map(|one| ("0000000000001", *one)).chain([("by hand", published[0])]);
        let rates = [("tw0000000000001", 80), ("bw0000000000002", 160), ("eth0", 8)];
        let seen = Extras::observed(elements, rates, [KeyHash(2), KeyHash(3)]);
        let shape = |rate| Some(Shape { rate, burst: None });
        let one = Bandwidth { ingress: shape(80), egress: None };
        assert_eq!(seen[&KeyHash(1)], Extras { ports: sample().ports, bandwidth: Some(one), unchecked: false });
        let two = Bandwidth { ingress: None, egress: shape(160) };
        assert_eq!(seen[&KeyHash(2)], Extras { ports: vec![], bandwidth: Some(two), unchecked: true });
        assert_eq!(seen[&KeyHash(3)], Extras { unchecked: true, ..Extras::default() });
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn what_is_seen_to_be_published_makes_mappings_that_publish_the_same() {
        for addresses in [addresses(), addresses()[1..].to_vec()] {
            let seen = sample().published(&addresses);
            let extras = Extras { ports: Extras::mappings(&seen), ..Extras::default() };
            assert_eq!(extras.published(&addresses), seen);
        }
        assert_eq!(Extras::mappings(&sample().published(&addresses())), sample().ports);
    }
}
