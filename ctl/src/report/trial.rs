//! What is found by pods that stand for a short while: whether packets come through ([`mod@test`]), and how fast ([`mod@bench`]).

pub(crate) mod bench;
pub(crate) mod blame;
pub(crate) mod junit;
pub(crate) mod plan;
pub(crate) mod test;

use std::net::IpAddr;

use twill_cluster::inquiry::client::Silence;
use twill_cluster::inquiry::trial::{Opened, SIZES};
use twill_cluster::record::Told;
use twill_conf::NodeName;

use super::problems::{Problem, unheard};
use super::untold::{ETCD, Untold};

/// A node has not done what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It says why.
    Refused(Told),
    /// It has not answered, or not to this; whether it has done something is not known.
    Silent(Told),
    /// It does not know the question.
    Unasked(Told),
    /// It was not asked: its daemon has not been heard of.
    Dead,
}

impl Failure {
    /// It says why.
    pub(crate) fn refused(told: Told) -> Self {
        Self::Refused(told)
    }

    /// There is no answer.
    pub(crate) fn silent(why: &Silence) -> Self {
        let told = |fix: &str| Told { what: why.to_string(), fix: fix.to_owned() };
        match why {
            Silence::Dead => Self::Dead,
            Silence::Unsupported { .. } => Self::Unasked(told("update twilld there")),
            Silence::Timeout(_) => Self::Silent(told(
                "look at twilld there: is it running, and does it reach etcd? Try again, with a longer --timeout",
            )),
            Silence::Unasked(_) => Self::Silent(told(ETCD)),
            Silence::Failed(_) => Self::Silent(told("try again; if it stays so, look at the log of twilld there")),
            _ => Self::Silent(told(
                "try again; if it stays so, look at twilld there, and at etcd's roles (docs/etcd.md)",
            )),
        }
    }

    /// It tells what cannot be; whether it has done something is not known.
    pub(crate) fn strange(what: String) -> Self {
        Self::Silent(Told {
            what,
            fix: "look at twilld there, and update it to the version of this twillctl".to_owned(),
        })
    }

    /// Whether nothing can stand on the node by what it was asked for.
    pub(crate) fn is_certain(&self) -> bool {
        !matches!(self, Self::Silent(_))
    }
}

fn refusal(node: &NodeName, Told { what, fix }: &Told) -> Problem {
    Problem::new(format!("node {node}"), what, fix)
}

/// What a node tells of its pods that cannot be: ways that are made of it would be blamed on others.
pub(crate) fn strange(opened: &Opened, pods: u8) -> Option<String> {
    if opened.pods.len() != usize::from(pods) {
        return Some(format!("it tells of {} pods, and was asked for {pods}", opened.pods.len()));
    }
    let addresses = || opened.pods.iter().flat_map(|pod| &pod.addresses);
    if let Some(address) = addresses().chain(&opened.gateways).find(|address| !is_of_one(**address)) {
        return Some(format!("it tells of the address {address}, which is none of a pod or a gateway"));
    }
    if opened.pods.iter().any(|pod| pod.addresses.is_empty()) {
        return Some("it tells of a pod that has no address".to_owned());
    }
    let strange = opened.pods.iter().find(|pod| !SIZES.contains(&pod.mtu))?;
    Some(format!("it tells of a pod with an MTU of {} bytes; {} to {} can be", strange.mtu, SIZES.start(), SIZES.end()))
}

/// Whether packets to it are for one host, of which it says which.
fn is_of_one(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(is_link_local || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// Failures as problems, where nodes say why or are dead, and else as what could not be told.
fn divided(failures: &[(NodeName, Failure)]) -> (Vec<Problem>, Vec<Untold>) {
    let (mut problems, mut unknown) = (Vec::new(), Vec::new());
    for (node, failure) in failures {
        match failure {
            Failure::Refused(told) => problems.push(refusal(node, told)),
            Failure::Dead => problems.push(unheard(node)),
            Failure::Silent(told) | Failure::Unasked(told) => {
                unknown.push(Untold::new(format!("node {node}: {}", told.what), &told.fix));
            }
        }
    }
    (problems, unknown)
}

/// The same where pods are left.
fn left(failures: &[(NodeName, Failure)]) -> (Vec<Problem>, Vec<Untold>) {
    let (mut problems, mut unknown) = (Vec::new(), Vec::new());
    for (node, failure) in failures {
        match failure {
            Failure::Refused(told) => problems.push(refusal(node, told)),
            _ => unknown.push(Untold::new(
                format!("whether the pods on {node} are gone"),
                "wait a while: a node that hears nothing takes them down by itself; then look by 'twillctl doctor' whether one is left",
            )),
        }
    }
    (problems, unknown)
}

#[cfg(test)]
mod tests {
    use twill_cluster::inquiry::trial::Pod;

    use super::*;

    fn opened(mtu: u32, addresses: &[&str]) -> Opened {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Opened {
            pods: vec![Pod { addresses, mtu }],
            gateways: vec!["192.0.2.1".parse().unwrap()],
            kernel: String::new(),
            version: String::new(),
            processors: 1,
            devices: Vec::new(),
        }
    }

    #[test]
    fn what_a_node_tells_of_its_pods_must_be_possible() {
        assert_eq!(strange(&opened(1450, &["10.42.0.7", "fd42::7"]), 1), None);
        let told = |opened: &Opened, pods| strange(opened, pods).unwrap();
        assert!(told(&opened(1450, &["10.42.0.7"]), 2).contains("of 1 pods, and was asked for 2"));
        assert!(told(&opened(1450, &[]), 1).contains("no address"));
        for mtu in [0, 95, 65_536] {
            assert!(told(&opened(mtu, &["10.42.0.7"]), 1).contains(&format!("an MTU of {mtu} bytes")));
        }
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "fe80::1", "::", "ff02::1"] {
            assert!(told(&opened(1450, &[address]), 1).contains(address));
            let gateways = vec![address.parse().unwrap()];
            assert!(told(&Opened { gateways, ..opened(1450, &["10.42.0.7"]) }, 1).contains(address));
        }
    }
}
