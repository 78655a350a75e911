//! How often each call with each option ended in which way: a comparison that never met an error has not compared it.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::generate::Request;
use super::side::{Answer, Watched};

/// Fewest meetings that count as compared.
pub(crate) const HITS_MIN: u64 = 20;

#[derive(Default)]
pub(crate) struct Hits {
    ends: BTreeMap<(&'static str, String), u64>,
}

impl Hits {
    pub(crate) fn add(&mut self, request: &Request, answer: &Answer) {
        match answer {
            Answer::Ok { .. } => self.count(request, "ok"),
            Answer::Err { text, .. } => self.count(request, text),
        }
    }

    pub(crate) fn add_watch(&mut self, request: &Request, watched: &Watched) {
        self.count(request, watched.end());
    }

    fn count(&mut self, request: &Request, end: &str) {
        for option in options(request) {
            let ended = if option.is_empty() { end.to_owned() } else { format!("{option}: {end}") };
            *self.ends.entry((name(request), ended)).or_default() += 1;
        }
    }

    pub(crate) fn ok_share(&self) -> f64 {
        let plain =
            || self.ends.iter().filter(|((_, end), _)| !end.contains(": ok") && !is_option_error(end));
        let all: u64 = plain().map(|(_, hits)| hits).sum();
        let ok: u64 = plain().filter(|((_, end), _)| end == "ok").map(|(_, hits)| hits).sum();
        ok as f64 / all.max(1) as f64
    }

    /// Returns the rows that were met too seldom.
    pub(crate) fn seldom(&self) -> Vec<String> {
        let seldom = self.ends.iter().filter(|(_, hits)| **hits < HITS_MIN);
        seldom.map(|((call, end), hits)| format!("{call}, {end}: {hits}")).collect()
    }
}

/// Rows of an option repeat the row of its call.
fn is_option_error(end: &str) -> bool {
    OPTIONS.iter().any(|option| end.starts_with(&format!("{option}: ")))
}

const OPTIONS: [&str; 9] =
    ["limit", "sorted", "filtered", "at a revision", "keys only", "count only", "prev_kv", "lease", "nested"];

impl Display for Hits {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for ((call, end), hits) in &self.ends {
            writeln!(formatter, "{hits:>8}  {call:<18} {end}")?;
        }
        Ok(())
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Range(_) => "Range",
        Request::Put(_) => "Put",
        Request::DeleteRange(_) => "DeleteRange",
        Request::Txn(_) => "Txn",
        Request::Compact(_) => "Compact",
        Request::LeaseGrant(_) => "LeaseGrant",
        Request::LeaseRevoke(_) => "LeaseRevoke",
        Request::LeaseTimeToLive(_) => "LeaseTimeToLive",
        Request::LeaseLeases => "LeaseLeases",
        Request::Watch(_) => "Watch",
    }
}

/// Returns the options that a request uses, and always the empty one.
fn options(request: &Request) -> Vec<&'static str> {
    use proto::etcdserverpb::request_op::Request as Step;
    let used: Vec<(bool, &'static str)> = match request {
        Request::Range(range) => vec![
            (range.limit > 0, "limit"),
            (range.sort_order != 0 || range.sort_target != 0, "sorted"),
            (range.min_mod_revision + range.max_create_revision > 0, "filtered"),
            (range.revision > 0, "at a revision"),
            (range.keys_only, "keys only"),
            (range.count_only, "count only"),
        ],
        Request::Put(put) => vec![(put.prev_kv, "prev_kv"), (put.lease != 0, "lease")],
        Request::DeleteRange(delete) => vec![(delete.prev_kv, "prev_kv")],
        Request::Txn(txn) => {
            let mut steps = txn.success.iter().chain(&txn.failure);
            vec![(steps.any(|step| matches!(step.request, Some(Step::RequestTxn(_)))), "nested")]
        }
        Request::Watch(watch) => {
            vec![(watch.prev_kv, "prev_kv"), (!watch.filters.is_empty(), "filtered")]
        }
        Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseTimeToLive(_)
        | Request::LeaseLeases => Vec::new(),
    };
    let used = used.into_iter().filter(|(is_used, _)| *is_used).map(|(_, option)| option);
    std::iter::once("").chain(used).collect()
}
