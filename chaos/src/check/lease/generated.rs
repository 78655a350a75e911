//! The end of one lease against everything that may have ended it: what nothing explains is found, and nothing else.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::tests::{Run, S};
use crate::history::{EventKind, Function};

const HISTORIES: u64 = 5000;
/// Seconds: nothing is known later.
const TIME: u64 = 12;
const LEASE: i64 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    Failed,
    Unknown,
}

/// A call or a request, in seconds.
#[derive(Clone, Copy, Debug)]
struct Asked {
    invoked_at: u64,
    returned_at: u64,
    fate: Fate,
}

/// What was asked of the lease, and by when its key was known to be gone.
#[derive(Clone, Debug)]
struct Small {
    /// Its grant and renewals, with the seconds that each gives.
    given: Vec<(Asked, u64)>,
    revokes: Vec<Asked>,
    /// Somebody deletes the key itself.
    deletes: Vec<Asked>,
    known_at: u64,
}

fn draw(random: &mut StdRng) -> Small {
    let mut asked = |from: u64| {
        let invoked_at = random.random_range(from..TIME);
        let fates = [Fate::Done, Fate::Done, Fate::Failed, Fate::Unknown];
        let returned_at = invoked_at + random.random_range(0..3);
        Asked { invoked_at, returned_at, fate: fates[random.random_range(0..fates.len())] }
    };
    let grant = Asked { invoked_at: 0, returned_at: 0, fate: Fate::Done };
    let (one, two, revoke, delete) = (asked(0), asked(0), asked(2), asked(2));
    let mut given = vec![(grant, random.random_range(1..=4)), (one, random.random_range(1..=4))];
    if random.random_bool(0.5) {
        given.push((two, random.random_range(1..=4)));
    }
    let revokes = random.random_bool(0.4).then_some(revoke).into_iter().collect();
    // One that was done would say at which revision.
    let deletes = Some(delete).filter(|delete| delete.fate != Fate::Done && random.random_bool(0.5));
    Small { given, revokes, deletes: deletes.into_iter().collect(), known_at: random.random_range(1..TIME) }
}

fn history(small: &Small) -> Run {
    let mut run = Run::default();
    let ask = |run: &mut Run, asked: Asked, f: Function, question: Value, answer: Value| {
        let process = u32::try_from(run.record.events.len()).unwrap();
        run.event(asked.invoked_at * S, EventKind::Invoke, process, f, question, None);
        match asked.fate {
            Fate::Done => run.event(asked.returned_at * S, EventKind::Ok, process, f, answer, Some(3)),
            Fate::Failed => run.event(asked.returned_at * S, EventKind::Fail, process, f, Value::Null, None),
            Fate::Unknown => {}
        }
    };
    for (number, (asked, ttl)) in small.given.iter().enumerate() {
        let f = if number == 0 { Function::LeaseGrant } else { Function::KeepAlive };
        let question = if number == 0 { json!({ "ttl": ttl }) } else { json!({ "id": LEASE }) };
        ask(&mut run, *asked, f, question, json!({ "id": LEASE, "ttl": ttl }));
    }
    for revoke in &small.revokes {
        let answer = json!({ "id": LEASE, "ttl": 0 });
        ask(&mut run, *revoke, Function::LeaseRevoke, json!({ "id": LEASE }), answer);
    }
    for delete in &small.deletes {
        ask(&mut run, *delete, Function::Kv, json!({"delete": {"key": "k"}}), Value::Null);
    }
    run.log(2, "k", Some(LEASE)).log(3, "k", None).read(small.known_at * S, 3, &[]);
    run
}

/// Whether something may have deleted the key in time, whenever it took effect.
fn is_possible(small: &Small) -> bool {
    let known_at = small.known_at;
    let when = |asked: &Asked| match asked.fate {
        Fate::Done => asked.invoked_at..asked.returned_at + 1,
        Fate::Failed => 0..0,
        Fate::Unknown => asked.invoked_at..TIME,
    };
    let by_hand =
        small.revokes.iter().chain(&small.deletes).any(|asked| when(asked).any(|at| at <= known_at));
    // A renewal that was asked for when the end was known is no promise.
    let promises = |(asked, _): &&(Asked, u64)| asked.fate == Fate::Done && asked.invoked_at <= known_at;
    let is_over = |ended_at: u64| {
        small.given.iter().filter(promises).all(|(asked, ttl)| when(asked).any(|at| at + ttl <= ended_at))
    };
    by_hand || (0..=known_at).any(is_over)
}

#[test]
fn random_ends_get_the_verdict_of_everything_that_may_have_happened() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..HISTORIES {
        let small = draw(&mut StdRng::seed_from_u64(seed));
        let (found, is_good) = (history(&small).rules(), is_possible(&small));
        assert_eq!(found.is_empty(), is_good, "seed {seed}: {found:?} of {small:?}");
        *(if is_good { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > HISTORIES / 10 && bad > HISTORIES / 10, "{good} good, {bad} bad");
}
