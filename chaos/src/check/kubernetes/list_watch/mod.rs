//! Informers: what each holds is what the store held at its revision, and no change is missed, shown twice, or shown late.
//!
//! A list is the state at its revision, no older than it was asked to be. The events of a watch are the log's changes after the revision
//! that it began at, one by one, over every reconnect. A bookmark says that all up to its revision has been shown. Revisions
//! of one informer never go back. Each was shown, at the end, what it wrote itself.

use std::collections::BTreeMap;

use super::super::Record;
use super::super::opinions::Opinion;
use super::Findings;
use super::objects::{Change, changes};
use crate::history::{
    ApiCall, ApiEnd, ApiExchange, EventKind, Function, Informed, Listing, Process, Resource, ShownEvent,
    api_exchanges, revision,
};

/// Name of the checker.
pub const NAME: &str = "k-listwatch";
/// Where the workload's objects are.
pub const NAMESPACE: &str = "k-listwatch";
/// Events, and watches that went on from where an earlier one was, without which nothing is shown.
const EVENTS_MIN: usize = 10;
const RESUMED_MIN: usize = 1;

/// Names and revisions of all objects.
type Contents<'a> = BTreeMap<&'a str, i64>;

/// What is known of an informer while its events are read.
#[derive(Default)]
struct Informer<'a> {
    position: Option<i64>,
    awaits: Option<i64>,
    has_ended_badly: bool,
    contents: BTreeMap<String, i64>,
    watches: usize,
    /// Nothing is concluded after the first violation.
    is_broken: bool,
    /// Changes of the log that it has not been shown.
    ahead: &'a [Change<'a>],
}

impl Informer<'_> {
    fn held(&self) -> Contents<'_> {
        self.contents.iter().map(|(name, revision)| (name.as_str(), *revision)).collect()
    }
}

#[derive(Default)]
struct Counts {
    informers: usize,
    events: usize,
    bookmarks: usize,
    resumed: usize,
    expired: usize,
    lists: usize,
}

/// Says what it thinks of the informers of a run.
pub(in super::super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    if !record.events.iter().any(|event| event.f == Function::Inform) {
        return Ok(None);
    }
    let changes = changes(record, &Resource::ConfigMaps.folder(NAMESPACE))?;
    let mut findings = Findings::default();
    findings.log(record);
    let mut counts = Counts::default();
    if findings.unknown.is_empty() {
        counts.lists = lists(&api_exchanges(&record.events)?, &changes, &mut findings);
        informers(record, &changes, &mut counts, &mut findings)?;
    }
    findings.demand("events", counts.events, EVENTS_MIN);
    findings.demand("watches that went on", counts.resumed, RESUMED_MIN);
    let Counts { informers, events, bookmarks, resumed, expired, lists } = counts;
    let scope = format!(
        "{informers} informers, {lists} lists, {events} events, {bookmarks} bookmarks, {resumed} watches that went on, \
         {expired} expired"
    );
    let counts = [
        ("informers", informers),
        ("lists", lists),
        ("events", events),
        ("bookmarks", bookmarks),
        ("resumed", resumed),
        ("expired", expired),
    ];
    Ok(Some(findings.opinion(NAME, scope, &counts)))
}

/// Returns what the log says there was at a revision.
fn state<'a>(changes: &'a [Change<'_>], at: i64) -> Contents<'a> {
    let mut contents = Contents::new();
    for change in changes.iter().take_while(|change| change.revision <= at) {
        match change.object {
            Some(_) => contents.insert(change.name, change.revision),
            None => contents.remove(change.name),
        };
    }
    contents
}

fn lists(exchanges: &[ApiExchange], changes: &[Change<'_>], findings: &mut Findings) -> usize {
    let mut acknowledged: Vec<(u64, i64, u64)> = Vec::new();
    for exchange in exchanges.iter().filter(|exchange| exchange.call.is_write()) {
        if let Some((answer, returned_at)) = exchange.done() {
            acknowledged.push((returned_at, answer.revision, exchange.index));
        }
    }
    let mut count = 0;
    for exchange in exchanges {
        let ApiCall::List(listing) = &exchange.call else { continue };
        let ApiEnd::Answered { answer, .. } = &exchange.end else { continue };
        if listing.namespace != NAMESPACE || !answer.is_done() {
            continue;
        }
        count += 1;
        let (index, at) = (exchange.index, answer.revision);
        let named = |object| (super::objects::text(object, "/metadata/name"), revision(object));
        let shown: Contents<'_> = answer.items.iter().map(named).collect();
        if shown != state(changes, at) {
            let sentence =
                format!("list #{index} shows {shown:?} at {at}, and the log {:?}", state(changes, at));
            findings.broken("list is not the state", &[index], sentence);
        }
        too_old(exchange, (listing, at), &acknowledged, findings);
    }
    count
}

fn too_old(
    exchange: &ApiExchange,
    (listing, at): (&Listing, i64),
    acknowledged: &[(u64, i64, u64)],
    findings: &mut Findings,
) {
    let index = exchange.index;
    let asked: i64 = listing.resource_version.parse().unwrap_or(0);
    if at < asked || (listing.exact && at != asked) {
        let sentence = format!("list #{index} asked for {asked}, and is at {at}");
        findings.broken("list of another revision", &[index], sentence);
    }
    if !listing.resource_version.is_empty() {
        return;
    }
    let before = acknowledged.iter().filter(|(returned_at, _, _)| *returned_at < exchange.invoked_at);
    if let Some((_, wrote, other)) = before.max_by_key(|(_, wrote, _)| *wrote)
        && *wrote > at
    {
        let sentence = format!("list #{index} is at {at}, after #{other} had written at {wrote}");
        findings.broken("stale list", &[*other, index], sentence);
    }
}

fn informers(
    record: &Record,
    changes: &[Change<'_>],
    counts: &mut Counts,
    findings: &mut Findings,
) -> Result<(), String> {
    let mut informers: BTreeMap<Process, Informer<'_>> = BTreeMap::new();
    for event in record.events.iter().filter(|event| event.f == Function::Inform) {
        let informer = informers.entry(event.process).or_default();
        if event.kind == EventKind::Fail {
            informer.has_ended_badly = true;
            let why = event.error.as_deref().unwrap_or("it is behind");
            let sentence = format!("an informer was not shown what it wrote: #{}: {why}", event.index);
            findings.broken("informer stalled", &[event.index], sentence);
            continue;
        }
        let informed: Informed = serde_json::from_value(event.value.clone())
            .map_err(|error| format!("event {}: the informer cannot be read: {error}", event.index))?;
        count(informer, &informed, counts);
        if !informer.is_broken
            && let Err((rule, sentence)) = step(informer, &informed, changes)
        {
            informer.is_broken = true;
            findings.broken(rule, &[event.index], format!("#{}: {sentence}", event.index));
        }
    }
    counts.informers = informers.len();
    for (process, informer) in informers {
        let is_at_end = informer.awaits.zip(informer.position).is_some_and(|(last, at)| at >= last);
        if !is_at_end && !informer.has_ended_badly && !informer.is_broken {
            findings.unknown.push(format!("the informer {process:?} did not come to its end"));
        }
        let at = informer.position.unwrap_or(0);
        let held = informer.held();
        if !informer.is_broken && held != state(changes, at) {
            let sentence = format!(
                "the informer {process:?} holds {held:?} at {at}, and the log {:?}",
                state(changes, at)
            );
            findings.broken("informer differs", &[], sentence);
        }
    }
    Ok(())
}

fn count(informer: &mut Informer<'_>, informed: &Informed, counts: &mut Counts) {
    match informed {
        Informed::Opened { .. } => {
            counts.resumed += usize::from(informer.watches > 0);
            informer.watches += 1;
        }
        Informed::Event(_) => counts.events += 1,
        Informed::Bookmark { .. } => counts.bookmarks += 1,
        Informed::Expired { .. } => counts.expired += 1,
        Informed::Listed { .. } | Informed::Ended { .. } | Informed::Awaits { .. } => {}
    }
}

/// Lets an informer take in one thing; says which rule it breaks.
fn step<'a>(
    informer: &mut Informer<'a>,
    informed: &Informed,
    changes: &'a [Change<'a>],
) -> Result<(), (&'static str, String)> {
    let at = informer.position.unwrap_or(0);
    match informed {
        Informed::Listed { revision, items } => {
            if *revision < at {
                return Err(("informer went back", format!("a list is at {revision}, after {at}")));
            }
            informer.contents = items.iter().cloned().collect();
            informer.position = Some(*revision);
            informer.ahead = after(changes, *revision);
            let (held, logged) = (informer.held(), state(changes, *revision));
            if held == logged {
                return Ok(());
            }
            Err(("informer differs", format!("a list at {revision} shows {held:?}, and the log {logged:?}")))
        }
        Informed::Event(event) => shown(informer, event, at),
        Informed::Bookmark { revision } => {
            if *revision < at {
                return Err(("bookmark went back", format!("a bookmark of {revision}, after {at}")));
            }
            if let Some(missed) = informer.ahead.first().filter(|missed| missed.revision <= *revision) {
                let (name, when) = (missed.name, missed.revision);
                let sentence =
                    format!("a bookmark of {revision}, and the change of {name} at {when} was not shown");
                return Err(("bookmark ahead of events", sentence));
            }
            informer.position = Some(*revision);
            Ok(())
        }
        Informed::Awaits { revision } => {
            informer.awaits = Some(*revision);
            Ok(())
        }
        Informed::Opened { .. } | Informed::Expired { .. } | Informed::Ended { .. } => Ok(()),
    }
}

fn shown(informer: &mut Informer<'_>, event: &ShownEvent, at: i64) -> Result<(), (&'static str, String)> {
    let ShownEvent { kind, name, revision } = event;
    if *revision <= at {
        return Err(("event twice or late", format!("{kind} {name} at {revision}, after {at}")));
    }
    let Some((next, rest)) = informer.ahead.split_first() else {
        return Err(("event from nowhere", format!("{kind} {name} at {revision}, and the log has no more")));
    };
    if next.revision < *revision {
        let sentence = format!(
            "{kind} {name} at {revision}, and the change of {} at {} was not shown",
            next.name, next.revision
        );
        return Err(("missed event", sentence));
    }
    if next.revision > *revision || next.name != name {
        let sentence = format!(
            "{kind} {name} at {revision}, and the log has a change of {} at {}",
            next.name, next.revision
        );
        return Err(("event from nowhere", sentence));
    }
    let expected = match (&next.object, next.is_new) {
        (None, _) => "DELETED",
        (Some(_), true) => "ADDED",
        (Some(_), false) => "MODIFIED",
    };
    if kind != expected {
        return Err(("event of another type", format!("{kind} {name} at {revision} is {expected}")));
    }
    match next.object {
        Some(_) => informer.contents.insert(name.clone(), *revision),
        None => informer.contents.remove(name),
    };
    informer.position = Some(*revision);
    informer.ahead = rest;
    Ok(())
}

fn after<'a>(changes: &'a [Change<'a>], revision: i64) -> &'a [Change<'a>] {
    let place = changes.partition_point(|change| change.revision <= revision);
    changes.get(place..).unwrap_or_default()
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
