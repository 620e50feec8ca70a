//! The firewall of a node: who may send by whose addresses, and what other people's rules do to pods.

mod forward;
mod spoof;
