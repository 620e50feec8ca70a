//! Compiles the messages of the Container Runtime Interface for the client in `src/clients/cri.rs`.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=proto/cri.proto");
    tonic_prost_build::configure().build_server(false).compile_protos(&["proto/cri.proto"], &["proto"])
}
