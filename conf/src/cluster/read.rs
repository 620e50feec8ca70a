//! From keys and values to a [`ClusterConf`], with the defaults.

use super::{Backend, ClusterConf, InvalidSelector, Pool, Reserved, Vxlan, reserved};
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
    fn check(self, section: &Section<'_>, known: &[&str]) -> Result<(), Error> {
        match self {
            Self::Refused => section.only(known),
            Self::LeftAlone => Ok(()),
        }
    }
}

const NO_POOL: &str = "at least one [[pool]] with a name and a cidr";
const A_POOL: &str = "tables, each headed [[pool]]";

pub(super) fn cluster(root: &Section<'_>, unknown: Unknown) -> Result<ClusterConf, Error> {
    unknown.check(root, &["pool", "backend"])?;
    let pools = root.list("pool", A_POOL)?.ok_or_else(|| Error::missing("pool", NO_POOL))?;
    let pools =
        pools.into_iter().map(|item| pool(&item.section(A_POOL)?, unknown)).collect::<Result<Vec<_>, Error>>()?;
    let backend = root
        .section("backend", "a table headed [backend]")?
        .map(|section| backend(&section, unknown))
        .transpose()?
        .unwrap_or_default();
    let conf = ClusterConf { pools, backend };
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
    let nodes = section.string("nodes", "a selector over node labels, as in \"zone == 'a'\"")?;
    let nodes = nodes
        .map(|text| {
            text.parse()
                .map_err(|wrong: InvalidSelector| Error::value(section.key("nodes"), shorten(text), wrong.to_string()))
        })
        .transpose()?;
    let disabled = section.boolean("disabled")?.unwrap_or(false);
    let announce = section.boolean("announce")?.unwrap_or(false);
    let reserved = section.list("reserved", "a list of ranges of addresses")?.unwrap_or_default();
    let reserved = reserved
        .into_iter()
        .map(|item| {
            let text = item.string(reserved::RANGE)?;
            text.parse::<Reserved>().map_err(|_| Error::value(item.path.clone(), text, reserved::RANGE))
        })
        .collect::<Result<_, _>>()?;
    Ok(Pool { masquerade, nodes, disabled, announce, reserved, ..Pool::new(name, cidr, block) })
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

type ReadBackend = fn(&Section<'_>, Unknown) -> Result<Backend, Error>;

/// The back ends by `type`: a new one is a line here and a function below.
const BACKENDS: [(&str, ReadBackend); 1] = [("vxlan", vxlan)];

fn backend(section: &Section<'_>, unknown: Unknown) -> Result<Backend, Error> {
    let known = || BACKENDS.map(|(name, _)| format!("{name:?}")).join(" or ");
    let kind = section.string("type", &known())?.unwrap_or("vxlan");
    match BACKENDS.iter().find(|(name, _)| *name == kind) {
        Some((_, read)) => read(section, unknown),
        None => Err(Error::value(section.key("type"), kind, format!("this version knows {}", known()))),
    }
}

fn vxlan(section: &Section<'_>, unknown: Unknown) -> Result<Backend, Error> {
    unknown.check(section, &["type", "vni", "port"])?;
    let default = Vxlan::default();
    let vni = section.integer("vni", super::rules::VNI, "a VXLAN network identifier")?.unwrap_or(default.vni);
    let port = section.integer("port", super::rules::PORT, "a UDP port")?.map(u16::try_from);
    let port = port.transpose().expect("the range ends at 65535").unwrap_or(default.port);
    Ok(Backend::Vxlan(Vxlan { vni, port }))
}
