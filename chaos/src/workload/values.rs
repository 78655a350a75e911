//! Values that are unique in a run, and requests that most workloads make.

use crate::history::{Compare, CompareTarget, KeyState, Put, Range, Relation, Request, Response, Row, Txn};

/// Counts upwards; every value is drawn once.
#[derive(Debug, Default)]
pub(super) struct Counter {
    last: u64,
}

impl Counter {
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }
}

/// Reads one key.
pub(super) fn read(key: &str) -> Request {
    Request::Range(Range { key: key.to_owned(), ..Range::default() })
}

/// Reads all keys below a folder, whose name ends in a slash.
pub(super) fn read_folder(folder: &str) -> Request {
    Request::Range(Range { key: folder.to_owned(), end: Some(folder_end(folder)), ..Range::default() })
}

/// The end of the range of all keys below a folder.
pub(super) fn folder_end(folder: &str) -> String {
    // The byte behind the slash.
    format!("{}0", folder.trim_end_matches('/'))
}

/// Writes a key.
pub(super) fn write(key: &str, value: String) -> Request {
    Request::Put(Put { key: key.to_owned(), value, ..Put::default() })
}

/// Holds while nobody has written a key since it was seen (0 = absent).
pub(super) fn unchanged(key: &str, mod_revision: i64) -> Compare {
    Compare {
        key: key.to_owned(),
        end: None,
        target: CompareTarget::ModRevision(mod_revision),
        relation: Relation::Equal,
    }
}

/// Writes a key if nobody has since it was seen.
pub(super) fn swap(key: &str, mod_revision: i64, value: String) -> Request {
    Request::Txn(Txn {
        compares: vec![unchanged(key, mod_revision)],
        then: vec![write(key, value)],
        otherwise: Vec::new(),
    })
}

/// The first row of an answer to a read.
pub(super) fn first(response: &Response) -> Option<&KeyState> {
    rows(response).first().map(|row| &row.state)
}

/// The rows of an answer to a read.
pub(super) fn rows(response: &Response) -> &[Row] {
    match response {
        Response::Range { rows, .. } => rows,
        Response::Put { .. } | Response::Delete { .. } | Response::Txn { .. } => &[],
    }
}
