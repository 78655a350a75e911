//! Three servers under writes while each is killed twice: nothing acknowledged is lost, and every server shows the same.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster::Cluster;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};

const WRITERS: usize = 8;
const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];

/// What the writers know of what they wrote.
#[derive(Default)]
struct Ledger {
    acknowledged: BTreeSet<String>,
    unknown: BTreeSet<String>,
    /// Longest time that any writer went without an acknowledgement. Printed, not judged: the machine's load decides it too.
    longest_gap: Duration,
}

async fn client(cluster: &Cluster, context: &str) -> kube::Client {
    let kubeconfig = Kubeconfig::read_from(cluster.data_dir.join("admin.kubeconfig")).unwrap();
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    config.read_timeout = Some(Duration::from_secs(5));
    config.write_timeout = Some(Duration::from_secs(5));
    config.connect_timeout = Some(Duration::from_secs(1));
    kube::Client::try_from(config).unwrap()
}

/// Creates config maps one after another until told to stop.
async fn write(client: kube::Client, writer: usize, ledger: Arc<Mutex<Ledger>>, stop: Arc<AtomicBool>) {
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut last_success = Instant::now();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("w{writer}-{number}");
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let result =
            api.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await;
        let mut ledger = ledger.lock().unwrap();
        match result {
            Ok(_created) => {
                ledger.acknowledged.insert(name);
                ledger.longest_gap = ledger.longest_gap.max(last_success.elapsed());
                last_success = Instant::now();
            }
            Err(_maybe_created) => {
                ledger.unknown.insert(name);
            }
        }
    }
}

#[test]
fn acknowledged_objects_survive_the_kill_of_every_server() {
    transport::install_crypto();
    let mut cluster = Cluster::start(&["--servers", "3", "--agents", "0", "--hollow-nodes", "1"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let client = runtime.block_on(client(&cluster, "keelson"));
            runtime.spawn(write(client, writer, Arc::clone(&ledger), Arc::clone(&stop)))
        })
        .collect();
    kill_each_twice(&mut cluster, &ledger);
    cluster.wait("3000 acknowledged writes", Duration::from_secs(120), |_| {
        ledger.lock().unwrap().acknowledged.len() >= 3000
    });
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        runtime.block_on(writer).unwrap();
    }
    let ledger = ledger.lock().unwrap();
    println!(
        "{} acknowledged, {} of unknown fate, longest gap between successes {:?}",
        ledger.acknowledged.len(),
        ledger.unknown.len(),
        ledger.longest_gap
    );
    let lists: BTreeMap<&str, BTreeSet<String>> =
        SERVERS.into_iter().map(|server| (server, runtime.block_on(names(&cluster, server)))).collect();
    for (server, names) in &lists {
        let lost: Vec<_> = ledger.acknowledged.difference(names).collect();
        assert!(lost.is_empty(), "{server} lost {lost:?}");
        let invented: Vec<_> = names
            .iter()
            .filter(|&name| !ledger.acknowledged.contains(name) && !ledger.unknown.contains(name))
            .collect();
        assert!(invented.is_empty(), "{server} shows what nobody wrote: {invented:?}");
        assert_eq!(Some(names), lists.values().next(), "{server} differs");
    }
    drop(ledger);
    cluster.stop();
}

/// Kills each server twice, in turn. Which one leads the store is not asked, so a kill of the leader is likely, not certain.
fn kill_each_twice(cluster: &mut Cluster, ledger: &Arc<Mutex<Ledger>>) {
    for round in 0..2 {
        for server in SERVERS {
            let pid = cluster.pid(server).expect("a running server has a pid file");
            cluster.kill(server);
            // Counted from the kill on; each writer may have one request under way that was answered before it.
            let before = ledger.lock().unwrap().acknowledged.len();
            let back =
                cluster.wait("the killed server is started again", Duration::from_secs(10), |cluster| {
                    cluster.pid(server).is_some_and(|now| now != pid)
                });
            let wait = cluster.wait("writes go on", Duration::from_secs(20), |_| {
                ledger.lock().unwrap().acknowledged.len() > before + WRITERS
            });
            println!(
                "round {round}: {server} killed, process back after {back:?}, writes seen after another {wait:?}"
            );
            cluster.wait("the killed server serves", Duration::from_secs(30), |cluster| {
                is_ready(cluster, server)
            });
        }
    }
}

fn is_ready(cluster: &Cluster, server: &str) -> bool {
    Command::new(cluster::kubectl())
        .arg("--kubeconfig")
        .arg(cluster.data_dir.join("admin.kubeconfig"))
        .args(["--context", server, "--request-timeout=2s", "get", "--raw", "/readyz"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

async fn names(cluster: &Cluster, server: &str) -> BTreeSet<String> {
    let api: Api<ConfigMap> = Api::namespaced(client(cluster, server).await, "default");
    let list = api.list(&ListParams::default()).await.unwrap();
    list.items
        .into_iter()
        .filter_map(|item| item.metadata.name)
        .filter(|name| name.starts_with('w'))
        .collect()
}
