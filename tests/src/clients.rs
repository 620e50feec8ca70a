//! Real container runtimes on a node of the lab, as users have them: cnitool, and podman and containerd from Debian's
//! packages; the plugin is brought to them by `twilld install`.

pub mod cnitool;
pub mod containerd;
pub mod cri;
pub mod machine;
pub mod needs;
pub mod page;
pub mod podman;
pub mod root_fs;

pub use containerd::Containerd;
pub use machine::Machine;
pub use podman::Podman;
