//! Makes a machine able to build and run Keelson: system packages, the RocksDB archive.
//!
//! RocksDB takes a quarter of an hour to compile, so its archive is built once per machine, keyed by crate version,
//! features and compiler, and found through the git-ignored `.cargo/local.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, cache, cargo, on_path, output, root};

/// A Debian package and the file that shows it is there.
struct Package {
    name: &'static str,
    shown_by: &'static str,
    needed_for: &'static str,
}

const PACKAGES: &[Package] = &[
    Package { name: "g++", shown_by: "/usr/bin/g++", needed_for: "building RocksDB" },
    Package { name: "make", shown_by: "/usr/bin/make", needed_for: "building jemalloc" },
    Package {
        name: "libclang-dev",
        shown_by: "/usr/lib/llvm-14/lib/libclang.so",
        needed_for: "RocksDB's bindings",
    },
    Package { name: "protobuf-compiler", shown_by: "/usr/bin/protoc", needed_for: "building the CRI client" },
    Package {
        name: "libprotobuf-dev",
        shown_by: "/usr/include/google/protobuf/descriptor.proto",
        needed_for: "building the etcd test client",
    },
    Package { name: "containerd", shown_by: "/usr/bin/containerd", needed_for: "running containers" },
    Package { name: "runc", shown_by: "/usr/sbin/runc", needed_for: "running containers" },
    Package { name: "nftables", shown_by: "/usr/sbin/nft", needed_for: "services" },
    Package { name: "iproute2", shown_by: "/usr/sbin/ip", needed_for: "the pod network" },
    Package { name: "busybox-static", shown_by: "/bin/busybox", needed_for: "the example image" },
    Package { name: "etcd-client", shown_by: "/usr/bin/etcdctl", needed_for: "tests with real etcdctl" },
    Package { name: "etcd-server", shown_by: "/usr/bin/etcd", needed_for: "benchmarks beside etcd" },
    Package {
        name: "python3-etcd3",
        shown_by: "/usr/lib/python3/dist-packages/etcd3/__init__.py",
        needed_for: "tests with a real Python client of etcd",
    },
    Package { name: "curl", shown_by: "/usr/bin/curl", needed_for: "tests" },
    Package { name: "faketime", shown_by: "/usr/bin/faketime", needed_for: "faults of the wall clock" },
    Package { name: "e2fsprogs", shown_by: "/sbin/mkfs.ext4", needed_for: "disk-full tests" },
];

/// The features of the `rocksdb` dependency; they key the archive.
const ROCKSDB_FEATURES: &str = "bindgen-runtime,lz4";

fn install_packages() -> Result<()> {
    let missing: Vec<&Package> =
        PACKAGES.iter().filter(|package| !Path::new(package.shown_by).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    for package in &missing {
        eprintln!("setup: {} is missing (for {})", package.name, package.needed_for);
    }
    let is_root = output(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_root || !on_path("apt-get") {
        bail!("install these Debian packages and run the command again: {}", names.join(" "));
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-q");
        command
    };
    process::run(apt().arg("update"))?;
    process::run(apt().args(["install", "-y", "--no-install-recommends"]).args(&names))
}

pub fn prepare() -> Result<()> {
    install_packages()?;
    let archive = rocksdb_archive()?;
    write_local_config(&archive)
}

pub fn run() -> Result<()> {
    prepare()?;
    eprintln!("setup: this machine is ready");
    Ok(())
}

/// Returns the folder that holds `librocksdb.a`, building it if this machine has not yet.
fn rocksdb_archive() -> Result<PathBuf> {
    let version = locked_version("librocksdb-sys")?;
    let compiler = output(Command::new("g++").arg("-dumpfullversion"))?;
    let machine = std::env::consts::ARCH;
    let key = format!(
        "librocksdb-sys-{version}-{}-{}-{machine}",
        ROCKSDB_FEATURES.replace(',', "-"),
        compiler.trim()
    );
    let folder = cache()?.join("rocksdb").join(key);
    if !folder.join("librocksdb.a").exists() {
        build_rocksdb(&folder)?;
    }
    Ok(folder)
}

/// Builds RocksDB through a scratch package, so that the workspace never compiles it.
fn build_rocksdb(folder: &Path) -> Result<()> {
    eprintln!("setup: building RocksDB once for this machine (about 17 minutes on two cores)");
    let rocksdb = locked_version("rocksdb")?;
    let scratch = cache()?.join("rocksdb/scratch");
    fs::create_dir_all(scratch.join("src"))?;
    fs::write(scratch.join("src/lib.rs"), "")?;
    let features: Vec<String> = ROCKSDB_FEATURES.split(',').map(|feature| format!("\"{feature}\"")).collect();
    let manifest = format!(
        "[package]\nname = \"rocksdb-archive\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         rocksdb = {{ version = \"={rocksdb}\", default-features = false, features = [{}] }}\n\n[workspace]\n",
        features.join(", ")
    );
    fs::write(scratch.join("Cargo.toml"), manifest)?;
    let target = scratch.join("target");
    process::run(
        cargo().current_dir(&scratch).args(["build", "--release"]).env("CARGO_TARGET_DIR", &target),
    )?;
    let archive = find_file(&target.join("release/build"), "librocksdb.a")?
        .context("RocksDB was built but librocksdb.a is not where its build script puts it")?;
    fs::create_dir_all(folder)?;
    let partial = folder.join("librocksdb.a.partial");
    fs::copy(archive, &partial)?;
    fs::rename(partial, folder.join("librocksdb.a"))?;
    fs::remove_dir_all(target)?;
    Ok(())
}

fn find_file(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let candidate = entry?.path().join("out").join(name);
        if candidate.exists() {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// Returns the version of a package in `Cargo.lock`.
fn locked_version(package: &str) -> Result<String> {
    let lock = fs::read_to_string(root().join("Cargo.lock"))?;
    let mut lines = lock.lines();
    let heading = format!("name = \"{package}\"");
    lines.find(|line| *line == heading).with_context(|| format!("{package} is not in Cargo.lock"))?;
    let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
    Ok(version
        .with_context(|| format!("Cargo.lock names no version of {package}"))?
        .trim_end_matches('"')
        .to_owned())
}

fn write_local_config(archive: &Path) -> Result<()> {
    let path = root().join(".cargo/local.toml");
    let text = format!("[env]\nROCKSDB_LIB_DIR = \"{}\"\nROCKSDB_STATIC = \"1\"\n", archive.display());
    if fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The version of cargo-deny that this repository's `deny.toml` is written for.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Returns the path of cargo-deny, building it once per machine.
pub fn cargo_deny() -> Result<PathBuf> {
    let folder = cache()?.join("tools").join(format!("cargo-deny-{CARGO_DENY_VERSION}"));
    let tool = folder.join("bin/cargo-deny");
    if !tool.exists() {
        eprintln!("setup: building cargo-deny once for this machine");
        let version = format!("={CARGO_DENY_VERSION}");
        let mut command = cargo();
        command
            .current_dir(cache()?)
            .args(["install", "--locked", "--no-default-features", "--root"])
            .arg(&folder);
        // Its own target folder: the workspace's flags and profile are not its.
        command
            .arg("--version")
            .arg(version)
            .arg("cargo-deny")
            .env("CARGO_TARGET_DIR", cache()?.join("tools/target"));
        process::run(&mut command)?;
        fs::remove_dir_all(cache()?.join("tools/target"))?;
    }
    Ok(tool)
}
