//! Peer URLs as they are given, and ids of new members.

use super::Denial;
use crate::config::{first_u64, sorted_urls_hash};

/// URLs of one member; nobody has as many networks, and every membership entry carries them.
const URLS_MAX: usize = 16;

/// Returns the URLs sorted and trimmed, if all of them can be connected to.
pub(crate) fn checked_urls(urls: &[String]) -> Result<Vec<String>, Denial> {
    let mut urls: Vec<String> = urls.iter().map(|url| url.trim().to_owned()).collect();
    if urls.is_empty() || urls.len() > URLS_MAX || !urls.iter().all(|url| is_address(url)) {
        return Err(Denial::InvalidUrls);
    }
    urls.sort();
    Ok(urls)
}

/// Whether a URL is `http://host:port` or `https://host:port` and nothing more (etcd's rule).
fn is_address(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else { return false };
    let has_host = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
    has_host && port.parse::<u16>().is_ok()
}

/// Returns the id of a new member. `nonce` stands where etcd hashes the time: chosen once, by the member that got the call, so
/// that a change that is sent twice names one member.
pub(crate) fn new_member_id(peer_urls: &[String], cluster_id: u64, nonce: u64) -> u64 {
    first_u64(&sorted_urls_hash(peer_urls, &[&cluster_id.to_be_bytes(), &nonce.to_be_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|url| (*url).to_owned()).collect()
    }

    #[test]
    fn only_urls_that_can_be_connected_to_are_taken() {
        let taken: [&[&str]; 3] =
            [&["http://127.0.0.1:1"], &["https://m1.example:2380"], &["http://[::1]:2380"]];
        for given in taken {
            assert_eq!(checked_urls(&urls(given)), Ok(urls(given)));
        }
        let sorted = checked_urls(&urls(&["http://b:1 ", "http://a:1"]));
        assert_eq!(sorted, Ok(urls(&["http://a:1", "http://b:1"])));
        let refused: [&[&str]; 9] = [
            &[],
            &["bad"],
            &["http://a"],
            &["http://:1"],
            &["http://a:port"],
            &["http://a:1/"],
            &["http://a:1/path"],
            &["ftp://a:1"],
            &["http://a:1", ""],
        ];
        for given in refused {
            assert_eq!(checked_urls(&urls(given)), Err(Denial::InvalidUrls), "{given:?}");
        }
    }

    #[test]
    fn a_new_id_depends_on_urls_cluster_and_nonce_but_not_on_the_order_of_urls() {
        let id = new_member_id(&urls(&["http://a:1", "http://b:1"]), 1, 2);
        assert_eq!(id, new_member_id(&urls(&["http://b:1", "http://a:1"]), 1, 2));
        let others = [
            new_member_id(&urls(&["http://a:1"]), 1, 2),
            new_member_id(&urls(&["http://a:1", "http://b:1"]), 2, 2),
            new_member_id(&urls(&["http://a:1", "http://b:1"]), 1, 3),
        ];
        assert!(!others.contains(&id));
    }
}
