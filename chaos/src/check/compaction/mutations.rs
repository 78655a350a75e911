//! Compactions and reads of a store that does everything right pass; whatever is changed in them is found.

use rand::RngExt;
use rand::rngs::StdRng;

use super::opinion;
use super::tests::{GONE, TO_COME, compact, ended, read, txn};
use crate::check::Record;
use crate::check::mutation::{self, Mutation, place};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Compaction,
    Read,
    /// With such a read.
    Transaction,
    /// Watches that begin there; they are told that it is gone, and where they might begin.
    Watch {
        compacted: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the revision that the answer shows.
    Ok(i64),
    Gone,
    ToCome,
    /// Refused, in other words.
    Other,
    /// Refused for a reason that has nothing to do with revisions.
    Busy,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    span: (u64, u64),
    what: What,
    revision: i64,
    end: End,
}

fn rules(history: &[Asked]) -> Vec<&'static str> {
    let mut events = Vec::new();
    for Asked { span, what, revision, end } in history {
        let end = match end {
            End::Ok(shown) => Ok(*shown),
            End::Gone => Err(GONE),
            End::ToCome => Err(TO_COME),
            End::Other => Err("OutOfRange: no such revision"),
            End::Busy => Err("Unavailable: etcdserver: no leader"),
        };
        match what {
            What::Compaction => compact(&mut events, *span, *revision, end),
            What::Read => read(&mut events, *span, *revision, end),
            What::Transaction => txn(&mut events, *span, *revision, end),
            What::Watch { compacted } => ended(&mut events, *span, *revision, &[], *compacted),
        }
    }
    let opinion = opinion(&Record::of_events(events)).unwrap().unwrap();
    opinion.violations.into_iter().map(|violation| violation.rule).collect()
}

/// Requests that overlap, on a store that grows.
fn valid(random: &mut StdRng) -> Vec<Asked> {
    let (mut newest, mut compacted) = (100, 10);
    let mut history = vec![
        Asked { span: (0, 1), what: What::Read, revision: 100, end: End::Ok(100) },
        Asked { span: (2, 3), what: What::Compaction, revision: 10, end: End::Ok(100) },
    ];
    for number in 0..40_u64 {
        newest += random.random_range(0..5);
        let effect_at = 20 + 4 * number;
        let span = (effect_at - random.random_range(0..8), effect_at + random.random_range(1..8));
        let what = match random.random_range(0..10_u8) {
            0..=2 => What::Compaction,
            3 | 4 => What::Transaction,
            5 => What::Watch { compacted },
            _ => What::Read,
        };
        let revision = random.random_range((compacted - 20).max(1)..newest + 10);
        if matches!(what, What::Watch { .. }) {
            let first = random.random_range(1..compacted);
            history.push(Asked { span, what, revision: first, end: End::Gone });
            continue;
        }
        let needs = if what == What::Compaction { revision - 1 } else { revision };
        let end = if random.random_bool(0.1) {
            End::Busy
        } else if needs < compacted {
            End::Gone
        } else if revision > newest {
            End::ToCome
        } else {
            // What a transaction writes is a revision of its own.
            newest += i64::from(what == What::Transaction);
            End::Ok(newest)
        };
        if (what, end) == (What::Compaction, End::Ok(newest)) {
            compacted = revision;
        }
        history.push(Asked { span, what, revision, end });
    }
    history.push(Asked { span: (1000, 1001), what: What::Read, revision: newest, end: End::Ok(newest) });
    history
}

/// The highest revision that was compacted, and the newest that was shown.
fn last(history: &[Asked]) -> (i64, i64) {
    let done = |asked: &&Asked| matches!(asked.end, End::Ok(_)) && asked.what == What::Compaction;
    let compacted = history.iter().filter(done).map(|asked| asked.revision).max().unwrap();
    let shown = history.iter().filter_map(|asked| match asked.end {
        End::Ok(shown) => Some(shown),
        End::Gone | End::ToCome | End::Other | End::Busy => None,
    });
    (compacted, shown.max().unwrap())
}

/// Has something asked when all the rest is over.
fn ask(history: &mut Vec<Asked>, what: What, revision: i64, end: End) -> Option<()> {
    history.push(Asked { span: (2000, 2001), what, revision, end });
    Some(())
}

const MUTATIONS: &[Mutation<Vec<Asked>>] = &[
    Mutation {
        name: "a compacted read is answered",
        found_by: &["forgotten answered"],
        change: |history, random| {
            let (compacted, newest) = last(history);
            ask(history, What::Read, random.random_range(1..compacted), End::Ok(newest))
        },
    },
    Mutation {
        name: "what was refused as compacted is answered",
        found_by: &["forgotten answered"],
        change: |history, random| {
            let is_known = |asked: &Asked| {
                let before = history.iter().filter(|other| other.span.1 < asked.span.0).copied();
                let before: Vec<Asked> = before.collect();
                asked.what == What::Read && asked.end == End::Gone && asked.revision < last(&before).0
            };
            let at = place(history, random, is_known)?;
            history[at].end = End::Ok(last(history).1);
            Some(())
        },
    },
    Mutation {
        name: "what is compacted already is compacted",
        found_by: &["forgotten answered"],
        change: |history, random| {
            let (compacted, newest) = last(history);
            ask(history, What::Compaction, random.random_range(1..=compacted), End::Ok(newest))
        },
    },
    Mutation {
        name: "what is there is refused as compacted",
        found_by: &["refused as compacted"],
        change: |history, random| {
            let (compacted, newest) = last(history);
            ask(history, What::Read, random.random_range(compacted..=newest), End::Gone)
        },
    },
    Mutation {
        name: "a compaction of what is there is refused as compacted",
        found_by: &["refused as compacted"],
        change: |history, random| {
            let (compacted, newest) = last(history);
            (compacted < newest).then_some(())?;
            ask(history, What::Compaction, random.random_range(compacted + 1..=newest), End::Gone)
        },
    },
    Mutation {
        name: "an answered read is told as refused",
        found_by: &["refused as compacted"],
        change: |history, random| {
            // Nothing at or behind it was compacted, whenever that was.
            let compacted = last(history).0;
            let at = place(history, random, |asked| {
                asked.what == What::Read && matches!(asked.end, End::Ok(_)) && asked.revision >= compacted
            })?;
            history[at].end = End::Gone;
            Some(())
        },
    },
    Mutation {
        name: "what has not happened yet is read",
        found_by: &["future answered"],
        change: |history, _| {
            let (_, newest) = last(history);
            ask(history, What::Read, newest + 1, End::Ok(newest))
        },
    },
    Mutation {
        name: "what has not happened yet is compacted",
        found_by: &["future answered"],
        change: |history, _| {
            let (_, newest) = last(history);
            ask(history, What::Compaction, newest + 1, End::Ok(newest))
        },
    },
    Mutation {
        name: "what has happened is refused as one to come",
        found_by: &["refused as future"],
        change: |history, random| {
            let (compacted, newest) = last(history);
            let what = if random.random_bool(0.5) { What::Read } else { What::Compaction };
            ask(history, what, random.random_range(compacted..=newest), End::ToCome)
        },
    },
    Mutation {
        name: "a transaction reads what is compacted",
        found_by: &["forgotten answered"],
        change: |history, random| {
            let (compacted, newest) = last(history);
            ask(history, What::Transaction, random.random_range(1..compacted), End::Ok(newest + 1))
        },
    },
    Mutation {
        name: "a transaction that reads what is there is refused as compacted",
        found_by: &["refused as compacted"],
        change: |history, random| {
            let (compacted, newest) = last(history);
            ask(history, What::Transaction, random.random_range(compacted..=newest), End::Gone)
        },
    },
    Mutation {
        name: "a watch of what is there is ended",
        found_by: &["ended as compacted"],
        change: |history, random| {
            let (compacted, newest) = last(history);
            let what = What::Watch { compacted };
            ask(history, what, random.random_range(compacted..=newest), End::Gone)
        },
    },
    Mutation {
        name: "a watch is told of a compaction that nobody asked for",
        found_by: &["ended as compacted"],
        change: |history, _| {
            let asked = |asked: &&Asked| asked.what == What::Compaction && matches!(asked.end, End::Ok(_));
            let compacted = history.iter().filter(asked).map(|asked| asked.revision).max()? + 1;
            ask(history, What::Watch { compacted }, 1, End::Gone)
        },
    },
    Mutation {
        name: "a refusal has other words",
        found_by: &["wrong error"],
        change: |history, random| {
            let is_request = |asked: &Asked| !matches!(asked.what, What::Watch { .. });
            let is_refused =
                |asked: &Asked| is_request(asked) && matches!(asked.end, End::Gone | End::ToCome);
            let at = place(history, random, is_refused)?;
            history[at].end = End::Other;
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_compactions_passes() {
    mutation::check(valid, |history: &Vec<Asked>| rules(history), MUTATIONS);
}
