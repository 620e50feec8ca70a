//! What [`desired`](crate::desired) makes of whole clusters.

mod golden;
mod hostile;
mod print;
mod properties;
mod sample;
mod switching;

use crate::*;
