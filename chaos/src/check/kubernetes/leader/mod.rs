//! Leaders: whoever writes under a lock's epoch holds the lock in the commit of the write, and nobody does whose time is over.
//!
//! Without the log: an epoch has one holder, later acquisitions have higher ones, and once a successor was told that it holds the lock, its
//! predecessor is neither told that it does nor writes. With the log: every version of the object names the epoch of the lock as it stands at that
//! revision; an acknowledged write is there, a refused one is not, none is there twice. A lock changes hands only over its end, which holds for those of
//! the controllers and the scheduler, too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::Record;
use super::super::opinions::Opinion;
use super::Findings;
use super::objects::{Change, changes, text};
use crate::history::{ApiAnswer, ApiCall, ApiEnd, ApiExchange, Resource, Tenancy, Written, api_exchanges};

/// Name of the checker.
pub const NAME: &str = "k-leader";
/// Where the workload's objects are.
pub const NAMESPACE: &str = "k-leader";
/// The lock that clients contend for.
pub const LOCK: &str = "k-leader";
/// What its holder writes.
pub const LEDGER: &str = "ledger";
/// Where the store has locks.
const LOCKS: &str = "/keelson/leaders/";
/// Changes of leaders, writes, and writes of leaders that were overtaken, without which nothing is shown.
const TENURES_MIN: usize = 3;
const WRITES_MIN: usize = 10;
const OVERTAKEN_MIN: usize = 1;

/// From its acquisition until a lock is gone.
struct Tenure<'a> {
    lock: &'a str,
    identity: String,
    epoch: i64,
    /// `None` when it stands at the end of the log.
    until: Option<i64>,
}

/// Says what it thinks of the leaders of a run.
pub(in super::super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = api_exchanges(&record.events)?;
    let is_about_locks = |exchange: &&ApiExchange| matches!(exchange.call, ApiCall::Acquire(_));
    if !exchanges.iter().any(|exchange| is_about_locks(&exchange)) {
        return Ok(None);
    }
    let mut findings = Findings::default();
    findings.log(record);
    findings.waits(record);
    let acquired = acquisitions(&exchanges, &mut findings);
    after_successors(&exchanges, &acquired, &mut findings);
    let changes_of_locks = changes(record, LOCKS)?;
    let tenures = tenures(&changes_of_locks, &mut findings);
    if findings.unknown.is_empty() {
        granted(&acquired, &tenures, &mut findings);
        let ledger = changes(record, &Resource::ConfigMaps.folder(NAMESPACE))?;
        written_by_holders(&ledger, &tenures, &mut findings);
        answers(&exchanges, &ledger, &mut findings);
    }
    let own = tenures.iter().filter(|tenure| tenure.lock == LOCK).count();
    let others = tenures.len() - own;
    let writes = fenced(&exchanges).filter(|(exchange, _)| exchange.done().is_some()).count();
    let overtaken = fenced(&exchanges).filter(|(exchange, _)| is_fenced_out(exchange)).count();
    findings.demand("tenures", own, TENURES_MIN);
    findings.demand("acknowledged writes of leaders", writes, WRITES_MIN);
    findings.demand("writes of overtaken leaders", overtaken, OVERTAKEN_MIN);
    let scope = format!(
        "{own} tenures of clients and {others} of controllers, {writes} writes, {overtaken} of overtaken leaders refused"
    );
    let counts =
        [("tenures", own), ("tenures_of_controllers", others), ("writes", writes), ("overtaken", overtaken)];
    Ok(Some(findings.opinion(NAME, scope, &counts)))
}

fn is_fenced_out(exchange: &ApiExchange) -> bool {
    matches!(&exchange.end, ApiEnd::Answered { answer, .. } if answer.reason == "FencedOut")
}

/// Writes under an epoch of the clients' lock.
fn fenced(exchanges: &[ApiExchange]) -> impl Iterator<Item = (&ApiExchange, &Written)> {
    exchanges.iter().filter_map(|exchange| match &exchange.call {
        ApiCall::Create(written) | ApiCall::Update(written) | ApiCall::Patch(written) => {
            written.fence.is_some().then_some((exchange, written))
        }
        ApiCall::Get(_)
        | ApiCall::List(_)
        | ApiCall::Delete(_)
        | ApiCall::Acquire(_)
        | ApiCall::Renew(_)
        | ApiCall::Release(_) => None,
    })
}

/// An acquisition that was acknowledged.
struct Acquired<'a> {
    exchange: &'a ApiExchange,
    tenancy: &'a Tenancy,
    answer: &'a ApiAnswer,
    returned_at: u64,
}

fn acquisitions<'a>(exchanges: &'a [ApiExchange], findings: &mut Findings) -> Vec<Acquired<'a>> {
    let mut acquired: Vec<Acquired<'a>> = Vec::new();
    for exchange in exchanges {
        let (ApiCall::Acquire(tenancy), Some((answer, returned_at))) = (&exchange.call, exchange.done())
        else {
            continue;
        };
        if !answer.held {
            continue;
        }
        for other in &acquired {
            let (one, two) = (other.exchange.index, exchange.index);
            if other.answer.epoch == answer.epoch {
                let sentence =
                    format!("#{one} and #{two} both hold the lock under the epoch {}", answer.epoch);
                findings.broken("two leaders of one epoch", &[one, two], sentence);
            } else if other.returned_at < exchange.invoked_at && other.answer.epoch > answer.epoch {
                let sentence = format!(
                    "#{two} acquired the epoch {} after #{one} had acquired {}",
                    answer.epoch, other.answer.epoch
                );
                findings.broken("epoch went back", &[one, two], sentence);
            }
        }
        acquired.push(Acquired { exchange, tenancy, answer, returned_at });
    }
    acquired
}

/// What is asked after a successor knew of its leadership must be refused.
fn after_successors(exchanges: &[ApiExchange], acquired: &[Acquired<'_>], findings: &mut Findings) {
    let successor = |epoch: u64, before: u64| {
        acquired.iter().find(|other| other.answer.epoch > epoch && other.returned_at < before)
    };
    for exchange in exchanges {
        let (epoch, is_granted) = match &exchange.call {
            ApiCall::Renew(tenancy) => {
                (tenancy.epoch, exchange.done().is_some_and(|(answer, _)| answer.held))
            }
            ApiCall::Create(written) | ApiCall::Update(written) | ApiCall::Patch(written) => {
                let Some(fence) = &written.fence else { continue };
                (fence.epoch, exchange.done().is_some())
            }
            ApiCall::Get(_)
            | ApiCall::List(_)
            | ApiCall::Delete(_)
            | ApiCall::Acquire(_)
            | ApiCall::Release(_) => continue,
        };
        if let Some(successor) = successor(epoch, exchange.invoked_at).filter(|_| is_granted) {
            let (one, two) = (successor.exchange.index, exchange.index);
            let sentence = format!(
                "#{two} was granted under the epoch {epoch}, after #{one} had acquired {}",
                successor.answer.epoch
            );
            findings.broken("an overtaken leader acts", &[one, two], sentence);
        }
    }
}

fn tenures<'a>(changes: &'a [Change<'_>], findings: &mut Findings) -> Vec<Tenure<'a>> {
    let mut tenures: Vec<Tenure<'a>> = Vec::new();
    for change in changes {
        let standing =
            tenures.iter_mut().rev().find(|tenure| tenure.lock == change.name && tenure.until.is_none());
        let at = change.revision;
        match (&change.object, standing) {
            (None, Some(tenure)) => tenure.until = Some(at),
            (None, None) => {}
            (Some(holder), Some(tenure)) => {
                let identity = text(holder, "/identity");
                if identity != tenure.identity {
                    let (lock, before) = (change.name, &tenure.identity);
                    let sentence = format!("at {at}, {lock} goes from {before} to {identity} without an end");
                    findings.broken("leader replaced", &[], sentence);
                }
            }
            (Some(holder), None) => {
                let identity = text(holder, "/identity").to_owned();
                tenures.push(Tenure { lock: change.name, identity, epoch: at, until: None });
            }
        }
    }
    tenures
}

fn granted(acquired: &[Acquired<'_>], tenures: &[Tenure<'_>], findings: &mut Findings) {
    for Acquired { exchange, tenancy, answer, .. } in acquired {
        let is_known = tenures.iter().any(|tenure| {
            tenure.lock == tenancy.lock
                && u64::try_from(tenure.epoch) == Ok(answer.epoch)
                && tenure.identity == tenancy.identity
        });
        if !is_known {
            let (index, epoch, identity) = (exchange.index, answer.epoch, &tenancy.identity);
            let sentence = format!("#{index} gave {identity} the epoch {epoch}, and the log does not");
            findings.broken("epoch from nowhere", &[index], sentence);
        }
    }
}

fn written_by_holders(ledger: &[Change<'_>], tenures: &[Tenure<'_>], findings: &mut Findings) {
    let mut numbers: BTreeSet<&str> = BTreeSet::new();
    for change in ledger.iter().filter(|change| change.name == LEDGER) {
        let Some(object) = &change.object else { continue };
        let (at, number) = (change.revision, text(object, "/data/number"));
        let (holder, epoch) = (text(object, "/data/holder"), text(object, "/data/epoch"));
        let is_held = tenures.iter().any(|tenure| {
            tenure.lock == LOCK
                && tenure.epoch.to_string() == epoch
                && tenure.identity == holder
                && tenure.epoch < at
                && tenure.until.is_none_or(|until| at < until)
        });
        if !is_held {
            let sentence =
                format!("at {at}, {holder} wrote {number} under the epoch {epoch}, which did not stand");
            findings.broken("write of a leader that was none", &[], sentence);
        }
        if !numbers.insert(number) {
            findings.broken("write done twice", &[], format!("at {at}, {number} is written once more"));
        }
    }
}

fn answers(exchanges: &[ApiExchange], ledger: &[Change<'_>], findings: &mut Findings) {
    let number = |object: &Value| text(object, "/data/number").to_owned();
    let by_revision: BTreeMap<i64, String> = ledger
        .iter()
        .filter(|change| change.name == LEDGER)
        .filter_map(|change| Some((change.revision, number(change.object.as_ref()?))))
        .collect();
    for (exchange, written) in fenced(exchanges) {
        let (index, number) = (exchange.index, number(&written.object));
        if let Some((answer, _)) = exchange.done()
            && by_revision.get(&answer.revision) != Some(&number)
        {
            let at = answer.revision;
            let sentence = format!("#{index} wrote {number} at {at}, and the log does not have it there");
            findings.broken("acknowledged write lost", &[index], sentence);
        }
        if exchange.is_refused()
            && let Some((at, _)) = by_revision.iter().find(|(_, other)| **other == number)
        {
            let sentence = format!("#{index} was refused, and its {number} stands at {at}");
            findings.broken("refused write was done", &[index], sentence);
        }
    }
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
