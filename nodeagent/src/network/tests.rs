//! Tests with real links, in namespaces that the tests make.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use client::Cache;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::network::dataplane::{self, DataplaneCaches, DataplaneConfig};
use crate::network::hosts::{self, HostsConfig};
use crate::network::testing::{Machine, POD_PORT, ask, ask_udp, eventually};
use crate::network::{
    ClusterId, Netns, Ranges, RangesConfig, RoutesConfig, ranges, run_nft, run_routes, tool,
};

#[tokio::test(flavor = "multi_thread")]
async fn pods_reach_each_other_and_the_node() {
    let Some(machine) = Machine::new("pods_reach_each_other_and_the_node").await else { return };
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    let (a, b) = (machine.pod(&node, "a").await, machine.pod(&node, "b").await);

    assert_eq!(ask(&a.netns, b.address, POD_PORT).await.unwrap(), ("b".to_owned(), a.address));
    let (name, source) = ask(&machine.netns, a.address, POD_PORT).await.unwrap();
    assert_eq!((name.as_str(), source.to_string().as_str()), ("a", "10.244.1.1"));
    // An address that no pod has ends at once instead of leaving the machine.
    assert!(ask(&a.netns, "10.244.77.1".parse().unwrap(), POD_PORT).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_and_detach_can_be_repeated() {
    let Some(machine) = Machine::new("attach_and_detach_can_be_repeated").await else { return };
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    let sandbox = machine.sandbox("s").await;
    let place = node.attach(&sandbox, "ns/pod", "s").await.unwrap();
    assert_eq!(node.attach(&sandbox, "ns/pod", "s").await.unwrap(), place);

    // A new agent on the same record knows the pod, and can still detach it after its namespace is gone.
    let again = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    assert_eq!(again.attach(&sandbox, "ns/pod", "s").await.unwrap(), place);
    again.detach("s").await.unwrap();
    again.detach("s").await.unwrap();
    let cluster = machine.cluster;
    assert!(machine.netns.try_run(move || ranges::pod_links(cluster)).await.unwrap().is_empty());
    // Interrupted half way: the near link exists, the far one does not.
    let half = again.attach(&sandbox, "ns/pod", "s").await.unwrap();
    Netns::At(sandbox.clone()).try_run(|| tool::ip(&["link", "delete", "eth0"])).await.unwrap();
    assert_eq!(again.attach(&sandbox, "ns/pod", "s").await.unwrap(), half);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_run_is_detached_and_removal_leaves_nothing() {
    let Some(machine) = Machine::new("what_does_not_run_is_detached").await else { return };
    let before = machine.netns.try_run(state).await.unwrap();
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    machine.pod(&node, "kept").await;
    machine.pod(&node, "gone").await;
    let gone = node.retain(&BTreeSet::from(["id-kept".to_owned()])).await.unwrap();
    assert_eq!(gone, vec!["id-gone"]);
    let cluster = machine.cluster;
    assert_eq!(machine.netns.try_run(move || ranges::pod_links(cluster)).await.unwrap().len(), 1);

    machine.ranges(&machine.netns).await.remove().await.unwrap();
    assert_eq!(machine.netns.try_run(state).await.unwrap(), before);
}

/// Links, routes and rules of the calling thread's namespace.
fn state() -> Result<String, crate::network::NetworkError> {
    let links = tool::ip(&["-oneline", "link"])?;
    let routes = tool::ip(&["-4", "route", "show", "table", "all"])?;
    let rules = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    Ok(format!("{links}{routes}{}", String::from_utf8(rules.stdout).unwrap()))
}

fn node_object(name: &str, pods: &str, address: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"podCIDR": pods},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }))
    .unwrap()
}

fn two_hosts(machine: &Machine) -> HostsConfig {
    HostsConfig {
        cluster: machine.cluster,
        root: machine.netns.clone(),
        run_dir: machine.path("run"),
        count: 2,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_namespaces_route_to_each_others_pods_and_go_completely() {
    let Some(machine) = Machine::new("node_namespaces_route_to_each_others_pods").await else { return };
    let config = two_hosts(&machine);
    let before = machine.netns.try_run(state).await.unwrap();
    let hosts = hosts::create(&config).await.unwrap();
    let [first, second] = &hosts.nodes[..] else { panic!("two nodes") };
    let nodes = Cache::of(vec![
        node_object("a", "10.244.0.0/24", &first.address.to_string()),
        node_object("b", "10.244.1.0/24", &second.address.to_string()),
    ]);
    let shutdown = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    let places = [(machine.netns.clone(), None), (first.netns(), Some("a")), (second.netns(), Some("b"))];
    for (netns, own) in places {
        let pod_range = "10.244.0.0/16".parse().unwrap();
        let config = RoutesConfig { netns, own_node: own.map(str::to_owned), pod_range };
        tasks.spawn(run_routes(config, nodes.clone(), shutdown.clone()));
    }
    let (a, b) = (
        machine.node("a", &first.netns(), "10.244.0.0/24").await,
        machine.node("b", &second.netns(), "10.244.1.0/24").await,
    );
    let (pod_a, pod_b) = (machine.pod(&a, "a").await, machine.pod(&b, "b").await);
    machine.ranges(&machine.netns).await;
    eventually("pod to pod across nodes", || async {
        ask(&pod_a.netns, pod_b.address, POD_PORT)
            .await
            .is_ok_and(|answer| answer == ("b".to_owned(), pod_a.address))
    })
    .await;
    eventually("machine to pod", || async { ask(&machine.netns, pod_b.address, POD_PORT).await.is_ok() })
        .await;
    // Found again with what runs inside.
    hosts::create(&config).await.unwrap();
    assert!(ask(&pod_a.netns, pod_b.address, POD_PORT).await.is_ok());

    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    machine.ranges(&machine.netns).await.remove().await.unwrap();
    hosts::remove(&config).await.unwrap();
    hosts::remove(&config).await.unwrap();
    assert_eq!(machine.netns.try_run(state).await.unwrap(), before);
    assert!(std::fs::read_dir(machine.path("run")).unwrap().next().is_none());
}

fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// A service with one pod on each of two nodes.
fn web_caches(nodes: Cache<Node>, endpoints: [(&str, Ipv4Addr); 2]) -> DataplaneCaches {
    let endpoints = endpoints.map(
        |(node, address)| json!({"addresses": [address.to_string()], "nodeName": node, "conditions": {}}),
    );
    let slice = object(json!({
        "metadata": {"namespace": "web", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"port": POD_PORT}], "endpoints": endpoints,
    }));
    let service = object(json!({
        "metadata": {"namespace": "web", "name": "web"},
        "spec": {"clusterIP": "10.96.0.1", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]},
    }));
    DataplaneCaches { services: Cache::of(vec![service]), slices: Cache::of(vec![slice]), nodes }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_spans_node_namespaces_and_the_machine() {
    let Some(machine) = Machine::new("a_service_spans_node_namespaces_and_the_machine").await else { return };
    let config = two_hosts(&machine);
    let before = machine.netns.try_run(state).await.unwrap();
    let hosts = hosts::create(&config).await.unwrap();
    let (first, second) = (hosts.nodes[0].clone(), hosts.nodes[1].clone());
    let a = machine.node("a", &first.netns(), "10.244.0.0/24").await;
    let b = machine.node("b", &second.netns(), "10.244.1.0/24").await;
    let (pod_a, pod_b) = (machine.pod(&a, "a").await, machine.pod(&b, "b").await);
    let nodes = Cache::of(vec![
        node_object("a", "10.244.0.0/24", &first.address.to_string()),
        node_object("b", "10.244.1.0/24", &second.address.to_string()),
    ]);
    let caches = web_caches(nodes, [("a", pod_a.address), ("b", pod_b.address)]);

    let shutdown = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    let plane = |netns: Netns, node: Option<(&str, &str)>| DataplaneConfig {
        cluster: machine.cluster,
        netns,
        dns: node.map(|_| ("10.96.0.10".parse().unwrap(), "cluster.local".to_owned())),
        node: node.map(|(name, range)| (name.to_owned(), range.parse().unwrap())),
        pod_range: "10.244.0.0/16".parse().unwrap(),
        service_range: "10.96.0.0/16".parse().unwrap(),
    };
    let root = plane(machine.netns.clone(), None);
    let planes = [
        root.clone(),
        plane(first.netns(), Some(("a", "10.244.0.0/24"))),
        plane(second.netns(), Some(("b", "10.244.1.0/24"))),
    ];
    for plane in planes {
        tasks.spawn(dataplane::run(plane, caches.clone(), shutdown.clone()));
    }
    // From each place both pods answer: by service address, and by node port of either node.
    let vip = "10.96.0.1".parse().unwrap();
    let (first_port, second_port) = ((first.address, 30080), (second.address, 30080));
    let asked = [
        (&machine.netns, (vip, 80)),
        (&pod_a.netns, (vip, 80)),
        (&pod_b.netns, (vip, 80)),
        (&machine.netns, first_port),
        (&machine.netns, second_port),
        (&pod_a.netns, second_port),
    ];
    for (from, (address, port)) in asked {
        for name in ["a", "b"] {
            let what = format!("{name} answers {from:?} at {address}:{port}");
            eventually(&what, || async {
                ask(from, address, port).await.is_ok_and(|answer| answer.0 == name)
            })
            .await;
        }
    }
    // Names on a node that also has service rules.
    let dns = std::net::SocketAddrV4::new("10.96.0.10".parse().unwrap(), 53);
    let question =
        b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\x03web\x03svc\x07cluster\x05local\0\0\x01\0\x01".to_vec();
    let answer = ask_udp(&pod_a.netns, dns, question).await.unwrap();
    assert!(answer.ends_with(&[10, 96, 0, 1]), "{answer:?}");

    shutdown.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().unwrap();
    }
    dataplane::remove(&root).await.unwrap();
    hosts::remove(&config).await.unwrap();
    assert_eq!(machine.netns.try_run(state).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_another_cluster_are_seen_and_own_left_overs_are_not_in_the_way() {
    let Some(machine) = Machine::new("ranges_of_another_cluster_are_seen").await else { return };
    let own = ClusterId::from_bytes([1, 2, 3, 4]);
    let config = |cluster, pods: &str, services: &str| RangesConfig {
        cluster,
        netns: machine.netns.clone(),
        pod_range: pods.parse().unwrap(),
        service_range: services.parse().unwrap(),
        source: None,
    };
    let same = config(own, "10.244.0.0/16", "10.96.0.0/16");
    assert_eq!(Ranges::taken_by(&same).await.unwrap(), None);

    let other = machine.ranges(&machine.netns).await;
    let table = machine.cluster.services_table();
    let add_table =
        |table: String| machine.netns.try_run(move || run_nft(&format!("add table ip {table}\n")));
    add_table(table.clone()).await.unwrap();
    for taken in
        [same.clone(), config(own, "10.0.0.0/8", "11.0.0.0/16"), config(own, "11.0.0.0/16", "10.96.7.0/24")]
    {
        assert_eq!(Ranges::taken_by(&taken).await.unwrap(), Some(table.clone()), "{taken:?}");
    }
    let apart = config(own, "10.245.0.0/16", "10.97.0.0/16");
    assert_eq!(Ranges::taken_by(&apart).await.unwrap(), None);
    // A table of our own says that the routes are ours.
    add_table(own.services_table()).await.unwrap();
    assert_eq!(Ranges::taken_by(&same).await.unwrap(), None);
    other.remove().await.unwrap();
}
