//! Which server is killed next, and the proof of what it was when it was killed.
//!
//! Each server must die at least once as the store's leader and once as a follower. The leader is what the servers say of
//! themselves: one calls itself leader, the others do not, all in one term; after its death there is a leader in a later term.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::cluster::Cluster;
use crate::doors::{self, SERVERS};
use crate::kubectl::{Clients, GetWatch, Watches};
use crate::writers::{WRITERS, Writers};

/// The promise: a killed server's process is there again.
const RESTART_MAX: Duration = Duration::from_secs(5);
/// How long anything else may take before the test gives up; far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Six kills are needed, and one more for each time that the same two servers lead in turn. That they do so fourteen times has a
/// chance of one in sixteen thousand.
const KILLS_MAX: usize = 20;
/// The supervisor restarts later each time what dies again and again; after so long it counts a process as healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(20);
/// Restarts that are quick in any case: after 0.5, 1 and 2 seconds.
const QUICK_RESTARTS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
}

/// One kill and what came of it.
#[derive(Debug)]
pub struct Kill {
    pub server: &'static str,
    pub role: Role,
    at: Instant,
    /// From the kill to the first success of any writer, and to that of the last writer.
    pub first_success: Duration,
    pub last_success: Duration,
}

/// Picks the next victim, or nobody when each server has died in both roles. Followers come first, because their death moves no
/// leadership; then the leader, also one that has died as leader already, so that another one's turn comes.
fn choose(leader: &'static str, kills: &[Kill]) -> Option<(&'static str, Role)> {
    let died = |server: &str, role: Role| kills.iter().any(|kill| kill.server == server && kill.role == role);
    let mut followers = SERVERS.into_iter().filter(|&server| server != leader);
    if let Some(follower) = followers.find(|&server| !died(server, Role::Follower)) {
        return Some((follower, Role::Follower));
    }
    let is_done =
        SERVERS.into_iter().all(|server| died(server, Role::Leader) && died(server, Role::Follower));
    (!is_done).then_some((leader, Role::Leader))
}

/// What one server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    server: &'static str,
    is_leader: bool,
    has_leader: bool,
    term: u64,
}

/// Asks each server what it is.
pub struct Census<'a> {
    runtime: &'a Runtime,
    clients: BTreeMap<&'static str, kube::Client>,
}

impl<'a> Census<'a> {
    pub fn new(runtime: &'a Runtime, cluster: &Cluster) -> Self {
        let client = |server| (server, runtime.block_on(doors::rest(cluster, server)));
        Self { runtime, clients: SERVERS.into_iter().map(client).collect() }
    }

    fn get(&self, server: &str, path: &str) -> Result<String, kube::Error> {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        self.runtime.block_on(self.clients[server].request_text(request))
    }

    /// Returns what a server that is not ready says of itself.
    fn unready(&self, server: &str) -> Option<String> {
        self.get(server, "/readyz").err().map(|error| format!("{server}: {error}"))
    }

    fn word(&self, server: &'static str) -> Option<Word> {
        let text = self.get(server, "/metrics").ok()?;
        let number = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
        };
        Some(Word {
            server,
            is_leader: number("etcd_server_is_leader")? == 1,
            has_leader: number("etcd_server_has_leader")? == 1,
            term: number("keelson_store_term")?,
        })
    }

    /// Returns the leader if all three servers agree on there being one, in one term.
    fn agreed_leader(&self) -> Option<Word> {
        let words: Vec<Word> = SERVERS.into_iter().filter_map(|server| self.word(server)).collect();
        let [leader] = words.iter().filter(|word| word.is_leader).collect::<Vec<_>>()[..] else {
            return None;
        };
        let agree = words.iter().all(|word| word.has_leader && word.term == leader.term);
        (words.len() == SERVERS.len() && agree).then_some(*leader)
    }

    /// Returns who leads in a term after `term`.
    fn later_leader(&self, term: u64) -> Option<Word> {
        let words = SERVERS.into_iter().filter_map(|server| self.word(server));
        words.into_iter().find(|word| word.is_leader && word.term > term)
    }
}

/// Kills servers while writers and watches go on.
pub struct Killer<'a> {
    pub cluster: &'a mut Cluster,
    pub census: Census<'a>,
    pub writers: &'a Writers,
    pub watches: &'a Watches,
    pub kubectls: &'a mut Clients,
}

impl Killer<'_> {
    /// Kills until each server has died as leader and as follower.
    pub fn run(mut self) -> Vec<Kill> {
        let mut kills: Vec<Kill> = Vec::new();
        loop {
            let leader = self.wait_for("the servers agree on a leader", |census| census.agreed_leader());
            let Some((server, role)) = choose(leader.server, &kills) else { return kills };
            assert!(kills.len() < KILLS_MAX, "some server never came to lead: {kills:#?}");
            let is_first = kills.iter().all(|kill| kill.server != server);
            // kubectl's own list and watch, beside the one that is resumed from where it was.
            let shown = is_first.then(|| self.kubectls.get_watch(self.cluster, server));
            if let Some(shown) = &shown {
                self.wait_until_watching(shown);
            }
            self.wait_until_healthy(server, &kills);
            // Leadership can move between question and kill; then nobody is killed and all is asked again.
            let Some(kill) = self.kill(server, role, leader.term) else { continue };
            if let Some(shown) = shown {
                self.restart_get_watch(shown, server);
            }
            kills.push(kill);
        }
    }

    fn kill(&mut self, server: &'static str, role: Role, term: u64) -> Option<Kill> {
        let pid = self.cluster.pid(server).expect("a running server has a pid file");
        let watches = self.watches;
        self.cluster.wait("kubectl follows the victim", PATIENCE, |_| watches.is_following(server));
        let word = self.census.word(server)?;
        if (word.is_leader, word.term) != (role == Role::Leader, term) {
            return None;
        }
        self.cluster.kill(server);
        let at = Instant::now();
        self.cluster.wait("the killed server is started again", RESTART_MAX, |cluster| {
            cluster.pid(server).is_some_and(|now| now != pid)
        });
        let back = at.elapsed();
        let leader = match role {
            Role::Leader => {
                Some(self.wait_for("somebody leads in a later term", |census| census.later_leader(term)))
            }
            Role::Follower => None,
        };
        let writers = self.writers;
        self.cluster
            .wait("every writer writes again", PATIENCE, |_| writers.ledger().recovery(at).len() == WRITERS);
        let said = RefCell::new(String::new());
        self.wait_for("the servers are ready", |census| {
            let unready = SERVERS.into_iter().find_map(|server| census.unready(server));
            let is_ready = unready.is_none();
            if let Some(now) = unready
                && said.replace(now.clone()) != now
            {
                println!("not ready: {now}");
            }
            is_ready.then_some(())
        });
        let ready = at.elapsed();
        let recovery = self.writers.ledger().recovery(at);
        let first_success = *recovery.values().min().unwrap();
        let last_success = *recovery.values().max().unwrap();
        let then = leader.map_or_else(String::new, |leader| {
            format!(", then {} leads in term {}", leader.server, leader.term)
        });
        println!(
            "{server} killed as {role:?} of term {term}: first write after {first_success:?}, every writer's after \
             {last_success:?}, process back after {back:?}, all servers ready after {ready:?}{then}"
        );
        Some(Kill { server, role, at, first_success, last_success })
    }

    fn wait_until_healthy(&mut self, server: &str, kills: &[Kill]) {
        let mut deaths = kills.iter().filter(|kill| kill.server == server);
        if let Some(last) = deaths.next_back()
            && deaths.count() + 1 >= QUICK_RESTARTS
        {
            self.cluster.wait("the supervisor counts the victim as healthy", PATIENCE, |_| {
                last.at.elapsed() > RESTART_MAX + HEALTHY_AFTER
            });
        }
    }

    /// A watch of kubectl that the kill ended is started again on the same server and shows what is written now.
    fn restart_get_watch(&mut self, ended: GetWatch, server: &'static str) {
        self.cluster.wait("the kill ends kubectl get -w", PATIENCE, |_| ended.has_ended());
        ended.assert_unexpired();
        let again = self.kubectls.get_watch(self.cluster, server);
        self.wait_until_watching(&again);
        again.assert_unexpired();
    }

    /// The list alone shows what was written before; what is written now comes through the watch.
    fn wait_until_watching(&mut self, watch: &GetWatch) {
        self.cluster.wait("kubectl get -w shows the objects", PATIENCE, |_| watch.shows("ADDED"));
        let (writers, listed) = (self.writers, Instant::now());
        self.cluster.wait("kubectl get -w shows an object that is written now", PATIENCE, |_| {
            let new = writers.ledger().written_after(listed);
            new.is_some_and(|new| watch.shows(&new))
        });
    }

    fn wait_for<T: Copy>(&mut self, what: &str, question: impl Fn(&Census<'_>) -> Option<T>) -> T {
        let answer = Cell::new(None);
        let census = &self.census;
        self.cluster.wait(what, PATIENCE, |_| {
            answer.set(question(census));
            answer.get().is_some()
        });
        answer.get().expect("the wait ended with an answer")
    }
}
