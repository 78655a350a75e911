//! Debian's Python client, `python3-etcd3`.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::harness::{PATIENCE, Secured, skip};

const PYTHON: &str = "/usr/bin/python3";
/// What shows that the client is installed.
const MODULE: &str = "/usr/lib/python3/dist-packages/etcd3/__init__.py";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/clients/client.py");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_works_with_tls_users_and_certificates() {
    if !Path::new(MODULE).is_file() {
        skip("no Python client of etcd (`cargo xtask setup` installs it)");
        return;
    }
    let secured = Secured::start(1).await;
    secured.certificates.issue("alice");
    let (_, port) = secured.endpoints[0].split_once(':').unwrap();
    let files = ["ca.crt", "alice.crt", "alice.key", "guest.crt", "guest.key"]
        .map(|name| secured.certificates.file(name));
    let mut command = Command::new(PYTHON);
    command.arg("-B").arg(SCRIPT).arg(port).args(files);
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, running).await.expect("the script ends").unwrap();
    let [printed, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success() && printed == "all done\n", "{printed}{errors}");
    secured.stop().await;
}
