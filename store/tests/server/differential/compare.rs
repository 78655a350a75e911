//! One run against every peer.

use std::fmt::Debug;
use std::path::PathBuf;

use super::generate::{Generator, Request};
use super::hits::Hits;
use super::peer::Peer;
use super::side::{Answer, Side, Until};
use crate::harness::{Server, skip};
use proto::etcdserverpb as pb;

/// Requests to each peer.
const REQUESTS: u64 = 100_000;
/// Differences that are shown of a run that has more.
const SHOWN: usize = 10;
/// Share of requests that must succeed: errors compare little of the state.
const OK_SHARE_MIN: f64 = 0.7;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn peers() -> Vec<PathBuf> {
    if let Some(listed) = std::env::var_os("KEELSON_ETCD") {
        return std::env::split_paths(&listed).filter(|file| file.is_file()).collect();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join("etcd"));
    installed.filter(|file| file.is_file()).take(1).collect()
}

/// Differences that are meant, each with its reason. Everything else fails.
fn is_meant(request: &Request, etcd: &Answer, ours: &Answer) -> bool {
    let (Answer::Err { text: etcd, .. }, Answer::Err { text: ours, .. }) = (etcd, ours) else { return false };
    match request {
        // A put alone is checked like a put in a transaction, where etcd looks for the key first.
        Request::Put(put) if put.ignore_value && put.lease != 0 => {
            etcd == "etcdserver: requested lease not found" && ours == "etcdserver: key not found"
        }
        // Of several faults in one transaction, these two are found before all others here.
        Request::Txn(txn) => has_unreadable_step(txn) && etcd != ours,
        _ => false,
    }
}

/// Whether some step is empty, or sorts by what does not exist.
fn has_unreadable_step(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request as Step;
    txn.success.iter().chain(&txn.failure).any(|step| match &step.request {
        None => true,
        Some(Step::RequestRange(range)) => range.sort_order > 2 || range.sort_target > 4,
        Some(Step::RequestTxn(nested)) => has_unreadable_step(nested),
        Some(Step::RequestPut(_) | Step::RequestDeleteRange(_)) => false,
    })
}

/// Most characters of a request that are shown.
const SHOWN_CHARACTERS: usize = 2000;

fn shown(number: u64, request: &Request, etcd: &impl Debug, ours: &impl Debug) -> String {
    let request: String = format!("{request:?}").chars().take(SHOWN_CHARACTERS).collect();
    format!("request {number}: {request}\n  etcd: {etcd:?}\n  ours: {ours:?}")
}

/// Sends one stream of requests to both and compares the answers.
async fn compare(peer: &Peer, seed: u64, requests: u64) -> Hits {
    let ours = Server::start().await;
    let (mut here, mut there) = (Side::new(ours.channel()), Side::new(peer.channel()));
    let mut generator = Generator::new(seed, peer.dialect());
    let mut hits = Hits::default();
    let mut differences = Vec::new();
    for number in 0..requests {
        let request = generator.next();
        if let Request::Watch(watch) = &request {
            // Before its start a watch shows nothing, progress neither.
            let is_future = watch.start_revision > generator.revision();
            let until = if is_future { Until::Like(0) } else { Until::Revision(generator.revision()) };
            let ours = here.watch(watch.clone(), until).await;
            let etcd = there.watch(watch.clone(), ours.until()).await;
            hits.add_watch(&request, &etcd);
            if ours != etcd {
                let text = shown(number, &request, &etcd, &ours);
                differences.push(text);
            }
            continue;
        }
        let (ours, etcd) = tokio::join!(here.call(request.clone()), there.call(request.clone()));
        hits.add(&request, &etcd);
        generator.note(&request, etcd.revision());
        if ours != etcd && !is_meant(&request, &etcd, &ours) {
            let text = shown(number, &request, &etcd, &ours);
            differences.push(text);
        }
        // What follows a difference in the state differs too.
        if differences.len() == SHOWN || ours.revision() != etcd.revision() {
            break;
        }
    }
    drop((here, there));
    ours.stop().await;
    assert!(
        differences.is_empty(),
        "etcd {} and we differ; KEELSON_DIFFERENTIAL_SEED={seed} repeats it:\n{}",
        peer.version(),
        differences.join("\n")
    );
    hits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_are_answered_as_etcd_answers_them() {
    let peers = peers();
    if peers.is_empty() {
        skip("no etcd on PATH (`cargo xtask setup` installs it)");
        return;
    }
    let seed = number("KEELSON_DIFFERENTIAL_SEED").unwrap_or(1);
    let requests = number("KEELSON_DIFFERENTIAL_REQUESTS").unwrap_or(REQUESTS);
    for program in peers {
        let peer = Peer::start(&program).await;
        let hits = compare(&peer, seed, requests).await;
        println!(
            "etcd {}: {requests} requests of seed {seed}, {:.0} % ok",
            peer.version(),
            100.0 * hits.ok_share()
        );
        println!("{hits}");
        assert!(hits.ok_share() >= OK_SHARE_MIN);
        assert!(requests < REQUESTS || hits.seldom().is_empty(), "met too seldom: {:#?}", hits.seldom());
        peer.stop().await;
    }
}
