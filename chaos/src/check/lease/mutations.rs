//! Leases of a store that does everything right pass; whatever is changed in their lives is found.

use rand::RngExt;
use rand::rngs::StdRng;

use super::tests::{Run, S};
use crate::check::mutation::{self, Mutation, place};
use crate::history::EventKind;

const MS: u64 = S / 1000;
/// When everything is looked at once more.
const LAST_AT: u64 = 60 * S;

/// A lease from its grant to its end.
#[derive(Clone, Debug)]
struct Life {
    id: i64,
    /// Seconds.
    ttl: i64,
    granted_at: u64,
    renewals: Vec<u64>,
    keys: u64,
    ends_at: u64,
    is_revoked: bool,
    defect: Option<Defect>,
}

/// What a store may do wrong at the end of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// One of the keys stays.
    KeepsKey,
    /// A key is given to it afterwards.
    TakesKey,
    /// The revoke is answered before the keys are gone.
    AnswersEarly,
    /// The revoke is told as failed.
    DeniesRevoke,
}

impl Life {
    fn lives(&self) -> u64 {
        u64::try_from(self.ttl).unwrap() * S
    }

    fn last_given(&self) -> u64 {
        self.renewals.last().copied().unwrap_or(self.granted_at)
    }
}

fn valid(random: &mut StdRng) -> Vec<Life> {
    let lives = (1..=6).map(|id| {
        let (ttl, granted_at) = (random.random_range(1..=5), random.random_range(0..10 * S));
        let mut life = Life {
            id,
            ttl,
            granted_at,
            renewals: Vec::new(),
            keys: random.random_range(1..=3),
            ends_at: 0,
            is_revoked: random.random_bool(0.4),
            defect: None,
        };
        for _ in 0..random.random_range(0..4_u8) {
            let within = random.random_range(100 * MS..life.lives());
            life.renewals.push(life.last_given() + within);
        }
        let after = if life.is_revoked {
            random.random_range(100 * MS..life.lives() - 100 * MS)
        } else {
            // A new leader may begin its time anew.
            random.random_range(life.lives() + MS..2 * life.lives())
        };
        life.ends_at = life.last_given() + after;
        life
    });
    lives.collect()
}

#[derive(Clone, Copy)]
enum Step {
    Give(u64),
    Renew,
    End,
    Read,
}

/// Plays all lives on one store, and looks at everything twice a second and right behind each end.
fn play(lives: &[Life]) -> Run {
    let mut steps: Vec<(u64, usize, Step)> = Vec::new();
    for (place, life) in lives.iter().enumerate() {
        steps.extend(
            (0..life.keys).map(|key| (life.granted_at + (key + 1) * 10 * MS, place, Step::Give(key))),
        );
        steps.extend(life.renewals.iter().map(|at| (*at, place, Step::Renew)));
        steps.extend([(life.ends_at, place, Step::End), (life.ends_at + 1, place, Step::Read)]);
        if life.defect == Some(Defect::TakesKey) {
            steps.push((life.ends_at + MS, place, Step::Give(99)));
        }
    }
    steps.extend((0..2 * LAST_AT / S).map(|half| (half * S / 2, 0, Step::Read)));
    steps.push((LAST_AT, 0, Step::Read));
    steps.sort_by_key(|(at, ..)| *at);
    let (mut run, mut revision, mut there) = (Run::default(), 1, Vec::<(String, i64)>::new());
    for life in lives {
        run.grant(life.granted_at, life.id, life.ttl);
    }
    for (at, place, step) in steps {
        let life = &lives[place];
        match step {
            Step::Give(key) => {
                revision += 1;
                let key = format!("lease/{}-{key}", life.id);
                run.log(revision, &key, Some(life.id));
                there.push((key, life.id));
            }
            Step::Renew => drop(run.keep_alive(at, life.id, life.ttl)),
            Step::End => {
                revision += 1;
                let mut of_lease = there.clone();
                of_lease.retain(|(_, lease)| *lease == life.id);
                if life.defect == Some(Defect::KeepsKey) {
                    of_lease.pop();
                }
                there.retain(|key| !of_lease.contains(key));
                for (key, _) in of_lease {
                    run.log(revision, &key, None);
                }
                if life.is_revoked {
                    let shown = revision - i64::from(life.defect == Some(Defect::AnswersEarly));
                    run.revoke(at, life.id, shown);
                }
                if life.defect == Some(Defect::DeniesRevoke) {
                    let answer = run.record.events.last_mut().unwrap();
                    answer.kind = EventKind::Fail;
                }
            }
            Step::Read => {
                let rows: Vec<(&str, i64)> =
                    there.iter().map(|(key, lease)| (key.as_str(), *lease)).collect();
                run.read(at, revision, &rows);
            }
        }
    }
    run
}

/// Draws a lease that was revoked, or one that ended by itself.
fn any(lives: &[Life], random: &mut StdRng, is_revoked: bool) -> Option<usize> {
    place(lives, random, |life| life.is_revoked == is_revoked)
}

const MUTATIONS: &[Mutation<Vec<Life>>] = &[
    Mutation {
        name: "a lease ends early",
        found_by: &["lease ended early"],
        change: |lives, random| {
            let at = any(lives, random, false)?;
            let life = &mut lives[at];
            life.ends_at = life.last_given() + random.random_range(50 * MS..life.lives() - MS);
            Some(())
        },
    },
    Mutation {
        name: "a renewal is forgotten",
        found_by: &["lease ended early"],
        change: |lives, random| {
            let at = any(lives, random, false)?;
            let life = &mut lives[at];
            let renewed_at = life.ends_at - random.random_range(MS..life.lives());
            (renewed_at > life.granted_at).then(|| life.renewals.push(renewed_at))
        },
    },
    Mutation {
        name: "a revoke is told as failed",
        found_by: &["lease ended early"],
        change: |lives, random| {
            let at = any(lives, random, true)?;
            lives[at].defect = Some(Defect::DeniesRevoke);
            Some(())
        },
    },
    Mutation {
        name: "a lease that nobody revoked ends as if",
        found_by: &["lease ended early"],
        change: |lives, random| {
            let at = any(lives, random, true)?;
            lives[at].is_revoked = false;
            Some(())
        },
    },
    Mutation {
        name: "a lease ends late",
        found_by: &["lease never ended"],
        change: |lives, random| {
            let at = any(lives, random, false)?;
            lives[at].ends_at = LAST_AT + S;
            Some(())
        },
    },
    Mutation {
        name: "a key stays when its lease ends",
        found_by: &["lease ended in parts", "lease outlived its end"],
        change: |lives, random| {
            let at = place(lives, random, |life| life.keys > 1)?;
            lives[at].defect = Some(Defect::KeepsKey);
            Some(())
        },
    },
    Mutation {
        name: "a key is given to a lease that has ended",
        found_by: &["lease outlived its end"],
        change: |lives, random| {
            let at = place(lives, random, |_| true)?;
            lives[at].defect = Some(Defect::TakesKey);
            Some(())
        },
    },
    Mutation {
        name: "a revoke is answered before it is done",
        found_by: &["lease outlived its end"],
        change: |lives, random| {
            let at = any(lives, random, true)?;
            lives[at].defect = Some(Defect::AnswersEarly);
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_leases_passes() {
    mutation::check(valid, |lives: &Vec<Life>| play(lives).rules(), MUTATIONS);
}
