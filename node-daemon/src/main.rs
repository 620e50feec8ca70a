//! `twilld`, the daemon of a node.
//!
//! Its tasks, a file each, and what passes between them:
//!
//! ```text
//!            etcd                                     plugin
//!             │ events                                  │ datagram
//!         ┌───▼───┐ picture  ┌────────┐           ┌─────▼────┐
//!         │ watch ├─────┬────► blocks ◄───────────┤ doorbell │
//!         └───┬───┘     │    └─┬────▲─┘           └──────────┘
//!             │ bell    │ opens│    │ underlay
//!             │         │    ┌─▼────┴───┐
//!             │         │    │node store│
//!             │         │    └─┬────▲───┘
//!             │         │ pods,│    │ frees         ┌───────┐
//!             │         │blocks│    └───────────────┤ sweep │
//!             │      ┌──▼──────▼─┐  netlink, nft    └───┬───┘
//!             └──────► reconcile ├───────────────► kernel
//!                    └─────▲─────┘                   │
//!                          │ bell   ┌─────────┐ events
//!                          └────────┤ monitor ◄──────┘
//!                                   └─────────┘
//! ```
//!
//! [`probe`] asks whether the others are reached, [`alive`] renews a lease for display, [`mirror`] tells etcd what was given out, [`requests`] answers an operator, and
//! [`trials`] are pods by which he tries the network, [`sweep`] frees what a runtime forgot; [`metrics`] tells Prometheus how it goes, [`supervisor`] tells systemd. Tasks that speak to etcd share one
//! thread; the reconciler and the monitor, which block, have one each. When the daemon ends, by SIGTERM or by a crash,
//! the data path stays as it is. [`install`] is another program in the same file: it brings the plugin and the network's
//! list to where a runtime looks for them.

mod alive;
mod bell;
mod bgp;
mod blocks;
mod calendar;
mod doorbell;
#[cfg(test)]
mod fixture;
mod flags;
mod identity;
mod install;
mod lock;
mod man;
mod metrics;
mod mirror;
mod monitor;
#[cfg(test)]
mod names;
mod picture;
mod probe;
mod reconcile;
mod requests;
mod rival;
mod run;
mod settings;
mod store;
mod supervisor;
mod sweep;
mod trials;
mod troubles;
mod underlay;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::flags::{Command, Flags};

/// That of musl gives pages back at every turn, and a fifth of a daemon's time went into mapping them anew.
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let line = flags::CommandLine::parse();
    let done: Result<(), Box<dyn std::error::Error>> = match line.command {
        None => daemon(&line.flags),
        Some(Command::Install(flags)) => install::install(&flags).map_err(Into::into),
        Some(Command::Uninstall(flags)) => install::uninstall(&flags).map_err(Into::into),
        Some(Command::Man { dir }) => {
            man::write(&dir).map_err(|cause| format!("cannot write man pages into {}: {cause}", dir.display()).into())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("twilld: {error}");
            ExitCode::FAILURE
        }
    }
}

fn daemon(flags: &Flags) -> Result<(), Box<dyn std::error::Error>> {
    let conf = settings::resolve(flags)?;
    start_log(&conf.log)?;
    Ok(run::run(conf, flags.for_tests())?)
}

fn start_log(filter: &str) -> Result<(), twill_conf::Error> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| {
        twill_conf::Error::value(
            "log",
            filter,
            format!("a level, or a filter as in info,twill_cluster=debug ({error})"),
        )
    })?;
    let colour = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
    log.with_env_filter(filter).init();
    Ok(())
}
