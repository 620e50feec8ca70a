//! From keys and values to a [`ClusterConf`], with the defaults.

use super::{
    Backend, Bgp, ChecksumOffload, ClusterConf, FirewallConf, InvalidSelector, Kind, Pool, Reserved, Selector, Vxlan,
    bgp, reserved, rules,
};
use crate::section::{Section, shorten};
use crate::{Error, prefix};

/// What becomes of a key that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// A person wrote it: an error.
    Refused,
    /// A newer version wrote it: not our affair.
    LeftAlone,
}

impl Unknown {
    pub(super) fn check(self, section: &Section<'_>, known: &[&str]) -> Result<(), Error> {
        match self {
            Self::Refused => section.only(known),
            Self::LeftAlone => Ok(()),
        }
    }
}

const NO_POOL: &str = "at least one [[pool]] with a name and a cidr";
const A_POOL: &str = "tables, each headed [[pool]]";

pub(super) fn cluster(root: &Section<'_>, unknown: Unknown) -> Result<ClusterConf, Error> {
    unknown.check(root, &["pool", "backend", "firewall", "bgp"])?;
    let pools = root.list("pool", A_POOL)?.ok_or_else(|| Error::missing("pool", NO_POOL))?;
    let pools = pools.into_iter().enumerate();
    let pools = pools
        .map(|(place, item)| pool(&item.called("pool", place).section(A_POOL)?, unknown))
        .collect::<Result<Vec<_>, Error>>()?;
    let backend = root
        .section("backend", "a table headed [backend]")?
        .map(|section| backend(&section, unknown))
        .transpose()?
        .unwrap_or_default();
    let firewall = root
        .section("firewall", "a table headed [firewall]")?
        .map(|section| firewall(&section, unknown))
        .transpose()?
        .unwrap_or_default();
    let bgp = root
        .section("bgp", "a table headed [bgp]")?
        .map(|section| bgp::read(&section, unknown))
        .transpose()?
        .or_else(|| matches!(backend.kind, Kind::Bgp).then(Bgp::default));
    let conf = ClusterConf { pools, backend, firewall, bgp };
    conf.validate()?;
    Ok(conf)
}

fn pool(section: &Section<'_>, unknown: Unknown) -> Result<Pool, Error> {
    unknown.check(section, &["name", "cidr", "block", "masquerade", "nodes", "disabled", "announce", "reserved"])?;
    let name = section.name("name")?.ok_or_else(|| {
        Error::missing(section.key("name"), "a name that is unique in the cluster, as in \"default\"")
    })?;
    let text =
        section.string("cidr", prefix::PREFIX)?.ok_or_else(|| Error::missing(section.key("cidr"), prefix::PREFIX))?;
    let cidr = prefix::parse(&section.key("cidr"), text)?;
    let lengths = Pool::block_lengths(cidr);
    let range = u32::from(*lengths.start())..=u32::from(*lengths.end());
    let block = match section.integer("block", range, "the prefix length of a block")? {
        Some(length) => u8::try_from(length).expect("the range ends at 128"),
        None => default_block(section, &lengths)?,
    };
    let masquerade = section.boolean("masquerade")?.unwrap_or(true);
    let nodes = selector(section, "nodes")?;
    let disabled = section.boolean("disabled")?.unwrap_or(false);
    let announce = section.boolean("announce")?.unwrap_or(false);
    let reserved = section.list("reserved", "a list of ranges of addresses")?.unwrap_or_default();
    let reserved = reserved
        .into_iter()
        .map(|mut item| {
            // The range itself says which one it is.
            item.path = section.key("reserved");
            let text = item.string(reserved::RANGE)?;
            text.parse::<Reserved>().map_err(|wrong| Error::value(item.path.clone(), shorten(text), wrong.rule))
        })
        .collect::<Result<_, _>>()?;
    Ok(Pool { masquerade, nodes, disabled, announce, reserved, ..Pool::new(name, cidr, block) })
}

/// Which nodes something is for.
pub(super) fn selector(section: &Section<'_>, key: &str) -> Result<Option<Selector>, Error> {
    let Some(text) = section.string(key, "a selector over node labels, as in \"zone == 'a'\"")? else {
        return Ok(None);
    };
    let refused = |wrong: InvalidSelector| Error::value(section.key(key), shorten(text), wrong.to_string());
    text.parse().map(Some).map_err(refused)
}

/// 64 addresses a block. A pool smaller than that must say what it wants.
fn default_block(section: &Section<'_>, lengths: &std::ops::RangeInclusive<u8>) -> Result<u8, Error> {
    let default = lengths.end() - 6;
    if lengths.contains(&default) {
        return Ok(default);
    }
    let right = format!(
        "the pool is smaller than the default block (/{default}): a prefix length from {} to {}",
        lengths.start(),
        lengths.end()
    );
    Err(Error::missing(section.key("block"), right))
}

type ReadKind = fn(&Section<'_>, Unknown) -> Result<Kind, Error>;

/// The back ends by `type`: a new one is a line here and a function below.
const BACKENDS: [(&str, ReadKind); 3] = [
    ("vxlan", vxlan),
    ("host-gw", |section, unknown| plain(section, unknown, Kind::HostGw)),
    ("bgp", |section, unknown| plain(section, unknown, Kind::Bgp)),
];

fn backend(section: &Section<'_>, unknown: Unknown) -> Result<Backend, Error> {
    let known = || BACKENDS.map(|(name, _)| format!("{name:?}")).join(" or ");
    let kind = section.string("type", &known())?.unwrap_or("vxlan");
    let Some((_, read)) = BACKENDS.iter().find(|(name, _)| *name == kind) else {
        let hint = if kind == "direct" { "; direct = true stands beside \"vxlan\"" } else { "" };
        return Err(Error::value(section.key("type"), kind, format!("this version knows {}{hint}", known())));
    };
    let kind = read(section, unknown)?;
    Ok(Backend { kind, mtu: section.integer("mtu", rules::MTU, "an MTU in bytes")? })
}

/// What VXLAN alone has.
const OF_VXLAN: [&str; 4] = ["vni", "port", "direct", "checksum_offload"];

fn vxlan(section: &Section<'_>, unknown: Unknown) -> Result<Kind, Error> {
    unknown.check(section, &[&["type", "mtu"][..], &OF_VXLAN].concat())?;
    let default = Vxlan::default();
    let vni = section.integer("vni", rules::VNI, "a VXLAN network identifier")?.unwrap_or(default.vni);
    let port = section.integer("port", rules::PORT, "a UDP port")?.map(u16::try_from);
    let port = port.transpose().expect("the range ends at 65535").unwrap_or(default.port);
    let direct = section.boolean("direct")?.unwrap_or(default.direct);
    let words = ChecksumOffload::WORDS;
    let right = words.map(|(word, _)| format!("{word:?}")).join(" or ");
    let checksum_offload = match section.string("checksum_offload", &right)? {
        None => default.checksum_offload,
        Some(text) => match words.into_iter().find(|(word, _)| *word == text) {
            Some((_, meant)) => meant,
            None => return Err(Error::value(section.key("checksum_offload"), shorten(text), right)),
        },
    };
    Ok(Kind::Vxlan(Vxlan { vni, port, direct, checksum_offload }))
}

/// A back end without parameters.
fn plain(section: &Section<'_>, unknown: Unknown, kind: Kind) -> Result<Kind, Error> {
    let strangers: Vec<&str> = OF_VXLAN.into_iter().filter(|key| section.has(key)).collect();
    if let (Unknown::Refused, Some(first)) = (unknown, strangers.first()) {
        return Err(Error::NotWith {
            key: section.key(first),
            beside: format!("type = {:?}", kind.name()),
            all: strangers.join(", "),
        });
    }
    unknown.check(section, &["type", "mtu"])?;
    Ok(kind)
}

fn firewall(section: &Section<'_>, unknown: Unknown) -> Result<FirewallConf, Error> {
    unknown.check(section, &["no_masquerade", "clamp_mss", "open_forward"])?;
    let networks = section.list("no_masquerade", "a list of networks")?.unwrap_or_default();
    let networks = networks.into_iter().map(|item| prefix::parse(&item.path, item.string(prefix::PREFIX)?));
    Ok(FirewallConf {
        no_masquerade: networks.collect::<Result<_, _>>()?,
        clamp_mss: section.boolean("clamp_mss")?.unwrap_or(false),
        open_forward: section.boolean("open_forward")?.unwrap_or(false),
    })
}
