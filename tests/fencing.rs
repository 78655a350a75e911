//! A leader that sleeps between its decision and its write, while another takes over: the late write is refused and counted, and the
//! cluster has exactly what was asked for.

mod cluster;

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::Cluster;
use serde_json::Value;

const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];

/// The leader must be seen waiting and be stopped within this time, also on a machine that is busy.
const COMMIT_DELAY_MS: &str = "6000";

/// A silent leader's lock falls after 15 s; the store may have to elect a leader first, which gives the lock its full time again.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// Every plan on the way to ready pods waits for the delay.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(90);

const LEADS: &str = r#"leader_election_master_status{name="kube-controller-manager"}"#;
const DELAYED: &str = r#"controller_commits_delayed{controller="replicaset-controller"}"#;
const REFUSED_BY_SERVER: &str = "keelson_apiserver_fenced_out_total";
const REFUSED_TO_CONTROLLERS: &str = "controller_fenced_out_total";

const PODS: &str = "/api/v1/namespaces/default/pods";

#[test]
fn the_write_of_a_leader_that_slept_is_refused_and_counted() {
    let mut cluster = Cluster::start(&[
        "--servers",
        "3",
        "--agents",
        "0",
        "--hollow-nodes",
        "2",
        "--controllers-commit-delay-ms",
        COMMIT_DELAY_MS,
    ]);
    cluster.kubectl_ok(&["create", "-f", "tests/fencing/replica_set.yaml"]);
    cluster.wait("two pods are ready", CONVERGENCE_TIMEOUT, |cluster| ready_pods(cluster, "keelson") == 2);

    let sleeper = leader(&mut cluster, &SERVERS);
    let others: Vec<&str> = SERVERS.into_iter().filter(|&server| server != sleeper).collect();
    let witness = others[0];
    cluster.wait("the leader has nothing left to write", CONVERGENCE_TIMEOUT, |cluster| {
        cluster.metric(sleeper, DELAYED) == Some(0.0)
    });
    assert_eq!(cluster.metric(sleeper, REFUSED_TO_CONTROLLERS), Some(0.0));
    let before = pod_list(&cluster, witness);
    let revision = before["metadata"]["resourceVersion"].as_str().unwrap().to_owned();

    stop_between_decision_and_write(&mut cluster, sleeper, witness);
    assert_eq!(uids(&pod_list(&cluster, witness)), uids(&before), "stopped before it wrote");
    let successor = leader(&mut cluster, &others);
    println!("{sleeper} stopped, {successor} leads");
    // Asked through the one address of all servers, which passes over the one that stands still.
    cluster.wait("the new leader makes five pods ready", CONVERGENCE_TIMEOUT, |cluster| {
        ready_pods(cluster, "keelson") == 5
    });
    let wanted = uids(&pod_list(&cluster, witness));
    let refused_before = refused(&cluster, &others);

    cluster.resume(sleeper);
    cluster.wait("the woken leader is refused", Duration::from_secs(30), |cluster| {
        cluster.metric(sleeper, REFUSED_TO_CONTROLLERS) >= Some(1.0)
            && refused(cluster, &SERVERS) > refused_before
    });
    cluster.wait("it leads no more and serves again", Duration::from_secs(30), |cluster| {
        cluster.metric(sleeper, LEADS) == Some(0.0) && is_ready(cluster, sleeper)
    });
    assert_eq!(cluster.metric(successor, LEADS), Some(1.0), "the successor goes on");

    assert_eq!(uids(&pod_list(&cluster, sleeper)), wanted, "as the woken server shows it");
    let events = pod_events(&cluster, witness, &revision);
    let added: BTreeSet<String> = events.iter().filter(|event| event["type"] == "ADDED").map(uid).collect();
    assert_eq!(added, &wanted - &uids(&before), "nobody ever made another pod");
    assert!(events.iter().all(|event| event["type"] != "DELETED"), "and nobody had to take one away");
    cluster.stop();
}

/// Asks for five pods, waits until the leader has decided on them, and stops it before it writes.
fn stop_between_decision_and_write(cluster: &mut Cluster, sleeper: &str, witness: &str) {
    cluster.kubectl_ok(&["--context", witness, "scale", "replicaset/fenced", "--replicas=5"]);
    cluster.wait("the leader has decided", Duration::from_secs(20), |cluster| {
        cluster.metric(sleeper, DELAYED) == Some(1.0)
    });
    cluster.pause(sleeper);
}

/// Waits until exactly one of these servers leads the controllers.
fn leader<'a>(cluster: &mut Cluster, servers: &[&'a str]) -> &'a str {
    let leading = |cluster: &Cluster| {
        let leads = |server: &&&str| cluster.metric(server, LEADS) == Some(1.0);
        servers.iter().filter(leads).copied().collect::<Vec<_>>()
    };
    let took = cluster.wait("one manager leads", TAKEOVER_TIMEOUT, |cluster| leading(cluster).len() == 1);
    let leader = leading(cluster)[0];
    println!("{leader} leads the controllers, seen after {took:?}");
    leader
}

/// Writes that these servers refused because their author's leadership was over.
fn refused(cluster: &Cluster, servers: &[&str]) -> f64 {
    servers.iter().filter_map(|server| cluster.metric(server, REFUSED_BY_SERVER)).sum()
}

fn ready_pods(cluster: &Cluster, context: &str) -> u64 {
    let jsonpath = "-o=jsonpath={.status.readyReplicas}";
    let output = cluster.kubectl(&["--context", context, "get", "replicaset/fenced", jsonpath]);
    String::from_utf8_lossy(&output.stdout).parse().unwrap_or(0)
}

fn is_ready(cluster: &Cluster, server: &str) -> bool {
    let ready = ["--context", server, "--request-timeout=3s", "get", "--raw", "/readyz"];
    cluster.kubectl(&ready).status.success()
}

fn pod_list(cluster: &Cluster, server: &str) -> Value {
    serde_json::from_str(&cluster.kubectl_ok(&["--context", server, "get", "--raw", PODS])).unwrap()
}

fn uids(list: &Value) -> BTreeSet<String> {
    let uid = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(uid).collect()
}

/// Returns everything that happened to pods since a revision.
fn pod_events(cluster: &Cluster, server: &str, revision: &str) -> Vec<Value> {
    let watch = format!("{PODS}?watch=1&resourceVersion={revision}&timeoutSeconds=3");
    let text = cluster.kubectl_ok(&["--context", server, "get", "--raw", &watch]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn uid(event: &Value) -> String {
    event["object"]["metadata"]["uid"].as_str().unwrap().to_owned()
}
