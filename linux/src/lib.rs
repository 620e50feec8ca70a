//! Linux networking as data.
//!
//! A table each for links, addresses, routes, neighbours, FDB entries, sysctls and nftables: every one can be dumped into
//! plain values, compared with the values that shall stand ([`state`]), and the difference applied in one batch. What
//! is ours is told by [`state::Ownership`]; nothing else is ever changed or removed.
//!
//! [`netlink`] is the transport, blocking and typed: it never reports success for what the kernel did not acknowledge.
//! [`monitor`] tells that something changed; [`netns`] opens namespaces; [`tcp`] and [`udp`] open the sockets of routing
//! protocols. This crate knows nothing of Twill's clusters,
//! stores or configuration.

pub mod advertisements;
pub mod arrival;
mod chains;
pub mod clock;
pub mod conntrack;
pub mod device;
pub mod echo;
mod error;
pub mod forward;
pub mod monitor;
pub mod name;
pub mod ndisc;
mod netfilter;
pub mod netlink;
pub mod netns;
pub mod nft;
mod options;
pub mod ports;
pub mod program;
pub mod sockets;
pub mod state;
pub mod table;
pub mod tcp;
pub mod trial;
pub mod udp;

pub use error::Error;
pub use name::{IfName, MacAddr};
pub use netlink::Netlink;
pub use netns::NetNs;
