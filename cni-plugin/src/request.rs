//! A validated request: the environment and the network configuration of one verb, about one attachment here, about a
//! whole network in [`network`].

pub(crate) mod network;

use std::path::Path;

use twill_conf::network::NetworkConf;
use twill_ipam::{Key, KeyHash};

use crate::environment::{Target, Verb};
use crate::error::Error;
use crate::version::Version;

/// What a verb works on. Nothing in it needs to be checked again.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What the environment says.
    pub(crate) target: Target,
    /// What standard input says. For DEL only what names the attachment and the run directory is read.
    pub(crate) conf: NetworkConf,
    /// The version that the result is to have.
    pub(crate) version: Version,
    /// Which attachment.
    pub(crate) key: Key,
    /// By which store and kernel know it.
    pub(crate) hash: KeyHash,
}

impl Request {
    /// Reads `text`, the whole of standard input, for `verb` (ADD, DEL or CHECK).
    pub(crate) fn read(verb: Verb, target: Target, text: &[u8]) -> Result<Self, Error> {
        let version = version_for(verb, text)?;
        let conf = match verb {
            Verb::Del => NetworkConf::for_delete(text),
            _ => NetworkConf::from_json(text),
        };
        let mut conf = conf.map_err(Error::Configuration)?;
        // What the configuration asks for goes before what CNI_ARGS does.
        if conf.requested.addresses.is_empty() {
            conf.requested.addresses.clone_from(&target.arguments.addresses);
        }
        conf.requested.mac = conf.requested.mac.or(target.arguments.mac);
        let key =
            Key { network: conf.name.clone(), container: target.container.clone(), ifname: target.ifname.clone() };
        Ok(Self { hash: key.hash(), target, conf, version, key })
    }

    /// The run directory.
    pub(crate) fn run_dir(&self) -> &Path {
        &self.conf.run_dir
    }

    /// Whether there is a node store. DEL and CHECK make none.
    pub(crate) fn has_store(&self) -> bool {
        self.run_dir().join("node.db").exists()
    }

    /// CNI_NETNS, or an empty text where a DEL has none.
    pub(crate) fn netns(&self) -> &str {
        self.target.netns.as_deref().unwrap_or_default()
    }
}

/// The version that the configuration is written in, if it has the verb.
fn version_for(verb: Verb, text: &[u8]) -> Result<Version, Error> {
    let (found, needed) = (version(text)?, Version::of_verb(verb));
    if found < needed {
        return Err(Error::VerbNeedsVersion { verb, needed, found });
    }
    Ok(found)
}

/// 0.1.0 where the configuration does not say, as the specification has it.
fn version(text: &[u8]) -> Result<Version, Error> {
    match NetworkConf::version_of(text).map_err(Error::Configuration)? {
        Some(named) => Version::parse(&named).ok_or(Error::UnsupportedVersion(named)),
        None => Ok(Version::V0_1_0),
    }
}

/// The version in which to report an error about `text`, which may be anything.
pub(crate) fn version_for_errors(text: &[u8]) -> Version {
    version(text).unwrap_or(Version::NEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Arguments;
    use serde_json::json;

    fn target() -> Target {
        Target {
            container: "c1".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
            netns: Some("/run/netns/p".to_owned()),
            own_netns: false,
            arguments: Arguments::default(),
        }
    }

    fn read(verb: Verb, text: &str) -> Result<Request, Error> {
        Request::read(verb, target(), text.as_bytes())
    }

    fn code(verb: Verb, text: &str) -> u32 {
        read(verb, text).unwrap_err().code()
    }

    #[test]
    fn what_is_no_object_is_a_decoding_error() {
        for text in ["", "{", "[]", "null", "7", "\"x\""] {
            assert_eq!(code(Verb::Add, text), 6, "{text:?}");
            assert_eq!(code(Verb::Del, text), 6, "{text:?}");
        }
    }

    #[test]
    fn an_unknown_version_is_refused_with_the_list_of_known_ones_before_anything_else() {
        let error = read(Verb::Add, r#"{"cniVersion":"1.2.0","subnets":7}"#).unwrap_err();
        assert_eq!(error.code(), 1);
        assert!(error.to_string().contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{error}");
    }

    #[test]
    fn an_absent_version_is_the_first() {
        let request = read(Verb::Add, r#"{"name":"n","type":"twill"}"#).unwrap();
        assert_eq!(request.version, Version::V0_1_0);
    }

    #[test]
    fn check_came_with_the_fourth() {
        let conf = |version| json!({"cniVersion": version, "name": "n", "type": "twill"}).to_string();
        assert_eq!(code(Verb::Check, &conf("0.3.1")), 1);
        assert!(read(Verb::Check, &conf("0.4.0")).is_ok());
    }

    #[test]
    fn a_name_that_breaks_its_rule_is_a_configuration_error() {
        assert_eq!(code(Verb::Add, r#"{"cniVersion":"1.0.0","name":"-n","type":"twill"}"#), 7);
        assert_eq!(code(Verb::Add, r#"{"cniVersion":"1.0.0","type":"twill"}"#), 7);
    }

    #[test]
    fn a_del_needs_only_what_names_the_attachment() {
        let broken = r#"{"cniVersion":"1.0.0","name":"n","type":"twill","subnets":["10.42.0.0/99",{}],"mtu":"x","prevResult":{"cniVersion":"9.0.0"}}"#;
        assert_eq!(code(Verb::Add, broken), 7);
        let request = read(Verb::Del, broken).unwrap();
        assert_eq!(request.hash, read(Verb::Add, r#"{"name":"n","type":"twill"}"#).unwrap().hash);
    }
}
