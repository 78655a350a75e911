//! Members that agree pass; whatever is changed in what one of them shows is found.

use rand::RngExt;
use rand::rngs::StdRng;

use super::tests::{audit, entry};
use super::{LogEntry, StateHash, opinion};
use crate::check::Record;
use crate::check::mutation::{self, Mutation, place};

fn valid(random: &mut StdRng) -> Record {
    let log: Vec<LogEntry> =
        (2..random.random_range(10..30)).map(|revision| entry(revision, &format!("v{revision}"))).collect();
    let last = log.last().map_or(1, |entry| entry.revision);
    let hash = StateHash { revision: last, compacted: 0, hash: random.random() };
    let names = ["n1", "n2", "n3"];
    let events = (0..).zip(names).map(|(index, name)| audit(index, name, hash)).collect();
    // Under way each shows some part.
    let mut part = || {
        let from = random.random_range(0..log.len());
        log[from..random.random_range(from..log.len())].to_vec()
    };
    let live = names.map(|name| (name.to_owned(), part())).to_vec();
    let logs = names.map(|name| (name.to_owned(), log.clone())).to_vec();
    Record { events, logs, live }
}

fn rules(record: &Record) -> Vec<&'static str> {
    let violations = opinion(record).unwrap().unwrap().violations;
    violations.into_iter().map(|violation| violation.rule).collect()
}

/// Draws an entry of any member's log.
fn any<'a>(
    logs: &'a mut [(String, Vec<LogEntry>)],
    random: &mut StdRng,
) -> Option<(&'a mut Vec<LogEntry>, usize)> {
    let member = place(logs, random, |(_, log)| !log.is_empty())?;
    let log = &mut logs[member].1;
    let at = place(log, random, |_| true)?;
    Some((log, at))
}

const MUTATIONS: &[Mutation<Record>] = &[
    Mutation {
        name: "a change is missing on one member",
        found_by: &["members diverge"],
        change: |record, random| {
            let (log, at) = any(&mut record.logs, random)?;
            log.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "a change is there twice on one member",
        found_by: &["members diverge"],
        change: |record, random| {
            let (log, at) = any(&mut record.logs, random)?;
            log.insert(at, log[at].clone());
            Some(())
        },
    },
    Mutation {
        name: "two changes have changed places on one member",
        found_by: &["members diverge"],
        change: |record, random| {
            let (log, at) = any(&mut record.logs, random)?;
            log.swap(at.checked_sub(1)?, at);
            Some(())
        },
    },
    Mutation {
        name: "one member has another value",
        found_by: &["members diverge"],
        change: |record, random| {
            let (log, at) = any(&mut record.logs, random)?;
            log[at].state.as_mut()?.value.push('x');
            Some(())
        },
    },
    Mutation {
        name: "one member has a change at another revision",
        found_by: &["members diverge"],
        change: |record, random| {
            let (log, at) = any(&mut record.logs, random)?;
            log[at].revision += 1;
            Some(())
        },
    },
    Mutation {
        name: "one member has a delete instead",
        found_by: &["members diverge"],
        change: |record, random| {
            let (log, at) = any(&mut record.logs, random)?;
            log[at].state = None;
            Some(())
        },
    },
    Mutation {
        name: "one member's log ends early",
        found_by: &["members diverge"],
        change: |record, random| {
            let (log, at) = any(&mut record.logs, random)?;
            log.truncate(at);
            Some(())
        },
    },
    Mutation {
        name: "one member has another hash",
        found_by: &["hashes differ"],
        change: |record, random| {
            let at = place(&record.events, random, |_| true)?;
            let hash = record.events[at].value["hash"]["hash"].as_u64()?;
            record.events[at].value["hash"]["hash"] = (hash ^ 1).into();
            Some(())
        },
    },
    Mutation {
        name: "one member had shown another value",
        found_by: &["log changed"],
        change: |record, random| {
            let (log, at) = any(&mut record.live, random)?;
            log[at].state.as_mut()?.value.push('x');
            Some(())
        },
    },
    Mutation {
        name: "one member that is gone had shown another value",
        found_by: &["log changed"],
        change: |record, random| {
            let gone = record.live.pop()?;
            record.live = vec![gone];
            record.logs.pop();
            let (log, at) = any(&mut record.live, random)?;
            log[at].state.as_mut()?.value.push('x');
            Some(())
        },
    },
    Mutation {
        name: "one member had shown a change that is nowhere",
        found_by: &["log changed"],
        change: |record, random| {
            let (log, at) = any(&mut record.live, random)?;
            log[at].key = "other".to_owned();
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_members_that_agree_passes() {
    mutation::check(valid, rules, MUTATIONS);
}
