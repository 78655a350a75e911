//! A node with real containers against the in-memory API: pods from objects, adoption after a killed agent, a clean stop.
//! Needs root; says so in one line otherwise.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use client::fake::FakeApi;
use client::{DeleteOptions, Reflector, ReflectorOptions, WriteOptions};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Event, Pod};
use nodeagent::channel::Served;
use nodeagent::cni::{NetworkProvider, PodAddress, SandboxNetwork};
use nodeagent::containerd::Paths;
use nodeagent::images::pack::{self, Format};
use nodeagent::runtime::cri::CriRuntime;
use nodeagent::runtime::{ContainerId, ExecRequest, Runtime};
use nodeagent::{Agent, Config, Connection, NetworkChoice, RuntimeChoice};
use proto::keelson::node_channel_server::{NodeChannel, NodeChannelServer};
use proto::keelson::{
    Channel, Data, ExecRequest as ExecCall, Finish, Frame, HalfClose, LogsRequest, Open, PodTarget, Resize,
    Window, frame, open,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);

/// Gives every sandbox the same address and makes no device.
#[derive(Debug)]
struct NoNetwork;

#[async_trait]
impl NetworkProvider for NoNetwork {
    async fn add(&self, _sandbox: &SandboxNetwork) -> anyhow::Result<PodAddress> {
        Ok(PodAddress { ip: IpAddr::V4(Ipv4Addr::new(10, 255, 0, 1)), prefix: 32, gateway: None })
    }

    async fn remove(&self, _sandbox: &SandboxNetwork) -> anyhow::Result<()> {
        Ok(())
    }
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn config(api: &FakeApi, dir: &Path) -> Config {
    let mut config =
        Config::new("n1", dir.join("node"), Connection::Client(api.client()), RuntimeChoice::Containerd);
    config.network = NetworkChoice::Given(Arc::new(NoNetwork));
    config.network_plugin = Some(PathBuf::from(env!("CARGO_BIN_EXE_keelson-cni")));
    config.image_dir = Some(dir.join("images"));
    config.node_ip = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    config
}

fn web_pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "nodeName": "n1", "terminationGracePeriodSeconds": 5,
            "volumes": [{ "name": "config", "configMap": { "name": "greeting" } }, { "name": "scratch", "emptyDir": { "medium": "Memory" } }],
            "initContainers": [{ "name": "init", "image": "localhost/keelson-web:1",
                "command": ["sh", "-c", "echo prepared > /scratch/init"], "volumeMounts": [{ "name": "scratch", "mountPath": "/scratch" }] }],
            "containers": [{
                "name": "web", "image": "localhost/keelson-web:1",
                "env": [{ "name": "WHO", "valueFrom": { "configMapKeyRef": { "name": "greeting", "key": "greeting" } } },
                        { "name": "TEXT", "value": "hello $(WHO)" }],
                "resources": { "limits": { "memory": "64Mi", "cpu": "500m" } },
                "readinessProbe": { "exec": { "command": ["true"] }, "periodSeconds": 1 },
                "volumeMounts": [{ "name": "config", "mountPath": "/etc/config" }, { "name": "scratch", "mountPath": "/scratch" }]
            }]
        }
    }))
    .unwrap()
}

fn find(api: &FakeApi, name: &str) -> Option<Pod> {
    api.objects::<Pod>().into_iter().find(|pod| pod.metadata.name.as_deref() == Some(name))
}

fn ready(api: &FakeApi, name: &str) -> Option<ContainerStatus> {
    let status = find(api, name)?.status?;
    let is_ready = status.conditions?.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    status.container_statuses?.into_iter().next().filter(|_| is_ready)
}

fn container_id(status: &ContainerStatus) -> ContainerId {
    ContainerId(status.container_id.as_deref().unwrap().trim_start_matches("containerd://").to_owned())
}

async fn run(runtime: &CriRuntime, container: &ContainerId, script: &str) -> String {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let request = ExecRequest { container: container.clone(), command, timeout: Duration::from_secs(20) };
    let output = runtime.exec_sync(&request).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A server's side of the node channel.
struct Server {
    to_agent: Mutex<Option<mpsc::Receiver<Frame>>>,
    from_agent: mpsc::Sender<Frame>,
}

#[tonic::async_trait]
impl NodeChannel for Server {
    type OpenStream = Pin<Box<dyn Stream<Item = Result<Frame, tonic::Status>> + Send>>;

    async fn open(
        &self,
        request: tonic::Request<tonic::Streaming<Frame>>,
    ) -> Result<tonic::Response<Self::OpenStream>, tonic::Status> {
        let mut incoming = request.into_inner();
        let from_agent = self.from_agent.clone();
        tokio::spawn(async move {
            while let Ok(Some(frame)) = incoming.message().await {
                if from_agent.send(frame).await.is_err() {
                    return;
                }
            }
        });
        let frames = self.to_agent.lock().unwrap().take().expect("the agent connects once");
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(frames).map(Ok))))
    }
}

/// Drives streams of an agent as an API server does.
struct Streams {
    to_agent: mpsc::Sender<Frame>,
    from_agent: mpsc::Receiver<Frame>,
    next_id: u64,
    tasks: JoinSet<()>,
}

impl Streams {
    async fn start(api: &FakeApi, dir: &Path, paths: &Paths) -> Self {
        let (to_agent, to_agent_receiver) = mpsc::channel(1024);
        let (from_agent_sender, from_agent) = mpsc::channel(65536);
        let server = Server { to_agent: Mutex::new(Some(to_agent_receiver)), from_agent: from_agent_sender };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let serving = tonic::transport::Server::builder()
            .add_service(NodeChannelServer::new(server))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tasks.spawn(async move { serving.await.unwrap() });
        let options = ReflectorOptions::default();
        let pods = Reflector::spawn::<Pod>(api.client(), options, &mut tasks, CancellationToken::new());
        pods.wait_synced().await;
        let served = Arc::new(Served {
            node_name: "n1".to_owned(),
            runtime: Arc::new(CriRuntime::new(&paths.socket())),
            pods,
            log_root: dir.join("node").join("pod-logs"),
        });
        let channel =
            tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        tasks.spawn(nodeagent::channel::run(channel, served, CancellationToken::new()));
        Self { to_agent, from_agent, next_id: 1, tasks }
    }

    /// Opens a stream, sends what is given, and returns the output and the end.
    async fn run(&mut self, open: open::Request, input: Vec<frame::Body>) -> (String, Finish) {
        let stream_id = self.next_id;
        self.next_id += 1;
        let first = frame::Body::Open(Open { request: Some(open) });
        for body in std::iter::once(first).chain(input) {
            self.to_agent.send(Frame { stream_id, body: Some(body) }).await.unwrap();
        }
        let mut output = Vec::new();
        loop {
            let received =
                tokio::time::timeout(LIMIT, self.from_agent.recv()).await.expect("the stream ends");
            let frame = received.unwrap();
            match frame.body.unwrap() {
                frame::Body::Data(data) if frame.stream_id == stream_id => {
                    let credit_bytes = u64::try_from(data.payload.len()).unwrap();
                    output.extend_from_slice(&data.payload);
                    let body = Some(frame::Body::Window(Window { credit_bytes }));
                    self.to_agent.send(Frame { stream_id, body }).await.unwrap();
                }
                frame::Body::Finish(finish) if frame.stream_id == stream_id => {
                    return (String::from_utf8(output).unwrap(), finish);
                }
                _ => {}
            }
        }
    }
}

fn target(pod: &str, container: &str) -> Option<PodTarget> {
    let (namespace, name, container) = ("default".to_owned(), pod.to_owned(), container.to_owned());
    Some(PodTarget { namespace, name, uid: String::new(), container })
}

fn stdin(text: &'static str) -> frame::Body {
    frame::Body::Data(Data { channel: Channel::Stdin.into(), payload: text.into() })
}

async fn exec_and_terminal_work(streams: &mut Streams) {
    let command = ["sh", "-c", "cat; exit 3"].map(str::to_owned).to_vec();
    let exec = ExecCall {
        target: target("web", "web"),
        command,
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let end = frame::Body::HalfClose(HalfClose { channel: Channel::Stdin.into() });
    let (output, finish) = streams.run(open::Request::Exec(exec), vec![stdin("to the end"), end]).await;
    assert_eq!((output.as_str(), finish.http_code, finish.exit_code), ("to the end", 200, Some(3)));

    let command = vec!["sh".to_owned()];
    let exec = ExecCall {
        target: target("web", "web"),
        command,
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let size = frame::Body::Resize(Resize { width: 100, height: 40 });
    let (output, finish) =
        streams.run(open::Request::Exec(exec), vec![size, stdin("sleep 1; stty size; exit 4\n")]).await;
    assert!(output.contains("40 100"), "{output}");
    assert_eq!(finish.exit_code, Some(4));

    let unknown = ExecCall { target: target("web", "other"), ..ExecCall::default() };
    let (_, finish) = streams.run(open::Request::Exec(unknown), Vec::new()).await;
    assert_eq!(finish.http_code, 400, "{finish:?}");
}

/// Every line that the writer wrote is there, in order, whatever happened to agents meanwhile.
async fn no_log_line_is_lost(streams: &mut Streams) {
    let logs = LogsRequest { target: target("writer", "w"), ..LogsRequest::default() };
    let (output, finish) = streams.run(open::Request::Logs(logs), Vec::new()).await;
    assert_eq!(finish.http_code, 200);
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines.len() > 100, "{} lines", lines.len());
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("line {number}"));
    }
    let tail = LogsRequest { target: target("writer", "w"), tail_lines: Some(2), ..LogsRequest::default() };
    let (output, _) = streams.run(open::Request::Logs(tail), Vec::new()).await;
    assert_eq!(output.lines().count(), 2);
}

/// Returns pid and start time of a container's first process, by its cgroup.
fn processes(paths: &Paths) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("cgroup").contains(&paths.cgroup_prefix()) && read("comm").trim() == "web" {
            let stat = read("stat");
            let start = stat.rsplit_once(") ").unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
            found.push(format!("{} {start}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

fn is_skipped() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        // Past the capture of output: the test runner counts these lines.
        std::io::stderr().write_all(b"skipped: it needs root to start containerd\n").unwrap();
    }
    !is_root
}

fn write_image(dir: &Path) {
    std::fs::create_dir(dir.join("images")).unwrap();
    let image = pack::web_image(1).unwrap().to_archive(Format::Docker).unwrap();
    std::fs::write(dir.join("images/web.tar"), image).unwrap();
}

#[tokio::test]
async fn pods_run_are_adopted_and_leave_nothing_behind() {
    if is_skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write_image(dir.path());
    let api = FakeApi::start();
    let greeting = json!({ "metadata": { "name": "greeting", "namespace": "default" }, "data": { "greeting": "world" } });
    api.insert::<ConfigMap>(&serde_json::from_value(greeting).unwrap());
    api.insert(&web_pod());
    let missing = json!({ "metadata": { "name": "missing", "namespace": "default" },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "localhost/absent:1" }] } });
    api.insert::<Pod>(&serde_json::from_value(missing).unwrap());
    let script = "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.01; done";
    let writer = json!({ "metadata": { "name": "writer", "namespace": "default" },
        "spec": { "nodeName": "n1", "terminationGracePeriodSeconds": 0, "containers": [
            { "name": "w", "image": "localhost/keelson-web:1", "command": ["sh", "-c", script] } ] } });
    api.insert::<Pod>(&serde_json::from_value(writer).unwrap());

    let first = tokio::spawn(Agent::run(config(&api, dir.path()), CancellationToken::new()));
    let paths = Paths::new(&dir.path().join("node"));
    let status = eventually("pod is ready", async || ready(&api, "web")).await;
    let runtime = CriRuntime::new(&paths.socket());
    let id = container_id(&status);
    assert_eq!(
        run(&runtime, &id, "cat /etc/config/greeting; cat /scratch/init; echo $TEXT").await,
        "worldprepared\nhello world\n"
    );
    assert_eq!(run(&runtime, &id, "hostname; tail -n 1 /etc/hosts").await, "web\n10.255.0.1\tweb\n");
    let page =
        run(&runtime, &id, "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 8080 | tail -n 1").await;
    assert_eq!(page, "web keelson-web version 1\n");

    let waiting = |pod: Pod| pod.status?.container_statuses?.first()?.state.clone()?.waiting;
    let pull_fails = async || {
        find(&api, "missing").and_then(waiting).filter(|w| w.reason.as_deref() == Some("ImagePullBackOff"))
    };
    let message = eventually("the absent image is reported", pull_fails).await.message.unwrap();
    assert!(message.contains("keelson image import"), "{message}");

    // What a killed agent leaves: everything.
    let before = processes(&paths);
    assert_eq!(before.len(), 1);
    first.abort();
    let _aborted = first.await;
    let shutdown = CancellationToken::new();
    let second = tokio::spawn(Agent::run(config(&api, dir.path()), shutdown.clone()));
    let changed = json!({ "metadata": { "name": "greeting", "namespace": "default" }, "data": { "greeting": "again" } });
    api.modify::<ConfigMap>("default", "greeting", |map| *map = serde_json::from_value(changed).unwrap());
    eventually("the adopted pod gets the new configuration", async || {
        (run(&runtime, &id, "cat /etc/config/greeting").await == "again").then_some(())
    })
    .await;
    assert_eq!(processes(&paths), before, "same pid and start time");
    let adopted = ready(&api, "web").unwrap();
    assert_eq!((adopted.restart_count, container_id(&adopted)), (0, id));

    let mut streams = Streams::start(&api, dir.path(), &paths).await;
    exec_and_terminal_work(&mut streams).await;
    no_log_line_is_lost(&mut streams).await;
    streams.tasks.shutdown().await;

    for name in ["missing", "writer", "web"] {
        let delete = DeleteOptions::default();
        api.client().delete::<Pod>("default", name, &delete, &WriteOptions::default()).await.unwrap();
        eventually("pod is gone", async || find(&api, name).is_none().then_some(())).await;
    }
    let reasons: Vec<String> = api.objects::<Event>().into_iter().filter_map(|event| event.reason).collect();
    for reason in ["Pulled", "Created", "Started", "Killing", "Failed"] {
        assert!(reasons.iter().any(|found| found == reason), "{reason} in {reasons:?}");
    }
    shutdown.cancel();
    second.await.unwrap().unwrap();
    assert_nothing_is_left(&paths, dir.path());
}

fn assert_nothing_is_left(paths: &Paths, dir: &Path) {
    assert!(!paths.run().exists(), "the run directory is left behind");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(
        !mounts.contains(paths.id()) && !mounts.contains(&*dir.to_string_lossy()),
        "mounts are left behind"
    );
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let left = hierarchy.path().join(paths.cgroup_prefix().trim_start_matches('/'));
        assert!(!left.exists(), "cgroups are left behind: {}", left.display());
    }
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        let of_node = command.contains(paths.id()) || command.contains(&*dir.to_string_lossy());
        assert!(!of_node, "a process is left behind: {}", command.replace('\0', " "));
    }
}

/// Pods that start at once, and the moments at which the node stops: while sandboxes, then while containers are made.
const STARTING: usize = 6;
const STOP_AFTER: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_millis(800),
];

#[tokio::test]
async fn a_node_that_stops_while_its_pods_start_leaves_nothing_behind() {
    if is_skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write_image(dir.path());
    let api = FakeApi::start();
    let paths = Paths::new(&dir.path().join("node"));
    for stop_after in STOP_AFTER {
        let shutdown = CancellationToken::new();
        let agent = tokio::spawn(Agent::run(config(&api, dir.path()), shutdown.clone()));
        let runtime = CriRuntime::new(&paths.socket());
        eventually("the runtime answers", async || runtime.version().await.ok()).await;
        for number in 0..STARTING {
            let name = format!("p{}-{number}", stop_after.as_millis());
            let pod = json!({ "metadata": { "name": name, "namespace": "default" },
                "spec": { "nodeName": "n1", "terminationGracePeriodSeconds": 0, "containers": [
                    { "name": "c", "image": "localhost/keelson-web:1" } ] } });
            api.insert::<Pod>(&serde_json::from_value(pod).unwrap());
        }
        tokio::time::sleep(stop_after).await;
        shutdown.cancel();
        agent.await.unwrap().unwrap();
        assert_nothing_is_left(&paths, dir.path());
        for pod in api.objects::<Pod>() {
            api.remove::<Pod>("default", pod.metadata.name.as_deref().unwrap());
        }
    }
}
