//! Free ports for members on loopback.

use std::net::TcpListener;

use crate::cluster::Place;

/// Where the search for free ports begins and ends: below those that the kernel gives to outgoing connections, because one
/// of those could be taken by another member's connection before its owner listens.
const FIRST_PORT: u16 = 12_000;
const LAST_PORT: u16 = 32_000;
/// Members on each side.
pub(super) const MEMBERS: usize = 3;

/// Finds a client and a peer port for every member.
///
/// # Errors
/// When too few ports are free.
pub(super) fn free() -> anyhow::Result<Vec<Place>> {
    let first = FIRST_PORT + u16::try_from(std::process::id() % 1000)? * 8;
    // All are held until the last one is found, so that none is handed out twice.
    let held: Vec<TcpListener> = (first..LAST_PORT)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(2 * MEMBERS)
        .collect();
    let urls: Vec<String> = held
        .iter()
        .map(|listener| Ok(format!("http://{}", listener.local_addr()?)))
        .collect::<std::io::Result<_>>()?;
    let place = |(number, urls): (usize, &[String])| {
        let [client_url, peer_url] = urls else { return None };
        let (client_url, peer_url) = (client_url.clone(), peer_url.clone());
        Some(Place { name: format!("n{number}"), client_url, peer_url, namespace: None })
    };
    let places: Vec<Place> = (1..).zip(urls.chunks(2)).filter_map(place).collect();
    anyhow::ensure!(places.len() == MEMBERS, "no free ports between {first} and {LAST_PORT}");
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_member_gets_ports_of_its_own() {
        let places = free().unwrap();
        let urls: BTreeSet<&String> =
            places.iter().flat_map(|place| [&place.client_url, &place.peer_url]).collect();
        assert_eq!((places.len(), urls.len()), (3, 6));
    }
}
