//! Finds a small program that fails where a long one does.

use super::program::Step;

/// Leaves out steps, halves first, as long as what is left still `fails`.
pub(super) fn shrink(mut steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut length = steps.len().div_ceil(2);
    while length > 0 {
        let mut from = 0;
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + length).min(fewer.len()));
            if fails(&fewer) {
                steps = fewer;
            } else {
                from += length;
            }
        }
        length /= 2;
    }
    steps
}

#[test]
fn only_the_steps_that_are_needed_are_left() {
    let steps: Vec<Step> = (0..100).map(Step::Look).collect();
    let holds =
        |steps: &[Step], place| steps.iter().any(|step| matches!(step, Step::Look(at) if *at == place));
    let left = shrink(steps, |steps| holds(steps, 7) && holds(steps, 81));
    assert!(matches!(left[..], [Step::Look(7), Step::Look(81)]), "{left:?}");
}
