//! The smallest example of each rule.

use super::mutations::{increment, read_of, rules};

#[test]
fn a_valid_counter_passes() {
    let history = [
        increment(0, (0, 10), 1, true),
        increment(1, (5, 20), 2, false),
        increment(2, (30, 40), 2, true),
        increment(3, (50, 55), 3, false),
        read_of(4, (35, 45), 1),
        read_of(5, (50, 60), 2),
        read_of(6, (50, 60), 3),
    ];
    assert!(rules(&history).is_empty());
}

#[test]
fn a_lost_increment_and_one_that_counts_twice_are_found() {
    let acknowledged = [increment(0, (0, 10), 1, true), increment(1, (20, 30), 2, true)];
    let with = |shown| rules(&[&acknowledged[..], &[read_of(2, (40, 50), shown)]].concat());
    assert_eq!(with(1), ["lost increment"]);
    assert!(with(2).is_empty());
    assert_eq!(with(3), ["increment counted twice"]);
}

#[test]
fn what_an_increment_of_unknown_fate_led_to_is_known_by_whoever_counts_on() {
    let onwards = [increment(0, (0, 10), 1, false), increment(1, (20, 30), 2, true)];
    let with = |shown| rules(&[&onwards[..], &[read_of(2, (40, 50), shown)]].concat());
    assert_eq!(with(1), ["lost increment"]);
    assert!(with(2).is_empty());
}

#[test]
fn a_number_that_was_shown_is_not_forgotten() {
    let unknown = [increment(0, (0, 10), 1, false), read_of(1, (20, 30), 1)];
    let with = |shown| rules(&[&unknown[..], &[read_of(2, (40, 50), shown)]].concat());
    assert_eq!(with(0), ["lost increment"]);
    assert!(with(1).is_empty());
}

#[test]
fn two_increments_to_the_same_number_are_a_lost_update() {
    assert_eq!(rules(&[increment(0, (0, 10), 1, true), increment(1, (5, 15), 1, true)]), ["lost update"]);
}
