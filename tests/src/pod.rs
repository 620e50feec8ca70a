//! A pod: a network namespace that the real cnitool attaches to a node's network.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use serde_json::Value;
use sha2::{Digest, Sha512};

use crate::cni::{Answer, Call, Verb};
use crate::namespace::Namespace;
use crate::node::Seat;
use crate::{LabError, Result};

/// The interface that pods have unless told otherwise.
pub const IFNAME: &str = "eth0";

/// A pod, attached or not.
#[derive(Debug)]
pub struct Pod {
    name: String,
    namespace: Namespace,
    seat: Arc<Seat>,
    result: Mutex<Option<Value>>,
}

/// What an ADD gave.
#[derive(Debug, Clone)]
pub struct Added {
    /// The result, as cnitool printed it.
    pub result: Value,
    /// The addresses with their prefix lengths.
    pub addresses: Vec<IpNetwork>,
    /// From the start of cnitool to its end.
    pub took: Duration,
}

impl Pod {
    /// Makes the namespace, as a runtime does before it calls the plugin.
    pub(crate) fn create(name: &str, seat: Arc<Seat>) -> Result<Self> {
        let namespace = Namespace::create(format!("{}-p-{name}", seat.site.prefix))?;
        Ok(Self { name: name.into(), namespace, seat, result: Mutex::new(None) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The node that it is on.
    pub fn node(&self) -> &str {
        &self.seat.name
    }

    /// Attaches it by cnitool.
    pub fn add(&self) -> Result<Added> {
        self.add_asking(None)
    }

    /// Attaches it by cnitool, as a runtime that passes these capabilities on (`runtimeConfig`).
    pub fn add_asking(&self, capabilities: Option<&Value>) -> Result<Added> {
        self.add_by_cnitool(|command| {
            if let Some(capabilities) = capabilities {
                command.env("CAP_ARGS", capabilities.to_string());
            }
        })
    }

    /// Attaches it by cnitool, as a pod of Kubernetes.
    pub fn add_as(&self, namespace: &str, name: &str) -> Result<Added> {
        self.add_by_cnitool(|command| {
            let pod = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
            command.env("CNI_ARGS", pod);
        })
    }

    fn add_by_cnitool(&self, change: impl FnOnce(&mut Command)) -> Result<Added> {
        let started = Instant::now();
        let output = self.cnitool("add", change)?;
        let took = started.elapsed();
        let unreadable =
            |cause: String| LabError::Unreadable { what: "cnitool add".into(), cause, text: output.clone() };
        let result: Value = serde_json::from_str(&output).map_err(|e| unreadable(e.to_string()))?;
        let addresses = addresses_of(&result).map_err(unreadable)?;
        *self.lock() = Some(result.clone());
        Ok(Added { result, addresses, took })
    }

    /// CHECK by cnitool.
    pub fn check(&self) -> Result<()> {
        self.cnitool("check", |_| {}).map(drop)
    }

    /// Detaches it by cnitool, and yields how long that took.
    pub fn del(&self) -> Result<Duration> {
        let started = Instant::now();
        self.cnitool("del", |_| {})?;
        *self.lock() = None;
        Ok(started.elapsed())
    }

    fn cnitool(&self, verb: &str, change: impl FnOnce(&mut Command)) -> Result<String> {
        let site = &self.seat.site;
        let mut command = Command::new(site.binaries.cnitool());
        command.args([verb, &self.seat.network.name]).arg(self.namespace.path());
        command.env("CNI_PATH", site.binaries.directory()).env("NETCONFPATH", self.seat.net_d());
        command.env("CNI_IFNAME", IFNAME);
        change(&mut command);
        self.seat.namespace.execute(command)
    }

    /// Calls the plugin directly, for the same container as cnitool does, to see its codes.
    pub fn call(&self, verb: Verb) -> Result<Answer> {
        self.call_with_netns(verb, self.namespace.path())
    }

    /// ADD by the plugin, with further keys in its configuration.
    pub fn add_with_keys(&self, keys: &Value) -> Result<Answer> {
        let mut input = self.seat.network.plugin_input(None);
        for (key, value) in keys.as_object().into_iter().flatten() {
            input[key] = value.clone();
        }
        self.call_on(Verb::Add, self.namespace.path(), &input)
    }

    /// The same with another CNI_NETNS than the pod's.
    pub fn call_with_netns(&self, verb: Verb, netns: &Path) -> Result<Answer> {
        let previous = match verb {
            Verb::Check | Verb::Del => self.lock().clone(),
            Verb::Add | Verb::Gc | Verb::Status | Verb::Version => None,
        };
        self.call_on(verb, netns, &self.seat.network.plugin_input(previous.as_ref()))
    }

    fn call_on(&self, verb: Verb, netns: &Path, input: &Value) -> Result<Answer> {
        let call = Call {
            plugin: &self.seat.site.binaries.plugin(),
            verb,
            container: &self.container(),
            netns,
            ifname: IFNAME,
            input,
        };
        let answer = call.run_in(&self.seat.namespace)?;
        if verb == Verb::Add && answer.success {
            *self.lock() = Some(answer.output.clone());
        }
        Ok(answer)
    }

    /// The container ID, as cnitool makes it of the namespace's path.
    pub fn container(&self) -> String {
        let digest = Sha512::digest(self.namespace.path().as_os_str().as_encoded_bytes());
        let hex: String = digest[..10].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("cnitool-{hex}")
    }

    /// The addresses of the last ADD.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        let result = self.lock();
        let result = result.as_ref().ok_or_else(|| LabError::wrong(format!("{} is not attached", self.name)))?;
        let networks = addresses_of(result).map_err(LabError::Wrong)?;
        Ok(networks.into_iter().map(|network| network.ip()).collect())
    }

    /// Its address of one family.
    pub fn address(&self, ipv6: bool) -> Result<IpAddr> {
        let found = self.addresses()?.into_iter().find(|a| a.is_ipv6() == ipv6);
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        found.ok_or_else(|| LabError::wrong(format!("{} has no {family} address", self.name)))
    }

    /// The name of the host end of its veth, from the result: the interface that is in no sandbox.
    pub fn host_interface(&self) -> Result<String> {
        let result = self.lock();
        let interfaces = result.as_ref().and_then(|r| r["interfaces"].as_array());
        let host = interfaces.into_iter().flatten().find(|i| i["sandbox"].as_str().unwrap_or_default().is_empty());
        let name = host.and_then(|i| i["name"].as_str()).map(str::to_owned);
        name.ok_or_else(|| LabError::wrong(format!("the result for {} names no host interface", self.name)))
    }

    /// The MTU of its interface, in bytes.
    pub fn mtu(&self) -> Result<u64> {
        let links = self.namespace.run_json(&["ip", "-j", "link", "show", "dev", IFNAME])?;
        links[0]["mtu"].as_u64().ok_or_else(|| LabError::wrong(format!("{} shows no MTU: {links}", self.name)))
    }

    /// Sends one ping with this many bytes of payload and waits for its answer.
    pub fn ping(&self, target: IpAddr, payload: u64) -> Result<()> {
        let (target, payload) = (target.to_string(), payload.to_string());
        self.namespace.run(&["ping", "-n", "-q", "-c1", "-W3", "-M", "do", "-s", &payload, &target]).map(drop)
    }

    /// One ping with a small packet, and one with the largest that fits into the MTU, neither to be fragmented.
    pub fn ping_small_and_full(&self, target: IpAddr) -> Result<()> {
        // ICMP's header has 8 bytes in both families (RFC 792, RFC 4443).
        let headers = if target.is_ipv6() { 40 + 8 } else { 20 + 8 };
        self.ping(target, 56)?;
        self.ping(target, self.mtu()? - headers)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Value>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of a CNI result, with their prefix lengths; the error says what is not as CNI has it.
pub(crate) fn addresses_of(result: &Value) -> Result<Vec<IpNetwork>, String> {
    let ips = result["ips"].as_array().ok_or("the result has no `ips`")?;
    let parse = |ip: &Value| {
        let text = ip["address"].as_str().ok_or("an entry of `ips` has no `address`")?;
        text.parse().map_err(|e| format!("{text}: {e}"))
    };
    ips.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_read_from_a_result() {
        let result = serde_json::json!({ "ips": [{ "address": "10.42.0.3/32" }, { "address": "fd42::3/128" }] });
        let networks = addresses_of(&result).unwrap();
        assert_eq!(networks.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.42.0.3/32", "fd42::3/128"]);
        assert!(addresses_of(&serde_json::json!({})).is_err());
    }
}
