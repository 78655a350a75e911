//! Compaction: what is forgotten is refused as such, everything else is answered, and nothing is forgotten twice.
//!
//! When a compaction took effect is known only within its call; a request is judged where that leaves no doubt. That what is
//! behind the compact revision stays as it was, and that revisions never fall, is the witness's business.

use std::collections::BTreeMap;

use serde_json::Value;

use super::opinions::Opinion;
use super::{Record, Violation};
use crate::history::{
    Event, EventKind, Exchange, ExchangeEnd, Function, Process, Request, Response, Watch, exchanges, watches,
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

/// A request that names a revision: a compaction, a read of the past, a transaction with such reads, or a watch.
struct Asked {
    index: u64,
    what: &'static str,
    /// It needs what is at this revision: a read may be at the compact revision, a compaction must be behind it.
    needs: i64,
    /// The highest that it names.
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
    let reads: Vec<Asked> = exchanges.iter().filter_map(read).collect();
    let watches = watches(&record.events)?;
    let ended: Vec<Ended> = watches.iter().filter_map(Ended::of).collect();
    let times = Times::new(&compactions, &exchanges);
    let mut violations = Vec::new();
    for asked in compactions.iter().chain(&reads) {
        violations.extend(problem(asked, &times));
    }
    violations.extend(ended.iter().filter_map(|ended| ended.problem(&times)));
    violations.truncate(VIOLATIONS_MAX);
    let refused =
        |asked: &&Asked| matches!(&asked.end, AskedEnd::Refused { error, .. } if error.contains(CLASS));
    let done = compactions.iter().filter(|asked| matches!(asked.end, AskedEnd::Ok { .. })).count();
    let refused = compactions.iter().chain(&reads).filter(refused).count();
    let counts = [
        ("compactions", done),
        ("reads_of_the_past", reads.len()),
        ("refused", refused),
        ("watches_ended", ended.len()),
    ];
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!(
            "{done} compactions, {} reads of the past, {refused} requests refused, {} watches ended",
            reads.len(),
            ended.len()
        ),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from(counts),
    }))
}

/// Returns each compaction that may have happened: the index at which it was asked for, and its revision.
pub(super) fn possible(events: &[Event]) -> Result<Vec<(u64, i64)>, String> {
    let possible = compactions(events)?.into_iter();
    let possible = possible.filter(|asked| !matches!(asked.end, AskedEnd::Refused { .. }));
    Ok(possible.map(|asked| (asked.index, asked.revision)).collect())
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

/// What a request reads of the past; `None` if it reads none, or may be answered by a member that is behind.
fn read(exchange: &Exchange) -> Option<Asked> {
    if exchange.request.is_serializable() {
        return None;
    }
    let (mut revisions, end) = (
        Vec::new(),
        match &exchange.end {
            ExchangeEnd::Ok { revision, returned_at, .. } => {
                AskedEnd::Ok { shown: *revision, returned_at: *returned_at }
            }
            ExchangeEnd::Fail { error, returned_at } => {
                AskedEnd::Refused { error: error.clone(), returned_at: *returned_at }
            }
            ExchangeEnd::Unknown => AskedEnd::Unknown,
        },
    );
    past(&exchange.request, exchange.end.response(), &mut revisions);
    let what = if matches!(exchange.request, Request::Range(_)) { "read" } else { "transaction" };
    Some(Asked {
        index: exchange.index,
        what,
        needs: *revisions.iter().min()?,
        revision: *revisions.iter().max()?,
        invoked_at: exchange.invoked_at,
        end,
    })
}

/// Collects the revisions that are read: of a transaction that was answered, on the branch that it took.
fn past(request: &Request, response: Option<&Response>, revisions: &mut Vec<i64>) {
    match (request, response) {
        (Request::Range(range), _) => revisions.extend((range.revision > 0).then_some(range.revision)),
        (Request::Txn(txn), Some(Response::Txn { succeeded, responses })) => {
            let taken = if *succeeded { &txn.then } else { &txn.otherwise };
            for (step, response) in taken.iter().zip(responses) {
                past(step, Some(response), revisions);
            }
        }
        (Request::Txn(txn), _) => {
            txn.then.iter().chain(&txn.otherwise).for_each(|step| past(step, None, revisions));
        }
        (Request::Put(_) | Request::Delete(_), _) => {}
    }
}

/// A watch that a member has ended because what it was to show is forgotten. How far a member has come with compactions when a watch
/// begins is not known: one that is behind shows what others have forgotten.
struct Ended {
    index: u64,
    /// The first revision that it had yet to show, or an earlier one.
    needs: i64,
    /// Where it might begin, as the member says.
    compacted: i64,
    ended_at: u64,
}

impl Ended {
    fn of(watch: &Watch) -> Option<Self> {
        let end = watch.notices.iter().find(|noticed| noticed.notice.compacted > 0)?;
        let shown = watch.notices.iter().flat_map(|noticed| &noticed.notice.events);
        let reached = shown.map(|event| event.revision + 1).max().unwrap_or(0);
        let first = if watch.spec.from > 0 { watch.spec.from } else { watch.created? + 1 };
        let (index, compacted) = (watch.index, end.notice.compacted);
        Some(Self { index, needs: first.max(reached), compacted, ended_at: end.time })
    }

    fn problem(&self, times: &Times) -> Option<Violation> {
        let Self { index, needs, compacted, ended_at } = self;
        let broken = |why| {
            let sentence =
                format!("watch #{index}, due from {needs}, was ended as compacted at {compacted}, {why}");
            Some(Violation { rule: "ended as compacted", sentence, operations: vec![*index] })
        };
        if compacted <= needs {
            broken("which forgets nothing of it")
        } else if !times.may_be_compacted(*compacted, *ended_at) {
            broken("but nobody had compacted so far")
        } else {
            None
        }
    }
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
