//! From the bytes of a key to a record, or the reason why not. Whoever may write to etcd may write anything there.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::de::DeserializeOwned;
use twill_conf::NodeName;
use twill_conf::cluster::ClusterConf;
use twill_ipam::Block;

use super::Entry;
use crate::ability::Ability;
use crate::key::Key;
use crate::record::{BlockRecord, NodeRecord, from_json};

/// Longer records are refused unread, in bytes: 5,000 nodes must fit into every node's memory.
const LONGEST_RECORD: usize = 16 << 10;
/// The same for the configuration.
pub(crate) const LONGEST_CONFIG: usize = 512 << 10;
/// Longest machine ID, nonce or version, in bytes.
const LONGEST_WORD: usize = 128;
/// Longest reason, in characters: parsers repeat what they found.
const LONGEST_CAUSE: usize = 200;

/// What a key of the watched range holds.
pub(super) enum Record {
    /// `config`.
    Config(ClusterConf),
    /// `nodes/…`.
    Node(NodeName, NodeRecord),
    /// `blocks/…`.
    Block(Block, BlockRecord),
    /// A key of a place that this version does not know.
    Unknown,
}

/// Reads a key with its value.
pub(super) fn entry(entry: &Entry) -> Result<Record, String> {
    decode(entry).map_err(|cause| printable(&cause))
}

fn decode(entry: &Entry) -> Result<Record, String> {
    match Key::parse(&entry.key).map_err(|error| error.to_string())? {
        None => Ok(Record::Unknown),
        Some(Key::Config) => {
            within(&entry.value, LONGEST_CONFIG)?;
            let conf = ClusterConf::from_json(&entry.value).map_err(|error| error.to_string())?;
            able(&conf, Ability::OF_THIS_VERSION)?;
            Ok(Record::Config(conf))
        }
        Some(Key::Node(name)) => {
            let record: NodeRecord = json(&entry.value)?;
            check_node(&record)?;
            Ok(Record::Node(name, record))
        }
        Some(Key::Block(block)) => {
            let record: BlockRecord = json(&entry.value)?;
            word("machine_id", &record.machine_id)?;
            word("nonce", &record.nonce)?;
            Ok(Record::Block(block, record))
        }
    }
}

/// Refuses a configuration by which a version with these abilities would leave pods without a way.
pub(super) fn able(conf: &ClusterConf, abilities: &[Ability]) -> Result<(), String> {
    match Ability::relied_on(conf).filter(|ability| !abilities.contains(ability)) {
        Some(ability) => Err(format!(
            "backend.type: {:?} asks every node to {ability}, which this version cannot",
            conf.backend.kind.name()
        )),
        None => Ok(()),
    }
}

fn json<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    within(value, LONGEST_RECORD)?;
    from_json(value)
}

fn within(value: &[u8], longest: usize) -> Result<(), String> {
    let length = value.len();
    if length <= longest { Ok(()) } else { Err(format!("it is {length} bytes long, at most {longest} are read")) }
}

fn check_node(record: &NodeRecord) -> Result<(), String> {
    word("machine_id", &record.machine_id)?;
    word("nonce", &record.nonce)?;
    record.drain.iter().try_for_each(|drain| word("drain", drain))?;
    if record.version.len() > LONGEST_WORD || !is_printable(&record.version) {
        return Err(format!("version: {:?} is not {LONGEST_WORD} printable ASCII characters at most", record.version));
    }
    let odd = |(name, value): &(&String, &String)| !is_printable(name) || !is_printable(value);
    if let Some((name, value)) = record.labels.iter().find(odd) {
        return Err(format!("labels: {name:?} = {value:?} is not printable ASCII"));
    }
    underlay("underlay.ipv4", record.underlay.ipv4, false)?;
    underlay("underlay.ipv6", record.underlay.ipv6, true)?;
    match &record.vxlan {
        Some(end) if !is_unicast_mac(&end.mac) => {
            Err(format!("vxlan.mac: {:?} is not a unicast MAC as in 02:00:5e:10:00:01", end.mac))
        }
        _ => Ok(()),
    }
}

/// Whether an operator's terminal shows it as it is, and does nothing else with it.
fn is_printable(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

fn word(field: &str, value: &str) -> Result<(), String> {
    let sound = !value.is_empty() && value.len() <= LONGEST_WORD && value.bytes().all(|b| b.is_ascii_graphic());
    if sound {
        Ok(())
    } else {
        Err(format!("{field}: {value:?} is not a word of 1 to {LONGEST_WORD} ASCII characters"))
    }
}

fn underlay(field: &str, value: Option<IpNetwork>, ipv6: bool) -> Result<(), String> {
    let Some(network) = value else { return Ok(()) };
    let ip = network.ip();
    let limited = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_ipv6() != ipv6 {
        Err(format!("{field}: {ip} is of the other family"))
    } else if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || limited {
        Err(format!("{field}: {ip} is no address of a host on a network"))
    } else {
        Ok(())
    }
}

fn is_unicast_mac(text: &str) -> bool {
    let bytes: Vec<Option<u8>> = text
        .split(':')
        .take(7)
        .map(|part| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten())
        .collect();
    matches!(bytes[..], [Some(first), _, _, _, _, _] if first & 1 == 0)
        && bytes.iter().all(Option::is_some)
        && bytes.iter().any(|byte| *byte != Some(0))
        && !text.contains('+')
}

/// One line of bounded length, without what could move a terminal's cursor.
fn printable(cause: &str) -> String {
    let mut text: String = cause.chars().take(LONGEST_CAUSE).flat_map(char::escape_debug).collect();
    if cause.chars().nth(LONGEST_CAUSE).is_some() {
        text.push('…');
    }
    text.replace("\\\"", "\"").replace("\\'", "'")
}
