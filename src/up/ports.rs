//! Ports of the processes of a cluster: chosen once, then kept, because members find each other by them.
//!
//! They lie outside of the range from which the kernel gives ports to connections and to who asks for any port: while a server is
//! down, and before it has started, nobody comes to hold its port by chance.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// Below are the ports of well-known services.
const FIRST: u16 = 10_000;
/// Where services of type `NodePort` get theirs.
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;
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
    let mut candidates = candidates(&ephemeral());
    // Clusters that start at the same time look elsewhere.
    let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
    candidates.shuffle(&mut StdRng::seed_from_u64(seed));
    // All stay bound until the last is chosen, as another cluster may choose beside this one.
    let mut free = candidates.into_iter().filter_map(|port| {
        let held = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).ok()?;
        Some((port, held))
    });
    let mut held = Vec::new();
    for _server in 0..servers {
        held.extend(free.by_ref().take(2));
    }
    let ports: Vec<u16> = held.iter().map(|(port, _held)| *port).collect();
    let (pairs, _) = ports.as_chunks::<2>();
    ensure!(u32::try_from(pairs.len()) == Ok(servers), "fewer than {} ports are free", 2 * servers);
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

/// Returns the ports to choose from; where the kernel gives away all of them, any will have to do.
fn candidates(ephemeral: &RangeInclusive<u16>) -> Vec<u16> {
    let usable = |port: &u16| !NODE_PORTS.contains(port);
    let kept: Vec<u16> =
        (FIRST..=u16::MAX).filter(|port| usable(port) && !ephemeral.contains(port)).collect();
    if kept.is_empty() { (FIRST..=u16::MAX).filter(usable).collect() } else { kept }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_not_those_that_the_kernel_or_a_service_gets() {
        let chosen = choose(7).unwrap();
        let ports: BTreeSet<u16> = chosen.iter().flat_map(|ports| [ports.api, ports.peer]).collect();
        assert_eq!((chosen.len(), ports.len()), (7, 14));
        let given_away = ephemeral();
        for port in ports {
            assert!(!given_away.contains(&port) && !NODE_PORTS.contains(&port), "{port}");
        }
    }

    #[test]
    fn any_port_will_do_where_the_kernel_gives_away_all() {
        assert_eq!(parse("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse("32768"), None);
        assert_eq!(candidates(&(10_000..=65_000)).first(), Some(&65_001));
        assert_eq!(candidates(&(1024..=u16::MAX)).first(), Some(&FIRST));
    }
}
