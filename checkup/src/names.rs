//! How Twill's part of the kernel is called: `fabric` makes it, and this crate, which stands below, looks for it. A test of the daemon,
//! which knows both, holds them together (node-daemon/src/names.rs).

/// The host ends of pods begin so, and go on with 13 hexadecimal digits.
pub const HOST_END: &str = "tw";
/// All host ends, as nft spells them.
pub const HOST_ENDS: &str = "tw*";
/// A host end.
pub const A_HOST_END: &str = "tw0123456789abc";
/// The daemon's table of nftables.
pub const OUR_TABLE: &str = "twill";
/// Of the daemon's devices: the tunnels of both families.
pub const OUR_TUNNELS: [&str; 2] = ["vxlan.twill", "vxlan6.twill"];
