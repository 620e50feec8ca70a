//! What the tasks know in common: the cluster as last seen, and this node as last observed.

use std::sync::Arc;

use tokio::sync::watch;
use twill_cluster::{View, key};
use twill_fabric::Underlay;
use twill_fabric::ends::Standing;

/// The cluster's view, and how far it can be believed.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The view.
    pub view: Arc<View>,
    /// The view as the data path follows it: with what a restored etcd has lost, and the last configuration that could be read.
    pub reach: Arc<View>,
    /// Whether etcd itself told it in this run. A view from the disk programs routes, but proves no ownership.
    pub proven: bool,
}

impl Picture {
    /// Whether what it does not have is gone. A view from the disk may be older than what stands; and whoever deleted the
    /// configuration may have deleted all else, which is no wish of anybody's that packets cease.
    pub fn is_whole(&self) -> bool {
        self.proven && (self.view.config.is_some() || self.view.faults.contains_key(key::CONFIG))
    }

    /// The revision of the configuration that is followed.
    pub fn config_revision(&self) -> Option<i64> {
        self.reach.config.as_ref().map(|config| config.modified)
    }

    /// What goes to disk: the view, and where it has no configuration the last one, by which a start goes on then.
    pub fn to_save(&self) -> Arc<View> {
        match (&self.view.config, &self.reach.config) {
            (None, Some(last)) => Arc::new(View { config: Some(last.clone()), ..View::clone(&self.view) }),
            _ => Arc::clone(&self.view),
        }
    }
}

/// The view that the watch publishes; `None` until there is a first one. Nothing is written to the kernel before.
pub type Pictures = watch::Receiver<Option<Picture>>;

/// The underlay that the reconciler observes; `None` while there is none.
pub type Underlays = watch::Receiver<Option<Underlay>>;

/// What the reconciler has brought about; `None` before its first pass by what etcd told.
pub type Standings = watch::Receiver<Option<Standing>>;

/// The plugin's rings, gathered.
pub type Rings = watch::Receiver<()>;
