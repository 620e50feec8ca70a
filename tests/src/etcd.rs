//! A real etcd of one member or several, each in a namespace of its own on the wire: they can be stopped, killed, paused and
//! cut off, alone or together, put back to a backup, and what stands in them can be read and changed behind the back of the
//! nodes.

mod member;

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde_json::Value;
use twill_testkit::commands_of;

use crate::deadline::{self, PATIENCE};
use crate::namespace::Namespace;
use crate::process;
use crate::security::Security;
use crate::{LabError, Result};

pub use member::{DEFAULT_TOKEN, Member};

/// The prefix of Twill's keys.
pub const PREFIX: &str = "/twill/v1/";
/// Longer values are not put on a command line, in bytes.
const LONGEST_WORD: usize = 64 << 10;

/// What kind of etcd is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// TLS, certificates and users.
    pub secured: bool,
    /// More words for the members' command lines.
    pub words: Vec<String>,
}

/// An etcd.
#[derive(Debug)]
pub struct Etcd {
    /// From where the operator asks it: a place that no member's fate touches.
    operator: Namespace,
    members: Vec<Member>,
    /// Its addresses, as a certificate has them.
    names: Vec<String>,
    directory: PathBuf,
    security: Option<Arc<Security>>,
}

/// A member's name, its namespace and its addresses on the wire.
pub type Seat = (String, Namespace, Vec<IpAddr>);

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
    /// Starts an etcd with a member on each seat, its data and logs in `directory`, and waits until it answers. A secured
    /// one has TLS, wants certificates and has users: root, and the operator of `docs/etcd.md`.
    pub fn start_in(operator: Namespace, seats: &[Seat], directory: &Path, wanted: &Wanted) -> Result<Self> {
        let scheme = if wanted.secured { "https" } else { "http" };
        let member = |(name, namespace, addresses): &Seat| {
            Member::new((name, namespace.clone()), addresses, scheme, directory, &wanted.words)
        };
        let names: Vec<String> = seats.iter().flat_map(|seat| &seat.2).map(ToString::to_string).collect();
        let tls = || Security::create(directory.join("tls"), &names).map(Arc::new);
        let security = wanted.secured.then(tls).transpose()?;
        let members = seats.iter().map(member).collect();
        let etcd = Self { operator, members, names, directory: directory.into(), security };
        etcd.start()?;
        if let Some(security) = &etcd.security {
            security.run_document(&etcd.operator, &etcd.endpoints(), "users by certificates", "")?;
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
        security.run_document(&self.operator, &self.endpoints(), "a node by certificate", node)
    }

    /// Has etcd go over to another CA, for itself and for whoever comes. It is started again, since it reads the CA at its
    /// start only.
    pub fn replace_authority(&self) -> Result<()> {
        let Some(security) = &self.security else { return Err(LabError::wrong("this etcd has no TLS")) };
        self.stop()?;
        security.replace_authority(&self.names);
        self.start()
    }

    /// The URLs of all members, separated by commas, as `--etcd` has them.
    pub fn endpoints(&self) -> String {
        self.members.iter().flat_map(Member::clients).map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// The namespace from which it is asked.
    pub fn namespace(&self) -> &Namespace {
        &self.operator
    }

    /// The members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Starts those members that do not run, and waits until etcd answers. Their data are those of before.
    pub fn start(&self) -> Result<()> {
        self.members.iter().try_for_each(|member| self.start_member(member))?;
        deadline::until("etcd answers", PATIENCE, || Ok(self.etcdctl(&["get", "anything"]).is_ok()))
    }

    /// Starts one member where it does not run. It does not wait until it answers.
    pub fn start_member(&self, member: &Member) -> Result<()> {
        member.start(&member::Common { cluster: &self.cluster(), security: self.security.as_deref() })
    }

    fn cluster(&self) -> String {
        self.members.iter().map(Member::introduction).collect::<Vec<_>>().join(",")
    }

    /// Stops all members, as a service manager would.
    pub fn stop(&self) -> Result<()> {
        self.members.iter().try_for_each(Member::stop)
    }

    /// Kills all members.
    pub fn kill(&self) -> Result<()> {
        self.members.iter().try_for_each(Member::kill)
    }

    /// Freezes all members: connections stand, and nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.members.iter().try_for_each(Member::pause)
    }

    /// Lets all members go on.
    pub fn resume(&self) -> Result<()> {
        self.members.iter().try_for_each(Member::resume)
    }

    /// Makes a backup, by the commands of `docs/etcd.md`. There is one at a time.
    pub fn back_up(&self) -> Result<()> {
        let endpoint = &self.members[0].clients()[0];
        self.run_document("backup", &[("ETCDCTL_ENDPOINTS", endpoint.clone())])
    }

    /// Puts all members back to the backup, by the commands of `docs/etcd.md`, and starts them. With
    /// [`DEFAULT_TOKEN`] the cluster has the identity of before.
    pub fn restore(&self, token: &str) -> Result<()> {
        self.kill()?;
        for member in &self.members {
            let data = member.data();
            std::fs::remove_dir_all(&data).map_err(LabError::io(format!("removing {}", data.display())))?;
            let mut variables = member.variables().to_vec();
            variables.extend([("CLUSTER", self.cluster()), ("TOKEN", token.to_owned())]);
            self.run_document("restore", &variables)?;
            member.set_token(token);
        }
        self.start()
    }

    fn run_document(&self, what: &str, variables: &[(&str, String)]) -> Result<()> {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &commands_of("etcd.md", what)]);
        command.current_dir(&self.directory).env("ETCDCTL_API", "3");
        command.envs(variables.iter().map(|(name, value)| (*name, value)));
        if let Some(security) = &self.security {
            security.tell(&mut command, "ETCDCTL");
        }
        self.operator.execute(command).map(drop)
    }

    /// Runs `etcdctl`.
    pub fn etcdctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = process::command(&["etcdctl"]);
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.endpoints())).args(arguments);
        if let Some(security) = &self.security {
            security.tell(&mut command, "ETCDCTL");
        }
        self.operator.execute(command)
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

    /// Writes one key.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        let name = format!("{PREFIX}{key}");
        // A word of a command line has at most 128 KiB (execve(2)); longer ones go by standard input, which must not be empty.
        if value.len() < LONGEST_WORD {
            return self.etcdctl(&["put", "--", &name, value]).map(drop);
        }
        let file = self.directory.join("value");
        std::fs::write(&file, value).map_err(LabError::io(format!("writing {}", file.display())))?;
        let mut command = process::command(&["bash", "-c", "etcdctl put \"$1\" <\"$2\"", "put"]);
        command.arg(name).arg(&file);
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", self.endpoints());
        if let Some(security) = &self.security {
            security.tell(&mut command, "ETCDCTL");
        }
        self.operator.execute(command).map(drop)
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
