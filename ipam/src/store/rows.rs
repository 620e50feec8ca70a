//! How values stand in the file's columns, and back.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};

use crate::attachment::Pod;
use crate::{Block, BootTime, Extras, Key, KeyHash, State};

use super::{BlockState, Origin};

/// An address as a key that sorts: 4 or 6, then the address in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ip(pub(super) IpAddr);

impl ToSql for Ip {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let blob = match self.0 {
            IpAddr::V4(ip) => [&[4], &ip.octets()[..]].concat(),
            IpAddr::V6(ip) => [&[6], &ip.octets()[..]].concat(),
        };
        Ok(ToSqlOutput::Owned(Value::Blob(blob)))
    }
}

impl FromSql for Ip {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_blob()? {
            [4, octets @ ..] => <[u8; 4]>::try_from(octets).map(|octets| Self(Ipv4Addr::from(octets).into())),
            [6, octets @ ..] => <[u8; 16]>::try_from(octets).map(|octets| Self(Ipv6Addr::from(octets).into())),
            _ => return Err(FromSqlError::InvalidType),
        }
        .map_err(FromSqlError::other)
    }
}

/// A time as nanoseconds of CLOCK_BOOTTIME.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) BootTime);

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(nanoseconds(self.0).into())
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let nanoseconds = u64::try_from(value.as_i64()?).map_err(FromSqlError::other)?;
        Ok(Self(BootTime(Duration::from_nanos(nanoseconds))))
    }
}

/// The nanoseconds of a time. 63 bits last for 292 years without a reboot.
pub(super) fn nanoseconds(time: BootTime) -> i64 {
    i64::try_from(time.0.as_nanos()).unwrap_or(i64::MAX)
}

/// The time from which on addresses that began to cool at it are free at `now`.
pub(super) fn cool_since(now: BootTime, cooling: Duration) -> Option<BootTime> {
    now.0.checked_sub(cooling).map(BootTime)
}

impl ToSql for KeyHash {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for KeyHash {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        u64::from_str_radix(value.as_str()?, 16).map(Self).map_err(FromSqlError::other)
    }
}

impl ToSql for Extras {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_json().into())
    }
}

impl FromSql for Extras {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::from_json(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

/// Gives an enum of unit variants its words in the file.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ }) => {
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(match self { $(Self::$variant => $word),+ }.into())
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value.as_str()? {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(FromSqlError::InvalidType),
                }
            }
        }
    };
}

words!(State { Reserved = "reserved", Attached = "attached", Deleting = "deleting" });
words!(BlockState { Open = "open", Closing = "closing" });
words!(Origin { Cluster = "cluster", Configuration = "configuration" });

/// A value that has a text form, as that text.
pub(super) struct Text<T>(pub(super) T);

impl<T: FromStr<Err: std::error::Error + Send + Sync + 'static>> FromSql for Text<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Self).map_err(FromSqlError::other)
    }
}

/// A path: text where it is text, so that it can be read, else its bytes.
pub(super) struct OsPath<'a>(pub(super) &'a Path);

impl ToSql for OsPath<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0.to_str() {
            Some(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            None => ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_os_str().as_bytes())),
        })
    }
}

/// A path, read back.
pub(super) struct OwnedPath(pub(super) PathBuf);

impl FromSql for OwnedPath {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Self(OsStr::from_bytes(bytes).into())),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// The block in the columns `first` and `length`, which stand at `at` and after it.
pub(super) fn block(row: &Row<'_>, at: usize) -> rusqlite::Result<Block> {
    let Ip(first) = row.get(at)?;
    let block = IpNetwork::new(first, row.get(at + 1)?).ok().and_then(Block::new);
    block.ok_or(rusqlite::Error::FromSqlConversionFailure(
        at + 1,
        rusqlite::types::Type::Integer,
        "a block with host bits".into(),
    ))
}

/// The key in the columns `network`, `container` and `ifname`, from `at` on.
pub(super) fn key(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Key>> {
    let (network, container, ifname): (Option<Text<_>>, Option<Text<_>>, Option<Text<_>>) =
        (row.get(at)?, row.get(at + 1)?, row.get(at + 2)?);
    Ok(match (network, container, ifname) {
        (Some(Text(network)), Some(Text(container)), Some(Text(ifname))) => Some(Key { network, container, ifname }),
        _ => None,
    })
}

/// The pod in the columns `pod_namespace` and `pod_name`, from `at` on.
pub(super) fn pod(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Pod>> {
    let (namespace, name): (Option<String>, Option<String>) = (row.get(at)?, row.get(at + 1)?);
    Ok(namespace.zip(name).map(|(namespace, name)| Pod { namespace, name }))
}
