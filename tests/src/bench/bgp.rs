//! BGP: how speakers converge with each other, and how long one takes for a table of 100,000 routes, beside BIRD and GoBGP.

pub mod intake;
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

/// Measures both. Two tables.
pub fn measure(plan: Plan) -> Result<String> {
    let meshed = mesh::measure(plan.rounds, plan.speakers)?;
    Ok(format!("{meshed}\n{}", intake::measure(plan.rounds, plan.routes)?))
}
