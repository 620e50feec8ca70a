//! The errors of the store, each with what the caller can do about it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;
use twill_conf::PoolName;
use twill_conf::network::PortMapping;

use crate::{Block, State};

/// What the store or a rule refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No open block of this family has a free and cool address.
    #[error("no free {family} address on this node: {}{}", counted(*used, *total), no_further(exhausted))]
    NoFreeAddress {
        /// "IPv4" or "IPv6".
        family: &'static str,
        /// Addresses in use or cooling.
        used: u64,
        /// All addresses of the open blocks.
        total: u64,
        /// What the daemon has recorded: no further block is to be had of these pools, which are all that could help.
        exhausted: Vec<PoolName>,
    },
    /// No pool gives addresses to this ADD on this node: each is disabled, or for other nodes.
    #[error("no pool of the cluster gives addresses here: {0}")]
    NoPool(String),
    /// The daemon will not bring a block, for a reason that waiting does not mend.
    #[error("{0}")]
    Refused(String),
    /// A port of the node that somebody has published.
    #[error("the node's port {}/{} is published for {holder} already", port.host_port, port.protocol)]
    PortTaken {
        /// What was asked for.
        port: PortMapping,
        /// Who has it, in words.
        holder: String,
    },
    /// An address that was asked for cannot be given.
    #[error("{address} was asked for and cannot be given: {why}")]
    Requested {
        /// The address.
        address: IpAddr,
        /// What stands in the way.
        why: Unavailable,
    },
    /// The node has no open block yet: the daemon has not claimed one in this boot.
    #[error("this node has no block of addresses yet: is twilld running and etcd reachable?")]
    NotReady,
    /// The node is being drained.
    #[error(
        "node {node} is being drained: no new pod gets an address here, until 'twillctl node drain {node} --undo' ends that"
    )]
    Draining {
        /// Its name.
        node: String,
    },
    /// An attachment with this key exists.
    #[error("the attachment exists, in state {state:?}")]
    Exists {
        /// Its state.
        state: State,
    },
    /// The row is no longer ours: a DEL marked it, or someone removed it.
    #[error("the reservation was taken back by a DEL that came in between")]
    Overtaken,
    /// Another process works on this attachment and did not finish in time.
    #[error("another process is working on this attachment")]
    Busy,
    /// The store was written by a version that this one cannot serve.
    #[error("{}: schema {found}, this program knows {known}: install the newer plugin", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A block that overlaps one that the store has.
    #[error("block {block} overlaps {other}")]
    Overlap {
        /// The new one.
        block: Block,
        /// The one that is there.
        other: Block,
    },
    /// The file was made by an older program of another major version: only a newer daemon can bring it up to date.
    #[error("{}: schema {found}, this program knows {known}: start the newer twilld", path.display())]
    OlderSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file was removed or replaced while it was open: what was just written is lost, and must be undone.
    #[error("{}: the node store was removed or replaced while it was in use", .0.display())]
    Replaced(PathBuf),
    /// The store was lost in this boot, and nobody has looked yet which addresses stand in the kernel: see
    /// [`Store::rebuild`](crate::Store::rebuild).
    #[error("the node store was lost and is not rebuilt from the kernel yet")]
    NotRebuilt,
    /// Other processes kept the store or its directory locked for all of the time that we wait. It holds what was
    /// attempted.
    #[error("node store: {0}: locked by other processes for too long")]
    Contended(&'static str),
    /// The file system of the run directory has no room; nothing was changed.
    #[error("node store: {what}: the file system of the run directory is full ({cause})")]
    Full {
        /// What was attempted.
        what: &'static str,
        /// SQLite's error.
        cause: rusqlite::Error,
    },
    /// The run directory or its file system is read-only; nothing was changed.
    #[error("node store: {what}: the run directory is read-only ({cause})")]
    ReadOnly {
        /// What was attempted.
        what: &'static str,
        /// SQLite's error.
        cause: rusqlite::Error,
    },
    /// The file system or a lock.
    #[error("{what} {}: {cause}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// SQLite.
    #[error("node store: {what}: {cause}")]
    Sqlite {
        /// What was attempted.
        what: &'static str,
        /// SQLite's error.
        cause: rusqlite::Error,
    },
}

/// What stands in the way of an address that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// It is in none of the ranges that this node may give of, which are these.
    Elsewhere(Vec<Block>),
    /// It is of a pool that the configuration does not name.
    Pool(PoolName),
    /// It is of a pool that is for other nodes, and that the configuration does not name.
    OtherNodes(PoolName),
    /// It is of a pool that is disabled.
    Disabled(PoolName),
    /// Its pool reserves it.
    Reserved(PoolName),
    /// The daemon has said why, in words.
    Told(String),
    /// It is in none of the ranges of this node, and the daemon did not say in time whether its block can be claimed.
    Untold,
    /// Nothing more is given of its block.
    Closing(Block),
    /// Somebody has it, in words.
    InUse(String),
    /// It was given back, or nothing is known of it since the store was lost: for so long nobody else may have it.
    Cooling(Duration),
    /// The node itself has it.
    Node,
    /// The kernel has a route to it that is not this attachment's.
    Led,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere(ranges) if ranges.is_empty() => f.write_str("no address of its family is given here"),
            Self::Elsewhere(ranges) => {
                f.write_str("it is in none of the ranges of this node, which are ")?;
                for (place, range) in ranges.iter().take(RANGES_SHOWN).enumerate() {
                    write!(f, "{}{range}", if place == 0 { "" } else { ", " })?;
                }
                if ranges.len() > RANGES_SHOWN { f.write_str(", …") } else { Ok(()) }
            }
            Self::Pool(pool) => write!(f, "it is of the pool {pool}, which the configuration does not name"),
            Self::OtherNodes(pool) => {
                write!(f, "it is of the pool {pool}, which is for other nodes, and the configuration does not name it")
            }
            Self::Disabled(pool) => write!(f, "its pool {pool} is disabled"),
            Self::Reserved(pool) => write!(f, "it is reserved in the pool {pool}"),
            Self::Told(why) => f.write_str(why),
            Self::Untold => f.write_str(
                "it is in none of the ranges of this node, and twilld has not said yet whether its block can be claimed: it may be \
                 down, or etcd out of its reach ('twillctl status')",
            ),
            Self::Closing(block) => write!(f, "its block {block} is being given back"),
            Self::InUse(holder) => write!(f, "{holder} has it"),
            Self::Cooling(left) => {
                let seconds = left.as_secs() + 1;
                write!(f, "it cools, since somebody had it or may have had it, and is free in {seconds} s")
            }
            Self::Node => f.write_str("it is an address of the node itself"),
            Self::Led => f.write_str("this node has a route to it that is not this pod's"),
        }
    }
}

fn counted(used: u64, total: u64) -> String {
    match total {
        0 => "it has no block for this pod".to_owned(),
        _ => format!("{used} of {total} in its blocks are in use, cooling or reserved"),
    }
}

fn no_further(exhausted: &[PoolName]) -> String {
    let names: Vec<_> = exhausted.iter().map(PoolName::as_str).collect();
    match names[..] {
        [] => String::new(),
        [name] => format!("; pool {name} is exhausted: each of its blocks has an owner"),
        _ => format!("; the pools {} are exhausted: each of their blocks has an owner", names.join(", ")),
    }
}

/// So many ranges are named in an error.
const RANGES_SHOWN: usize = 8;

impl Error {
    /// Whether it says that there is no store of this boot: what a reader or a guest gets who opens it.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound)
    }

    /// Whether the same call may succeed later without anybody's help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NoFreeAddress { exhausted, .. } => exhausted.is_empty(),
            Self::NoPool(_) | Self::Refused(_) => false,
            Self::PortTaken { .. } => true,
            Self::NotReady | Self::Overtaken | Self::Busy | Self::Replaced(_) | Self::NotRebuilt => true,
            Self::Requested { why, .. } => {
                matches!(why, Unavailable::InUse(_) | Unavailable::Cooling(_) | Unavailable::Untold)
            }
            Self::Contended(_) | Self::Full { .. } => true,
            Self::Exists { .. } | Self::NewerSchema { .. } | Self::OlderSchema { .. } | Self::ReadOnly { .. } => false,
            Self::Draining { .. } | Self::Overlap { .. } | Self::Io { .. } | Self::Sqlite { .. } => false,
        }
    }
}

/// How long a call waits for other processes' locks on the store.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// For `map_err`: an error of the file system while `what` was attempted on `path`.
pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |cause| Error::Io { what, path: path.to_owned(), cause }
}

/// For `map_err`: an error of SQLite while `what` was attempted, told apart by what can be done about it.
pub(crate) fn sqlite(what: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |cause| match (cause.sqlite_error_code(), cause.sqlite_error().map(|error| error.extended_code)) {
        // The latter: the log's locks changed hands too often while it was being opened (SQLITE_PROTOCOL).
        (Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed), _) => Error::Contended(what),
        // SQLite writes a byte to each page of its shared index before it maps it; that is where room is missing first.
        (Some(ErrorCode::DiskFull), _) | (_, Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)) => Error::Full { what, cause },
        (Some(ErrorCode::ReadOnly), _) => Error::ReadOnly { what, cause },
        _ => Error::Sqlite { what, cause },
    }
}
