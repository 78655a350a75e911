//! An agent that is killed: its containers run on, nothing that they say is lost, and the restarted agent adopts them.

mod cluster;
#[path = "web/requests.rs"]
#[expect(dead_code, reason = "this test needs the steady load only")]
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster::Cluster;
use cluster::containers::ContainerProcess;
use requests::Load;
use serde_json::Value;

const AGENTS: [&str; 2] = ["agent-1", "agent-2"];
const WRITERS: [&str; 2] = ["writer-1", "writer-2"];

/// Outages: one kill, and kills for ten seconds. Well below the 40 s after which the node would count as lost.
const OUTAGES: [Duration; 2] = [Duration::ZERO, Duration::from_secs(10)];

/// Longest wait for a restarted agent: containerd is asked, the node registered, the channels opened.
const BACK_TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn containers_outlive_their_agent_and_are_adopted() {
    if let Some(missing) = cluster::containers_missing() {
        return cluster::skip(&missing);
    }
    let mut cluster = Cluster::start(&["--servers", "1", "--agents", "2"]);
    cluster.kubectl_ok(&["apply", "-f", "examples/web.yaml", "-f", "tests/adoption/writers.yaml"]);
    cluster.kubectl_ok(&["-n", "web", "rollout", "status", "deploy/web", "--timeout=90s"]);
    cluster.kubectl_ok(&["wait", "--for=condition=Ready", "pod/writer-1", "pod/writer-2", "--timeout=90s"]);
    let address = cluster.kubectl_ok(&["-n", "web", "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    cluster.wait("the service answers", Duration::from_secs(30), |_| requests::get(&address).code == 200);
    let before = Running::now(&cluster);
    assert_eq!(before.pods.len(), 5, "{before:#?}");
    // Each pod has a sandbox and one container.
    assert_eq!(before.processes.len(), 10, "{before:#?}");

    for outage_min in OUTAGES {
        let load = Load::start(&address);
        let (lines_before, began) = (lines(&cluster, "writer-1"), Instant::now());
        kill_each_time_it_comes_back(&mut cluster, outage_min);
        let outage = began.elapsed();
        cluster.wait("the adopted containers can be reached", BACK_TIMEOUT, |cluster| {
            let exec = ["--request-timeout=5s", "exec", "writer-1", "--", "true"];
            cluster.kubectl(&exec).status.success()
        });
        for writer in WRITERS {
            lines(&cluster, writer);
        }
        let (written, elapsed) = (lines(&cluster, "writer-1") - lines_before, began.elapsed());
        let report = load.stop();
        println!(
            "agent away for {outage:.1?}, reachable after {elapsed:.1?}, {written} lines written meanwhile, {} requests",
            report.sent
        );
        assert!(
            written as f64 > 50.0 * elapsed.as_secs_f64(),
            "the writer writes on: {written} in {elapsed:?}"
        );
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        settle(&mut cluster, &before);
    }
    cluster.stop();
}

/// Kills agent-1 and each of its successors until it was away for `outage_min`; the supervisor waits longer before each new start.
fn kill_each_time_it_comes_back(cluster: &mut Cluster, outage_min: Duration) {
    let began = Instant::now();
    loop {
        let killed = cluster.pid("agent-1");
        cluster.kill("agent-1");
        cluster.wait("the agent is started again", Duration::from_secs(30), |cluster| {
            let pid = cluster.pid("agent-1");
            pid.is_some() && pid != killed
        });
        if began.elapsed() >= outage_min {
            return;
        }
    }
}

/// Waits until the node is Ready as before, and checks that nothing else ever changed.
fn settle(cluster: &mut Cluster, before: &Running) {
    cluster.wait("the node is Ready", BACK_TIMEOUT, |cluster| {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        cluster.kubectl_ok(&["get", "node", "node-1", "-o", ready]) == "True"
    });
    let now = Running::now(cluster);
    assert_eq!(now.processes, before.processes, "every process is the same one");
    assert_eq!(now.pods, before.pods, "nothing of it shows in the API");
}

/// Everything that an adoption must leave alone.
#[derive(Debug)]
struct Running {
    processes: BTreeSet<ContainerProcess>,
    pods: BTreeMap<String, PodState>,
}

#[derive(Debug, PartialEq, Eq)]
struct PodState {
    uid: String,
    container_id: String,
    restart_count: u64,
    /// Status and transition time of the Ready condition: a pod that was not ready for a moment has another time.
    ready: (String, String),
}

impl Running {
    fn now(cluster: &Cluster) -> Self {
        let processes = AGENTS.into_iter().flat_map(|agent| cluster.container_processes(agent)).collect();
        let list: Value =
            serde_json::from_str(&cluster.kubectl_ok(&["get", "pods", "-A", "-o", "json"])).unwrap();
        let pods = list["items"].as_array().unwrap().iter();
        Self {
            processes,
            pods: pods.map(|pod| (text(&pod["metadata"]["name"]), PodState::of(pod))).collect(),
        }
    }
}

impl PodState {
    fn of(pod: &Value) -> Self {
        let container = &pod["status"]["containerStatuses"][0];
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        Self {
            uid: text(&pod["metadata"]["uid"]),
            container_id: text(&container["containerID"]),
            restart_count: container["restartCount"].as_u64().unwrap(),
            ready: (text(&ready["status"]), text(&ready["lastTransitionTime"])),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Reads the whole log of a writer and returns how many lines it has: each number once and in order, the first one included.
fn lines(cluster: &Cluster, writer: &str) -> usize {
    let log = cluster.kubectl_ok(&["logs", writer]);
    for (expected, line) in (1..).zip(log.lines()) {
        assert_eq!(line, format!("line {expected}"), "{writer}");
    }
    log.lines().count()
}
