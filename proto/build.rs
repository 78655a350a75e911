//! Compiles every `.proto` file of this crate with protox, so that no `protoc` is needed.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let files = [
        "etcd/auth.proto",
        "etcd/kv.proto",
        "etcd/lease.proto",
        "etcd/rpc.proto",
        "etcd/lock.proto",
        "etcd/election.proto",
        "keelson/v1/api.proto",
        "keelson/store/v1/command.proto",
        "keelson/store/v1/members.proto",
        "keelson/raft/v1/raft.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let paths: Vec<PathBuf> = files.iter().map(|file| root.join(file)).collect();
    let descriptors = protox::compile(&paths, [Path::new(&root)])?;
    let descriptor_file = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(descriptor_file, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
