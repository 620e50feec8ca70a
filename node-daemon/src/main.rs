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
//! [`alive`] renews a lease for display, and [`sweep`] frees what a runtime forgot. Tasks that speak to etcd share one
//! thread; the reconciler and the monitor, which block, have one each. When the daemon ends, by SIGTERM or by a crash,
//! the data path stays as it is.

mod alive;
mod bell;
mod blocks;
mod doorbell;
mod flags;
mod identity;
mod lock;
mod monitor;
mod picture;
mod reconcile;
mod run;
mod settings;
mod store;
mod sweep;
mod underlay;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let flags = flags::Flags::parse();
    let conf = match settings::resolve(&flags) {
        Ok(conf) => conf,
        Err(error) => return fail(&error),
    };
    if let Err(error) = start_log(&conf.log) {
        return fail(&error);
    }
    match run::run(conf) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("twilld: {error}");
    ExitCode::FAILURE
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
