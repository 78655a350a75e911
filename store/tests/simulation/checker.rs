//! Revision witness: the store numbers its own writes, so every answer names its place in one total order, and the
//! history is linearizable exactly when that order fits both what was seen and when.

use std::collections::BTreeMap;

use super::history::{Action, End, History, Operation};

/// What a member held at the end: for each revision the key and value that it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Final {
    pub member: String,
    pub revision: i64,
    /// Revision to key and value.
    pub writes: BTreeMap<i64, (u8, u64)>,
}

/// Returns every broken promise.
pub fn check(history: &History, finals: &[Final]) -> Vec<String> {
    let mut broken = Vec::new();
    let Some(first) = finals.first() else { return vec!["no member answered after the faults".to_owned()] };
    if finals.len() != 3 {
        broken.push(format!("only {} of 3 members answered after the faults", finals.len()));
    }
    for other in finals {
        if (other.revision, &other.writes) != (first.revision, &first.writes) {
            broken.push(format!("{} and {} differ at the end", first.member, other.member));
        }
    }
    for operation in &history.operations {
        check_content(operation, first, &mut broken);
    }
    check_order(history, &mut broken);
    if history.counts().ok < 200 {
        broken.push(format!("only {} operations succeeded; the run shows nothing", history.counts().ok));
    }
    broken
}

/// Every answer must be what the final order says at its revision.
fn check_content(operation: &Operation, last: &Final, broken: &mut Vec<String>) {
    match (&operation.action, &operation.end) {
        (Action::Put { key, value }, End::Put { revision })
            if last.writes.get(revision) != Some(&(*key, *value)) =>
        {
            broken.push(format!("acknowledged write lost: {operation:?}"));
        }
        (Action::Put { key, value }, End::Failed)
            if last.writes.values().any(|written| *written == (*key, *value)) =>
        {
            broken.push(format!("a write that was said not to have happened did: {operation:?}"));
        }
        (Action::Get { key }, End::Get { revision, modified, value }) => {
            let newest = last.writes.range(..=revision).rev().find(|(_, (written, _))| written == key);
            let expected = newest.map_or((0, 0), |(revision, (_, value))| (*revision, *value));
            if expected != (*modified, *value) {
                broken.push(format!("read saw what never was, expected {expected:?}: {operation:?}"));
            }
        }
        _ => {}
    }
}

/// What ended before another began comes before it, in revisions too.
fn check_order(history: &History, broken: &mut Vec<String>) {
    let mut ended: Vec<(u64, i64)> = history
        .operations
        .iter()
        .filter_map(|operation| Some((operation.completed?, revision(operation)?)))
        .collect();
    ended.sort_unstable();
    let mut begun: Vec<&Operation> =
        history.operations.iter().filter(|operation| revision(operation).is_some()).collect();
    begun.sort_unstable_by_key(|operation| operation.invoked);
    let mut ended = ended.into_iter().peekable();
    let mut newest = 0;
    for operation in begun {
        while let Some((_, revision)) = ended.next_if(|(completed, _)| *completed < operation.invoked) {
            newest = newest.max(revision);
        }
        let revision = revision(operation).unwrap_or(0);
        let is_late = match operation.end {
            End::Put { .. } => revision <= newest,
            End::Get { .. } | End::Failed | End::Unknown => revision < newest,
        };
        if is_late {
            broken.push(format!("revision {newest} was known before it began: {operation:?}"));
        }
    }
}

fn revision(operation: &Operation) -> Option<i64> {
    match operation.end {
        End::Put { revision } | End::Get { revision, .. } => Some(revision),
        End::Failed | End::Unknown => None,
    }
}

/// The checker must be able to fail.
pub fn self_test() {
    let mut history = History::default();
    for value in 1..=200 {
        let put = history.invoke(1, Action::Put { key: 1, value });
        history.complete(put, End::Put { revision: i64::try_from(value).unwrap() + 1 });
    }
    let writes = (1..=200_u64).map(|value| (i64::try_from(value).unwrap() + 1, (1, value))).collect();
    let last = Final { member: "a".to_owned(), revision: 201, writes };
    let finals = vec![last.clone(), last.clone(), last];
    assert_eq!(check(&history, &finals), Vec::<String>::new());
    let mut stale = history.clone();
    let get = stale.invoke(2, Action::Get { key: 1 });
    stale.complete(get, End::Get { revision: 200, modified: 200, value: 199 });
    assert_eq!(check(&stale, &finals).len(), 1, "a stale read must be found");
    let mut lost = finals.clone();
    for last in &mut lost {
        last.writes.remove(&50);
    }
    assert_eq!(check(&history, &lost).len(), 1, "a lost write must be found");
}
