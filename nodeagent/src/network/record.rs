//! The book of given addresses on disk, so that an agent that restarts gives no running pod's address away.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::network::ipam::Ipam;
use crate::network::{Ipv4Net, NetworkError};

/// Version of the file; another one is refused.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record<T> {
    version: u32,
    addresses: T,
}

/// Reads the book, or starts an empty one; the node's present range applies to new pods.
pub(super) fn load(path: &Path, range: Ipv4Net) -> Result<Ipam, NetworkError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ipam::new(range)
                .ok_or(NetworkError::Range { range, reason: "a node needs at least a /29 for its pods" });
        }
        Err(error) => return Err(failed(path, &error)),
    };
    let record: Record<Ipam> = serde_json::from_slice(&bytes).map_err(|error| failed(path, &error))?;
    if record.version != VERSION {
        return Err(failed(path, &format!("version {} is not known", record.version)));
    }
    let mut ipam = record.addresses;
    ipam.set_range(range);
    Ok(ipam)
}

/// Replaces the file; a crash leaves the old one or the new one.
pub(super) fn save(path: &Path, addresses: &Ipam) -> Result<(), NetworkError> {
    let text =
        serde_json::to_vec(&Record { version: VERSION, addresses }).map_err(|error| failed(path, &error))?;
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).map_err(|error| failed(&fresh, &error))?;
    std::fs::rename(&fresh, path).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, reason: &dyn std::fmt::Display) -> NetworkError {
    NetworkError::Record { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses.json");
        let range = "10.244.1.0/24".parse().unwrap();
        let mut ipam = load(&path, range).unwrap();
        ipam.allocate("a").unwrap();
        save(&path, &ipam).unwrap();
        assert_eq!(load(&path, range).unwrap(), ipam);
    }

    #[test]
    fn a_damaged_or_newer_book_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses.json");
        let range = "10.244.1.0/24".parse().unwrap();
        save(&path, &Ipam::new(range).unwrap()).unwrap();
        let newer = std::fs::read_to_string(&path).unwrap().replace("\"version\":1", "\"version\":2");
        for text in ["{", newer.as_str()] {
            std::fs::write(&path, text).unwrap();
            let error = load(&path, range).unwrap_err().to_string();
            assert!(error.contains("addresses.json"), "{error}");
        }
    }
}
