//! What is taken of a peer and what is given to it.
//!
//! [`Policy`] is a peer's two filters, [`Guard`] what no filter can allow. All of it is data, checked when it is made: the configuration's
//! reader makes it, `rib` applies it. A filter does not know peers, sessions or the table: a route and what is said of it go in, the same
//! route with other attributes, or the rule that rejected it, comes out.

use ipnetwork::IpNetwork;

use crate::path::Asn;

mod filter;
mod guard;
mod prefixes;

pub use filter::{Action, Filter, Match, Otherwise, Rejected, Rule, Then};
pub use guard::{Breach, Guard, Overlap};
pub use prefixes::{Prefixes, Range};

/// A peer's filters. Without one, an external peer is sent nothing and nothing of it is taken (RFC 8212); an internal one all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What is taken.
    pub import: Filter,
    /// What is given.
    pub export: Filter,
}

impl Policy {
    /// Everything, unchanged, both ways.
    #[must_use]
    pub fn open() -> Self {
        Self { import: Filter::all(Otherwise::Accept), export: Filter::all(Otherwise::Accept) }
    }
}

/// What a policy cannot say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// An address where a prefix should be.
    #[error("prefix {prefix} has bits beyond its length: write {right}")]
    HostBits {
        /// As given.
        prefix: IpNetwork,
        /// What was probably meant.
        right: IpNetwork,
    },
    /// Lengths that nothing inside of the prefix has.
    #[error("{field} {value} of prefix {prefix} must be from {least} to {most}")]
    Length {
        /// `ge` or `le`.
        field: &'static str,
        /// As given.
        value: u8,
        /// The prefix that it goes with.
        prefix: IpNetwork,
        /// The shortest length that is possible here.
        least: u8,
        /// The longest one.
        most: u8,
    },
    /// A set that matches nothing.
    #[error("rule {rule} matches a set of no prefixes, so nothing ever: name one, or leave the match out to match all")]
    NoPrefixes {
        /// Its number, from 1.
        rule: usize,
    },
    /// Too many copies, or none.
    #[error("prepend {value} of rule {rule} must be from 1 to {most}")]
    Prepend {
        /// Its number, from 1.
        rule: usize,
        /// As given.
        value: u8,
        /// The most that is reasonable: some routers refuse long paths.
        most: u8,
    },
    /// What is rejected has no attributes to change.
    #[error("rule {rule} rejects what it matches, so its actions do nothing: leave them out, or accept")]
    Idle {
        /// Its number, from 1.
        rule: usize,
    },
    /// Nothing changes and nothing is decided.
    #[error("rule {rule} neither changes nor decides anything: give it an action, or let it accept or reject")]
    NoEffect {
        /// Its number, from 1.
        rule: usize,
    },
    /// An earlier rule decides on everything.
    #[error("rule {rule} is never reached: rule {after} before it matches everything")]
    Unreachable {
        /// Its number, from 1.
        rule: usize,
        /// The number of the one that ends all.
        after: usize,
    },
    /// A number that no system has (RFC 7607).
    #[error("AS number {asn} of rule {rule} is reserved: use one from 1 to 4294967294")]
    Reserved {
        /// Its number, from 1.
        rule: usize,
        /// As given.
        asn: Asn,
    },
    /// Nobody who may announce a block.
    #[error("block {block} has no owner: give the addresses of the node that has it")]
    NoOwner {
        /// The block.
        block: IpNetwork,
    },
    /// A maximum that ends every session.
    #[error("a maximum of 0 routes lets no session stand: use 1 or more, or none")]
    NoRoutes,
    /// A share over all.
    #[error("warning at {value} percent must be from 1 to 100")]
    Share {
        /// As given.
        value: u8,
    },
}

#[cfg(test)]
mod tests;
