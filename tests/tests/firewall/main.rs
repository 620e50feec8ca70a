//! The firewall of a node: who may send by whose addresses, and what other people's rules do to pods, and what the kernel
//! has to remember of their connections.

mod forward;
mod spoof;
mod tracking;
