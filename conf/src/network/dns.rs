//! `dns`: as the specification has it in a network's configuration (`nameservers`, `search`), and as runtimes send it
//! (`servers`, `searches`). Either place takes both spellings.

use std::net::IpAddr;

use super::requested::Dns;
use crate::Error;
use crate::section::{Item, Section};

const SERVER: &str = "the address of a name server, as in \"10.96.0.10\"";

/// What stands under `dns` in `section`; `None` where that says nothing.
pub(super) fn read(section: &Section<'_>) -> Result<Option<Dns>, Error> {
    let Some(dns) = section.section("dns", "an object, as in {\"nameservers\": [\"10.96.0.10\"]}")? else {
        return Ok(None);
    };
    let domain = match dns.string("domain", "a domain")? {
        None | Some("") => None,
        Some(text) => Some(word(dns.key("domain"), text, "a domain without white space")?),
    };
    let read = Dns {
        nameservers: either(&dns, ["nameservers", "servers"], SERVER, server)?,
        domain,
        search: either(&dns, ["search", "searches"], "a domain without white space", plain)?,
        options: either(&dns, ["options", "options"], "an option of resolv.conf, as in \"ndots:5\"", plain)?,
    };
    Ok((read != Dns::default()).then_some(read))
}

/// The list under one of two spellings, both of which may be empty, but not both given.
fn either(
    dns: &Section<'_>,
    keys: [&str; 2],
    expected: &'static str,
    read: fn(&Item<'_>, &'static str) -> Result<String, Error>,
) -> Result<Vec<String>, Error> {
    let list = |key: &str| -> Result<Vec<String>, Error> {
        let items = dns.list(key, &format!("a list, each {expected}"))?.unwrap_or_default();
        items.iter().map(|item| read(item, expected)).collect()
    };
    let [first, second] = [list(keys[0])?, list(keys[1])?];
    if keys[0] != keys[1] && !first.is_empty() && !second.is_empty() {
        let right = format!("either {} or {}, not both", keys[0], keys[1]);
        return Err(Error::value(dns.key(keys[1]), second.join(", "), right));
    }
    Ok(if first.is_empty() { second } else { first })
}

/// A name server: an address, a link-local one with its zone too.
fn server(item: &Item<'_>, expected: &'static str) -> Result<String, Error> {
    let text = plain(item, expected)?;
    let address = text.split_once('%').map_or(text.as_str(), |(address, _)| address);
    match address.parse::<IpAddr>() {
        Ok(_) => Ok(text),
        Err(_) => Err(Error::value(item.path.clone(), text, expected)),
    }
}

fn plain(item: &Item<'_>, expected: &'static str) -> Result<String, Error> {
    word(item.path.clone(), item.string(expected)?, expected)
}

/// A word that a line of resolv.conf can hold.
fn word(key: String, text: &str, expected: &str) -> Result<String, Error> {
    let good = !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if good { Ok(text.to_owned()) } else { Err(Error::value(key, text, expected)) }
}
