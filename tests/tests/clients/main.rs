//! Real clients of the plugin, each on a machine of its own: what they ask for, and that nothing is left of it.

mod chain;
mod cnitool;
mod containerd;
mod cri;
mod machine;
mod podman;
