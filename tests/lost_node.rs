//! A node whose agent stays away: its pods leave their service and are replaced; when it returns, it takes up what is still its own
//! and ends what is not.

mod cluster;
#[path = "web/requests.rs"]
#[expect(dead_code, reason = "this test sends single requests only")]
mod requests;

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::Cluster;
use requests::Answer;
use serde_json::Value;

const LOST_NODE: &str = "node-1";
const LOST_AGENT: &str = "agent-1";
const REPLICAS: usize = 4;

/// Longer than the pause between two heartbeats, which is 10 s.
const MONITOR_GRACE_SECONDS: &str = "16";
/// Long enough for a node that was lost to come back in time.
const EVICTION_SECONDS: &str = "20";

/// Requests after which every one of four pods has answered: the odds to miss one are 4 × (3/4)^80, below 10^-9.
const REQUESTS: usize = 80;

#[test]
fn pods_of_a_lost_node_are_replaced_and_gone_when_it_returns() {
    if let Some(missing) = cluster::containers_missing() {
        return cluster::skip(&missing);
    }
    let mut cluster = Cluster::start(&[
        "--servers",
        "1",
        "--agents",
        "2",
        "--node-monitor-grace-seconds",
        MONITOR_GRACE_SECONDS,
        "--pod-eviction-seconds",
        EVICTION_SECONDS,
    ]);
    cluster.kubectl_ok(&["apply", "-f", "examples/web.yaml"]);
    cluster.kubectl_ok(&["-n", "web", "scale", "deploy/web", &format!("--replicas={REPLICAS}")]);
    wait_for_ready(&mut cluster, "all pods are ready", REPLICAS);
    let started = pods(&cluster);
    assert!(started.iter().any(|pod| pod.node == LOST_NODE), "{started:#?}");
    assert!(started.iter().any(|pod| pod.node != LOST_NODE), "{started:#?}");
    answers_come_from(&mut cluster, &started);

    comes_back_in_time(&mut cluster, &started);
    stays_away(&mut cluster, &started);
    cluster.stop();
}

/// Lost, and back before its pods had to go: the same containers serve again.
fn comes_back_in_time(cluster: &mut Cluster, started: &BTreeSet<Pod>) {
    let processes = cluster.container_processes(LOST_AGENT);
    cluster.pause(LOST_AGENT);
    wait_until_lost(cluster);
    let elsewhere: BTreeSet<Pod> = started.iter().filter(|pod| pod.node != LOST_NODE).cloned().collect();
    wait_for_ready(cluster, "pods of the lost node are not ready", elsewhere.len());
    answers_come_from(cluster, &elsewhere);
    cluster.resume(LOST_AGENT);
    wait_until_back(cluster);
    wait_for_ready(cluster, "its pods are ready again", REPLICAS);
    assert_eq!(&pods(cluster), started, "no pod was replaced");
    assert_eq!(cluster.container_processes(LOST_AGENT), processes, "no container was restarted");
    answers_come_from(cluster, started);
}

/// Lost for longer than pods may stay: they are replaced, and end when their node returns.
fn stays_away(cluster: &mut Cluster, started: &BTreeSet<Pod>) {
    cluster.pause(LOST_AGENT);
    wait_until_lost(cluster);
    let took = cluster.wait("its pods are replaced", Duration::from_secs(90), |cluster| {
        let pods = pods(cluster);
        pods.len() == REPLICAS && pods.iter().all(|pod| pod.node != LOST_NODE)
    });
    println!("replaced {took:.1?} after the node was NotReady");
    wait_for_ready(cluster, "the replacements are ready", REPLICAS);
    let replaced = pods(cluster);
    let lost: Vec<&Pod> = started.iter().filter(|pod| pod.node == LOST_NODE).collect();
    let runs = |cluster: &Cluster, pod: &Pod| {
        let processes = cluster.container_processes(LOST_AGENT);
        processes.iter().any(|process| process.cgroup.contains(&pod.uid))
    };
    for pod in &lost {
        assert!(runs(cluster, pod), "{pod:?} still runs: nobody has told its node");
    }
    answers_come_from(cluster, &replaced);

    cluster.resume(LOST_AGENT);
    wait_until_back(cluster);
    cluster.wait("the old containers end", Duration::from_secs(60), |cluster| {
        !lost.iter().any(|pod| runs(cluster, pod))
    });
    cluster.wait("the old pods' objects go", Duration::from_secs(30), |cluster| {
        let names = cluster.kubectl_ok(&["-n", "web", "get", "pods", "-o", "name"]);
        !lost.iter().any(|pod| names.contains(&pod.name))
    });
    assert_eq!(pods(cluster), replaced, "the replacements stay");
    answers_come_from(cluster, &replaced);
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pod {
    name: String,
    uid: String,
    node: String,
}

/// Returns the pods that are not being deleted.
fn pods(cluster: &Cluster) -> BTreeSet<Pod> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list: Value =
        serde_json::from_str(&cluster.kubectl_ok(&["-n", "web", "get", "pods", "-o", "json"])).unwrap();
    let pods = list["items"].as_array().unwrap().iter();
    let living = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    living
        .map(|pod| Pod {
            name: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
            node: text(&pod["spec"]["nodeName"]),
        })
        .collect()
}

fn wait_for_ready(cluster: &mut Cluster, what: &str, count: usize) {
    cluster.wait(what, Duration::from_secs(90), |cluster| {
        let ready = "jsonpath={.status.readyReplicas}";
        let shown = cluster.kubectl_ok(&["-n", "web", "get", "deploy", "web", "-o", ready]);
        shown.parse().unwrap_or(0) == count
    });
}

/// The node's state as upstream's users know it from a node that is cut off.
fn wait_until_lost(cluster: &mut Cluster) {
    let took = cluster.wait("the node is NotReady", Duration::from_secs(60), |cluster| {
        let node = node(cluster);
        let condition = ready_condition(&node);
        condition["status"] == "Unknown" && condition["reason"] == "NodeStatusUnknown"
    });
    println!("NotReady {took:.1?} after its agent fell silent");
    cluster.wait("the node is tainted", Duration::from_secs(10), |cluster| {
        let wanted = ["NoExecute", "NoSchedule"].map(|effect| ("node.kubernetes.io/unreachable", effect));
        taints(&node(cluster)) == wanted.map(|(key, effect)| (key.to_owned(), effect.to_owned())).into()
    });
}

fn wait_until_back(cluster: &mut Cluster) {
    let took = cluster.wait("the node is Ready again", Duration::from_secs(30), |cluster| {
        let node = node(cluster);
        ready_condition(&node)["status"] == "True" && taints(&node).is_empty()
    });
    println!("Ready {took:.1?} after its agent went on");
}

fn node(cluster: &Cluster) -> Value {
    serde_json::from_str(&cluster.kubectl_ok(&["get", "node", LOST_NODE, "-o", "json"])).unwrap()
}

fn ready_condition(node: &Value) -> &Value {
    let conditions = node["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == "Ready").unwrap()
}

fn taints(node: &Value) -> BTreeSet<(String, String)> {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    taints.map(|taint| (text(&taint["key"]), text(&taint["effect"]))).collect()
}

/// Waits until exactly these pods answer; no request fails meanwhile.
fn answers_come_from(cluster: &mut Cluster, expected: &BTreeSet<Pod>) {
    let names: BTreeSet<String> = expected.iter().map(|pod| pod.name.clone()).collect();
    cluster.wait("the service has these endpoints", Duration::from_secs(20), |cluster| {
        let ready =
            "jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.targetRef.name} {end}";
        let selector = "kubernetes.io/service-name=web";
        let shown = cluster.kubectl_ok(&["-n", "web", "get", "endpointslices", "-l", selector, "-o", ready]);
        shown.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>() == names
    });
    let address = cluster.kubectl_ok(&["-n", "web", "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    // The machine's own rules follow the slices a moment later.
    cluster.wait("exactly these pods answer", Duration::from_secs(20), |_| {
        let answers: Vec<_> = (0..REQUESTS).map(|_| requests::get(&address)).collect();
        assert!(answers.iter().all(|answer| answer.code == 200), "{answers:?}");
        answers.iter().filter_map(Answer::pod_name).collect::<BTreeSet<_>>() == names
    });
}
