//! Locks: nobody takes one that somebody holds, and under a fenced lock no acknowledged update of the list is lost.
//!
//! A lock is a key that only one can create, or one of the lock service's, with a lease of the holder's: whoever takes it holds it until the
//! lease may have ended, by its time or by hand. An update reads the list, adds an element and writes it back, all while its client holds the lock. Two who
//! do this at the same time lose one of the elements. The fenced locks must prevent it, whatever pauses, so their lists only grow. The
//! unfenced one cannot, and is reported as what it is: a canary that shows that clients did lose their lock while they held
//! it. It says nothing about the store.
//!
//! | rule | what must hold |
//! |---|---|
//! | lock of a lost place | whom the lock service gives a lock has a key there, and nobody's came before it, at the revision that the answer names |
//! | lock held twice | a lock is taken again only once the lease of whoever held it may have ended |
//! | lost update under a lock | whoever is answered later sees an acknowledged update of a fenced list |
//! | list rewritten | a fenced list at one time begins with what it was before |
//! | refused update was done | what was refused is in no list |
//! | element from nowhere, element twice | a list has what clients had been asked to add, once |

mod held;
mod served;

use std::collections::{BTreeMap, BTreeSet};

use super::clocks::Clocks;
use super::opinions::Opinion;
use super::{Record, Violation};
use crate::history::{
    Exchange, ExchangeEnd, Request, Response, exchanges, lease_calls, lock_calls, unlock_calls,
};

/// Name of the checker.
pub const NAME: &str = "lock";

/// Marks the lists that locks guard.
const FOLDER: &str = "locked/";

/// Violations reported before the checker stops telling.
const VIOLATIONS_MAX: usize = 20;

/// How a lock is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    /// A key that one can create; its holder looks whether it is still the own one.
    Fenced,
    /// The lock service's; its holder looks, too.
    Served,
    /// A key that one can create; its holder does not look.
    Unfenced,
}

impl Lock {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fenced, Self::Served, Self::Unfenced];

    /// Returns its name in keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Served => "served",
            Self::Unfenced => "unfenced",
        }
    }
}

/// Returns the key of a list that a lock guards.
#[must_use]
pub fn list_key(prefix: &str, lock: Lock, number: u64) -> String {
    format!("{prefix}{FOLDER}{}/{number}", lock.name())
}

fn lock_of(key: &str) -> Option<Lock> {
    let (_, rest) = key.split_once(FOLDER)?;
    Lock::ALL.into_iter().find(|lock| rest.starts_with(&format!("{}/", lock.name())))
}

/// One list.
#[derive(Default)]
struct List<'a> {
    /// Who was to add each element, and what the list was to be then.
    updates: BTreeMap<String, (&'a Exchange, Vec<String>)>,
    sights: Vec<Sight<'a>>,
}

/// An answer that shows a list: a read, or an update that was done.
struct Sight<'a> {
    exchange: &'a Exchange,
    /// How much of it was there before.
    from: usize,
    elements: Vec<String>,
    returned_at: u64,
}

/// Says what it thinks of the locks of a run.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = exchanges(&record.events)?;
    let lists = collect(&exchanges);
    let mut updates: BTreeMap<Lock, usize> = BTreeMap::new();
    let mut canary = 0;
    let asked = held::Asked {
        exchanges: &exchanges,
        locks: &lock_calls(&record.events)?,
        unlocks: &unlock_calls(&record.events)?,
        leases: &lease_calls(&record.events)?,
    };
    let mut violations = held::twice(&asked, &Clocks::of(&record.events));
    if !record.logs.is_empty() {
        violations.extend(served::lost_places(asked.locks, &record.versions()));
    }
    for (key, list) in &lists {
        let Some(lock) = lock_of(key) else { continue };
        *updates.entry(lock).or_default() += list.sights.iter().filter(|sight| sight.is_update()).count();
        match lock {
            Lock::Fenced | Lock::Served => violations.extend(judge(key, list)),
            Lock::Unfenced => {
                canary += lost_updates(key, list).len();
                violations.extend(strange_elements(key, list));
            }
        }
    }
    let [fenced, served, unfenced] = Lock::ALL.map(|lock| updates.get(&lock).copied().unwrap_or(0));
    if fenced == 0 {
        return Ok(None);
    }
    violations.truncate(VIOLATIONS_MAX);
    let canary_says = if canary > 0 {
        format!("the unfenced canary lost {canary} of {unfenced}, as documented")
    } else {
        format!("the unfenced canary lost none of {unfenced}: no holder was overtaken")
    };
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!(
            "{fenced} updates under the fenced lock, {served} under the lock service's; {canary_says}"
        ),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from([
            ("fenced", fenced),
            ("served", served),
            ("unfenced", unfenced),
            ("unfenced_lost", canary),
        ]),
    }))
}

impl Sight<'_> {
    fn is_update(&self) -> bool {
        self.from < self.elements.len()
    }
}

fn collect(exchanges: &[Exchange]) -> BTreeMap<&str, List<'_>> {
    let mut lists: BTreeMap<&str, List<'_>> = BTreeMap::new();
    let split = |value: &str| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for exchange in exchanges {
        if let (
            Request::Range(range),
            ExchangeEnd::Ok { response: Response::Range { rows, .. }, returned_at, .. },
        ) = (&exchange.request, &exchange.end)
            && lock_of(&range.key).is_some()
            && !range.serializable
        {
            let elements = split(rows.first().map_or("", |row| row.state.value.as_str()));
            let (from, returned_at) = (elements.len(), *returned_at);
            let sight = Sight { exchange, from, elements, returned_at };
            lists.entry(&range.key).or_default().sights.push(sight);
        }
        for put in exchange.request.puts().into_iter().filter(|put| lock_of(&put.key).is_some()) {
            let list = lists.entry(&put.key).or_default();
            let elements = split(&put.value);
            let Some(added) = elements.last().cloned() else { continue };
            list.updates.insert(added, (exchange, elements.clone()));
            if let ExchangeEnd::Ok { response, returned_at, .. } = &exchange.end
                && response.wrote()
            {
                let (from, returned_at) = (elements.len() - 1, *returned_at);
                list.sights.push(Sight { exchange, from, elements, returned_at });
            }
        }
    }
    for list in lists.values_mut() {
        list.sights.sort_by_key(|sight| sight.exchange.invoked_at);
    }
    lists
}

/// Judges a list whose holders look whether they still hold the lock.
fn judge(key: &str, list: &List<'_>) -> Vec<Violation> {
    let mut violations = lost_updates(key, list);
    violations.extend(strange_elements(key, list));
    violations.extend(rewritten(key, list));
    violations
}

/// Names each acknowledged update with the first answer that should show it, and does not.
fn lost_updates(key: &str, list: &List<'_>) -> Vec<Violation> {
    let lost = list.sights.iter().filter(|sight| sight.is_update()).filter_map(|update| {
        let element = update.elements.last()?;
        let lacks = |later: &&Sight<'_>| {
            update.returned_at < later.exchange.invoked_at && !later.elements.contains(element)
        };
        Some((update, element, list.sights.iter().find(lacks)?))
    });
    let violation = |(update, element, later): (&Sight<'_>, &String, &Sight<'_>)| {
        let (one, two) = (update.exchange.index, later.exchange.index);
        let sentence =
            format!("#{one} added {element} to {key} while it held the lock, but #{two} does not show it");
        Violation { rule: "lost update under a lock", sentence, operations: vec![one, two] }
    };
    lost.map(violation).collect()
}

/// Finds what is in a list twice, or that nobody was asked to add by then.
fn strange_elements(key: &str, list: &List<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for Sight { exchange, elements, returned_at, .. } in &list.sights {
        let index = exchange.index;
        let unique: BTreeSet<&String> = elements.iter().collect();
        if unique.len() < elements.len() {
            let sentence = format!("#{index} shows {elements:?} in {key}");
            violations.push(Violation { rule: "element twice", sentence, operations: vec![index] });
        }
        for element in unique {
            let adding = list.updates.get(element).map(|(adding, _)| *adding);
            let (rule, what) = match adding {
                Some(adding) if adding.invoked_at > *returned_at => {
                    ("element from nowhere", "which is added later")
                }
                Some(adding) if is_refused(adding) => ("refused update was done", "which was refused"),
                Some(_) => continue,
                None => ("element from nowhere", "which nobody added"),
            };
            let sentence = format!("#{index} shows {element} in {key}, {what}");
            let operations = adding.map(|adding| adding.index).into_iter().chain([index]).collect();
            violations.push(Violation { rule, sentence, operations });
        }
    }
    violations
}

fn is_refused(adding: &Exchange) -> bool {
    match &adding.end {
        ExchangeEnd::Ok { response, .. } => !response.wrote(),
        ExchangeEnd::Fail { .. } => true,
        ExchangeEnd::Unknown => false,
    }
}

/// Of two answers, one shows what the other does and perhaps more, and whoever is answered later shows no less.
fn rewritten(key: &str, list: &List<'_>) -> Option<Violation> {
    let violation = |earlier: &Sight<'_>, later: &Sight<'_>| {
        let (one, two) = (earlier.exchange.index, later.exchange.index);
        let sentence = format!(
            "#{two} shows {:?} in {key}, which is not what #{one} shows, {:?}, and more",
            later.elements, earlier.elements
        );
        Some(Violation { rule: "list rewritten", sentence, operations: vec![one, two] })
    };
    let mut by_length: Vec<&Sight<'_>> = list.sights.iter().collect();
    by_length.sort_by_key(|sight| sight.elements.len());
    for (shorter, longer) in by_length.iter().zip(by_length.iter().skip(1)) {
        if !longer.elements.starts_with(&shorter.elements) {
            return violation(shorter, longer);
        }
    }
    if let Some(longest) = by_length.last() {
        let became = |place: usize| longest.elements.get(..=place).unwrap_or_default();
        let is_other = |(place, element): &(usize, &String)| {
            list.updates.get(*element).is_some_and(|(_, grown)| grown != became(*place))
        };
        if let Some((_, element)) = longest.elements.iter().enumerate().find(is_other) {
            let adding = list.updates.get(element).map_or(0, |(adding, _)| adding.index);
            let index = longest.exchange.index;
            let sentence = format!(
                "#{index} shows {:?} in {key}, and #{adding} added {element} to something else",
                longest.elements
            );
            return Some(Violation { rule: "list rewritten", sentence, operations: vec![adding, index] });
        }
    }
    let mut returned: Vec<&Sight<'_>> = list.sights.iter().collect();
    returned.sort_by_key(|sight| sight.returned_at);
    let mut returned = returned.into_iter().peekable();
    let mut longest: Option<&Sight<'_>> = None;
    for sight in &list.sights {
        while let Some(earlier) = returned.next_if(|earlier| earlier.returned_at < sight.exchange.invoked_at)
        {
            if longest.is_none_or(|longest| earlier.elements.len() > longest.elements.len()) {
                longest = Some(earlier);
            }
        }
        if let Some(longest) = longest.filter(|longest| longest.elements.len() > sight.from) {
            return violation(longest, sight);
        }
    }
    None
}

#[cfg(test)]
mod generated;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
