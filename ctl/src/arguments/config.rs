//! `twillctl config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with the cluster configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print a commented configuration to begin with, or write it to a new file
    Init {
        /// The file to make; it must not be there yet
        file: Option<PathBuf>,
    },
    /// Check a configuration, without etcd
    Validate {
        /// The file, or - for standard input
        file: PathBuf,
    },
    /// Show what another configuration would change, which nodes it concerns, and whether it would be refused
    #[command(after_help = "Exit status: 0 no difference, 1 differences, 2 could not tell. Nothing is written")]
    Diff {
        /// The file, or - for standard input
        file: PathBuf,
    },
    /// Put a configuration into etcd, where all daemons follow it
    #[command(
        after_help = "A pool in which nodes have blocks cannot be removed, moved, narrowed or cut into other blocks. A back end \
                      that would lose packets of living pods is refused without --force"
    )]
    Apply {
        /// The file, or - for standard input
        file: PathBuf,
        #[command(flatten)]
        flags: ApplyFlags,
        /// Check all of it, and show what it would change, but write nothing
        #[arg(long)]
        dry_run: bool,
        /// Apply it only where the configuration stands at this revision, as 'twillctl config show' tells it; 0: where there is none
        #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(0..))]
        expect_revision: Option<i64>,
    },
    /// Edit the configuration that stands in etcd, and apply it
    #[command(
        after_help = "The editor is VISUAL, else EDITOR, else vi. What is wrong stands at the top when it is edited again; who saves \
                      it as it is gives up. Nothing is written where somebody else has changed the configuration meanwhile. What \
                      was edited and not applied is kept in a file"
    )]
    Edit {
        #[command(flatten)]
        flags: ApplyFlags,
    },
    /// Show the configuration that stands in etcd, with its revision
    Show,
}

/// How a configuration is applied.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ApplyFlags {
    /// Apply it also where living pods lose packets by it
    #[arg(long)]
    pub(crate) force: bool,
}
