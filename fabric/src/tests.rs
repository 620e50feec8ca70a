//! What [`desired`](crate::desired) makes of whole clusters.

mod firewall;
mod following;
mod golden;
mod hostile;
mod lacking;
mod orders;
mod print;
mod properties;
pub(crate) mod sample;
mod scenarios;
mod switching;
mod trace;

use crate::*;
