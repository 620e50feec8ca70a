//! `twillctl test` and `twillctl bench`: pods that stand for a short while, what they find, and that nothing is left of them.

mod bench;
mod ended;
mod faults;
mod healthy;
mod stage;
mod told;
