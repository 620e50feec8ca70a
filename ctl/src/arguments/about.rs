//! `twillctl version`, `completions` and `man`: what the programs tell of themselves.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Whose versions.
#[derive(Debug, Clone, Copy, Args)]
#[command(
    after_help = "Exit status with --cluster: 0 all nodes can what the configuration asks of them, 1 some cannot or have not told their \
                        version, 2 etcd did not answer"
)]
pub(crate) struct VersionFlags {
    /// Also those of all nodes, and what not all of them can
    #[arg(long)]
    pub(crate) cluster: bool,
}

/// Whose completions.
#[derive(Debug, Clone, Copy, Args)]
#[command(after_help = "For this shell: source <(twillctl completions bash). For all: write it to \
                        /usr/share/bash-completion/completions/twillctl, to a file _twillctl in zsh's fpath, or to \
                        /usr/share/fish/vendor_completions.d/twillctl.fish")]
pub(crate) struct CompletionsFlags {
    /// The shell: bash, zsh or fish
    #[arg(value_enum, hide_possible_values = true, value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// The shells that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU's
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Where man pages go.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManFlags {
    /// The directory, which is made where it is not there
    pub(crate) dir: PathBuf,
}
