//! Bad input gets one clear line and exit code 64, before anything is bound or written.

mod cluster;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use apiserver::pki::Bundle;
use cluster::{Cluster, KEELSON};

/// Nothing is waited for before wrong use is said.
const AT_ONCE: Duration = Duration::from_secs(10);

fn keelson(args: &[&str]) -> Output {
    let began = Instant::now();
    let output = Command::new(KEELSON).args(args).output().unwrap();
    assert!(began.elapsed() < AT_ONCE, "keelson {args:?} took {:?}", began.elapsed());
    output
}

/// Expects wrong use: exit code 64, and one line that holds `words`.
fn refused(args: &[&str], words: &str) {
    refused_with(64, args, words);
}

fn refused_with(code: i32, args: &[&str], words: &str) {
    let output = keelson(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "keelson {args:?} said: {said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("keelson: ")).collect();
    assert_eq!(lines.len(), 1, "keelson {args:?} said: {said}");
    assert!(lines[0].contains(words), "keelson {args:?} said: {said}");
    assert!(!said.contains("panicked"), "keelson {args:?} said: {said}");
}

#[test]
fn unknown_flags_are_wrong_use() {
    refused(&["no-such-command"], "unrecognized subcommand 'no-such-command'; see keelson --help");
    let commands: [&[&str]; 8] = [
        &["up"],
        &["down"],
        &["server"],
        &["agent"],
        &["store"],
        &["image", "import"],
        &["token", "create"],
        &["bench", "run"],
    ];
    for command in commands {
        refused(&[command, &["--no-such-flag"]].concat(), "'--no-such-flag'");
    }
}

#[test]
fn wrong_use_of_chaos_has_the_exit_code_of_jepsen() {
    refused_with(254, &["chaos", "run", "--no-such-flag"], "'--no-such-flag'");
    refused_with(254, &["chaos", "run", "--time-limit", "soon"], "soon is not a duration");
}

#[test]
fn missing_and_malformed_values_are_named() {
    refused(&["agent", "--server", "https://127.0.0.1:1"], "--data-dir <DATA_DIR>; see keelson agent --help");
    refused(&["up", "--servers", "three"], "'three' for '--servers <SERVERS>'");
    refused(&["up", "--servers", "9"], "--servers 9 is too many");
    for command in ["up", "server", "store"] {
        refused(&[command, "--feature-level-max", "9"], "'9' for '--feature-level-max <FEATURE_LEVEL_MAX>'");
    }
    refused(&["store", "--listen-peer-urls", "127.0.0.1:1"], "127.0.0.1:1 is not a URL");
    refused(&["store", "--election-timeout", "1"], "--election-timeout must be between");
    refused(&["token", "create", "--hours", "0"], "--hours must be 1 to");
    refused(&["token", "create", "--data-dir", "/nonexistent"], "/nonexistent holds no cluster");
}

#[test]
fn an_even_number_of_servers_is_refused_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    refused(&["up", "--servers", "2", "--data-dir", data_dir.to_str().unwrap()], "odd number");
    assert!(!data_dir.exists());
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
    refused(
        &["up", "--agents", "0", "--data-dir", folder.path().to_str().unwrap()],
        "holds no Keelson cluster",
    );
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[test]
fn a_busy_port_is_named_and_nothing_is_written() {
    let busy = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let address = format!("127.0.0.1:{port}");
    let url = format!("http://{address}");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let pki = folder.path().join("pki");
    let (data_dir, pki_dir) = (data.to_str().unwrap(), pki.to_str().unwrap());
    let up = ["up", "--agents", "0", "--api-port", &port, "--data-dir", data_dir];
    let server_with = |api: &str, peer: &str| {
        let flags = format!(
            "server --name a --advertise 127.0.0.1 --data-dir {data_dir} --pki-dir {pki_dir} --initial-cluster \
             a=https://127.0.0.1:1 --listen {api} --listen-peer {peer}"
        );
        flags.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let store = ["store", "--data-dir", data_dir];
    let free = "http://127.0.0.1:0";
    let member = format!("default={url}");
    let peer = ["--listen-client-urls", free, "--listen-peer-urls", &url, "--initial-cluster", &member];
    let client = ["--listen-client-urls", &url, "--listen-peer-urls", free];
    refused(&up, &port);
    refused(&[&up[..], &["--servers", "3"]].concat(), &port);
    refused(&[&store[..], &peer].concat(), &address);
    refused(&[&store[..], &client].concat(), &address);
    for flags in [server_with(&address, "127.0.0.1:0"), server_with("127.0.0.1:0", &address)] {
        refused(&flags.iter().map(String::as_str).collect::<Vec<_>>(), &address);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a refused start leaves no trace");
}

#[test]
fn a_damaged_marker_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keelson.json"), "{").unwrap();
    refused(&["up", "--agents", "0", "--data-dir", folder.path().to_str().unwrap()], "damaged");
}

#[test]
fn down_without_a_cluster_says_so() {
    let folder = tempfile::tempdir().unwrap();
    refused(&["down", "--data-dir", folder.path().to_str().unwrap()], "no cluster runs");
}

#[test]
fn an_archive_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    fs::write(&archive, "not a tar file").unwrap();
    refused(&["image", "import", "--data-dir", "/nonexistent", archive.to_str().unwrap()], "image.tar");
}

/// Runs an agent with a token; it must end with one line of these words and leave no identity behind.
fn token_refused(server: &str, token: &str, words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("agent");
    let flags = [
        "agent",
        "--hollow-nodes",
        "1",
        "--node-name",
        "n",
        "--data-dir",
        data.to_str().unwrap(),
        "--server",
    ];
    refused(&[&flags[..], &[server, "--token", token]].concat(), words);
    assert!(!data.join("n-0/identity").exists(), "a refused agent has no identity");
}

#[test]
fn a_malformed_token_is_refused_without_asking_anybody() {
    token_refused("https://127.0.0.1:1", "secret", "it must look like K10<hash>::<id>:<secret>");
    token_refused("https://127.0.0.1:1", "K10abc::agent.1.2:3", "this is no join token");
}

#[test]
fn an_agent_with_a_bad_token_says_how_to_get_a_good_one() {
    let mut cluster = Cluster::start(&["--agents", "0"]);
    let said = cluster.up_log();
    let server = said.split_whitespace().find(|word| word.starts_with("https://")).unwrap();
    let bundle = Bundle::load_or_create(&cluster.data_dir.join("pki")).unwrap();
    let at = |hours: i64| jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);

    token_refused(server, &bundle.join_token(at(-1)).to_string(), "the join token expired at 20");
    token_refused(
        server,
        &bundle.join_token(at(-1)).to_string(),
        "make a new one with `keelson token create`",
    );
    let mut garbled = bundle.join_token(at(1)).to_string();
    let last = garbled.pop().unwrap();
    garbled.push(if last == '0' { '1' } else { '0' });
    token_refused(server, &garbled, "the join token's secret is wrong");
    // Made longer-lived by hand: the secret no longer fits.
    let stretched = bundle.join_token(at(-1)).to_string().replacen("agent.", "agent.9", 1);
    token_refused(server, &stretched, "the join token's secret is wrong");
    let stranger = Bundle::generate().unwrap().join_token(at(1)).to_string();
    token_refused(server, &stranger, "is not of the cluster that the token names");
    cluster.stop();
}

#[test]
fn an_unknown_field_is_named_and_nothing_is_stored() {
    let mut cluster = Cluster::start(&["--agents", "0"]);
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("web.yaml");
    for kubectl in cluster::kubectls() {
        cluster.use_kubectl(kubectl);
        fs::write(&manifest, deployment("replicaz: 3")).unwrap();
        for command in ["apply", "create"] {
            unknown_field_refused(&cluster, command, &manifest);
        }
        // Without the field the same manifest is good.
        fs::write(&manifest, deployment("replicas: 3")).unwrap();
        cluster.kubectl_ok(&["apply", "-f", manifest.to_str().unwrap()]);
        cluster.kubectl_ok(&["delete", "deploy/web"]);
    }
    cluster.stop();
}

fn unknown_field_refused(cluster: &Cluster, command: &str, manifest: &Path) {
    let output = cluster.kubectl(&[command, "-f", manifest.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "kubectl {command} took it: {said}");
    assert!(said.contains("unknown field \"spec.replicaz\""), "kubectl {command} said: {said}");
    let found = cluster.kubectl(&["get", "deploy/web"]);
    assert!(String::from_utf8_lossy(&found.stderr).contains("NotFound"), "nothing is stored");
}

fn deployment(replicas: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: web, image: localhost/keelson-web:1}}]}}
"
    )
}
