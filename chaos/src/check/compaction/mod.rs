//! Compaction: what is forgotten is refused as such, everything else is answered, and nothing is forgotten twice.
//!
//! When a compaction took effect is known only within its call; a request is judged where that leaves no doubt. That what is
//! behind the compact revision stays as it was, and that revisions never fall, is the witness's business.

use std::collections::BTreeMap;

use serde_json::Value;

use super::opinions::Opinion;
use super::{Record, Violation};
use crate::history::{
    Event, EventKind, Exchange, ExchangeEnd, Function, Process, Request, Response, exchanges,
};

/// Name of the checker.
pub const NAME: &str = "compaction";

/// What etcd says of a revision that is forgotten, and of one that has not happened yet.
pub(super) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
/// The class of both.
pub(super) const CLASS: &str = "OutOfRange";

/// Violations reported before the checker stops telling.
const VIOLATIONS_MAX: usize = 20;

/// A request that names a revision: a compaction, or a read of the past.
struct Asked {
    index: u64,
    what: &'static str,
    /// It needs what is at this revision: a read may be at the compact revision, a compaction must be behind it.
    needs: i64,
    revision: i64,
    invoked_at: u64,
    end: AskedEnd,
}

enum AskedEnd {
    /// Done, with the header's revision.
    Ok {
        shown: i64,
        returned_at: u64,
    },
    Refused {
        error: String,
        returned_at: u64,
    },
    Unknown,
}

/// Says what it thinks of the compactions of a run.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let compactions = compactions(&record.events)?;
    if compactions.is_empty() {
        return Ok(None);
    }
    let exchanges = exchanges(&record.events)?;
    let reads = reads(&exchanges);
    let times = Times::new(&compactions, &exchanges);
    let mut violations = Vec::new();
    for asked in compactions.iter().chain(&reads) {
        violations.extend(problem(asked, &times));
    }
    violations.truncate(VIOLATIONS_MAX);
    let refused =
        |asked: &&Asked| matches!(&asked.end, AskedEnd::Refused { error, .. } if error.contains(CLASS));
    let done = compactions.iter().filter(|asked| matches!(asked.end, AskedEnd::Ok { .. })).count();
    let refused = compactions.iter().chain(&reads).filter(refused).count();
    let counts = [("compactions", done), ("reads_of_the_past", reads.len()), ("refused", refused)];
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!("{done} compactions, {} reads of the past, {refused} requests refused", reads.len()),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from(counts),
    }))
}

fn compactions(events: &[Event]) -> Result<Vec<Asked>, String> {
    let mut open: BTreeMap<Process, Asked> = BTreeMap::new();
    let mut compactions = Vec::new();
    for event in events.iter().filter(|event| event.f == Function::Compact) {
        let broken = |what: &str| format!("event {}: {what}", event.index);
        if event.kind == EventKind::Invoke {
            let revision = event.value.get("revision").and_then(Value::as_i64);
            let revision = revision.ok_or_else(|| broken("a compaction names no revision"))?;
            let (index, invoked_at) = (event.index, event.time);
            let (what, needs) = ("compaction", revision - 1);
            let asked = Asked { index, what, needs, revision, invoked_at, end: AskedEnd::Unknown };
            if open.insert(event.process, asked).is_some() {
                return Err(broken("the process has a compaction open"));
            }
            continue;
        }
        let mut asked = open.remove(&event.process).ok_or_else(|| broken("answers no compaction"))?;
        asked.end = match event.kind {
            EventKind::Invoke | EventKind::Info => AskedEnd::Unknown,
            EventKind::Ok => {
                let shown = event.rev.ok_or_else(|| broken("an answer without revision"))?;
                AskedEnd::Ok { shown, returned_at: event.time }
            }
            EventKind::Fail => {
                let error = event.error.clone().unwrap_or_default();
                AskedEnd::Refused { error, returned_at: event.time }
            }
        };
        compactions.push(asked);
    }
    compactions.extend(open.into_values());
    Ok(compactions)
}

fn reads(exchanges: &[Exchange]) -> Vec<Asked> {
    let mut reads = Vec::new();
    for exchange in exchanges {
        let Request::Range(range) = &exchange.request else { continue };
        if range.revision == 0 || range.serializable {
            continue;
        }
        let end = match &exchange.end {
            ExchangeEnd::Ok { response: Response::Range { .. }, revision, returned_at } => {
                AskedEnd::Ok { shown: *revision, returned_at: *returned_at }
            }
            ExchangeEnd::Fail { error, returned_at } => {
                AskedEnd::Refused { error: error.clone(), returned_at: *returned_at }
            }
            ExchangeEnd::Ok { .. } | ExchangeEnd::Unknown => AskedEnd::Unknown,
        };
        reads.push(Asked {
            index: exchange.index,
            what: "read",
            needs: range.revision,
            revision: range.revision,
            invoked_at: exchange.invoked_at,
            end,
        });
    }
    reads
}

/// What was known when.
struct Times {
    /// The highest compact revision for certain, by the time from which on it is.
    certain: Rising,
    /// Each compaction that may have happened: when it was invoked, by its revision.
    possible: Vec<(i64, u64)>,
    /// The highest revision that an answer had shown.
    newest: Rising,
}

impl Times {
    fn new(compactions: &[Asked], exchanges: &[Exchange]) -> Self {
        let mut certain = Vec::new();
        let mut possible = Vec::new();
        let mut newest = Vec::new();
        for asked in compactions {
            match asked.end {
                AskedEnd::Ok { returned_at, shown } => {
                    certain.push((returned_at, asked.revision, asked.index));
                    newest.push((returned_at, shown, asked.index));
                    possible.push((asked.revision, asked.invoked_at));
                }
                AskedEnd::Unknown => possible.push((asked.revision, asked.invoked_at)),
                AskedEnd::Refused { .. } => {}
            }
        }
        for exchange in exchanges {
            if let ExchangeEnd::Ok { revision, returned_at, .. } = exchange.end {
                newest.push((returned_at, revision, exchange.index));
            }
        }
        possible.sort_unstable();
        // From the highest revision down: the first invocation of this or a higher one.
        let mut first = u64::MAX;
        for (_, invoked_at) in possible.iter_mut().rev() {
            first = first.min(*invoked_at);
            *invoked_at = first;
        }
        Self { certain: Rising::new(certain), possible, newest: Rising::new(newest) }
    }

    /// Whether a compaction at or above the revision may have happened before a time.
    fn may_be_compacted(&self, revision: i64, before: u64) -> bool {
        let at = self.possible.partition_point(|(compacted, _)| *compacted < revision);
        self.possible.get(at).is_some_and(|(_, invoked_at)| *invoked_at < before)
    }
}

/// A number that only rises, and who raised it.
struct Rising {
    steps: Vec<(u64, i64, u64)>,
}

impl Rising {
    fn new(mut steps: Vec<(u64, i64, u64)>) -> Self {
        steps.sort_unstable();
        let mut highest = (i64::MIN, 0);
        for (_, value, index) in &mut steps {
            if *value > highest.0 {
                highest = (*value, *index);
            }
            (*value, *index) = highest;
        }
        Self { steps }
    }

    fn before(&self, time: u64) -> Option<(i64, u64)> {
        let count = self.steps.partition_point(|(at, ..)| *at < time);
        let (_, value, index) = self.steps.get(count.checked_sub(1)?)?;
        Some((*value, *index))
    }
}

fn problem(asked: &Asked, times: &Times) -> Option<Violation> {
    let Asked { index, what, needs, revision, invoked_at, .. } = asked;
    let broken = |rule, sentence: String, by: Option<u64>| {
        let operations = by.into_iter().chain([*index]).collect();
        Some(Violation {
            rule,
            sentence: format!("{what} #{index} of revision {revision} {sentence}"),
            operations,
        })
    };
    match &asked.end {
        AskedEnd::Unknown => None,
        AskedEnd::Ok { shown, .. } => {
            if revision > shown {
                return broken("future answered", format!("was answered at revision {shown}"), None);
            }
            let (compacted, by) = times.certain.before(*invoked_at)?;
            if *needs < compacted {
                let sentence = format!("was answered, though #{by} had compacted {compacted}");
                return broken("forgotten answered", sentence, Some(by));
            }
            None
        }
        AskedEnd::Refused { error, returned_at } => {
            if error.contains(COMPACTED) {
                let is_right = times.may_be_compacted(needs + 1, *returned_at);
                return if is_right {
                    None
                } else {
                    broken(
                        "refused as compacted",
                        "was refused, but nobody had compacted so far".to_owned(),
                        None,
                    )
                };
            }
            if error.contains(FUTURE) {
                let (newest, by) = times.newest.before(*invoked_at)?;
                if *revision <= newest {
                    let sentence = format!("was refused as one to come, but #{by} had shown {newest}");
                    return broken("refused as future", sentence, Some(by));
                }
                return None;
            }
            if error.contains(CLASS) {
                return broken("wrong error", format!("was refused with other words: {error}"), None);
            }
            None
        }
    }
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
