//! Debian's `etcdctl` against the etcd edge over a store in memory: what a person types, what they see.
#![expect(clippy::unwrap_used, reason = "helpers of tests; a failure is a failed test")]

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;
use store::etcd::{Edge, EtcdOptions};
use store::memory::MemoryStore;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest wait for output, on the slowest machine.
const LINE_DEADLINE: Duration = Duration::from_secs(60);

/// A server on a free port; ends with the test.
struct Server {
    endpoint: String,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let store = MemoryStore::new();
        let edge = Edge::new(&Arc::new(store));
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(store::etcd::serve(listener, None, edge, EtcdOptions::default(), shutdown.clone()));
        Self { endpoint, shutdown, tasks }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg("--endpoints")
            .arg(&self.endpoint)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs etcdctl and returns what it printed, errors included.
    async fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().await.unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        text.concat().trim_end().to_owned()
    }

    async fn run_with_input(&self, args: &[&str], input: &str) -> String {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Reads one line that must come soon.
async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(LINE_DEADLINE, lines.next_line()).await;
    line.expect("etcdctl printed nothing").unwrap().expect("etcdctl ended")
}

fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder: PathBuf| folder.join("etcdctl").is_file());
    if !found {
        // Past the capture of output: the test runner counts these lines.
        std::io::stderr()
            .write_all(b"skipped: no etcdctl on PATH (`cargo xtask setup` installs it)\n")
            .unwrap();
    }
    found
}

#[tokio::test]
async fn puts_gets_deletes_and_transactions() {
    if !is_installed() {
        return;
    }
    let server = Server::start().await;
    assert_eq!(server.run(&["put", "/a/1", "one"]).await, "OK"); // 2
    assert_eq!(server.run(&["put", "/a/2", "two"]).await, "OK"); // 3
    assert_eq!(server.run(&["put", "/a/1", "uno", "--prev-kv"]).await, "OK\n/a/1\none"); // 4
    assert_eq!(server.run(&["get", "/a/1"]).await, "/a/1\nuno");
    assert_eq!(server.run(&["get", "/a/", "--prefix"]).await, "/a/1\nuno\n/a/2\ntwo");
    assert_eq!(server.run(&["get", "/a/1", "--rev=3"]).await, "/a/1\none");
    assert_eq!(server.run(&["get", "/a/", "--prefix", "--keys-only"]).await, "/a/1\n\n/a/2");
    assert_eq!(server.run(&["get", "/a/", "--prefix", "--order=DESCEND", "--limit=1"]).await, "/a/2\ntwo");
    let txn = "mod(\"/a/1\") = \"4\"\n\nput /a/3 three\n\nget /a/1\n\n";
    assert_eq!(server.run_with_input(&["txn"], txn).await, "SUCCESS\n\nOK");
    assert_eq!(server.run_with_input(&["txn"], &txn.replace("\"4\"", "\"9\"")).await, "FAILURE\n\n/a/1\nuno");
    assert_eq!(server.run(&["del", "/a/", "--prefix"]).await, "3");
    assert_eq!(server.run(&["get", "/a/", "--prefix"]).await, "");
    server.stop().await;
}

#[tokio::test]
async fn compaction_refuses_the_past() {
    if !is_installed() {
        return;
    }
    let server = Server::start().await;
    for value in ["1", "2", "3"] {
        assert_eq!(server.run(&["put", "k", value]).await, "OK");
    }
    assert_eq!(server.run(&["compact", "3"]).await, "compacted revision 3");
    assert_eq!(server.run(&["get", "k", "--rev=3"]).await, "k\n2");
    let refused = server.run(&["get", "k", "--rev=2"]).await;
    assert!(refused.contains("etcdserver: mvcc: required revision has been compacted"), "{refused}");
    let refused = server.run(&["compact", "9"]).await;
    assert!(refused.contains("etcdserver: mvcc: required revision is a future revision"), "{refused}");
    let watched = server.run(&["watch", "k", "--rev=2"]).await;
    assert!(watched.contains("required revision has been compacted"), "{watched}");
    server.stop().await;
}

#[tokio::test]
async fn a_watch_replays_the_past_and_follows_the_present() {
    if !is_installed() {
        return;
    }
    let server = Server::start().await;
    server.run(&["put", "/w/a", "1"]).await; // 2
    server.run(&["put", "/w/b", "1"]).await; // 3
    let mut watch = server.command(&["watch", "/w/", "--prefix", "--rev=3", "--prev-kv"]).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = async |count: usize| {
        let mut read = Vec::new();
        for _ in 0..count {
            read.push(next_line(&mut lines).await);
        }
        read.join("|")
    };
    assert_eq!(next(3).await, "PUT|/w/b|1");
    server.run(&["put", "/w/b", "2"]).await;
    assert_eq!(next(5).await, "PUT|/w/b|1|/w/b|2");
    server.run(&["del", "/w/a"]).await;
    assert_eq!(next(5).await, "DELETE|/w/a|1|/w/a|");
    watch.kill().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn leases_are_granted_kept_listed_and_revoked() {
    if !is_installed() {
        return;
    }
    let server = Server::start().await;
    let granted = server.run(&["lease", "grant", "600"]).await;
    assert!(granted.ends_with("granted with TTL(600s)"), "{granted}");
    let id = granted.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(server.run(&["put", "leased", "v", "--lease", &id]).await, "OK");
    let kept = server.run(&["lease", "keep-alive", "--once", &id]).await;
    assert_eq!(kept, format!("lease {id} keepalived with TTL(600)"));
    let left = server.run(&["lease", "timetolive", "--keys", &id]).await;
    assert!(left.contains("granted with TTL(600s)") && left.contains("attached keys([leased])"), "{left}");
    assert_eq!(server.run(&["lease", "list"]).await, format!("found 1 leases\n{id}"));
    assert_eq!(server.run(&["lease", "revoke", &id]).await, format!("lease {id} revoked"));
    assert_eq!(server.run(&["get", "leased"]).await, "");
    let left = server.run(&["lease", "timetolive", &id]).await;
    assert_eq!(left, format!("lease {id} already expired"));
    let refused = server.run(&["put", "leased", "v", "--lease", &id]).await;
    assert!(refused.contains("etcdserver: requested lease not found"), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn an_unkept_lease_expires_with_its_keys() {
    if !is_installed() {
        return;
    }
    let server = Server::start().await;
    let granted = server.run(&["lease", "grant", "1"]).await;
    assert!(granted.ends_with("granted with TTL(2s)"), "the least time to live: {granted}");
    let id = granted.split(' ').nth(1).unwrap();
    assert_eq!(server.run(&["put", "leased", "v", "--lease", id]).await, "OK");
    let mut watch = server.command(&["watch", "leased", "--rev=2"]).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for expected in ["PUT", "leased", "v", "DELETE"] {
        assert_eq!(next_line(&mut lines).await, expected);
    }
    watch.kill().await.unwrap();
    assert_eq!(server.run(&["get", "leased"]).await, "");
    server.stop().await;
}

#[tokio::test]
async fn status_health_and_members_are_reported() {
    if !is_installed() {
        return;
    }
    let server = Server::start().await;
    let health = server.run(&["endpoint", "health"]).await;
    assert!(health.contains("is healthy"), "{health}");
    let status = server.run(&["endpoint", "status", "-w", "json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status[0]["Status"]["leader"], 1);
    assert_eq!(status[0]["Status"]["header"]["revision"], 1);
    let members = server.run(&["member", "list"]).await;
    assert!(members.starts_with("1, started, memory"), "{members}");
    let refused = server.run(&["member", "add", "x", "--peer-urls=http://127.0.0.1:1"]).await;
    assert!(refused.contains("not implemented"), "{refused}");
    let hash = server.run(&["endpoint", "hashkv"]).await;
    assert!(hash.contains(&server.endpoint), "{hash}");
    server.stop().await;
}

#[tokio::test]
async fn users_are_checked_once_authentication_is_enabled() {
    if !is_installed() {
        return;
    }
    let server = Server::start().await;
    let refused = server.run(&["auth", "enable"]).await;
    assert!(refused.contains("etcdserver: root user does not exist"), "{refused}");
    assert_eq!(server.run(&["user", "add", "root:rootpw"]).await, "User root created");
    assert_eq!(server.run(&["user", "add", "alice:alicepw"]).await, "User alice created");
    assert_eq!(server.run(&["role", "add", "r"]).await, "Role r created");
    let granted = server.run(&["role", "grant-permission", "r", "readwrite", "/a/", "--prefix=true"]).await;
    assert_eq!(granted, "Role r updated");
    assert!(
        server.run(&["user", "grant-role", "alice", "r"]).await.contains("Role r is granted to user alice")
    );
    // It makes the root role by itself, and warns that there was none.
    let enabled = server.run(&["auth", "enable"]).await;
    assert!(enabled.starts_with("Authentication Enabled"), "{enabled}");

    assert!(server.run(&["put", "/a/1", "v"]).await.contains("etcdserver: user name is empty"));
    let (root, alice) = ("--user=root:rootpw", "--user=alice:alicepw");
    assert_eq!(server.run(&[root, "put", "/b/1", "v"]).await, "OK");
    assert_eq!(server.run(&[alice, "put", "/a/1", "v"]).await, "OK");
    assert_eq!(server.run(&[alice, "get", "/a/", "--prefix"]).await, "/a/1\nv");
    for denied in [["put", "/b/1", "v"], ["get", "/b/1", "--consistency=s"], ["get", "/", "--prefix"]] {
        let arguments = [&[alice], denied.as_slice()].concat();
        assert!(server.run(&arguments).await.contains("etcdserver: permission denied"), "{denied:?}");
    }
    let refused = server.run(&["--user=alice:wrong", "get", "/a/1"]).await;
    assert!(refused.contains("authentication failed, invalid user ID or password"), "{refused}");
    assert_eq!(server.run(&[alice, "user", "get", "alice"]).await, "User: alice\nRoles: r");
    assert!(server.run(&[alice, "user", "list"]).await.contains("etcdserver: permission denied"));
    assert_eq!(server.run(&[root, "user", "list"]).await, "alice\nroot");

    assert_eq!(
        server.run(&[root, "user", "revoke-role", "alice", "r"]).await,
        "Role r is revoked from user alice"
    );
    assert!(server.run(&[alice, "get", "/a/1"]).await.contains("etcdserver: permission denied"));
    assert_eq!(server.run(&[root, "auth", "disable"]).await, "Authentication Disabled");
    assert_eq!(server.run(&["get", "/a/1"]).await, "/a/1\nv");
    server.stop().await;
}

/// A running etcdctl with the lines that it prints.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(server: &Server, args: &[&str]) -> Self {
        let mut child = server.command(args).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn next(&mut self) -> String {
        next_line(&mut self.lines).await
    }

    /// Presses Ctrl-C and waits for the end.
    async fn interrupt(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        self.child.wait().await.unwrap();
    }
}

/// Waits until so many keys begin with `prefix`.
async fn until_keys(server: &Server, prefix: &str, count: usize) {
    let counted = async {
        while server.run(&["get", prefix, "--prefix", "--keys-only"]).await.split_whitespace().count()
            != count
        {}
    };
    tokio::time::timeout(LINE_DEADLINE, counted).await.unwrap();
}

#[tokio::test]
async fn a_lock_passes_from_one_holder_to_the_next() {
    if !is_installed() {
        return;
    }
    let server = Server::start().await;
    let mut first = Running::start(&server, &["lock", "mutex"]);
    let key = first.next().await;
    assert!(key.starts_with("mutex/"), "{key}");
    let mut second = Running::start(&server, &["lock", "mutex", "echo", "held"]);
    until_keys(&server, "mutex/", 2).await;
    first.interrupt().await;
    assert_eq!(second.next().await, "held");
    assert!(second.child.wait().await.unwrap().success());
    until_keys(&server, "mutex/", 0).await;
    server.stop().await;
}

#[tokio::test]
async fn an_election_is_won_observed_and_given_up() {
    if !is_installed() {
        return;
    }
    let server = Server::start().await;
    let mut first = Running::start(&server, &["elect", "office", "alice"]);
    let key = first.next().await;
    assert!(key.starts_with("office/"), "{key}");
    assert_eq!(first.next().await, "alice");
    let mut observer = Running::start(&server, &["elect", "--listen", "office"]);
    assert_eq!((observer.next().await, observer.next().await), (key, "alice".to_owned()));
    let mut second = Running::start(&server, &["elect", "office", "bob"]);
    until_keys(&server, "office/", 2).await;
    first.interrupt().await;
    let key = second.next().await;
    assert_eq!(second.next().await, "bob");
    assert_eq!((observer.next().await, observer.next().await), (key, "bob".to_owned()));
    second.interrupt().await;
    observer.child.kill().await.unwrap();
    server.stop().await;
}
