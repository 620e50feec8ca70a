//! What the tasks know in common: the cluster as last seen, and this node as last observed.

use std::sync::Arc;

use tokio::sync::watch;
use twill_cluster::View;
use twill_fabric::Underlay;

/// The cluster's view, and how far it can be believed.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The view.
    pub view: Arc<View>,
    /// The view as the data path follows it: with what a restored etcd has lost.
    pub reach: Arc<View>,
    /// Whether etcd itself told it in this run. A view from the disk programs routes, but proves no ownership.
    pub proven: bool,
}

/// The view that the watch publishes; `None` until there is a first one. Nothing is written to the kernel before.
pub type Pictures = watch::Receiver<Option<Picture>>;

/// The underlay that the reconciler observes; `None` while there is none.
pub type Underlays = watch::Receiver<Option<Underlay>>;

/// The plugin's rings, gathered.
pub type Rings = watch::Receiver<()>;
