//! `twillctl bundle`.

use std::path::PathBuf;

use clap::Args;

/// What is gathered into which file.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 all of it is there, 2 something could not be got; what there is is written all the same. Of every record only \
                        known fields are taken: no password, key or user of etcd is among them"
)]
pub(crate) struct BundleFlags {
    /// The file to make, a .tar.gz; it must not be there yet [default: twill-bundle-TIME.tar.gz, here]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}
