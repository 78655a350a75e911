//! Golden rows, and real connections through the rules in namespaces that the tests make.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use client::Cache;
use client::watcher::Update;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::network::testing::{Machine, POD_PORT, Pod, ask, ask_udp, eventually};
use crate::network::{Netns, run_nft};
use crate::proxy::index::ServiceIndex;
use crate::proxy::model::Model;
use crate::proxy::{ProxyConfig, Scope, run};

fn service(name: &str, cluster_ip: &str, more: serde_json::Value) -> Service {
    let mut value = json!({
        "metadata": {"namespace": "web", "name": name, "uid": name},
        "spec": {"clusterIP": cluster_ip, "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]},
    });
    json_merge(&mut value["spec"], more);
    serde_json::from_value(value).unwrap()
}

fn json_merge(into: &mut serde_json::Value, more: serde_json::Value) {
    for (key, value) in more.as_object().unwrap() {
        into[key] = value.clone();
    }
}

/// A slice whose endpoints are addresses with conditions: `(address, ready, terminating)`.
fn slice(service: &str, endpoints: &[(String, bool, bool)]) -> EndpointSlice {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(address, ready, terminating)| {
            json!({
                "addresses": [address],
                "nodeName": "node-a",
                "conditions": {"ready": ready, "serving": true, "terminating": terminating},
            })
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {
            "namespace": "web", "name": format!("{service}-1"), "uid": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"port": POD_PORT, "protocol": "TCP"}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn ready(pods: &[&Pod]) -> Vec<(String, bool, bool)> {
    pods.iter().map(|pod| (pod.address.to_string(), true, false)).collect()
}

fn addresses(list: &[&str]) -> Vec<(String, bool, bool)> {
    list.iter().map(|address| ((*address).to_owned(), true, false)).collect()
}

fn scope() -> Scope {
    Scope {
        node: Some(("node-a".to_owned(), "10.244.1.0/29".parse().unwrap())),
        pod_range: "10.244.0.0/16".parse().unwrap(),
        service_range: "10.96.0.0/16".parse().unwrap(),
        dns: Some("10.96.0.10".parse().unwrap()),
    }
}

fn model() -> Model {
    Model::new("keelson-deadbeef".to_owned(), scope())
}

fn update(model: &mut Model, index: &mut ServiceIndex, slice: EndpointSlice) -> String {
    let key = index.set_slice(Arc::new(slice)).unwrap();
    model.update_all(&BTreeSet::from([key]), index).text("t")
}

#[test]
fn the_whole_table() {
    let mut index = ServiceIndex::default();
    let mut model = model();
    let more = json!({"type": "NodePort", "externalTrafficPolicy": "Local",
        "ports": [{"port": 80, "nodePort": 30080}]});
    index.set_service(Arc::new(service("web", "10.96.0.1", more)));
    update(&mut model, &mut index, slice("web", &addresses(&["10.244.1.2", "10.244.1.3"])));
    insta::assert_snapshot!("table", model.table().replace_text());
}

#[test]
fn a_change_of_one_endpoint_is_a_few_elements() {
    let mut index = ServiceIndex::default();
    let mut model = model();
    index.set_service(Arc::new(service("web", "10.96.0.1", json!({}))));
    update(&mut model, &mut index, slice("web", &addresses(&["10.244.1.2", "10.244.1.3", "10.244.1.4"])));
    let text =
        update(&mut model, &mut index, slice("web", &addresses(&["10.244.1.2", "10.244.1.4", "10.244.2.9"])));
    insta::assert_snapshot!(text, @r"
    delete element ip t eps-tcp { 10.96.0.1 . 80 . 1 }
    add element ip t eps-tcp { 10.96.0.1 . 80 . 1 : 10.244.2.9 . 8080 }
    ");
    let text = update(&mut model, &mut index, slice("web", &addresses(&["10.244.1.4", "10.244.2.9"])));
    insta::assert_snapshot!(text, @r"
    table ip t {
    	chain lb-tcp-2 {
    		dnat ip to ip daddr . tcp dport . numgen random mod 2 map @eps-tcp
    	}
    }
    delete element ip t eps-tcp { 10.96.0.1 . 80 . 0, 10.96.0.1 . 80 . 2 }
    delete element ip t svcs { 10.96.0.1 . tcp . 80 }
    add element ip t eps-tcp { 10.96.0.1 . 80 . 0 : 10.244.1.4 . 8080 }
    add element ip t svcs { 10.96.0.1 . tcp . 80 : goto lb-tcp-2 }
    ");
    // The chain for three is still there.
    let text =
        update(&mut model, &mut index, slice("web", &addresses(&["10.244.1.4", "10.244.2.9", "10.244.1.7"])));
    insta::assert_snapshot!(text, @r"
    delete element ip t svcs { 10.96.0.1 . tcp . 80 }
    add element ip t eps-tcp { 10.96.0.1 . 80 . 2 : 10.244.1.7 . 8080 }
    add element ip t svcs { 10.96.0.1 . tcp . 80 : goto lb-tcp-3 }
    ");
}

#[test]
fn each_protocol_has_endpoints_and_chains_of_its_own() {
    let mut index = ServiceIndex::default();
    let mut model = model();
    let ports = json!({"ports": [
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]});
    index.set_service(Arc::new(service("dns", "10.96.0.5", ports)));
    let mut slice = slice("dns", &addresses(&["10.244.1.2"]));
    slice.ports =
        serde_json::from_value(json!([{"name": "dns", "port": 53}, {"name": "dns-tcp", "port": 53}]))
            .unwrap();
    insta::assert_snapshot!(update(&mut model, &mut index, slice), @r"
    table ip t {
    	chain lb-tcp-1 {
    		dnat ip to ip daddr . tcp dport . numgen random mod 1 map @eps-tcp
    	}
    	chain lb-udp-1 {
    		dnat ip to ip daddr . udp dport . numgen random mod 1 map @eps-udp
    	}
    }
    add element ip t eps-tcp { 10.96.0.5 . 53 . 0 : 10.244.1.2 . 53 }
    add element ip t eps-udp { 10.96.0.5 . 53 . 0 : 10.244.1.2 . 53 }
    add element ip t svcs { 10.96.0.5 . tcp . 53 : goto lb-tcp-1, 10.96.0.5 . udp . 53 : goto lb-udp-1 }
    ");
}

#[test]
fn ending_endpoints_serve_only_while_nobody_is_ready() {
    let mut index = ServiceIndex::default();
    let mut model = model();
    index.set_service(Arc::new(service("web", "10.96.0.1", json!({}))));
    let (old, new) = (("10.244.1.2".to_owned(), false, true), ("10.244.1.3".to_owned(), true, false));
    assert!(update(&mut model, &mut index, slice("web", std::slice::from_ref(&old))).contains("10.244.1.2"));
    let text = update(&mut model, &mut index, slice("web", &[old, new]));
    assert!(text.contains("add element ip t eps-tcp { 10.96.0.1 . 80 . 0 : 10.244.1.3 . 8080 }"), "{text}");
    let text = update(&mut model, &mut index, slice("web", &[("10.244.1.2".to_owned(), false, false)]));
    assert!(text.starts_with("delete") && !text.contains("add"), "{text}");
}

#[test]
fn headless_and_external_services_have_no_rows() {
    let mut index = ServiceIndex::default();
    let mut model = model();
    index.set_service(Arc::new(service("web", "None", json!({}))));
    assert_eq!(update(&mut model, &mut index, slice("web", &addresses(&["10.244.1.2"]))), "");
}

/// A node with service rules that follow two caches.
struct Cluster {
    machine: Machine,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    revision: std::sync::atomic::AtomicU64,
    _proxy: AbortOnDropHandle<()>,
}

impl Cluster {
    async fn new(machine: Machine) -> Self {
        let (services, slices) = (Cache::of(Vec::new()), Cache::of(Vec::new()));
        let node = Some(("node-a".to_owned(), "10.244.1.0/24".parse().unwrap()));
        let config = ProxyConfig {
            cluster: machine.cluster,
            netns: machine.netns.clone(),
            scope: Scope { node, ..scope() },
        };
        let rules = run(config, services.clone(), slices.clone(), CancellationToken::new());
        let proxy = AbortOnDropHandle::new(tokio::spawn(async { rules.await.unwrap() }));
        Self { machine, services, slices, revision: 1.into(), _proxy: proxy }
    }

    fn next_revision(&self) -> u64 {
        self.revision.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }

    fn apply_service(&self, mut object: Service) {
        let revision = self.next_revision();
        object.metadata.resource_version = Some(revision.to_string());
        self.services.update(Update::Apply { object, revision });
    }

    fn apply_slice(&self, mut object: EndpointSlice) {
        let revision = self.next_revision();
        object.metadata.resource_version = Some(revision.to_string());
        self.slices.update(Update::Apply { object, revision });
    }

    /// The kernel's number for the table: another one means that the whole table was replaced.
    async fn table_handle(&self) -> u64 {
        let listed = self.machine.netns.run(|| Command::new("nft").args(["-j", "list", "tables"]).output());
        let listed: serde_json::Value =
            serde_json::from_slice(&listed.await.unwrap().unwrap().stdout).unwrap();
        let name = self.machine.cluster.services_table();
        let mut tables = listed["nftables"].as_array().unwrap().iter().map(|entry| &entry["table"]);
        tables.find(|table| table["name"] == name).unwrap()["handle"].as_u64().unwrap()
    }

    async fn answers(&self, from: &Netns, address: &str, port: u16, count: usize) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for _ in 0..count {
            names.insert(ask(from, address.parse().unwrap(), port).await.unwrap().0);
        }
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_answered_by_all_its_pods_from_everywhere() {
    let Some(machine) = Machine::new("a_service_is_answered_by_all_its_pods").await else { return };
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    let (a, b, c) =
        (machine.pod(&node, "a").await, machine.pod(&node, "b").await, machine.pod(&node, "c").await);
    let cluster = Cluster::new(machine).await;
    let own = &cluster.machine.netns;
    let all: BTreeSet<String> = ["a", "b", "c"].map(str::to_owned).into();
    let ports = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    cluster.apply_service(service("web", "10.96.0.1", ports));
    cluster.apply_slice(slice("web", &ready(&[&a, &b, &c])));
    let vip = "10.96.0.1";
    eventually("first answer", || async { ask(own, vip.parse().unwrap(), 80).await.is_ok() }).await;

    assert_eq!(cluster.answers(own, vip, 80, 60).await, all, "from the node");
    assert_eq!(cluster.answers(&a.netns, vip, 80, 60).await, all, "from one of the pods, itself too");
    assert_eq!(cluster.answers(&b.netns, "10.244.1.1", 30080, 60).await, all, "node port");
    // A pod's address stays visible to the others.
    let seen = ask(&a.netns, vip.parse().unwrap(), 80).await.unwrap();
    assert!(seen.1 == a.address || seen.0 == "a");

    let started = std::time::Instant::now();
    for _ in 0..10 {
        for from in [own, &a.netns] {
            let refused = ask(from, vip.parse().unwrap(), 81).await.unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "refusals are not rate-limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_endpoints_refuse_and_sticky_clients_stay() {
    let Some(machine) = Machine::new("no_endpoints_refuse_and_sticky_clients_stay").await else { return };
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    let (a, b) = (machine.pod(&node, "a").await, machine.pod(&node, "b").await);
    let cluster = Cluster::new(machine).await;
    let own = &cluster.machine.netns;
    let vip = "10.96.0.2".parse().unwrap();
    cluster.apply_service(service("web", "10.96.0.2", json!({"sessionAffinity": "ClientIP"})));
    cluster.apply_slice(slice("web", &ready(&[&a, &b])));
    eventually("first answer", || async { ask(own, vip, 80).await.is_ok() }).await;
    for from in [own, &a.netns, &b.netns] {
        assert_eq!(cluster.answers(from, "10.96.0.2", 80, 20).await.len(), 1);
    }
    cluster.apply_slice(slice("web", &[]));
    let refused = || async {
        ask(own, vip, 80).await.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    eventually("refusal", refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replacing_every_endpoint_loses_no_connection() {
    let Some(machine) = Machine::new("replacing_every_endpoint_loses_no_connection").await else { return };
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    let mut pods = Vec::new();
    for name in ["a", "b", "c", "d"] {
        pods.push(machine.pod(&node, name).await);
    }
    let cluster = Cluster::new(machine).await;
    let own = &cluster.machine.netns;
    cluster.apply_service(service("web", "10.96.0.3", json!({})));
    cluster.apply_slice(slice("web", &ready(&[&pods[0], &pods[1]])));
    let vip = "10.96.0.3".parse().unwrap();
    eventually("first answer", || async { ask(own, vip, 80).await.is_ok() }).await;
    for round in 0..20_usize {
        let now: Vec<&Pod> = pods.iter().cycle().skip(round).take(1 + round % 3).collect();
        cluster.apply_slice(slice("web", &ready(&now)));
        for _ in 0..10 {
            ask(own, vip, 80).await.unwrap();
        }
    }
    let last = ready(&[&pods[3]]);
    cluster.apply_slice(slice("web", &last));
    eventually("the last set", || async {
        cluster.answers(own, "10.96.0.3", 80, 10).await == ["d".to_owned()].into()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_among_many_services_leaves_the_table_in_place() {
    let Some(machine) = Machine::new("a_change_among_many_services_leaves_the_table_in_place").await else {
        return;
    };
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    let (a, b, c) =
        (machine.pod(&node, "a").await, machine.pod(&node, "b").await, machine.pod(&node, "c").await);
    let cluster = Cluster::new(machine).await;
    let own = &cluster.machine.netns;
    for number in 0..1000 {
        let (name, address) =
            (format!("other-{number}"), format!("10.96.{}.{}", 1 + number / 250, number % 250));
        cluster.apply_service(service(&name, &address, json!({})));
        cluster.apply_slice(slice(&name, &addresses(&["10.244.200.1", "10.244.200.2"])));
    }
    let ports = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    cluster.apply_service(service("web", "10.96.0.6", ports));
    let vip = "10.96.0.6".parse().unwrap();
    cluster.apply_slice(slice("web", &ready(&[&a])));
    eventually("first answer", || async { ask(own, vip, 80).await.is_ok() }).await;

    let handle = cluster.table_handle().await;
    // The first needs chains that are not there yet, the others only elements.
    for pods in [&[&a, &b, &c][..], &[&b], &[&b, &c, &a]] {
        cluster.apply_slice(slice("web", &ready(pods)));
        let names: BTreeSet<String> = pods.iter().map(|pod| pod.name.clone()).collect();
        for (address, port) in [("10.96.0.6", 80), ("10.244.1.1", 30080)] {
            eventually("exactly the new endpoints", || async {
                cluster.answers(own, address, port, 60).await == names
            })
            .await;
        }
        assert_eq!(cluster.table_handle().await, handle, "the table was replaced");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_took_away_is_put_back_with_the_next_change() {
    let Some(machine) = Machine::new("a_table_that_somebody_took_away").await else { return };
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    let (a, b) = (machine.pod(&node, "a").await, machine.pod(&node, "b").await);
    let cluster = Cluster::new(machine).await;
    let own = &cluster.machine.netns;
    let vip = "10.96.0.7".parse().unwrap();
    cluster.apply_service(service("web", "10.96.0.7", json!({})));
    cluster.apply_slice(slice("web", &ready(&[&a])));
    eventually("first answer", || async { ask(own, vip, 80).await.is_ok() }).await;
    let delete = format!("delete table ip {}", cluster.machine.cluster.services_table());
    own.try_run(move || run_nft(&delete)).await.unwrap();
    assert!(ask(own, vip, 80).await.is_err(), "without rules nobody answers");
    cluster.apply_slice(slice("web", &ready(&[&a, &b])));
    eventually("answers again", || async { ask(own, vip, 80).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_reach_an_endpoint_too() {
    let Some(machine) = Machine::new("datagrams_reach_an_endpoint_too").await else { return };
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    let (client, server) = (machine.pod(&node, "a").await, machine.pod(&node, "b").await);
    let socket =
        server.netns.run(|| std::net::UdpSocket::bind(("0.0.0.0", POD_PORT)).unwrap()).await.unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
    let _echo = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&buffer[..length], peer).await.unwrap();
        }
    }));
    let cluster = Cluster::new(machine).await;
    let own = &cluster.machine.netns;
    let vip = std::net::SocketAddrV4::new("10.96.0.4".parse().unwrap(), 80);
    // Before there is an endpoint: refused at once.
    eventually("refusal", || async {
        ask_udp(own, vip, b"x".to_vec())
            .await
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })
    .await;
    cluster.apply_service(service("web", "10.96.0.4", json!({"ports": [{"port": 80, "protocol": "UDP"}]})));
    cluster.apply_slice(slice("web", &ready(&[&server])));
    for from in [own, &client.netns, &server.netns] {
        eventually("echo", || async {
            ask_udp(from, vip, b"hello".to_vec()).await.is_ok_and(|answer| answer == b"hello")
        })
        .await;
    }
}
