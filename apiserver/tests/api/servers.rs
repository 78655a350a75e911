//! The `kubernetes` service lists the servers that are alive, as `address:port`, each on the same address here.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::Value;
use store::kv::Kv;
use store::memory::MemoryStore;

use crate::harness::{DEADLINE, Rest, TestServer};

const HUB: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

async fn start(store: &MemoryStore) -> TestServer {
    TestServer::start_on(store.clone(), HUB).await
}

fn servers(list: &[&TestServer]) -> BTreeSet<String> {
    list.iter().map(|server| format!("{HUB}:{}", server.address.port())).collect()
}

/// Joins each address of an object's groups with each port of the same group.
fn joined(group: &Value, addresses: impl Fn(&Value) -> Vec<String>) -> Vec<String> {
    let ports = group["ports"].as_array().unwrap();
    let join = |address: String| ports.iter().map(move |port| format!("{address}:{}", port["port"]));
    addresses(group).into_iter().flat_map(join).collect()
}

/// Returns what Endpoints and EndpointSlices list.
async fn listed(client: &Rest) -> (BTreeSet<String>, BTreeSet<String>) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let endpoints = client.get("/api/v1/namespaces/default/endpoints/kubernetes").await.body;
    let ips =
        |subset: &Value| subset["addresses"].as_array().unwrap().iter().map(|a| text(&a["ip"])).collect();
    let subsets = endpoints["subsets"].as_array().cloned().unwrap_or_default();
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
        ?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
    let slices = client.get(path).await.expect(200)["items"].as_array().unwrap().clone();
    let addresses = |slice: &Value| {
        let endpoints = slice["endpoints"].as_array().unwrap();
        endpoints.iter().map(|endpoint| text(&endpoint["addresses"][0])).collect()
    };
    (
        subsets.iter().flat_map(|subset| joined(subset, ips)).collect(),
        slices.iter().flat_map(|slice| joined(slice, addresses)).collect(),
    )
}

/// Waits until both kinds list exactly these servers.
async fn wait_listed(client: &Rest, list: &[&TestServer]) {
    let wanted = servers(list);
    let listed = async {
        loop {
            let (endpoints, slices) = listed(client).await;
            if endpoints == wanted && slices == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, listed).await.unwrap_or_else(|_| panic!("not listed in time: {wanted:?}"));
}

#[tokio::test]
async fn every_live_server_is_an_endpoint_whatever_its_port() {
    let store = MemoryStore::default();
    let (a, b, c) = (start(&store).await, start(&store).await, start(&store).await);
    let client = a.admin();
    wait_listed(&client, &[&a, &b, &c]).await;
    // The one whose port the service names, then one of the others.
    let client = c.admin();
    a.stop().await;
    wait_listed(&client, &[&b, &c]).await;
    let d = start(&store).await;
    wait_listed(&client, &[&b, &c, &d]).await;
    b.stop().await;
    wait_listed(&client, &[&c, &d]).await;
}

#[tokio::test]
async fn a_server_whose_lease_ends_goes_and_comes_back_when_it_lives() {
    let store = MemoryStore::default();
    let (a, b) = (start(&store).await, start(&store).await);
    let client = a.admin();
    wait_listed(&client, &[&a, &b]).await;
    // As the store does when a server dies or is cut off: its lease ends.
    let held = store.leases().await.unwrap();
    drop(b);
    for lease in held {
        store.lease_revoke(lease).await.unwrap();
    }
    wait_listed(&client, &[&a]).await;
}

#[tokio::test]
async fn a_loopback_address_is_not_listed() {
    let store = MemoryStore::default();
    let hidden = TestServer::start_on(store.clone(), Ipv4Addr::LOCALHOST).await;
    let shown = start(&store).await;
    wait_listed(&shown.admin(), &[&shown]).await;
    wait_listed(&hidden.admin(), &[&shown]).await;
}
