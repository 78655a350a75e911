//! Optimistic concurrency: an acknowledged update is there once, a refused one never, and none is made of what is old.
//!
//! Without the log: no two acknowledged updates name one resourceVersion; a read shows every element that was acknowledged before it was invoked,
//! each once, and nothing that was refused; lists are linearizable registers. With the log: an answer shows the version at its
//! revision; the version before an acknowledged update is the one that it names; no version lacks what the one before it had.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::linearizability::{self, Limits};
use super::super::opinions::Opinion;
use super::super::{Record, registers};
use super::Findings;
use super::objects::{Change, changes};
use crate::history::{
    Answer, ApiCall, ApiEnd, ApiExchange, Call, KeyState, Operation, Outcome, Resource, Written,
    api_exchanges, revision,
};

/// Name of the checker.
pub const NAME: &str = "k-occ";
/// Where the workload's objects are.
pub const NAMESPACE: &str = "k-occ";
/// Updates that were refused because they were old, and acknowledged ones, without which nothing is shown.
const CONFLICTS_MIN: usize = 1;
const UPDATES_MIN: usize = 10;

/// Returns the elements of an object's list.
#[must_use]
pub fn list_of(object: &Value) -> Vec<String> {
    let list = object.pointer("/data/list").and_then(Value::as_str).unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

/// Returns the fields that patches added.
fn notes_of(object: &Value) -> BTreeSet<String> {
    let data = object.pointer("/data").and_then(Value::as_object);
    let fields = data.into_iter().flatten().filter(|(name, _)| name.starts_with("note-"));
    fields.map(|(_, value)| value.as_str().unwrap_or_default().to_owned()).collect()
}

/// A write with what it adds.
struct Write<'a> {
    exchange: &'a ApiExchange,
    written: &'a Written,
    /// The last element of the list, or what a patch notes.
    tag: String,
}

impl<'a> Write<'a> {
    fn of(exchange: &'a ApiExchange) -> Option<Self> {
        let (ApiCall::Create(written) | ApiCall::Update(written) | ApiCall::Patch(written)) = &exchange.call
        else {
            return None;
        };
        let tag = match &exchange.call {
            ApiCall::Patch(_) => notes_of(&written.object).into_iter().next()?,
            _ => list_of(&written.object).pop()?,
        };
        Some(Self { exchange, written, tag })
    }

    fn is_in(&self, object: &Value) -> bool {
        list_of(object).contains(&self.tag) || notes_of(object).contains(&self.tag)
    }
}

/// Says what it thinks of the updates of a run.
pub(in super::super) fn opinion(record: &Record, limits: Limits) -> Result<Option<Opinion>, String> {
    let exchanges = api_exchanges(&record.events)?;
    let folder = Resource::ConfigMaps.folder(NAMESPACE);
    let writes: Vec<Write<'_>> =
        exchanges.iter().filter_map(Write::of).filter(|write| write.written.namespace == NAMESPACE).collect();
    if writes.is_empty() {
        return Ok(None);
    }
    let changes = changes(record, &folder)?;
    let mut findings = Findings::default();
    findings.log(record);
    one_update_of_a_version(&writes, &mut findings);
    let reads = reads(&exchanges, &writes, &mut findings);
    if findings.unknown.is_empty() {
        against_the_log(&exchanges, &writes, &changes, &mut findings);
    }
    let searched = search(&exchanges, limits, &mut findings);
    let updates = writes.iter().filter(|write| write.exchange.done().is_some()).count();
    let conflicts = writes.iter().filter(|write| is_conflict(write.exchange)).count();
    findings.demand("acknowledged updates", updates, UPDATES_MIN);
    findings.demand("refused updates", conflicts, CONFLICTS_MIN);
    let scope =
        format!("{updates} updates, {conflicts} conflicts, {reads} reads, {searched} operations searched");
    let counts = [("updates", updates), ("conflicts", conflicts), ("reads", reads), ("searched", searched)];
    Ok(Some(findings.opinion(NAME, scope, &counts)))
}

fn is_conflict(exchange: &ApiExchange) -> bool {
    matches!(&exchange.end, ApiEnd::Answered { answer, .. } if answer.code == 409)
}

fn one_update_of_a_version(writes: &[Write<'_>], findings: &mut Findings) {
    let mut by_version: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for write in writes {
        let index = write.exchange.index;
        if let ApiEnd::Answered { answer, .. } = &write.exchange.end
            && !answer.is_done()
            && ![404, 409].contains(&answer.code)
        {
            findings.unknown.push(format!("#{index} was refused with {} {}", answer.code, answer.reason));
        }
        let is_update = matches!(write.exchange.call, ApiCall::Update(_));
        if !is_update || write.exchange.done().is_none() {
            continue;
        }
        let named = revision(&write.written.object);
        if let Some(other) = by_version.insert((&write.written.name, named), index) {
            let name = &write.written.name;
            findings.broken(
                "two updates of one version",
                &[other, index],
                format!("#{other} and #{index} both replaced {name} as it was at {named}"),
            );
        }
    }
}

/// Holds every read against the writes that were over before it began; returns how many reads there are.
fn reads(exchanges: &[ApiExchange], writes: &[Write<'_>], findings: &mut Findings) -> usize {
    let mut by_name: BTreeMap<&str, Vec<&Write<'_>>> = BTreeMap::new();
    for write in writes {
        by_name.entry(&write.written.name).or_default().push(write);
    }
    let mut count = 0;
    for exchange in exchanges {
        let (ApiCall::Get(named), Some((answer, _))) = (&exchange.call, exchange.done()) else { continue };
        if named.namespace != NAMESPACE || named.resource != Resource::ConfigMaps {
            continue;
        }
        count += 1;
        let (index, name) = (exchange.index, &named.name);
        let list = list_of(&answer.object);
        let unique: BTreeSet<&String> = list.iter().collect();
        if unique.len() < list.len() {
            findings.broken("element twice", &[index], format!("read #{index} of {name} shows {list:?}"));
        }
        for write in by_name.get(name.as_str()).into_iter().flatten() {
            let (other, is_in) = (write.exchange.index, write.is_in(&answer.object));
            let tag = &write.tag;
            let done = write.exchange.done();
            if !is_in && done.is_some_and(|(_, returned_at)| returned_at < exchange.invoked_at) {
                let sentence =
                    format!("#{other} wrote {tag} to {name}, and read #{index}, invoked later, lacks it");
                findings.broken("lost update", &[other, index], sentence);
            }
            if is_in && write.exchange.is_refused() {
                let sentence = format!("#{other} was refused, and read #{index} of {name} shows its {tag}");
                findings.broken("refused update was done", &[other, index], sentence);
            }
            let newer = done.filter(|(newer, returned_at)| {
                *returned_at < exchange.invoked_at && newer.revision > revision(&answer.object)
            });
            if let Some((newer, _)) = newer {
                let (read, wrote) = (revision(&answer.object), newer.revision);
                let sentence = format!(
                    "read #{index} shows {name} as of {read}, after #{other} had written it at {wrote}"
                );
                findings.broken("stale read", &[other, index], sentence);
            }
        }
    }
    count
}

fn against_the_log(
    exchanges: &[ApiExchange],
    writes: &[Write<'_>],
    changes: &[Change<'_>],
    findings: &mut Findings,
) {
    let mut versions: BTreeMap<&str, BTreeMap<i64, &Value>> = BTreeMap::new();
    for change in changes {
        if let Some(object) = &change.object {
            versions.entry(change.name).or_default().insert(change.revision, object);
        } else {
            // Nobody deletes anything here.
            let (name, at) = (change.name, change.revision);
            findings.broken("update lost something", &[], format!("{name} is deleted at {at}"));
        }
    }
    let none = BTreeMap::new();
    for exchange in exchanges {
        let name = match &exchange.call {
            ApiCall::Get(named) if named.namespace == NAMESPACE => &named.name,
            ApiCall::Create(written) | ApiCall::Update(written) | ApiCall::Patch(written)
                if written.namespace == NAMESPACE =>
            {
                &written.name
            }
            _ => continue,
        };
        let Some((answer, _)) = exchange.done() else { continue };
        let at = revision(&answer.object);
        let logged = versions.get(name.as_str()).unwrap_or(&none).get(&at);
        if logged.and_then(|logged| logged.get("data")) != answer.object.get("data") {
            let index = exchange.index;
            let sentence = format!("#{index} shows {name} at {at}, and the log has something else there");
            findings.broken("not what the log shows", &[index], sentence);
        }
    }
    for write in writes {
        let (index, name) = (write.exchange.index, &write.written.name);
        let versions = versions.get(name.as_str()).unwrap_or(&none);
        if write.exchange.is_refused()
            && let Some((at, _)) = versions.iter().find(|(_, object)| write.is_in(object))
        {
            let sentence = format!("#{index} was refused, and {name} has its {} at {at}", write.tag);
            findings.broken("refused update was done", &[index], sentence);
        }
        let (ApiCall::Update(_), Some((answer, _))) = (&write.exchange.call, write.exchange.done()) else {
            continue;
        };
        let (named, at) = (revision(&write.written.object), answer.revision);
        let before = versions.range(..at).next_back().map_or(0, |(before, _)| *before);
        if before != named {
            let sentence = format!(
                "#{index} replaced {name} as it was at {named}, and it was written at {before} and {at}"
            );
            findings.broken("stale update succeeded", &[index], sentence);
        }
    }
    for (name, versions) in &versions {
        for ((before_at, before), (at, after)) in versions.iter().zip(versions.iter().skip(1)) {
            let is_kept = list_of(after).starts_with(&list_of(before))
                && notes_of(after).is_superset(&notes_of(before));
            if !is_kept {
                let sentence = format!("{name} at {at} lacks something of what it had at {before_at}");
                findings.broken("update lost something", &[], sentence);
            }
        }
    }
}

/// Looks for an order of all operations on each list that explains every answer; believes nothing of revisions but which names which value.
fn search(exchanges: &[ApiExchange], limits: Limits, findings: &mut Findings) -> usize {
    let operations: Vec<Operation> = exchanges.iter().filter_map(operation).collect();
    let report = match registers::keys(&operations) {
        Ok(keys) => linearizability::check(&keys, limits),
        Err(violations) => linearizability::Report { violations, ..linearizability::Report::default() },
    };
    findings.violations.extend(report.violations);
    findings.unknown.extend(report.unknown);
    report.operations
}

fn operation(exchange: &ApiExchange) -> Option<Operation> {
    let (key, call) = match &exchange.call {
        ApiCall::Get(named) if named.namespace == NAMESPACE && named.resource == Resource::ConfigMaps => {
            (&named.name, Call::Read)
        }
        ApiCall::Create(written) | ApiCall::Update(written) if written.namespace == NAMESPACE => {
            let value = list_of(&written.object).join(" ");
            (&written.name, Call::Cas { expected: revision(&written.object), value })
        }
        _ => return None,
    };
    let outcome = match &exchange.end {
        // A conflict does not say what was there, and a lost read says nothing.
        _ if call == Call::Read && exchange.done().is_none() => return None,
        _ if exchange.is_refused() => Outcome::Fail,
        ApiEnd::Answered { answer, returned_at } => {
            let (revision, returned_at) = (revision(&answer.object), *returned_at);
            let value = list_of(&answer.object).join(" ");
            let state = KeyState { value, version: 0, create_revision: 0, mod_revision: revision, lease: 0 };
            let answer = if call == Call::Read { Answer::Read(Some(state)) } else { Answer::Swapped };
            Outcome::Ok { answer, revision, returned_at }
        }
        ApiEnd::Fail | ApiEnd::Unknown => Outcome::Unknown,
    };
    let ApiExchange { index, process, node, invoked_at, .. } = exchange.clone();
    Some(Operation { index, process, node, key: key.clone(), call, invoked_at, outcome })
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
