//! BGP: how speakers converge with each other, how long one takes for a table of 100,000 routes, beside BIRD and GoBGP, and how long until
//! routes stand in the kernel.

pub mod intake;
pub mod kernel;
pub mod mesh;
pub mod receiver;

use crate::Result;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// So many alternating rounds.
    pub rounds: usize,
    /// So many speakers in one network.
    pub speakers: usize,
    /// So many routes of one peer.
    pub routes: usize,
}

/// Measures all of it. Three tables.
pub fn measure(plan: Plan) -> Result<String> {
    let meshed = mesh::measure(plan.rounds, plan.speakers)?;
    let taken = intake::measure(plan.rounds, plan.routes)?;
    Ok(format!("{meshed}\n{taken}\n{}", kernel::measure(plan.rounds, plan.routes)?))
}
