//! CNI_ARGS: `KEY=value;…`, by which runtimes name the pod, and podman and CRI-O ask for an address and a MAC too.
//!
//! Lenient: the arguments belong to many readers, so what is not ours is passed over, and so is what cannot be read of
//! what only describes. What asks for something is refused where it is wrong, but only by ADD: no DEL may fail for it.

use std::net::IpAddr;

use twill_conf::network::{Mac, ask_for, parse_address};
use twill_ipam::attachment::Pod;

use super::Verb;
use crate::error::Error;

/// What CNI_ARGS says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The pod.
    pub(crate) pod: Option<Pod>,
    /// `IP`: one address of a family at most, with or without a prefix length, several comma-separated. For ADD only.
    pub(crate) addresses: Vec<IpAddr>,
    /// `MAC`. For ADD only.
    pub(crate) mac: Option<Mac>,
}

impl Arguments {
    /// Reads `args` for `verb`.
    pub(super) fn read(args: &str, verb: Verb) -> Result<Self, Error> {
        let value = |wanted: &str| {
            let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| key.trim() == wanted).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
        };
        let pod = value("K8S_POD_NAMESPACE").zip(value("K8S_POD_NAME"));
        let pod = pod.map(|(namespace, name)| Pod { namespace: namespace.to_owned(), name: name.to_owned() });
        if verb != Verb::Add {
            return Ok(Self { pod, ..Self::default() });
        }
        let wrong = |key: &str, value: &str, rule: String| Error::Variable {
            variable: "CNI_ARGS",
            value: format!("{key}={value}"),
            rule,
        };
        let mut addresses = Vec::new();
        for text in value("IP").into_iter().flat_map(|list| list.split(',').map(str::trim)) {
            let ip = parse_address(text).ok_or("IP must be an address, as in IP=10.42.0.9".to_owned());
            ip.and_then(|ip| ask_for(&mut addresses, ip)).map_err(|rule| wrong("IP", text, rule))?;
        }
        let mac =
            |text: &str| text.parse::<Mac>().map_err(|error| wrong("MAC", text, format!("MAC must be {}", error.rule)));
        Ok(Self { pod, addresses, mac: value("MAC").map(mac).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(args: &str) -> String {
        assert_eq!(Arguments::read(args, Verb::Del).unwrap(), Arguments::default(), "{args}");
        let error = Arguments::read(args, Verb::Add).unwrap_err();
        assert_eq!(error.code(), 4, "{error}");
        error.to_string()
    }

    #[test]
    fn address_and_mac_are_read_as_podman_and_cri_o_write_them() {
        let read = |args| Arguments::read(args, Verb::Add).unwrap();
        let podman = read("IgnoreUnknown=1;IP=10.88.0.9;MAC=92:D0:C6:0A:29:33;K8S_POD_NAME=web");
        assert_eq!(podman.addresses, ["10.88.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(podman.mac.unwrap().to_string(), "92:d0:c6:0a:29:33");
        assert_eq!(read("IP=;MAC="), Arguments::default());
        assert_eq!(read("IP=10.88.0.9/16, fd00::9/64,10.88.0.9").addresses.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_refused_with_key_and_value_and_only_by_an_add() {
        assert!(refusal("IP=10.88.0").contains("CNI_ARGS=\"IP=10.88.0\""));
        assert!(refusal("IP=224.0.0.1").contains("IP=224.0.0.1"));
        assert!(refusal("IP=10.88.0.9,10.88.0.10").contains("10.88.0.9 is asked for too"));
        assert!(refusal("MAC=00:00:00:00:00:00").contains("not all zero"));
        assert!(refusal("MAC=01:00:5e:00:00:01").contains("multicast"));
        assert!(refusal("MAC=2").contains("MAC=2"));
    }
}
