//! Ports of the processes of a cluster: chosen once, then kept, because members find each other by them.
//!
//! They lie outside of the range from which the kernel gives ports to connections and to who asks for any port: while a server is
//! down, and before it has started, nobody comes to hold its port by chance.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use apiserver::ServiceRanges;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// Below are the ports of well-known services.
const FIRST: u16 = 10_000;
/// What Linux starts with.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;
const EPHEMERAL_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Ports of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPorts {
    pub api: u16,
    pub peer: u16,
}

/// Chooses ports that are free now.
///
/// # Errors
/// When fewer are free than are needed.
pub fn choose(servers: u32) -> Result<Vec<ServerPorts>> {
    let count = usize::try_from(servers)? * 2;
    // Clusters that start at the same time look elsewhere.
    let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
    let candidates = candidates(&ephemeral(), &mut StdRng::seed_from_u64(seed));
    let bind = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).ok();
    // All stay bound until the last is chosen.
    let held: Vec<TcpListener> = candidates.into_iter().filter_map(bind).take(count).collect();
    ensure!(held.len() == count, "fewer than {count} ports are free");
    let ports: Vec<u16> =
        held.iter().map(|held| Ok(held.local_addr()?.port())).collect::<std::io::Result<_>>()?;
    let (pairs, _) = ports.as_chunks::<2>();
    Ok(pairs.iter().map(|&[api, peer]| ServerPorts { api, peer }).collect())
}

/// Returns the range from which the kernel gives ports away.
fn ephemeral() -> RangeInclusive<u16> {
    let text = fs::read_to_string(EPHEMERAL_FILE).unwrap_or_default();
    parse(&text).unwrap_or(EPHEMERAL)
}

fn parse(text: &str) -> Option<RangeInclusive<u16>> {
    let (low, high) = text.trim().split_once(char::is_whitespace)?;
    Some(low.parse().ok()?..=high.trim_start().parse().ok()?)
}

/// Returns the ports to choose from, in this order: last those that the kernel gives away, for machines where it does so with all.
fn candidates(ephemeral: &RangeInclusive<u16>, random: &mut StdRng) -> Vec<u16> {
    let (first, last) = ServiceRanges::default().node_ports;
    let mut ports: Vec<u16> = (FIRST..=u16::MAX).filter(|port| !(first..=last).contains(port)).collect();
    ports.shuffle(random);
    ports.sort_by_key(|port| ephemeral.contains(port));
    ports
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_that_the_kernel_gives_away_come_last_and_those_of_services_never() {
        let candidates = candidates(&EPHEMERAL, &mut StdRng::seed_from_u64(1));
        let kept = candidates.iter().position(|port| EPHEMERAL.contains(port)).unwrap();
        let (safe, given_away) = candidates.split_at(kept);
        // 10 000 to 29 999 and 61 000 to 65 535.
        assert_eq!((safe.len(), given_away.len()), (24_536, 28_232));
        assert!(given_away.iter().all(|port| EPHEMERAL.contains(port)));
        assert!(!candidates.contains(&30_000) && !candidates.contains(&32_767));
        assert!(!safe.is_sorted(), "clusters that start together would take the same ports");
    }

    #[test]
    fn all_ports_differ_and_are_free() {
        let chosen = choose(7).unwrap();
        let ports: BTreeSet<u16> = chosen.iter().flat_map(|ports| [ports.api, ports.peer]).collect();
        assert_eq!(ports.len(), 14);
    }

    #[test]
    fn the_range_of_the_kernel_is_read() {
        assert_eq!(parse("1024\t65535\n"), Some(1024..=65_535));
        assert_eq!(parse("32768"), None);
    }
}
