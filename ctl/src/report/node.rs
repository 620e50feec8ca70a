//! What `twillctl node` reports.

use serde::Serialize;
use twill_conf::NodeName;

/// A node was deleted.
#[derive(Debug, Serialize)]
pub(crate) struct Deleted {
    /// Which.
    pub(crate) node: NodeName,
    /// How many blocks others may have now.
    pub(crate) blocks: usize,
}
