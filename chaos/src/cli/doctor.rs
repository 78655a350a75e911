//! What this machine can inject, tried out rather than guessed.

use std::time::{Duration, Instant};

use nix::unistd::Uid;

use crate::cluster::{Network, run_command};
use crate::run::say;

/// The tools that faults are made with, and how each is asked whether it is there.
const TOOLS: [(&str, &str); 4] =
    [("ip", "-Version"), ("nft", "--version"), ("nsenter", "--version"), ("setpriv", "--version")];

/// Longest that a packet may take to the cut that drops it: its neighbour's address is asked for before.
const DROP_LIMIT: Duration = Duration::from_secs(5);
const DROP_POLL: Duration = Duration::from_millis(10);

/// Says in one line what is missing for kill and partition faults.
pub(super) fn missing() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("it needs root (network namespaces, packet filter)".to_owned());
    }
    let absent = TOOLS.iter().find(|(tool, version)| run_command(tool, &[version], "").is_err());
    absent.map(|(tool, _)| format!("{tool} is not installed (packages iproute2, nftables, util-linux)"))
}

/// Tells about each fault; returns the exit code.
pub(super) fn run() -> u8 {
    if let Some(missing) = missing() {
        say(&format!("kill       no: {missing}"));
        say(&format!("partition  no: {missing}"));
        return 2;
    }
    match try_network() {
        Ok(()) => {
            say("kill       yes");
            say("partition  yes: cuts on a bridge, with a counter as witness");
            0
        }
        Err(error) => {
            say(&format!("kill       no: {error:#}"));
            say(&format!("partition  no: {error:#}"));
            2
        }
    }
}

/// Builds a network of two, sends something, cuts it, and sees the counter move.
fn try_network() -> anyhow::Result<()> {
    let network = Network::create(2)?;
    std::thread::scope(|scope| {
        let trying = scope.spawn(|| {
            network.enter()?;
            network.cut(&[(0, 1)])?;
            let from = format!("--net=/run/netns/{}", network.namespace(0));
            let send = format!("echo cut > /dev/udp/{}/9", network.address(1));
            // The first packet waits for the neighbour's address; the answer to that is not cut.
            run_command("nsenter", &[&from, "bash", "-c", &send], "")?;
            let deadline = Instant::now() + DROP_LIMIT;
            while network.packets_dropped()? == 0 {
                anyhow::ensure!(Instant::now() < deadline, "a cut on the bridge dropped nothing");
                std::thread::sleep(DROP_POLL);
            }
            network.heal()
        });
        trying.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the trial panicked")))
    })
}
