//! The definition, word by word: some order of all that committed and some of the rest explains every read.

use std::collections::BTreeMap;

use crate::history::{End, Step, Transaction};

type Lists = BTreeMap<String, Vec<i64>>;

/// Whether a history is strictly serializable, by trying every order.
pub(super) fn is_serializable(transactions: &[Transaction]) -> bool {
    let left: Vec<&Transaction> =
        transactions.iter().filter(|transaction| transaction.end != End::Aborted).collect();
    extends(&Lists::new(), &left)
}

fn extends(lists: &Lists, left: &[&Transaction]) -> bool {
    let returned_at = |transaction: &&Transaction| match transaction.end {
        End::Committed { returned_at } => Some(returned_at),
        End::Aborted | End::Unknown => None,
    };
    let Some(first_return) = left.iter().filter_map(returned_at).min() else { return true };
    (0..left.len()).any(|chosen| {
        let mut rest = left.to_vec();
        let next = rest.remove(chosen);
        first_return >= next.invoked_at && run(lists, next).is_some_and(|lists| extends(&lists, &rest))
    })
}

fn run(lists: &Lists, transaction: &Transaction) -> Option<Lists> {
    let mut lists = lists.clone();
    for step in &transaction.steps {
        match step {
            Step::Append { key, element } => lists.entry(key.clone()).or_default().push(*element),
            Step::Read { key, list: Some(seen) } => {
                if lists.get(key).map_or(&[][..], Vec::as_slice) != seen.as_slice() {
                    return None;
                }
            }
            Step::Read { list: None, .. } => {}
        }
    }
    Some(lists)
}
