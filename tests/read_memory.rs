//! A hundred clients at once that want everything, from one server with little memory for reads: each is served or told that it is
//! too much, and the server's memory stays within what it was given.

mod members;

use std::fs;
use std::path::Path;

use chaos::cluster::{Cluster, Program};
use futures::future::join_all;
use members::places;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::{PutRequest, RangeRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

const READERS: usize = 100;
const VALUES: usize = 16;
const VALUE_BYTES: usize = 1 << 20;
/// An answer takes its values twice, so two fit at a time. All of them would take three gigabytes.
const BUDGET_BYTES: usize = 2 * 2 * (VALUES + 1) * VALUE_BYTES;
/// Buffers of a hundred connections, and what the allocator keeps.
const SLACK_BYTES: usize = 64 << 20;

fn everything() -> RangeRequest {
    RangeRequest { key: b"\0".to_vec().into(), range_end: b"\0".to_vec().into(), ..RangeRequest::default() }
}

async fn client(url: &str) -> KvClient<Channel> {
    let client = KvClient::connect(url.to_owned()).await.unwrap();
    client.max_decoding_message_size(2 * VALUES * VALUE_BYTES)
}

/// Returns the most memory that a process has had since it was last asked to forget that.
fn peak_bytes(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_hundred_huge_ranges_at_once_stay_within_the_memory_for_reads() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::new(Path::new(env!("CARGO_BIN_EXE_keelson")));
    let budget = ("KEELSON_STORE_READ_BUDGET_BYTES".to_owned(), BUDGET_BYTES.to_string());
    program.environment.push(budget);
    let places = &places()[..1];
    let mut cluster = Cluster::start(&program, places, "keelson-test", folder.path()).await.unwrap();
    let url = &places[0].client_url;
    let mut writer = client(url).await;
    for number in 0..VALUES {
        let (key, value) = (format!("key{number}").into(), vec![b'v'; VALUE_BYTES].into());
        writer.put(PutRequest { key, value, ..PutRequest::default() }).await.unwrap();
    }
    let pid = cluster.members[0].pid().unwrap();
    // One answer first: what it takes once it may keep.
    writer.range(everything()).await.unwrap();
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = peak_bytes(pid);
    let answers = join_all((0..READERS).map(|_| async {
        let answer = client(url).await.range(everything()).await?;
        Ok::<_, Status>(answer.into_inner().kvs.len())
    }))
    .await;
    let peak = peak_bytes(pid);
    let (mut served, mut refused) = (0, 0);
    for answer in answers {
        match answer {
            Ok(values) => {
                assert_eq!(values, VALUES);
                served += 1;
            }
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                refused += 1;
            }
        }
    }
    println!("{served} served, {refused} refused; memory {before} before, {peak} at most");
    assert!(served >= 2, "{served} served, {refused} refused");
    let most = before + BUDGET_BYTES + SLACK_BYTES;
    assert!(peak <= most, "{peak} bytes of memory, {before} before; allowed are {most}");
    cluster.stop().await;
}
