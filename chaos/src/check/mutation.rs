//! How checkers are seen to fail: valid histories pass, and each mutation of one is found by a rule that is named for it.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Histories that are made and mutated.
const SEEDS: u64 = 100;
/// Each mutation must find a place in at least one history of so many.
const HISTORIES_PER_PLACE: u64 = 5;

/// One small change that no good store could have shown.
pub(super) struct Mutation<H> {
    pub(super) name: &'static str,
    /// Any of these rules is enough, and one of them must find it.
    pub(super) found_by: &'static [&'static str],
    /// Changes a history at a place that is drawn; `None` where there is no such place.
    pub(super) change: fn(&mut H, &mut StdRng) -> Option<()>,
}

/// Makes histories from seeds; each must pass, and none may pass that one of the mutations has changed.
pub(super) fn check<H: Clone>(
    valid: impl Fn(&mut StdRng) -> H,
    rules: impl Fn(&H) -> Vec<&'static str>,
    mutations: &[Mutation<H>],
) {
    let mut places = vec![0; mutations.len()];
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let history = valid(&mut random);
        assert_eq!(rules(&history), [""; 0], "seed {seed}: a valid history fails");
        for (mutation, places) in mutations.iter().zip(&mut places) {
            let mut mutated = history.clone();
            if (mutation.change)(&mut mutated, &mut random).is_none() {
                continue;
            }
            *places += 1;
            let found = rules(&mutated);
            let is_found = mutation.found_by.iter().any(|rule| found.contains(rule));
            assert!(is_found, "seed {seed}, {}: {found:?}", mutation.name);
        }
    }
    for (mutation, places) in mutations.iter().zip(places) {
        assert!(places * HISTORIES_PER_PLACE >= SEEDS, "{}: {places} places", mutation.name);
    }
}

/// Draws one of the places where something holds.
pub(super) fn place<T>(items: &[T], random: &mut StdRng, holds: impl Fn(&T) -> bool) -> Option<usize> {
    let places: Vec<usize> = (0..items.len()).filter(|place| holds(&items[*place])).collect();
    (!places.is_empty()).then(|| places[random.random_range(0..places.len())])
}
