//! The node configuration of this process: flags over environment over file over defaults.

use twill_conf::Error;
use twill_conf::node::{NodeConf, NodeLayer};

use crate::flags::Flags;

/// Puts the layers together.
pub fn resolve(flags: &Flags) -> Result<NodeConf, Error> {
    let file = NodeLayer::from_file(flags.config.as_deref())?;
    let environment = NodeLayer::from_environment(std::env::vars())?;
    let hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    file.overlay(environment).overlay(flags.layer()?).resolve(&hostname)
}
