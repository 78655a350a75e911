//! The software of a machine: a member of the real store with its gRPC services.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::admin::Admin;
use store::config::Timing;
use store::env::{Env, EnvParts, Place};
use store::etcd::{Edge, EtcdOptions};
use store::wal::WalConfig;
use store::{Member, MemberConfig};
use tokio_util::sync::CancellationToken;

use crate::control_plane::Process;
use crate::machine::{Machine, Order, lock, name};
use crate::network::{SimNet, incoming};
use crate::replacement::{self, Replacement};
use crate::world::World;

/// Where clients reach a member.
pub(crate) const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// How often a process looks whether it was told to do something.
const ORDER_INTERVAL: Duration = Duration::from_millis(20);

/// Runs a member until its machine takes it away.
pub(crate) async fn run(world: Arc<World>, machine: Arc<Machine>) -> turmoil::Result {
    let start = machine.starts.fetch_add(1, Ordering::Relaxed) + 1;
    if world.has_drifting_clocks {
        tokio::spawn(keep_rate(Arc::clone(&machine)));
    }
    let ending = Arc::clone(&machine);
    let env = Env::new(EnvParts {
        place: Place::Simulation,
        disk: Arc::new(machine.disk.clone()),
        engines: Arc::new(machine.engines.clone()),
        net: Arc::new(SimNet { machine: Arc::clone(&machine) }),
        fatal: Arc::new(move |why| lock(&ending.health).end(why)),
        seed: machine.seed.wrapping_mul(10_007).wrapping_add(start),
    });
    let stop = CancellationToken::new();
    let config = config(&world, &machine).await;
    let member = match Member::start_in(env, config, stop.clone()).await {
        Ok(member) => member,
        Err(error) => {
            // The disk failed while it was read, or there is no reason.
            lock(&machine.health).end(&store::env::error_chain(&error));
            std::future::pending().await
        }
    };
    *lock(&machine.member) = Arc::downgrade(&member);
    tokio::spawn(replacement::see_to(Arc::clone(&world), Arc::clone(&member)));
    tokio::spawn(obey(Arc::clone(&machine), Arc::clone(&member)));
    let services = store::etcd::grpc(&Edge::new(&member), &EtcdOptions::default(), stop);
    let clients = incoming(Arc::clone(&machine), &format!("0.0.0.0:{CLIENT_PORT}")).await?;
    let serving = tonic::transport::Server::builder().add_routes(services).serve_with_incoming(clients);
    match &world.control_plane {
        None => serving.await?,
        Some(control_plane) => {
            let process = Process::new(&machine, start, &world.plan);
            let server = control_plane.server(process, member);
            tokio::select! {
                ended = serving => ended?,
                ended = server => ended?,
            }
        }
    }
    Ok(())
}

/// Makes the process's time pass faster than the network's.
pub(crate) async fn keep_rate(machine: Arc<Machine>) {
    let mut ahead: u32 = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        ahead += machine.clock_permille().saturating_sub(1000);
        if ahead >= 1000 {
            tokio::time::advance(Duration::from_millis(u64::from(ahead / 1000))).await;
            ahead %= 1000;
        }
    }
}

/// Does what the nemesis asks for through this member.
async fn obey(machine: Arc<Machine>, member: Arc<Member>) {
    loop {
        tokio::time::sleep(ORDER_INTERVAL).await;
        let order = lock(&machine.orders).pop_front();
        match order {
            // Whether it comes to that is seen in who leads.
            Some(Order::MoveLeader(to)) => drop(member.move_leader(to).await),
            None => {}
        }
    }
}

pub(crate) fn peer_url(number: usize) -> String {
    format!("http://{}:{PEER_PORT}", name(number))
}

/// Id of one of the first members.
pub(crate) fn first_id(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(0) + 1
}

async fn config(world: &World, machine: &Machine) -> MemberConfig {
    let number = machine.number;
    let voters = world.plan.voters;
    let is_newcomer = number == world.newcomer();
    let first = (0..voters).map(|number| (first_id(number), (name(number), vec![peer_url(number)])));
    let initial = if is_newcomer { BTreeMap::new() } else { first.collect() };
    let member_id = if is_newcomer { newcomer_id(world).await } else { first_id(number) };
    let settings = world.plan.store;
    MemberConfig {
        cluster_id: 0xc1,
        member_id,
        incarnation: first_id(number) * 1111,
        name: machine.name.clone(),
        listen_peer: format!("0.0.0.0:{PEER_PORT}"),
        client_urls: Vec::new(),
        initial,
        contacts: if is_newcomer { (0..voters).map(peer_url).collect() } else { Vec::new() },
        timing: Timing::default(),
        wal: WalConfig {
            segment_bytes: settings.segment_bytes,
            batch_bytes_max: settings.batch_bytes,
            spares_max: 1,
            cache_bytes_max: settings.cache_bytes,
        },
        snapshot_entries: settings.snapshot_entries,
        entries_kept: Some(settings.entries_kept),
        quota_bytes: 0,
        disk_reserve_bytes: None,
        compare_interval: Duration::from_millis(settings.compare_ms),
        auto_compaction: store::AutoCompaction::Off,
        token_ttl: store::auth::TOKEN_TTL,
        slow_after: store::config::SLOW_AFTER,
        limits: store::kv::RequestLimits::default(),
        watches: store::watch::Limits {
            ring_bytes_max: settings.watch_ring_bytes,
            queue_revisions_max: settings.watch_queue_revisions,
            ..store::watch::Limits::default()
        },
        levels: store::level::Levels::SUPPORTED,
    }
}

/// It has none until it is added.
async fn newcomer_id(world: &World) -> u64 {
    loop {
        match *lock(&world.replacement) {
            Replacement::Added { id, .. } | Replacement::Done { id } => return id,
            Replacement::NobodyDied | Replacement::Dead { .. } | Replacement::Removed { .. } => {}
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
