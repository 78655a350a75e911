//! What lists alone show: who appended what, in which order, and the anomalies that need no graph.

use std::collections::{BTreeMap, BTreeSet};

use super::anomaly::{Anomaly, name, shown};
use crate::check::Violation;
use crate::history::{End, Step, Transaction};

/// An append: which transaction made it, and whether it is that transaction's last to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Append {
    pub(super) transaction: usize,
    /// Appends of the same transaction to the same key before this one.
    position: usize,
    is_last: bool,
}

/// A list that a committed transaction read, without what it had appended itself before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) transaction: usize,
    /// As it was read.
    whole: &'a [i64],
    /// As others left it.
    pub(super) list: &'a [i64],
}

/// One key.
#[derive(Default)]
pub(super) struct Key<'a> {
    pub(super) appends: BTreeMap<i64, Append>,
    pub(super) seen: Vec<Seen<'a>>,
    /// The longest list read that is fit to be the order of appends.
    pub(super) order: &'a [i64],
}

/// All keys of a history.
pub(super) struct Lists<'a> {
    transactions: &'a [Transaction],
    /// Committed, or of unknown fate and seen by a read.
    happened: BTreeSet<usize>,
    pub(super) keys: BTreeMap<&'a str, Key<'a>>,
}

impl<'a> Lists<'a> {
    pub(super) fn new(transactions: &'a [Transaction]) -> Result<Self, String> {
        let mut lists = Self { transactions, happened: BTreeSet::new(), keys: BTreeMap::new() };
        for (number, transaction) in transactions.iter().enumerate() {
            lists.add(number, transaction)?;
        }
        for key in lists.keys.values_mut() {
            let fit = key.seen.iter().map(|seen| seen.whole).filter(|list| repeated(list).is_none());
            // The first of the longest: ties do not depend on anything but the history.
            key.order = fit.rev().max_by_key(|list| list.len()).unwrap_or_default();
        }
        lists.happened = (0..transactions.len()).filter(|&number| lists.committed(number)).collect();
        for key in lists.keys.values() {
            let shown = key.order.iter().filter_map(|element| key.appends.get(element));
            lists.happened.extend(shown.map(|append| append.transaction));
        }
        Ok(lists)
    }

    fn add(&mut self, number: usize, transaction: &'a Transaction) -> Result<(), String> {
        let mut own: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for step in &transaction.steps {
            match step {
                Step::Append { key, element } => {
                    let lists = self.keys.entry(key).or_default();
                    let before = own.entry(key).or_default();
                    if let Some(earlier) = before.last().and_then(|last| lists.appends.get_mut(last)) {
                        earlier.is_last = false;
                    }
                    let append = Append { transaction: number, position: before.len(), is_last: true };
                    before.push(*element);
                    if lists.appends.insert(*element, append).is_some() {
                        return Err(format!(
                            "element {element} was appended to {key} twice, the second time by #{}",
                            transaction.index
                        ));
                    }
                }
                Step::Read { key, list: Some(whole) } => {
                    let own = own.get(key.as_str()).map_or(&[][..], Vec::as_slice);
                    let list = whole.strip_suffix(own).unwrap_or(whole);
                    let seen = Seen { transaction: number, whole, list };
                    self.keys.entry(key).or_default().seen.push(seen);
                }
                Step::Read { list: None, .. } => {}
            }
        }
        Ok(())
    }

    /// Whether a transaction happened, as far as anybody knows. A failed one that a read shows did.
    pub(super) fn happened(&self, number: usize) -> bool {
        self.happened.contains(&number)
    }

    fn committed(&self, number: usize) -> bool {
        self.transactions
            .get(number)
            .is_some_and(|transaction| matches!(transaction.end, End::Committed { .. }))
    }

    /// The anomalies that need no graph, by kind and key.
    pub(super) fn anomalies(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for transaction in self.transactions {
            Self::internal(transaction, &mut found);
        }
        for (key, lists) in &self.keys {
            for seen in &lists.seen {
                self.of_a_read(key, lists, seen, &mut found);
            }
            self.orders(key, lists, &mut found);
            self.own_order(key, lists, &mut found);
            self.lost_updates(key, lists, &mut found);
        }
        found
    }

    /// What a transaction sees of its own steps.
    fn internal(transaction: &Transaction, found: &mut Vec<Violation>) {
        // What each list must end with, and whether that is all of it.
        let mut expected: BTreeMap<&str, (Vec<i64>, bool)> = BTreeMap::new();
        let mut to_come: BTreeSet<(&str, i64)> = own_appends(transaction);
        for step in &transaction.steps {
            match step {
                Step::Append { key, element } => {
                    to_come.remove(&(key, *element));
                    expected.entry(key).or_default().0.push(*element);
                }
                Step::Read { key, list: Some(list) } => {
                    let (known, is_whole) = expected.entry(key).or_default();
                    let is_early = list.iter().any(|element| to_come.contains(&(key.as_str(), *element)));
                    if is_early || !list.ends_with(known) || (*is_whole && list != known) {
                        let (whole, list, known) = (name(transaction), shown(list), shown(known));
                        let sentence = format!(
                            "{whole} reads {key} as {list}, but its own steps until then made {known}"
                        );
                        found.push(Anomaly::Internal.violation(sentence, &[transaction]));
                    }
                    (*known, *is_whole) = (list.clone(), true);
                }
                Step::Read { list: None, .. } => {}
            }
        }
    }

    /// What one read shows that nobody may see.
    fn of_a_read(&self, key: &str, lists: &Key<'_>, seen: &Seen<'_>, found: &mut Vec<Violation>) {
        let Some(reader) = self.transactions.get(seen.transaction) else { return };
        if let Some(element) = repeated(seen.whole) {
            let sentence = format!("{} reads {element} twice in {key}", name(reader));
            found.push(Anomaly::DuplicateElement.violation(sentence, &[reader]));
        }
        for element in seen.list {
            let Some(append) = lists.appends.get(element) else {
                let sentence = format!("{} reads {element} in {key}, which nobody appended", name(reader));
                found.push(Anomaly::UnwrittenElement.violation(sentence, &[reader]));
                continue;
            };
            let Some(writer) = self.transactions.get(append.transaction) else { continue };
            if writer.end == End::Aborted {
                let sentence =
                    format!("{} reads {element} in {key}, but {} failed", name(reader), name(writer));
                found.push(Anomaly::G1a.violation(sentence, &[writer, reader]));
            }
        }
        let last = seen.list.last().and_then(|last| Some((last, lists.appends.get(last)?)));
        if let Some((element, append)) = last
            && !append.is_last
            && append.transaction != seen.transaction
            && let Some(writer) = self.transactions.get(append.transaction)
        {
            let sentence =
                format!("{} reads {key} up to {element}, in the middle of {}", name(reader), name(writer));
            found.push(Anomaly::G1b.violation(sentence, &[writer, reader]));
        }
    }

    /// Every list read is the beginning of the longest one.
    fn orders(&self, key: &str, lists: &Key<'_>, found: &mut Vec<Violation>) {
        let longest = lists.seen.iter().find(|seen| seen.whole == lists.order);
        let Some(first) = longest.and_then(|seen| self.transactions.get(seen.transaction)) else { return };
        let wrong = lists
            .seen
            .iter()
            .find(|seen| repeated(seen.whole).is_none() && !lists.order.starts_with(seen.whole));
        let Some((seen, second)) =
            wrong.and_then(|seen| Some((seen, self.transactions.get(seen.transaction)?)))
        else {
            return;
        };
        let sentence = format!(
            "#{} reads {key} as {}, #{} as {}: neither is the beginning of the other",
            first.index,
            shown(lists.order),
            second.index,
            shown(seen.whole)
        );
        found.push(Anomaly::IncompatibleOrder.violation(sentence, &[first, second]));
    }

    /// The longest list shows the appends of each transaction in the order in which they were made.
    fn own_order(&self, key: &str, lists: &Key<'_>, found: &mut Vec<Violation>) {
        let mut positions: BTreeMap<usize, usize> = BTreeMap::new();
        for append in lists.order.iter().filter_map(|element| lists.appends.get(element)) {
            let earlier = positions.insert(append.transaction, append.position);
            if earlier.is_some_and(|earlier| earlier > append.position)
                && let Some(writer) = self.transactions.get(append.transaction)
            {
                let sentence = format!(
                    "{key} is read as {}, which is not the order of {}",
                    shown(lists.order),
                    name(writer)
                );
                found.push(Anomaly::IncompatibleOrder.violation(sentence, &[writer]));
                return;
            }
        }
    }

    /// Two transactions that read the same state of a list and then appended to it.
    fn lost_updates(&self, key: &str, lists: &Key<'_>, found: &mut Vec<Violation>) {
        let mut updates: BTreeMap<&[i64], BTreeSet<usize>> = BTreeMap::new();
        for seen in &lists.seen {
            let steps = self.transactions.get(seen.transaction).map_or(&[][..], |reader| &reader.steps);
            if self.committed(seen.transaction) && appends_behind_read(steps, key) {
                updates.entry(seen.list).or_default().insert(seen.transaction);
            }
        }
        for (list, updaters) in updates.into_iter().filter(|(_, updaters)| updaters.len() > 1) {
            let updaters: Vec<&Transaction> =
                updaters.iter().filter_map(|&number| self.transactions.get(number)).collect();
            let names: Vec<String> = updaters.iter().map(|updater| name(updater)).collect();
            let sentence =
                format!("{} all read {key} as {} and appended to it", names.join(" and "), shown(list));
            found.push(Anomaly::LostUpdate.violation(sentence, &updaters));
        }
    }
}

fn own_appends(transaction: &Transaction) -> BTreeSet<(&str, i64)> {
    let appends = transaction.steps.iter().filter_map(|step| match step {
        Step::Append { key, element } => Some((key.as_str(), *element)),
        Step::Read { .. } => None,
    });
    appends.collect()
}

/// Whether a transaction reads a key and appends to it later.
fn appends_behind_read(steps: &[Step], key: &str) -> bool {
    let is_read = |step: &Step| matches!(step, Step::Read { key: read, .. } if read == key);
    let is_append = |step: &Step| matches!(step, Step::Append { key: appended, .. } if appended == key);
    steps.iter().skip_while(|step| !is_read(step)).any(is_append)
}

/// An element that a list holds twice.
fn repeated(list: &[i64]) -> Option<i64> {
    let mut elements = BTreeSet::new();
    list.iter().copied().find(|element| !elements.insert(*element))
}
