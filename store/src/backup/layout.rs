//! What etcd keeps where in its file: names of buckets and keys, and the forms of keys (as of etcd 3.4 to 3.7).

use crate::mvcc::{EventKind, Revision, RowId};

/// Buckets, by name.
pub(super) const ALARM: &str = "alarm";
pub(super) const AUTH: &str = "auth";
pub(super) const AUTH_ROLES: &str = "authRoles";
pub(super) const AUTH_USERS: &str = "authUsers";
pub(super) const CLUSTER: &str = "cluster";
pub(super) const KEY: &str = "key";
pub(super) const LEASE: &str = "lease";
pub(super) const MEMBERS: &str = "members";
pub(super) const MEMBERS_REMOVED: &str = "members_removed";
pub(super) const META: &str = "meta";

/// All buckets that these versions have.
pub(super) const BUCKETS: [&str; 10] =
    [ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META];

/// Keys of `meta`.
pub(super) const CONSISTENT_INDEX: &str = "consistent_index";
pub(super) const TERM: &str = "term";
pub(super) const CONF_STATE: &str = "confState";
pub(super) const STORAGE_VERSION: &str = "storageVersion";
pub(super) const SCHEDULED_COMPACT: &str = "scheduledCompactRev";
pub(super) const FINISHED_COMPACT: &str = "finishedCompactRev";
/// Key of `cluster`. The others say what an operator wishes for.
pub(super) const CLUSTER_VERSION: &str = "clusterVersion";
pub(super) const DOWNGRADE: &str = "downgrade";
/// Keys of `auth`.
pub(super) const AUTH_ENABLED: &str = "authEnabled";
pub(super) const AUTH_REVISION: &str = "authRevision";

/// Minor versions of etcd 3 whose files are understood.
const MINORS: std::ops::RangeInclusive<u64> = 4..=7;

/// Length of a revision: main ‖ `_` ‖ sub, both big endian.
const REVISION_BYTES: usize = 8 + 1 + 8;
const SEPARATOR: u8 = b'_';
/// Behind the revision of a deletion.
const TOMBSTONE: u8 = b't';

/// Returns the key of a change.
pub(super) fn row_key(id: RowId, kind: EventKind) -> Vec<u8> {
    let mut key = revision(id);
    match kind {
        EventKind::Put => {}
        EventKind::Delete => key.push(TOMBSTONE),
    }
    key
}

/// Reads the key of a change.
pub(super) fn parse_row_key(key: &[u8]) -> Option<(RowId, EventKind)> {
    let (revision, mark) = key.split_at_checked(REVISION_BYTES)?;
    let kind = match mark {
        [] => EventKind::Put,
        [TOMBSTONE] => EventKind::Delete,
        _ => return None,
    };
    Some((parse_revision(revision)?, kind))
}

/// Returns a revision as compactions are noted.
pub(super) fn compact_revision(at: Revision) -> Vec<u8> {
    revision(RowId::first_of(at))
}

fn revision(id: RowId) -> Vec<u8> {
    let mut key = Vec::with_capacity(REVISION_BYTES + 1);
    key.extend(id.main.0.to_be_bytes());
    key.push(SEPARATOR);
    key.extend(u64::from(id.sub).to_be_bytes());
    key
}

pub(super) fn parse_revision(key: &[u8]) -> Option<RowId> {
    let (main, rest) = key.split_first_chunk::<8>()?;
    let (&SEPARATOR, sub) = rest.split_first()? else { return None };
    let sub = u64::from_be_bytes(sub.try_into().ok()?);
    Some(RowId { main: Revision(i64::from_be_bytes(*main)), sub: u32::try_from(sub).ok()? })
}

/// Whether files of this version of etcd, such as `3.5.0`, are understood.
pub(super) fn is_known_version(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
    parts.next() == Some(Some(3)) && parts.next().flatten().is_some_and(|minor| MINORS.contains(&minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_changes_are_etcds() {
        let id = RowId { main: Revision(0x12), sub: 3 };
        assert_eq!(hex::encode(row_key(id, EventKind::Put)), "00000000000000125f0000000000000003");
        assert_eq!(hex::encode(row_key(id, EventKind::Delete)), "00000000000000125f000000000000000374");
        for kind in [EventKind::Put, EventKind::Delete] {
            assert_eq!(parse_row_key(&row_key(id, kind)), Some((id, kind)));
        }
        let put = row_key(id, EventKind::Put);
        let wrong =
            [&put[..16], &[put.as_slice(), b"x"].concat(), &[put.as_slice(), b"tt"].concat(), &[0; 17]];
        for key in wrong {
            assert_eq!(parse_row_key(key), None, "{key:?}");
        }
    }

    #[test]
    fn versions_outside_3_4_to_3_7_are_unknown() {
        for known in ["3.4.0", "3.5.17", "3.7.1"] {
            assert!(is_known_version(known));
        }
        for unknown in ["3.3.0", "3.8.0", "4.4.0", "3", "", "three.4"] {
            assert!(!is_known_version(unknown), "{unknown}");
        }
    }
}
