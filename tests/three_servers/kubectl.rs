//! Real kubectl watching each server: once resumed from the resourceVersion it had whenever a kill ends it, and once as a user
//! would type it. Each start uses the next of the clients that are installed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::cluster::{self, Cluster};
use crate::doors::SERVERS;
use crate::writers::{NAMESPACE, Seen};

/// Pause before the next start while the server refuses connections.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Words of a server that has forgotten a revision, or of a client that was told so.
const EXPIRED: [&str; 2] = ["Expired", "too old resource version"];

/// The installed clients, used in turn.
pub struct Clients {
    programs: Vec<PathBuf>,
    used: usize,
}

impl Clients {
    /// Finds the clients and prints what they really are.
    pub fn find() -> Self {
        let programs = cluster::kubectls();
        for program in &programs {
            let output = Command::new(program).args(["version", "--client"]).output();
            let output =
                output.unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            println!("{}: {}", program.display(), said.lines().next().unwrap_or("says no version"));
        }
        Self { programs, used: 0 }
    }

    pub fn count(&self) -> usize {
        self.programs.len()
    }

    fn next(&mut self) -> PathBuf {
        self.used += 1;
        self.programs[(self.used - 1) % self.programs.len()].clone()
    }

    /// Starts `kubectl get -w`.
    pub fn get_watch(&mut self, cluster: &Cluster, server: &str) -> GetWatch {
        GetWatch::start(&Place::of(cluster, server), &self.next())
    }
}

/// Where a kubectl runs and which server it talks to.
#[derive(Clone)]
struct Place {
    server: String,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Place {
    fn of(cluster: &Cluster, server: &str) -> Self {
        let home = cluster.data_dir.parent().unwrap().to_path_buf();
        Self { server: server.to_owned(), kubeconfig: cluster.data_dir.join("admin.kubeconfig"), home }
    }

    /// In a process group of its own, because kubectl may start another kubectl.
    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(["--context", &self.server]).args(args).stdin(Stdio::null()).process_group(0);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home);
        command
    }
}

fn kill_group(leader: u32) {
    let _may_have_ended = Command::new("kill").args(["-KILL", "--", &format!("-{leader}")]).output();
}

/// A `kubectl get configmaps --watch` that is running or has ended.
pub struct GetWatch {
    child: RefCell<Child>,
    output: PathBuf,
}

impl GetWatch {
    fn start(place: &Place, program: &Path) -> Self {
        let file = tempfile::Builder::new().prefix("get-watch-").tempfile_in(&place.home).unwrap();
        let (file, output) = file.keep().unwrap();
        let args = ["--namespace", NAMESPACE, "get", "configmaps", "--watch", "--output-watch-events"];
        let child =
            place.command(program, &args).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child: RefCell::new(child), output }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Says whether a word was printed.
    pub fn shows(&self, wanted: &str) -> bool {
        self.said().split_whitespace().any(|word| word == wanted)
    }

    pub fn has_ended(&self) -> bool {
        self.child.borrow_mut().try_wait().unwrap().is_some()
    }

    pub fn assert_unexpired(&self) {
        let said = self.said();
        let complaint = said.lines().find(|line| is_expired(line));
        assert_eq!(complaint, None, "kubectl get -w");
    }
}

impl Drop for GetWatch {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        if let Ok(None) = child.try_wait() {
            kill_group(child.id());
        }
        let _ended = child.wait();
    }
}

/// One kubectl from start to end, and the resourceVersion that it was started with.
#[derive(Clone, Debug)]
pub struct Session {
    pub program: PathBuf,
    pub from: u64,
    pub event_count: usize,
}

/// What the kubectls of one server saw, one after the other.
#[derive(Default)]
pub struct Log {
    /// Type and object of every event.
    pub events: Vec<(String, Seen)>,
    /// Those that saw something; the last one may be running.
    pub sessions: Vec<Session>,
    /// Everything that speaks of forgotten revisions.
    pub expired: Vec<String>,
    running: Option<Running>,
    stop: bool,
}

/// A kubectl that runs now.
#[derive(Clone, Copy)]
struct Running {
    process_id: u32,
    has_events: bool,
}

/// A watch of every server, resumed on the same server from the last resourceVersion.
pub struct Watches {
    logs: BTreeMap<&'static str, Arc<Mutex<Log>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Watches {
    pub fn start(cluster: &Cluster, clients: &Clients, from: u64) -> Self {
        let mut watches = Self { logs: BTreeMap::new(), threads: Vec::new() };
        for (number, server) in SERVERS.into_iter().enumerate() {
            let log = Arc::new(Mutex::new(Log::default()));
            watches.logs.insert(server, Arc::clone(&log));
            let place = Place::of(cluster, server);
            // Each server begins with another client, so that few kills are enough to use all of them.
            let mut programs = clients.programs.clone();
            programs.rotate_left(number * clients.count() / SERVERS.len());
            watches.threads.push(std::thread::spawn(move || follow(&place, &programs, from, &log)));
        }
        watches
    }

    /// Locks what was seen of one server.
    pub fn log(&self, server: &str) -> MutexGuard<'_, Log> {
        self.logs[server].lock().unwrap()
    }

    /// Says whether a kubectl is following this server now.
    pub fn is_following(&self, server: &str) -> bool {
        self.log(server).running.is_some_and(|running| running.has_events)
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        for log in self.logs.values() {
            // A check that failed while it held the log must not keep the kubectls from ending.
            let mut log = lock(log);
            log.stop = true;
            log.running.into_iter().for_each(|running| kill_group(running.process_id));
        }
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one kubectl after the other until told to stop.
fn follow(place: &Place, programs: &[PathBuf], mut from: u64, log: &Mutex<Log>) {
    let mut session_count = 0;
    loop {
        let program = &programs[session_count % programs.len()];
        let Some(mut child) = spawn(place, program, from, log) else { return };
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let started_from = from;
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).unwrap() > 0 {
            // A kill may cut the last line short; what it said comes again from the server that is started anew.
            if line.ends_with(b"\n") {
                let session = || Session { program: program.clone(), from: started_from, event_count: 0 };
                from = note(&mut lock(log), &line, session).unwrap_or(from);
            }
            line.clear();
        }
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        let mut log = lock(log);
        let had_events = log.running.take().is_some_and(|running| running.has_events);
        log.expired.extend(said.lines().filter(|line| is_expired(line)).map(str::to_owned));
        drop(log);
        if had_events {
            session_count += 1;
        } else {
            std::thread::sleep(REFUSED_PAUSE);
        }
    }
}

fn spawn(place: &Place, program: &Path, from: u64, log: &Mutex<Log>) -> Option<Child> {
    let mut log = lock(log);
    if log.stop {
        return None;
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&resourceVersion={from}");
    let mut command = place.command(program, &["get", "--raw", &path]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    log.running = Some(Running { process_id: child.id(), has_events: false });
    Some(child)
}

/// Takes in one line and returns the resourceVersion to go on from.
fn note(log: &mut Log, line: &[u8], session: impl Fn() -> Session) -> Option<u64> {
    let event: Value = serde_json::from_slice(line).unwrap();
    let event_type = event["type"].as_str().unwrap().to_owned();
    if event_type == "ERROR" {
        log.expired.push(event.to_string());
        return None;
    }
    let object: ConfigMap = serde_json::from_value(event["object"].clone()).unwrap();
    let seen = Seen::of(&object);
    let revision = seen.revision;
    log.events.push((event_type, seen));
    let running = log.running.as_mut().expect("what prints is running");
    if !std::mem::replace(&mut running.has_events, true) {
        log.sessions.push(session());
    }
    log.sessions.last_mut().expect("the running one was pushed").event_count += 1;
    Some(revision)
}

fn is_expired(line: &str) -> bool {
    EXPIRED.iter().any(|word| line.contains(word))
}
