//! The model test: seeded histories of a small cluster over the real keeper, views and watch proofs, a simulated etcd,
//! machines whose stores are maps, and an operator, with an oracle that knows what is live where.
//!
//! A history is a list of [`Action`]s that a seed gives; an action that makes no sense where it comes does nothing. So a
//! failing history is shrunk by leaving actions out, and printed as a program.

mod action;
mod books;
mod check;
mod machine;
mod search;
mod world;

use action::Action;
use world::World;

/// Plays a history; the failure, if there is one.
fn play(actions: &[Action]) -> (World, Option<String>) {
    let mut world = World::new();
    for action in actions {
        world.act(*action);
        world.check();
        if world.failure.is_some() {
            break;
        }
    }
    if world.failure.is_none() {
        world.come_to_rest();
    }
    let failure = world.failure.take();
    (world, failure)
}
