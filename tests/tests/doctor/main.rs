//! `twillctl doctor`: a healthy cluster is called so, and each fault is told with its cause and what to do.

mod cluster;
mod faults;
mod machine;
mod preflight;
mod stage;
