//! What a machine offers to a Twill node, and what stands in its way.
//!
//! Two halves. [`mod@observe`] looks at the machine: /proc, netlink, nft, files. It ends within seconds, changes nothing, and where
//! reading cannot tell what the kernel can, tries it in a network namespace of its own. [`judge`] makes findings of what was
//! seen, by what is wanted ([`Scope`]), and is pure. The daemon looks so at its own machine when it is asked to, `twillctl` at one
//! on which nothing of Twill may be installed yet.

pub mod finding;
pub mod identity;
pub mod judge;
pub mod names;
pub mod net_d;
pub mod observe;
pub mod scope;
pub mod suspects;
mod unseen;

pub use finding::{Check, Finding, State};
pub use observe::{Observations, observe};
pub use scope::{Cluster, Scope, Stage, Tunnel};

/// Looks, and judges.
pub fn check(scope: &Scope) -> Vec<Finding> {
    judge::judge(scope, &observe(scope))
}
