//! The requests about a whole network: GC and STATUS.

use std::collections::HashSet;
use std::path::Path;

use twill_conf::network::NetworkConf;
use twill_ipam::{Key, KeyHash};

use super::version_for;
use crate::environment::Verb;
use crate::error::Error;
use crate::version::Version;

/// What a GC works on.
#[derive(Debug, Clone)]
pub(crate) struct Gc {
    /// Only what names the network and the run directory is read.
    pub(crate) conf: NetworkConf,
    /// The version in which an error is reported.
    pub(crate) version: Version,
    /// The attachments that are to stay, as the store and the kernel know them.
    pub(crate) valid: HashSet<KeyHash>,
}

impl Gc {
    /// Reads `text`, the whole of standard input.
    pub(crate) fn read(text: &[u8]) -> Result<Self, Error> {
        let version = version_for(Verb::Gc, text)?;
        let (conf, valid) = NetworkConf::for_gc(text).map_err(Error::Configuration)?;
        let hash = |network: &twill_conf::NetworkName, one: twill_conf::network::ValidAttachment| {
            Key { network: network.clone(), container: one.container, ifname: one.ifname }.hash()
        };
        let valid = valid.into_iter().map(|one| hash(&conf.name, one)).collect();
        Ok(Self { conf, version, valid })
    }

    /// The run directory.
    pub(crate) fn run_dir(&self) -> &Path {
        &self.conf.run_dir
    }
}

/// What a STATUS looks at.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    /// All of it: what an ADD would refuse is refused here too.
    pub(crate) conf: NetworkConf,
    /// The version in which an error is reported.
    pub(crate) version: Version,
}

impl Status {
    /// Reads `text`, the whole of standard input.
    pub(crate) fn read(text: &[u8]) -> Result<Self, Error> {
        let version = version_for(Verb::Status, text)?;
        let conf = NetworkConf::from_json(text).map_err(Error::Configuration)?;
        Ok(Self { conf, version })
    }

    /// The run directory.
    pub(crate) fn run_dir(&self) -> &Path {
        &self.conf.run_dir
    }

    /// Whether `subnets` has the addresses.
    pub(crate) fn is_standalone(&self) -> bool {
        !self.conf.subnets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn conf(version: &str, more: serde_json::Value) -> Vec<u8> {
        let mut conf = json!({"cniVersion": version, "name": "n", "type": "twill"});
        conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        conf.to_string().into_bytes()
    }

    #[test]
    fn gc_and_status_came_with_the_newest_version_and_that_is_said_first() {
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            assert_eq!(Gc::read(&conf(version, json!({"cni.dev/attachments": []}))).unwrap_err().code(), 1);
            assert_eq!(Gc::read(&conf(version, json!({}))).unwrap_err().code(), 1);
            assert_eq!(Status::read(&conf(version, json!({"subnets": 7}))).unwrap_err().code(), 1);
        }
        assert!(Gc::read(&conf("1.1.0", json!({"cni.dev/attachments": []}))).is_ok());
        assert!(Status::read(&conf("1.1.0", json!({}))).is_ok());
    }

    #[test]
    fn a_gc_without_a_list_is_refused() {
        assert_eq!(Gc::read(&conf("1.1.0", json!({}))).unwrap_err().code(), 7);
        let bad = json!({"cni.dev/attachments": [], "cni.dev/valid-attachments": [{"containerID": "a"}]});
        assert_eq!(Gc::read(&conf("1.1.0", bad)).unwrap_err().code(), 7);
    }

    #[test]
    fn a_gc_knows_the_valid_ones_as_the_store_does() {
        let valid = json!({"cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}]});
        let key =
            Key { network: "n".parse().unwrap(), container: "c".parse().unwrap(), ifname: "eth0".parse().unwrap() };
        assert_eq!(Gc::read(&conf("1.1.0", valid)).unwrap().valid, HashSet::from([key.hash()]));
    }

    #[test]
    fn a_gc_needs_only_what_names_the_network_and_a_status_all_that_an_add_needs() {
        let broken = json!({"subnets": ["10.42.0.0/99"], "cni.dev/attachments": null});
        assert!(Gc::read(&conf("1.1.0", broken.clone())).is_ok());
        assert_eq!(Status::read(&conf("1.1.0", broken)).unwrap_err().code(), 7);
    }

    #[test]
    fn what_is_no_object_is_a_decoding_error() {
        for text in ["", "{", "[]", "null", "7"] {
            assert_eq!(Gc::read(text.as_bytes()).unwrap_err().code(), 6, "{text:?}");
            assert_eq!(Status::read(text.as_bytes()).unwrap_err().code(), 6, "{text:?}");
        }
    }
}
