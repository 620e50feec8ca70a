//! Benchmarks: what is measured is always measured against a reference, in the same run, in alternating rounds.
//!
//! These machines are noisy, so a figure alone says little; a ratio of medians of rounds that alternate says what it
//! should. Nothing here is a test: a benchmark tells, it does not fail a build.

pub mod backends;
pub mod bgp;
pub mod cni;
pub mod data;
pub mod heap;
pub mod ipam;
pub mod measure;
pub mod pairs;
pub mod rules;
pub mod scale;
pub mod store;
pub mod usage;
