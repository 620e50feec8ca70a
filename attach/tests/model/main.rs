//! The model test of attachments: seeded histories of one node, on the courses, the rules and the store that the programs
//! run. The kernel is a map; processes are threads of which one runs at a time, and each may be stopped, or killed, before
//! and after every transaction of the store and every effect on the kernel. An oracle knows which pod is live with what.
//!
//! A history is a list of [`Action`](action::Action)s that a seed gives; an action that makes no sense where it comes does
//! nothing. So a failing history is shrunk by leaving actions out, and printed as a program.
#![allow(missing_docs, clippy::unwrap_used)]

mod action;
mod board;
mod daemon;
mod found;
mod hands;
mod oracle;
mod search;
mod stage;
mod world;

use twill_testkit::histories::Counts;

/// Plays a history; what happened, and the failure, if there is one.
pub(crate) fn play(actions: &[action::Action]) -> (Counts, Option<String>) {
    let mut world = world::World::new();
    for action in actions {
        world.act(*action);
        if world.failed() {
            break;
        }
    }
    if !world.failed() {
        world.come_to_rest();
    }
    world.end()
}
