//! A real etcd in a namespace of its own on the wire: it can be stopped, killed, paused and cut off, and what stands in it
//! can be read and changed behind the back of the nodes.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use ipnetwork::IpNetwork;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::deadline::{self, PATIENCE};
use crate::namespace::Namespace;
use crate::process::{self, Process};
use crate::security::{CA, Security};
use crate::{LabError, Result};

/// The prefix of Twill's keys.
pub const PREFIX: &str = "/twill/v1/";

/// An etcd of one member.
#[derive(Debug)]
pub struct Etcd {
    namespace: Namespace,
    endpoints: Vec<String>,
    /// Its addresses, as a certificate has them.
    names: Vec<String>,
    directory: PathBuf,
    security: Option<Arc<Security>>,
    process: Mutex<Option<Process>>,
}

/// A block as it stands in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockEntry {
    /// The key, without the prefix.
    pub key: String,
    /// The block.
    pub cidr: IpNetwork,
    /// Its owner.
    pub node: String,
}

impl Etcd {
    /// Starts an etcd in `namespace`, with its data and log in `directory`, reached by `addresses`, and waits until it
    /// answers. A secured one has TLS, wants certificates and has users: root, and the operator of `docs/etcd.md`.
    pub fn start_in(namespace: Namespace, addresses: &[IpAddr], directory: &Path, secured: bool) -> Result<Self> {
        let scheme = if secured { "https" } else { "http" };
        let endpoint = |address: &IpAddr| match address {
            IpAddr::V4(a) => format!("{scheme}://{a}:2379"),
            IpAddr::V6(a) => format!("{scheme}://[{a}]:2379"),
        };
        let endpoints = addresses.iter().map(endpoint).collect();
        let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let security = secured.then(|| Security::create(directory.join("tls"), &names).map(Arc::new)).transpose()?;
        let process = Mutex::new(None);
        let etcd = Self { namespace, endpoints, names, directory: directory.into(), security, process };
        etcd.start()?;
        if let Some(security) = &etcd.security {
            security.run_document(&etcd.namespace, &etcd.endpoints(), "users by certificates", "")?;
        }
        Ok(etcd)
    }

    /// The CA and the certificates of a secured one.
    pub fn security(&self) -> Option<&Arc<Security>> {
        self.security.as_ref()
    }

    /// Gives a node its role and its user, and writes its certificate into `directory`. Does nothing without TLS.
    pub fn admit(&self, node: &str, directory: &Path) -> Result<()> {
        let Some(security) = &self.security else { return Ok(()) };
        security.renew(directory, node);
        security.run_document(&self.namespace, &self.endpoints(), "a node by certificate", node)
    }

    /// Has etcd go over to another CA, for itself and for whoever comes. It is started again, since it reads the CA at its
    /// start only.
    pub fn replace_authority(&self) -> Result<()> {
        let Some(security) = &self.security else { return Err(LabError::wrong("this etcd has no TLS")) };
        self.stop()?;
        security.replace_authority(&self.names);
        self.start()
    }

    /// Its URLs, separated by commas, as `--etcd` has them.
    pub fn endpoints(&self) -> String {
        self.endpoints.join(",")
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Starts it where it does not run, and waits until it answers. Its data are those of before.
    pub fn start(&self) -> Result<()> {
        let mut running = self.lock();
        if running.is_none() {
            let urls = self.endpoints();
            let data = self.directory.join("etcd");
            let mut command = process::command(&[
                "etcd",
                "--name=lab",
                &format!("--data-dir={}", data.display()),
                &format!("--listen-client-urls={urls}"),
                &format!("--advertise-client-urls={urls}"),
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--initial-advertise-peer-urls=http://127.0.0.1:2380",
                "--initial-cluster=lab=http://127.0.0.1:2380",
            ]);
            if let Some(security) = &self.security {
                let file = |name: &str| security.directory().join(name);
                command.arg("--cert-file").arg(file("etcd.crt")).arg("--key-file").arg(file("etcd.key"));
                command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(file(CA));
            }
            *running = Some(self.namespace.start_process("etcd", command, &self.directory.join("etcd.log"))?);
        }
        drop(running);
        deadline::until("etcd answers", PATIENCE, || Ok(self.etcdctl(&["endpoint", "health"]).is_ok()))
    }

    /// Stops it, as a service manager would.
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// Kills it.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    fn end(&self, signal: Signal) -> Result<()> {
        if let Some(mut process) = self.lock().take() {
            process.end(signal)?;
        }
        Ok(())
    }

    /// Freezes it: connections stand, and nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match &*self.lock() {
            Some(process) => process.signal(signal),
            None => Err(LabError::wrong("etcd does not run")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Runs `etcdctl`.
    pub fn etcdctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = process::command(&["etcdctl"]);
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.endpoints())).args(arguments);
        if let Some(security) = &self.security {
            security.tell(&mut command, "ETCDCTL");
        }
        self.namespace.execute(command)
    }

    /// Keys below `prefix` with their values. Both are without Twill's prefix.
    pub fn read(&self, prefix: &str) -> Result<Vec<(String, Value)>> {
        let text = self.etcdctl(&["get", "--prefix", &format!("{PREFIX}{prefix}")])?;
        let mut lines = text.lines();
        let mut entries = Vec::new();
        // `etcdctl` writes keys and values on alternating lines; JSON as we write it has no line breaks.
        while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
            let value = serde_json::from_str(value).map_err(|e| LabError::Unreadable {
                what: key.into(),
                cause: e.to_string(),
                text: value.into(),
            })?;
            entries.push((key.trim_start_matches(PREFIX).to_owned(), value));
        }
        Ok(entries)
    }

    /// Removes one key. Whether it was there.
    pub fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.etcdctl(&["del", &format!("{PREFIX}{key}")])? == "1")
    }

    /// The records of all nodes, by name.
    pub fn nodes(&self) -> Result<Vec<(String, Value)>> {
        let nodes = self.read("nodes/")?;
        Ok(nodes.into_iter().map(|(key, value)| (key.trim_start_matches("nodes/").to_owned(), value)).collect())
    }

    /// All blocks with their owners.
    pub fn blocks(&self) -> Result<Vec<BlockEntry>> {
        let parse = |(key, value): (String, Value)| {
            let unreadable = || LabError::wrong(format!("{key} is no block: {value}"));
            let cidr = block_of_key(&key).ok_or_else(unreadable)?;
            let node = value["node"].as_str().ok_or_else(unreadable)?.to_owned();
            Ok(BlockEntry { cidr, node, key })
        };
        self.read("blocks/")?.into_iter().map(parse).collect()
    }

    /// The blocks of one node.
    pub fn blocks_of(&self, node: &str) -> Result<Vec<IpNetwork>> {
        Ok(self.blocks()?.into_iter().filter(|b| b.node == node).map(|b| b.cidr).collect())
    }
}

/// `blocks/<4 or 6>/<first address in fixed-width hex>-<length>`.
fn block_of_key(key: &str) -> Option<IpNetwork> {
    let (family, rest) = key.strip_prefix("blocks/")?.split_once('/')?;
    let (hex, length) = rest.split_once('-')?;
    let address: IpAddr = match family {
        "4" => IpAddr::from(u32::from_str_radix(hex, 16).ok()?.to_be_bytes()),
        "6" => Ipv6Addr::from(u128::from_str_radix(hex, 16).ok()?).into(),
        _ => return None,
    };
    IpNetwork::new(address, length.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_from_its_key() {
        let block = |key| block_of_key(key).map(|b| b.to_string());
        assert_eq!(block("blocks/4/0a2a0040-26").as_deref(), Some("10.42.0.64/26"));
        let v6 = "blocks/6/fd420000000000000000000000000040-122";
        assert_eq!(block(v6).as_deref(), Some("fd42::40/122"));
        assert_eq!(block("blocks/5/0a2a0040-26"), None);
        assert_eq!(block("blocks/4/0a2a0040-33"), None);
    }
}
