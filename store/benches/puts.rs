//! Puts per second on three members in this process over loopback TCP, with real files and syncs.
//!
//! `cargo bench -p store --bench puts`. The clients sit on the leader and call it directly, so this is the cost of
//! consensus, log and apply without the etcd edge; `keelson bench` measures the whole.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::Member;
use store::config::{Config, InitialMember};
use store::kv::{Consistency, Kv};
use store::mvcc::{KeyRange, Op, Put, Range, Txn};
use tokio_util::sync::CancellationToken;

const VALUE_BYTES: usize = 256;
const TIME: Duration = Duration::from_secs(4);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let directory = tempfile::tempdir().unwrap();
    let listeners: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    drop(listeners);
    let mut members = Vec::new();
    for number in 0..3 {
        let address = format!("127.0.0.1:{}", ports[number]);
        let mut config =
            Config::single(directory.path().join(number.to_string()), &number.to_string(), &address);
        config.initial_cluster = (0..3)
            .map(|number| InitialMember {
                name: number.to_string(),
                peer_urls: vec![format!("http://127.0.0.1:{}", ports[number])],
            })
            .collect();
        members.push(Member::start(config, CancellationToken::new()).await.unwrap());
    }
    members[0].read_index().await.unwrap();
    let is_leader = |member: &&Arc<Member>| member.status().leader_id == member.status().member_id;
    let leader = Arc::clone(members.iter().find(is_leader).unwrap());
    let follower = Arc::clone(members.iter().find(|member| !is_leader(member)).unwrap());
    for clients in [1, 64, 256] {
        report("puts on the leader", clients, &leader, Work::Put).await;
        report("puts on a follower", clients, &follower, Work::Put).await;
        report("linearizable gets on the leader", clients, &leader, Work::Get).await;
    }
    for member in members {
        member.stop().await;
    }
}

#[derive(Clone, Copy)]
enum Work {
    Put,
    Get,
}

async fn report(what: &str, clients: u64, member: &Arc<Member>, work: Work) {
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (member, stop, done) = (Arc::clone(member), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let key = Bytes::from(format!("bench/{client}/{}", number % 100));
                    match work {
                        Work::Put => {
                            let put = Put { key, value: vec![7; VALUE_BYTES].into(), ..Put::default() };
                            member.txn(Txn { success: vec![Op::Put(put)], ..Txn::default() }).await.unwrap();
                        }
                        Work::Get => {
                            let range = Range::new(KeyRange::single(key));
                            member.range(range, Consistency::Linearizable).await.unwrap();
                        }
                    }
                    number += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                    latencies.push(started.elapsed());
                }
                latencies
            })
        })
        .collect();
    let started = Instant::now();
    tokio::time::sleep(TIME).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let rate = u128::from(done.load(Ordering::Relaxed)) * 1000 / started.elapsed().as_millis();
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_micros();
    println!("{what}, {clients} clients: {rate}/s, p50 {} µs, p99 {} µs", at(50), at(99));
}
