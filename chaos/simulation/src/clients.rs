//! The clients of a run, on a host of their own: workloads while faults happen, then the last reads and every member's log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chaos::check::witness::LogEntry;
use chaos::etcd::{MemberClient, NO_CONNECTION};
use chaos::history::{EventKind, Function, Note, Process};
use chaos::kubernetes::{Dial, Server, Stream};
use chaos::run::{Part, Tails};
use chaos::workload::{Client, Progress, Session, Setup, Target, Workload};
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use turmoil::net::TcpStream;

use crate::control_plane::{API_PORT, Process as SimProcess};
use crate::machine::{lock, name};
use crate::member::{CLIENT_PORT, keep_rate};
use crate::quiet::Impatient;
use crate::replacement::Replacement;
use crate::sign_in::User;
use crate::world::World;

/// Between two looks at something that takes a while.
const INTERVAL: Duration = Duration::from_millis(50);
/// How soon every member must serve after the last fault: restarts, an election, a snapshot, a new member.
const RECOVERY: Duration = Duration::from_secs(30);
/// Longest wait for a member's whole log.
const LOG_TIMEOUT: Duration = Duration::from_secs(20);
/// Beyond this a silent connection is given up. Messages that the simulated network drops are not sent again.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// The same for HTTP/1.1, where silence may also mean that there is nothing to say.
const QUIET_MAX: Duration = Duration::from_secs(4);

/// What members showed of their logs.
pub(crate) type Logs = Arc<Mutex<Shown>>;

/// By members' names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// At the end.
    pub(crate) logs: Vec<(String, Vec<LogEntry>)>,
    /// All along, where the end does not show everything.
    pub(crate) live: Vec<(String, Vec<LogEntry>)>,
}

/// Works until everything is healed, then audits.
pub(crate) async fn run(world: Arc<World>, logs: Logs) -> turmoil::Result {
    if world.has_drifting_clocks {
        tokio::spawn(keep_rate(Arc::clone(&world.clients)));
    }
    let tails = tails(&world)?;
    let workers = Workers::start(&world)?;
    while world.healed().is_none() {
        tokio::time::sleep(INTERVAL).await;
    }
    let present = world.healed().unwrap_or_default();
    let servers = servers(&world)?;
    let silent = recover(&world, &present, &servers).await?;
    let workload = Arc::clone(&workers.workload);
    let session = workers.stop().await?;
    // Numbers that no client of the run has: theirs grow by the process step.
    for (number, process) in present.iter().zip(u32::MAX / 2..) {
        let client = Client::new(session.clone(), process, vec![target(*number)?]).with_servers(&servers);
        Arc::clone(&workload).finish(client).await?;
    }
    if let Some(tails) = tails {
        lock(&logs).live = tails.stop().await;
    }
    audit(&world, &present, &silent, &logs).await
}

/// Reads all logs all along where the workload compacts: in the end nobody shows what is gone.
fn tails(world: &World) -> Result<Option<Tails>, Box<dyn std::error::Error>> {
    let entry = chaos::workload::named(&world.plan.workload)?;
    if !entry.needs_own_store {
        return Ok(None);
    }
    let targets: Vec<Target> = world.usable().map(target).collect::<Result<_, _>>()?;
    Ok(Some(Tails::start(&targets, &Part { from: 1, prefix: String::new() })))
}

/// Clients at work.
struct Workers {
    tasks: JoinSet<std::io::Result<()>>,
    workload: Arc<dyn Workload>,
    session: Session,
}

impl Workers {
    fn start(world: &World) -> Result<Self, Box<dyn std::error::Error>> {
        let plan = &world.plan;
        let members = u32::try_from(world.usable().len())?;
        let setup = Setup { seed: plan.seed, prefix: String::new(), members };
        let workload = (chaos::workload::named(&plan.workload)?.create)(&setup);
        let session = Session {
            history: Arc::clone(&world.history),
            progress: Arc::new(Progress::default()),
            process_step: plan.clients,
            period: Duration::from_millis(plan.period_ms),
            // Workloads that write files or run containers are not simulated.
            snapshots: PathBuf::new(),
            starts: PathBuf::new(),
            stop: CancellationToken::new(),
        };
        let servers = servers(world)?;
        let mut tasks = JoinSet::new();
        for number in 0..plan.clients {
            let place = usize::try_from(number)?;
            // Every fourth client uses all members, also the one that comes later; the others are pinned.
            let mut members: Vec<usize> = world.usable().collect();
            if number % 4 != 3 {
                members = vec![place % plan.voters];
            } else {
                let usable = members.len();
                members.rotate_left(place % usable);
            }
            let targets = members.into_iter().map(target).collect::<Result<_, _>>()?;
            let client = Client::new(session.clone(), number, targets).with_servers(&servers);
            tasks.spawn(Arc::clone(&workload).work(client));
        }
        Ok(Self { tasks, workload, session })
    }

    async fn stop(mut self) -> Result<Session, Box<dyn std::error::Error>> {
        self.session.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.session)
    }
}

/// Returns a member as clients see it.
fn target(number: usize) -> Result<Target, tonic::transport::Error> {
    let name = name(number);
    let client = MemberClient::over(&format!("http://{name}:{CLIENT_PORT}"), connect)?;
    Ok(Target { name, client })
}

/// Returns the API servers as clients see them, where there are any.
fn servers(world: &World) -> Result<Vec<Server>, Box<dyn std::error::Error>> {
    if world.control_plane.is_none() {
        return Ok(Vec::new());
    }
    let process = SimProcess::new(&world.clients, 1, &world.plan);
    let user = User::administrator();
    let servers = process.servers.iter().map(|host| {
        let dial = Arc::new(SignedIn { process: process.clone(), host: host.clone(), user: user.clone() });
        let channel = process.channel(host, &user)?;
        let address = format!("{host}:{API_PORT}");
        Ok(Server::over((host, &address), dial, channel, Arc::clone(&process.outside))?)
    });
    servers.collect()
}

/// Connections to an API server, as a user.
struct SignedIn {
    process: SimProcess,
    host: String,
    user: User,
}

impl Dial for SignedIn {
    fn dial(&self) -> BoxFuture<'static, std::io::Result<Box<dyn Stream>>> {
        let (process, host, user) = (self.process.clone(), self.host.clone(), self.user.clone());
        Box::pin(async move {
            let connection = process.connect(&host, &user).await?;
            let stream: Box<dyn Stream> = Box::new(Impatient::new(connection, QUIET_MAX));
            Ok(stream)
        })
    }
}

fn connect(endpoint: Endpoint) -> Channel {
    let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
    endpoint.connect_with_connector_lazy(tower::service_fn(|uri: Uri| async move {
        let address = (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(CLIENT_PORT));
        let stream = TcpStream::connect(address).await;
        stream.map(TokioIo::new).map_err(|_| std::io::Error::other(NO_CONNECTION))
    }))
}

/// Waits until every member serves and the one that died for good is replaced; returns those that do not serve.
async fn recover(
    world: &World,
    present: &[usize],
    servers: &[Server],
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let deadline = tokio::time::Instant::now() + RECOVERY;
    let mut silent: Vec<Target> = present.iter().map(|number| target(*number)).collect::<Result<_, _>>()?;
    let is_whole = || matches!(*lock(&world.replacement), Replacement::NobodyDied | Replacement::Done { .. });
    while !(silent.is_empty() && is_whole()) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(INTERVAL).await;
        let mut left = Vec::new();
        for target in silent {
            if target.client.read("recovered").await.is_err() || !is_ready(servers, &target.name).await {
                left.push(target);
            }
        }
        silent = left;
    }
    let silent: Vec<String> = silent.into_iter().map(|target| target.name).collect();
    let value = json!({ "silent": silent });
    world.history.record(note(Function::Recover, None, value))?;
    Ok(silent)
}

/// Whether the API server on a member takes requests, where there is one.
async fn is_ready(servers: &[Server], name: &str) -> bool {
    match servers.iter().find(|server| server.name == name) {
        Some(server) => server.is_ready().await,
        None => true,
    }
}

/// Reads log and hash of every member that serves, up to the newest revision that any client has seen.
async fn audit(world: &World, present: &[usize], silent: &[String], logs: &Logs) -> turmoil::Result {
    let until = world.history.finish()?.iter().filter_map(|event| event.rev).max().unwrap_or(1);
    let targets: Vec<Target> = present.iter().map(|number| target(*number)).collect::<Result<_, _>>()?;
    for target in targets.into_iter().filter(|target| !silent.contains(&target.name)) {
        let shown = match tokio::time::timeout(LOG_TIMEOUT, target.client.log(1..=until)).await {
            Ok(shown) => shown.map_err(|status| status.to_string()),
            Err(_) => Err(format!("revision {until} does not come within {LOG_TIMEOUT:?}")),
        };
        let value = json!({
            "from": 1,
            "whole": true,
            "until": until,
            "shown_from": shown.as_ref().ok().map(|(from, _)| from),
            "entries": shown.as_ref().map_or(0, |(_, log)| log.len()),
            "hash": target.client.hash(until).await.ok(),
        });
        let error = shown.as_ref().err().cloned();
        world.history.record(Note { error, ..note(Function::Audit, Some(target.name.clone()), value) })?;
        if let Ok((_, mut log)) = shown {
            // A write of unknown fate may still come in; what nobody has seen is not judged.
            log.retain(|entry| entry.revision <= until);
            lock(logs).logs.push((target.name, log));
        }
    }
    for (_, log) in &mut lock(logs).live {
        log.retain(|entry| entry.revision <= until);
    }
    Ok(())
}

/// An event of the nemesis.
pub(crate) fn note(f: Function, node: Option<String>, value: serde_json::Value) -> Note {
    let (kind, process) = (EventKind::Info, Process::NEMESIS);
    Note { kind, process, f, key: None, value, node, rev: None, error: None }
}
