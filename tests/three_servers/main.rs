//! Three servers under writes while each is killed as the store's leader and as a follower: nothing acknowledged is lost, nothing
//! is invented, every server shows the same, and nobody who watches has to begin again.
//!
//! Compaction does not touch what is asked here: a server forgets only revisions that it has seen for five minutes of its life,
//! and the whole test is shorter.

#[path = "../cluster/mod.rs"]
mod cluster;
mod doors;
mod history;
mod kills;
mod kubectl;
mod reflectors;
mod writers;

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::Cluster;
use doors::SERVERS;
use k8s_openapi::api::core::v1::ConfigMap;
use kills::{Census, Kill, Killer, PATIENCE, Role};
use kubectl::{Clients, Watches};
use reflectors::Reflectors;
use tokio::runtime::Runtime;
use writers::{Seen, Writers};

/// The promise: how long nobody can write after the leader's death.
const OUTAGE_MAX: Duration = Duration::from_secs(2);
/// When both survivors campaign within the same few milliseconds, nobody wins and the election begins anew. A single outage may
/// therefore take twice as long; the usual one may not.
const SPLIT_VOTE_OUTAGE_MAX: Duration = Duration::from_secs(4);
/// Acknowledged writes that make the run count.
const WRITES_MIN: usize = 3000;

#[test]
fn acknowledged_objects_survive_the_kill_of_every_server_as_leader_and_as_follower() {
    transport::install_crypto();
    let mut kubectls = Clients::find();
    let mut cluster = Cluster::start(&["--servers", "3", "--agents", "0", "--hollow-nodes", "1"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime.block_on(history::revision(&cluster));
    let reflectors = runtime.block_on(Reflectors::start(&cluster));
    let watches = Watches::start(&cluster, &kubectls, first);
    let mut writers = runtime.block_on(Writers::start(&cluster));
    let census = Census::new(&runtime, &cluster);
    let kills = Killer {
        cluster: &mut cluster,
        census,
        writers: &writers,
        watches: &watches,
        kubectls: &mut kubectls,
    }
    .run();
    cluster.wait("enough acknowledged writes", 2 * PATIENCE, |_| {
        writers.ledger().acknowledged.len() >= WRITES_MIN
    });
    let last = runtime.block_on(writers.finish(&cluster));
    report(&kills, &writers);
    check_servers(&cluster, &runtime, &writers, first, &last);
    let objects = runtime.block_on(history::list(&cluster, SERVERS[0]));
    cluster.wait("all reflectors have the last object", PATIENCE, |_| reflectors.have(&last.name));
    reflectors.check(&objects);
    cluster.wait("all kubectls have the last object", PATIENCE, |_| {
        SERVERS.iter().all(|server| watches.log(server).events.iter().rev().any(|(_, seen)| *seen == last))
    });
    check_kubectls(&watches, &kubectls, &kills, &objects);
    drop(watches);
    cluster.stop();
    check_outages(&kills);
    check_logs(&cluster, kills.len());
}

/// Prints what happened, and holds it against what is promised of it.
fn report(kills: &[Kill], writers: &Writers) {
    let ledger = writers.ledger();
    println!(
        "{} acknowledged, {} refused, {} of unknown fate",
        ledger.acknowledged.len(),
        ledger.refused.len(),
        ledger.unknown.len()
    );
    for (role, what) in [(Role::Leader, "the leader"), (Role::Follower, "a follower")] {
        let of_role = || kills.iter().filter(|kill| kill.role == role);
        let first = of_role().map(|kill| kill.first_success).max().unwrap();
        let last = of_role().map(|kill| kill.last_success).max().unwrap();
        println!(
            "{} kills of {what}: writes work again after at most {first:?}; longest gap to any writer's next success {last:?}",
            of_role().count()
        );
    }
    for server in SERVERS {
        let died = |role| kills.iter().any(|kill| kill.server == server && kill.role == role);
        assert!(died(Role::Leader) && died(Role::Follower), "{server} has died in both roles");
    }
}

/// Expects that writes came back in time.
fn check_outages(kills: &[Kill]) {
    let of_leaders = kills.iter().filter(|kill| kill.role == Role::Leader);
    let mut outages: Vec<Duration> = of_leaders.map(|kill| kill.first_success).collect();
    outages.sort();
    let usual = outages[outages.len() / 2];
    assert!(usual < OUTAGE_MAX, "writes were usually away for {usual:?}: {outages:?}");
    let longest = kills.iter().map(|kill| kill.first_success).max().unwrap();
    assert!(longest < SPLIT_VOTE_OUTAGE_MAX, "writes were away for {longest:?}");
}

/// Expects that a member that was away is told when it goes and when it comes back, and not with every message to it. One that
/// died as leader may be back before the next one has sent it anything.
fn check_logs(cluster: &Cluster, kills: usize) {
    let logs = SERVERS.map(|server| cluster.log(server)).concat();
    let count = |what: &str| logs.lines().filter(|line| line.contains(what)).count();
    let (gone, back) = (count("a member does not answer"), count("a member answers again"));
    println!("{gone} times a member did not answer, {back} times it answered again");
    assert!(gone >= SERVERS.len() && back >= SERVERS.len(), "each was killed as a follower");
    assert!(gone < 10 * kills, "{gone} lines for {kills} kills");
    assert_eq!(count("openraft::core::heartbeat") + count("openraft::replication"), 0);
}

/// Expects that every server lists the same, that it is what was acknowledged, and that its history from the first revision is
/// exactly that.
fn check_servers(cluster: &Cluster, runtime: &Runtime, writers: &Writers, first: u64, last: &Seen) {
    let lists = SERVERS.map(|server| runtime.block_on(history::list(cluster, server)));
    history::check_against(&writers.ledger(), &lists[0]);
    for (server, list) in SERVERS.into_iter().zip(&lists) {
        assert!(*list == lists[0], "{server} shows other objects than {}", SERVERS[0]);
        let events = runtime.block_on(history::replay(cluster, server, first, &last.name));
        let seen: Vec<_> = events.iter().map(|(kind, object)| (kind.clone(), Seen::of(object))).collect();
        history::check_events(&format!("a watch of {server} from revision {first}"), &seen, list);
        let watched = history::sorted(events.into_iter().map(|(_, object)| object));
        assert!(watched == *list, "a watch of {server} shows other contents than its list");
        println!("{server}: a list and a watch from revision {first} show the same {} objects", list.len());
    }
}

/// Expects that on each server kubectl went on over every kill from where it was.
fn check_kubectls(watches: &Watches, kubectls: &Clients, kills: &[Kill], objects: &[ConfigMap]) {
    let mut used = BTreeSet::new();
    for server in SERVERS {
        let log = watches.log(server);
        assert_eq!(log.expired, [""; 0], "{server} told kubectl that its revision is gone");
        history::check_events(&format!("kubectl on {server}"), &log.events, objects);
        let kill_count = kills.iter().filter(|kill| kill.server == server).count();
        assert!(log.sessions.len() > kill_count, "a kill of {server} did not end its kubectl");
        used.extend(log.sessions.iter().map(|session| session.program.clone()));
        let resumed: Vec<u64> = log.sessions.iter().map(|session| session.from).collect();
        println!("kubectl on {server}: {} events, started from revisions {resumed:?}", log.events.len());
    }
    // Three sessions on each of three servers are certain.
    assert_eq!(used.len(), kubectls.count().min(9), "clients that watched: {used:?}");
}
