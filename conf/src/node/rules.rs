//! What a single setting must hold to. Every function is told the name under which its writer knows the setting.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::underlay::{NoChoice, UnderlayChoice};
use crate::{Error, label};

const URL: &str = "a URL with scheme, host and port and nothing else, as in \"http://10.0.0.1:2379\"";
/// `sockaddr_un` has room for 107 bytes, and "/twilld.sock" must fit in behind the directory.
pub(crate) const LONGEST_RUN_DIR: usize = 107 - "/twilld.sock".len();
const MOST_LABELS: usize = 64;
/// In bytes. Every node reads every record, and refuses those of more than 16 KiB; in JSON a label may take twice as much.
const LONGEST_LABELS: usize = 4 << 10;

pub(super) fn endpoint(key: &str, text: &str) -> Result<String, Error> {
    let url = text.trim().trim_end_matches('/');
    let authority = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let good = authority.and_then(|authority| authority.rsplit_once(':')).is_some_and(|(host, port)| {
        let number = !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port != 0);
        number && is_host(host)
    });
    // A password may stand before an '@', and is not repeated.
    let shown = || text.rsplit_once('@').map_or(text.to_owned(), |(_, host)| format!("…@{host}"));
    if good { Ok(url.to_owned()) } else { Err(Error::value(key, shown(), URL)) }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    }
}

pub(super) fn endpoints(key: &str, text: &str) -> Result<Vec<String>, Error> {
    text.split(',').map(|url| endpoint(key, url)).collect()
}

/// The name of a user of etcd.
pub(super) fn user(key: &str, text: &str) -> Result<String, Error> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
        return Ok(text.to_owned());
    }
    // What stands behind a colon may be a password, as etcdctl takes it, and is not repeated.
    let shown = text.split_once(':').map_or(text, |(user, _)| user);
    let right =
        "the name of a user of etcd, without ':'; the password stands in the file that etcd_password_file names";
    Err(Error::value(key, shown, right))
}

pub(super) fn prefix(key: &str, text: &str) -> Result<String, Error> {
    let right =
        || Error::value(key, text, format!("a prefix that begins and ends with '/', as in {:?}", super::ETCD_PREFIX));
    let printable = text.bytes().all(|b| b.is_ascii_graphic());
    if text.starts_with('/') && text.ends_with('/') && printable { Ok(text.to_owned()) } else { Err(right()) }
}

pub(super) fn underlay(key: &str, text: &str) -> Result<UnderlayChoice, Error> {
    text.parse().map_err(|cause: NoChoice| Error::value(key, text, cause.expected))
}

/// The same for one family, whose way to an address of the other there is not.
pub(super) fn underlay_of(key: &str, text: &str, ipv6: bool) -> Result<UnderlayChoice, Error> {
    let choice = underlay(key, text)?;
    let right = match ipv6 {
        false => "an IPv4 address after \"to:\", as in \"to:10.0.0.1\"",
        true => "an IPv6 address after \"to:\", as in \"to:fd00::1\"",
    };
    match choice {
        UnderlayChoice::To(address) if address.is_ipv6() != ipv6 => Err(Error::value(key, text, right)),
        choice => Ok(choice),
    }
}

pub(super) fn path(key: &str, text: &str) -> Result<PathBuf, Error> {
    let path = Path::new(text);
    if path.is_absolute() && !text.contains('\0') {
        Ok(path.to_owned())
    } else {
        Err(Error::value(key, text, "an absolute path, beginning with '/'"))
    }
}

pub(crate) fn run_dir(key: &str, text: &str) -> Result<PathBuf, Error> {
    let path = path(key, text)?;
    if text.len() > LONGEST_RUN_DIR {
        let right = format!("at most {LONGEST_RUN_DIR} bytes, since the path of a socket in it may have 107");
        return Err(Error::value(key, text, right));
    }
    Ok(path)
}

pub(super) fn log(key: &str, text: &str) -> Result<String, Error> {
    // A word alone that is no level would be read as the name of a module, and silence all others.
    let is_level = |word: &str| {
        ["off", "error", "warn", "info", "debug", "trace"].iter().any(|level| level.eq_ignore_ascii_case(word.trim()))
    };
    if text.split(',').all(|directive| directive.contains('=') || is_level(directive)) {
        return Ok(text.trim().to_owned());
    }
    let expected = "error, warn, info, debug, trace, or directives such as \"info,twilld=debug\"";
    Err(Error::value(key, text, expected))
}

/// An address and a port to listen on.
pub(super) fn listening(key: &str, text: &str) -> Result<SocketAddr, Error> {
    let right = "an address of this machine and a port from 1, as in \"127.0.0.1:9477\" or \"[::1]:9477\"; \
                 \"0.0.0.0:9477\" for all addresses of IPv4, \"[::]:9477\" for all";
    text.trim().parse().ok().filter(|at: &SocketAddr| at.port() != 0).ok_or_else(|| Error::value(key, text, right))
}

/// Labels in one text, as in `zone=a,rack=7`.
pub(super) fn labels(key: &str, text: &str) -> Result<BTreeMap<String, String>, Error> {
    let pairs = text.split(',').map(|pair| match pair.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err(Error::value(key, text, "labels as in \"zone=a,rack=7\"")),
    });
    let labels = pairs.collect::<Result<BTreeMap<_, _>, Error>>()?;
    check_labels(key, &labels)?;
    Ok(labels)
}

/// The rule for labels. The record that they are published in is read by every node.
pub(super) fn check_labels(key: &str, labels: &BTreeMap<String, String>) -> Result<(), Error> {
    if labels.len() > MOST_LABELS {
        return Err(Error::value(key, format!("{} labels", labels.len()), format!("at most {MOST_LABELS} labels")));
    }
    for (name, value) in labels {
        if !label::is_name(name) {
            return Err(Error::value(key, name, format!("a label's name: {}", label::NAME)));
        }
        if !label::is_value(value) {
            return Err(Error::value(format!("{key}.{name}"), value, format!("a label's value: {}", label::VALUE)));
        }
    }
    let sum: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    if sum > LONGEST_LABELS {
        let right = format!("at most {LONGEST_LABELS} bytes of names and values together");
        return Err(Error::value(key, format!("{sum} bytes"), right));
    }
    Ok(())
}
