//! Requests and answers in short, for the checkers' tests.

use crate::history::{
    Compare, CompareTarget, Exchange, ExchangeEnd, KeyState, Process, Put, Range, Relation, Request,
    Response, Row, Txn,
};

/// Numbers a request that lasts from `span.0` to `span.1`.
pub(super) fn exchange(index: u64, span: (u64, u64), request: Request, end: End) -> Exchange {
    let (invoked_at, returned_at) = span;
    let end = match end {
        End::Ok(response) => ExchangeEnd::Ok { response, revision: 2, returned_at },
        End::Fail => ExchangeEnd::Fail { error: String::new(), returned_at },
        End::Unknown => ExchangeEnd::Unknown,
    };
    let (process, node) = (Process::Client(0), String::new());
    Exchange { index, process, node, request, invoked_at, end }
}

/// How a request ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    Ok(Response),
    Fail,
    Unknown,
}

/// Returns what each row of an answer shows, and nothing of revisions.
pub(super) fn rows<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> End {
    let row = |(key, value): (&str, &str)| {
        let (key, value) = (key.to_owned(), value.to_owned());
        Row { key, state: KeyState { value, version: 1, create_revision: 2, mod_revision: 2, lease: 0 } }
    };
    let rows: Vec<Row> = rows.into_iter().map(row).collect();
    let count = i64::try_from(rows.len()).unwrap();
    End::Ok(Response::Range { rows, count })
}

pub(super) fn read(key: &str) -> Request {
    Request::Range(Range { key: key.to_owned(), ..Range::default() })
}

pub(super) fn read_folder(folder: &str) -> Request {
    let end = Some(format!("{}0", folder.trim_end_matches('/')));
    Request::Range(Range { key: folder.to_owned(), end, ..Range::default() })
}

pub(super) fn put(key: &str, value: &str) -> Request {
    Request::Put(Put { key: key.to_owned(), value: value.to_owned(), ..Put::default() })
}

pub(super) fn txn(compares: Vec<Compare>, then: Vec<Request>) -> Request {
    Request::Txn(Txn { compares, then, otherwise: Vec::new() })
}

/// Takes a lock with a lease.
pub(super) fn take(key: &str, holder: &str, lease: i64) -> Request {
    let (key, value) = (key.to_owned(), holder.to_owned());
    txn(vec![absent(&key)], vec![Request::Put(Put { key, value, lease, prev_kv: false })])
}

/// Returns the condition that a key is not there.
pub(super) fn absent(key: &str) -> Compare {
    let target = CompareTarget::ModRevision(0);
    Compare { key: key.to_owned(), end: None, target, relation: Relation::Equal }
}

/// Returns the answer to a put.
pub(super) fn written() -> End {
    End::Ok(Response::Put { prev: None })
}

/// Returns the answer to a transaction of so many puts, whose conditions held.
pub(super) fn swapped(puts: usize) -> End {
    let responses = vec![Response::Put { prev: None }; puts];
    End::Ok(Response::Txn { succeeded: true, responses })
}

/// Returns the answer to a transaction whose conditions did not hold.
pub(super) fn not_swapped() -> End {
    End::Ok(Response::Txn { succeeded: false, responses: Vec::new() })
}
