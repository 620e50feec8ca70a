//! What [`desired`](crate::desired) makes of whole clusters.

mod following;
mod golden;
mod hostile;
mod orders;
mod print;
mod properties;
pub(crate) mod sample;
mod switching;
mod trace;

use crate::*;
