//! An etcd with TLS and roles: the lab's own CA, a certificate for etcd, for each node and for the operator.
//!
//! The roles are made by the commands of `docs/etcd.md`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use twill_testkit::certificates::{Authority, replace};
use twill_testkit::commands_of;

use crate::namespace::Namespace;
use crate::{LabError, Result};

/// The file of the CA, in every directory that has certificates.
pub const CA: &str = "ca.crt";
/// The user who may do everything.
pub const ROOT: &str = "root";
/// What etcd's own files are called.
pub const SERVER: &str = "etcd";

/// A CA, and where its certificates lie.
pub struct Security {
    authority: Mutex<Authority>,
    directory: PathBuf,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Security({})", self.directory.display())
    }
}

impl Security {
    /// A new CA, with the files of etcd at these addresses and of root in `directory`.
    pub fn create(directory: PathBuf, addresses: &[String]) -> Result<Self> {
        std::fs::create_dir_all(&directory).map_err(LabError::io(format!("making {}", directory.display())))?;
        let security = Self { authority: Mutex::new(Authority::new("the lab's CA")), directory };
        security.renew_server(addresses);
        Ok(security)
    }

    /// Puts another CA in the place of the first, and gives etcd and root certificates of it. The nodes have theirs until
    /// [`renew`](Self::renew).
    pub fn replace_authority(&self, addresses: &[String]) {
        *self.lock() = Authority::new("the lab's next CA");
        self.renew_server(addresses);
    }

    fn renew_server(&self, addresses: &[String]) {
        let names: Vec<&str> = addresses.iter().map(String::as_str).collect();
        self.lock().server(&names).write(&self.directory, SERVER);
        self.renew(&self.directory, ROOT);
    }

    /// Writes the CA's certificate into `directory`, and a certificate that names `user`.
    pub fn renew(&self, directory: &Path, user: &str) {
        let authority = self.lock();
        authority.client(user).write(directory, user);
        replace(&directory.join(CA), &authority.pem());
    }

    /// Where the files of etcd and of root lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has a command of etcd's or of ours reach etcd as root.
    pub fn tell(&self, command: &mut Command, variables: &str) {
        let file = |name: &str| self.directory.join(name);
        let ca = if variables == "ETCDCTL" { "ETCDCTL_CACERT".to_owned() } else { format!("{variables}_CA") };
        command.env(ca, file(CA)).env(format!("{variables}_CERT"), file("root.crt"));
        command.env(format!("{variables}_KEY"), file("root.key"));
    }

    /// Runs the commands of the document for `what` about `node`, as root.
    pub fn run_document(&self, namespace: &Namespace, endpoints: &str, what: &str, node: &str) -> Result<()> {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &commands_of("etcd.md", what)]);
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", endpoints).env("NODE", node);
        self.tell(&mut command, "ETCDCTL");
        namespace.execute(command).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Authority> {
        self.authority.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
