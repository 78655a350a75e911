//! What names mean, and real queries over UDP and TCP.

use std::net::SocketAddrV4;
use std::sync::Arc;

use client::Cache;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::dns::zone::{Answer, Fact, Question, Zone};
use crate::dns::{DnsConfig, ZoneConfig, run};
use crate::network::Netns;
use crate::network::testing::{Machine, ask_tcp, ask_udp, eventually};
use crate::proxy::ServiceIndex;

fn config() -> ZoneConfig {
    ZoneConfig {
        domain: "cluster.local".to_owned(),
        service_range: "10.96.0.0/16".parse().unwrap(),
        pod_range: "10.244.0.0/16".parse().unwrap(),
    }
}

fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"namespace": "web", "name": name, "uid": name}, "spec": spec}))
        .unwrap()
}

fn slice(service: &str, endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {
            "namespace": "web", "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn services() -> Vec<Service> {
    let ports = json!([{"name": "http", "port": 80}, {"name": "http", "port": 80, "protocol": "UDP"}]);
    vec![
        service("web", json!({"clusterIP": "10.96.0.7", "ports": ports})),
        service("plain", json!({"clusterIP": "10.96.0.8", "ports": [{"port": 80}]})),
        service("db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})),
        service("empty", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})),
        service("out", json!({"type": "ExternalName", "externalName": "example.com."})),
        service("alias", json!({"type": "ExternalName", "externalName": "web.web.svc.cluster.local"})),
        service("loop", json!({"type": "ExternalName", "externalName": "loop.web.svc.cluster.local"})),
    ]
}

fn slices() -> Vec<EndpointSlice> {
    let endpoints = json!([
        {"addresses": ["10.244.1.2"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.244.1.3"]},
        {"addresses": ["10.244.1.4"], "conditions": {"ready": false, "serving": true, "terminating": true}},
    ]);
    let ending = json!([
        {"addresses": ["10.244.1.9"], "conditions": {"ready": false, "serving": true, "terminating": true}},
    ]);
    vec![slice("db", endpoints), slice("empty", ending)]
}

fn zone() -> Zone {
    let (mut index, mut zone) = (ServiceIndex::default(), Zone::new(config()));
    let mut keys: Vec<_> =
        services().into_iter().map(|service| index.set_service(Arc::new(service))).collect();
    keys.extend(slices().into_iter().filter_map(|slice| index.set_slice(Arc::new(slice))));
    keys.iter().for_each(|key| zone.update(key, &index));
    zone
}

fn check(name: &str, question: Question, expected: &[&str]) {
    let text = match zone().answer(name, question) {
        Answer::Facts(facts) => facts
            .into_iter()
            .map(|(_, fact)| match fact {
                Fact::Address(address) => address.to_string(),
                Fact::Alias(target) | Fact::Pointer(target) | Fact::Text(target) => target,
                Fact::Service { port, target } => format!("{port} {target}"),
                Fact::Authority => "authority".to_owned(),
            })
            .collect(),
        other => vec![format!("{other:?}")],
    };
    assert_eq!(text, expected, "{name} {question:?}");
}

#[test]
fn services_with_an_address() {
    check("web.web.svc.cluster.local", Question::Address, &["10.96.0.7"]);
    check("WEB.Web.svc.Cluster.LOCAL", Question::Address, &["10.96.0.7"]);
    check("web.web.svc.cluster.local", Question::Other, &["NoData"]);
    check("_http._tcp.web.web.svc.cluster.local", Question::Service, &["80 web.web.svc.cluster.local"]);
    check("_http._udp.web.web.svc.cluster.local", Question::Service, &["80 web.web.svc.cluster.local"]);
    check("_http._tcp.web.web.svc.cluster.local", Question::Address, &["NoData"]);
    check("_tcp.web.web.svc.cluster.local", Question::Service, &["NoData"]);
    check("_other._tcp.web.web.svc.cluster.local", Question::Service, &["NoName"]);
    check("_http._tcp.plain.web.svc.cluster.local", Question::Service, &["NoName"]);
    check("x.web.web.svc.cluster.local", Question::Address, &["NoName"]);
    check("7.0.96.10.in-addr.arpa", Question::Pointer, &["web.web.svc.cluster.local"]);
    check("99.0.96.10.in-addr.arpa", Question::Pointer, &["NoName"]);
}

#[test]
fn services_without_an_address() {
    check("db.web.svc.cluster.local", Question::Address, &["10.244.1.2", "10.244.1.3"]);
    check("db-0.db.web.svc.cluster.local", Question::Address, &["10.244.1.2"]);
    check("10-244-1-3.db.web.svc.cluster.local", Question::Address, &["10.244.1.3"]);
    check("db-1.db.web.svc.cluster.local", Question::Address, &["NoName"]);
    check(
        "_http._tcp.db.web.svc.cluster.local",
        Question::Service,
        &["8080 db-0.db.web.svc.cluster.local", "8080 10-244-1-3.db.web.svc.cluster.local"],
    );
    check("2.1.244.10.in-addr.arpa", Question::Pointer, &["db-0.db.web.svc.cluster.local"]);
    check("empty.web.svc.cluster.local", Question::Address, &["NoName"]);
}

#[test]
fn aliases_are_followed_inside_the_zone() {
    check("out.web.svc.cluster.local", Question::Address, &["example.com"]);
    check("alias.web.svc.cluster.local", Question::Address, &["web.web.svc.cluster.local", "10.96.0.7"]);
    check("alias.web.svc.cluster.local", Question::Alias, &["web.web.svc.cluster.local"]);
    assert!(matches!(zone().answer("loop.web.svc.cluster.local", Question::Address), Answer::Facts(_)));
}

#[test]
fn other_names() {
    check("dns-version.cluster.local", Question::Text, &["1.1.0"]);
    check("cluster.local", Question::Authority, &["authority"]);
    check("cluster.local", Question::Address, &["NoData"]);
    check("web.svc.cluster.local", Question::Address, &["NoData"]);
    check("nobody.svc.cluster.local", Question::Address, &["NoName"]);
    check("web.web.cluster.local", Question::Address, &["NoName"]);
    check("10-244-1-2.web.pod.cluster.local", Question::Address, &["10.244.1.2"]);
    check("192-0-2-1.web.pod.cluster.local", Question::Address, &["NoName"]);
    check("example.com", Question::Address, &["NotHere"]);
    check("notcluster.local", Question::Address, &["NotHere"]);
    check("1.2.0.192.in-addr.arpa", Question::Pointer, &["NotHere"]);
}

#[test]
fn a_removed_service_takes_its_names_along() {
    let mut index = ServiceIndex::default();
    let mut zone = Zone::new(config());
    let web = services().remove(0);
    let key = index.set_service(Arc::new(web.clone()));
    zone.update(&key, &index);
    zone.update(&index.remove_service(&web), &index);
    assert_eq!(zone.answer("web.web.svc.cluster.local", Question::Address), Answer::NoName);
    assert_eq!(zone.answer("7.0.96.10.in-addr.arpa", Question::Pointer), Answer::NoName);
}

fn query(name: &str, record_type: RecordType, edns_bytes_max: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    message.edns = edns_bytes_max.map(|bytes_max| {
        let mut edns = Edns::new();
        edns.set_max_payload(bytes_max);
        edns
    });
    message.to_vec().unwrap()
}

const SERVER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 96, 0, 10), 53);

async fn ask_for(from: &Netns, name: &str, edns_bytes_max: Option<u16>) -> Message {
    let bytes = ask_udp(from, SERVER, query(name, RecordType::A, edns_bytes_max)).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_and_the_node_get_answers_at_the_cluster_address() {
    let Some(machine) = Machine::new("pods_and_the_node_get_answers_at_the_cluster_address").await else {
        return;
    };
    let node = machine.node("a", &machine.netns, "10.244.1.0/24").await;
    let pod = machine.pod(&node, "a").await;
    let many: Vec<Value> = (1..=40).map(|last| json!({"addresses": [format!("10.244.2.{last}")]})).collect();
    let mut all = services();
    all.push(service("many", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})));
    let slices = Cache::of(vec![slice("many", Value::Array(many))]);
    let config = DnsConfig { netns: machine.netns.clone(), address: *SERVER.ip(), zone: config() };
    let serving = run(config, Cache::of(all), slices, CancellationToken::new());
    let _server = AbortOnDropHandle::new(tokio::spawn(async { serving.await.unwrap() }));
    let question = query("web.web.svc.cluster.local.", RecordType::A, None);
    eventually("first answer", || async { ask_udp(&machine.netns, SERVER, question.clone()).await.is_ok() })
        .await;

    for from in [&machine.netns, &pod.netns] {
        let answer = ask_for(from, "web.web.svc.cluster.local.", None).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.metadata.authoritative);
        assert_eq!(answer.answers[0].data, RData::A("10.96.0.7".parse().unwrap()));
        assert_eq!(answer.answers[0].ttl, 5);
    }
    let unknown = ask_for(&pod.netns, "nobody.web.svc.cluster.local.", None).await;
    assert_eq!((unknown.metadata.response_code, unknown.authorities.len()), (ResponseCode::NXDomain, 1));
    let outside = ask_for(&pod.netns, "example.com.", None).await;
    assert_eq!(outside.metadata.response_code, ResponseCode::ServFail);

    // Forty addresses: too many for 512 bytes, enough room with what the client offers, and always complete over TCP.
    let name = "many.web.svc.cluster.local.";
    let small = ask_for(&pod.netns, name, None).await;
    assert!(small.metadata.truncation && small.answers.len() < 40);
    let large = ask_for(&pod.netns, name, Some(1232)).await;
    assert_eq!((large.metadata.truncation, large.answers.len()), (false, 40));
    let bytes = ask_tcp(&pod.netns, SERVER, query(name, RecordType::A, None)).await.unwrap();
    assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), 40);
}
