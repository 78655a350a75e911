//! Ways into the cluster: REST and gRPC clients of one server, or of all of them, as the administrator.

use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Client, ClientConfig};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use transport::tls::{ClientIdentity, Pem};

use crate::cluster::Cluster;

/// The servers, by the names of their pid files and contexts.
pub const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];

/// The context of the address that passes connections on to whichever server lives.
pub const ANY_SERVER: &str = "keelson";

/// Longer than an election, shorter than anybody would wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns a REST client whose requests end in time.
pub async fn rest(cluster: &Cluster, context: &str) -> kube::Client {
    let mut config = rest_config(cluster, context).await;
    config.read_timeout = Some(REQUEST_TIMEOUT);
    config.write_timeout = Some(REQUEST_TIMEOUT);
    config.connect_timeout = Some(Duration::from_secs(1));
    kube::Client::try_from(config).unwrap()
}

/// Returns a REST client for watches, with kube-rs' own timeouts: a quiet watch is not a dead one.
pub async fn rest_for_watches(cluster: &Cluster, context: &str) -> kube::Client {
    kube::Client::try_from(rest_config(cluster, context).await).unwrap()
}

async fn rest_config(cluster: &Cluster, context: &str) -> kube::Config {
    let kubeconfig = Kubeconfig::read_from(cluster.data_dir.join("admin.kubeconfig")).unwrap();
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap()
}

/// Returns our own client, which fails over between the servers it is given.
pub fn grpc(cluster: &Cluster, servers: &[&str]) -> Client {
    let text = fs::read_to_string(cluster.data_dir.join("admin.kubeconfig")).unwrap();
    // Ours is JSON, which is YAML.
    let kubeconfig: Value = serde_json::from_str(&text).unwrap();
    let named = |list: &str, name: &str| {
        let entries = kubeconfig[list].as_array().unwrap();
        entries.iter().find(|entry| entry["name"] == name).unwrap().clone()
    };
    let pem = |value: &Value| {
        Pem::from(String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap())
    };
    let ca = pem(&named("clusters", ANY_SERVER)["cluster"]["certificate-authority-data"]);
    let user = &kubeconfig["users"][0]["user"];
    let identity =
        ClientIdentity::new(ca, pem(&user["client-certificate-data"]), pem(&user["client-key-data"]));
    let url = |server: &&str| named("clusters", server)["cluster"]["server"].as_str().unwrap().to_owned();
    Client::new(ClientConfig {
        servers: servers.iter().map(url).collect(),
        tls: identity.unwrap(),
        user_agent: "three-servers".to_owned(),
    })
    .unwrap()
}
