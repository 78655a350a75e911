//! The smallest history of each anomaly, by name, and its neighbours that are none.

use super::{aborted, committed, lost};
use crate::check::append::check;
use crate::history::Transaction;

fn names(transactions: &[Transaction]) -> Vec<&'static str> {
    let report = check(transactions).unwrap();
    assert!(report.unknown.is_empty());
    report.violations.into_iter().map(|violation| violation.rule).collect()
}

/// Transactions that all overlap.
fn together(steps: &[&str]) -> Vec<Transaction> {
    (0..).zip(steps).map(|(at, steps)| committed(at, 100 + at, steps)).collect()
}

/// Transactions one behind the other.
fn in_turn(steps: &[&str]) -> Vec<Transaction> {
    (0..).zip(steps).map(|(at, steps)| committed(10 * at, 10 * at + 1, steps)).collect()
}

#[test]
fn a_serial_history_passes() {
    let history = in_turn(&["a x 1", "r x 1, a x 2", "a y 3, a x 4", "r x 1 2 4, r y 3", "r z"]);
    let report = check(&history).unwrap();
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    assert_eq!(report.committed, 5);
    assert!(report.edges >= 8, "{}", report.edges);
    assert!(names(&[]).is_empty());
}

#[test]
fn g0_is_a_cycle_of_appends() {
    let history = together(&["a x 1, a y 1", "a x 2, a y 2", "r x 1 2", "r y 2 1"]);
    assert_eq!(names(&history), ["G0 (write cycle)"]);
}

#[test]
fn g1a_is_a_read_of_what_failed() {
    assert_eq!(names(&[aborted(0, "a x 1"), committed(2, 3, "r x 1")]), ["G1a (dirty read)"]);
    assert!(names(&[aborted(0, "a x 1"), committed(2, 3, "r x")]).is_empty());
}

#[test]
fn g1b_is_a_read_in_the_middle_of_a_transaction() {
    let rules = names(&together(&["a x 1, a x 2", "r x 1", "r x 1 2"]));
    assert!(rules.contains(&"G1b (intermediate read)"), "{rules:?}");
    // A transaction may see its own middle, and another that ended there.
    assert!(names(&together(&["a x 1, r x 1, a x 2", "r x 1 2"])).is_empty());
    assert!(names(&together(&["a x 1", "a x 2", "r x 1"])).is_empty());
}

#[test]
fn g1c_is_a_circle_of_reads() {
    assert_eq!(names(&together(&["a x 1, r y 2", "a y 2, r x 1"])), ["G1c (circular information flow)"]);
}

#[test]
fn g_single_is_a_read_of_half_a_transaction() {
    assert_eq!(names(&together(&["a x 1, a y 2", "r x 1, r y", "r y 2"])), ["G-single (read skew)"]);
}

#[test]
fn g2_is_two_transactions_that_do_not_see_each_other() {
    assert_eq!(names(&together(&["r x, a y 1", "r y, a x 2", "r x 2, r y 1"])), ["G2 (write skew)"]);
}

#[test]
fn real_time_makes_a_stale_read() {
    let stale = in_turn(&["a x 1", "a x 2", "r x 1", "r x 1 2"]);
    assert_eq!(names(&stale), ["G-single-realtime (stale read)"]);
    assert!(names(&together(&["a x 1", "a x 2", "r x 1", "r x 1 2"])).is_empty());
}

#[test]
fn real_time_makes_appends_that_come_too_late() {
    assert_eq!(names(&in_turn(&["a x 1", "a x 2", "r x 2 1"])), ["G0-realtime"]);
}

#[test]
fn real_time_makes_a_read_of_the_future() {
    assert_eq!(names(&in_turn(&["r x 1", "a x 1"])), ["G1c-realtime"]);
    assert_eq!(names(&[committed(0, 1, "r x 1"), lost(2, "a x 1")]), ["G1c-realtime"]);
}

#[test]
fn real_time_makes_two_orders_of_reads() {
    let fork = [
        committed(0, 100, "a x 1"),
        committed(1, 101, "a y 2"),
        committed(10, 11, "r x 1, r y"),
        committed(12, 13, "r x, r y 2"),
    ];
    assert!(!names(&fork).is_empty());
    let fork = [
        committed(0, 100, "a x 1"),
        committed(1, 101, "a y 2"),
        committed(10, 20, "r x, r y 2"),
        committed(11, 21, "r x 1, r y"),
    ];
    assert_eq!(names(&fork), ["G2 (write skew)"]);
}

#[test]
fn g2_realtime_needs_two_reads_and_the_clock() {
    // The first does not see the second, which returned before the third, which does not see the first.
    let history = [
        committed(0, 100, "r x, a y 2"),
        committed(1, 2, "a x 1"),
        committed(3, 4, "r y"),
        committed(200, 201, "r x 1, r y 2"),
    ];
    assert_eq!(names(&history), ["G2-realtime"]);
}

#[test]
fn a_lost_append_is_a_stale_read_in_real_time() {
    assert_eq!(names(&in_turn(&["a x 1", "r x"])), ["G-single-realtime (stale read)"]);
    assert_eq!(names(&in_turn(&["a x 1", "r x 1", "a x 2", "r x 1"])), ["G-single-realtime (stale read)"]);
    assert!(names(&[lost(0, "a x 1"), committed(2, 3, "r x")]).is_empty());
}

#[test]
fn half_a_transaction_of_unknown_fate_is_lost() {
    let history = [lost(0, "a x 1, a y 2"), committed(2, 3, "r x 1, r y")];
    assert_eq!(names(&history), ["G-single (read skew)"]);
}

#[test]
fn a_lost_update_is_named() {
    let rules = names(&together(&["r x, a x 1", "r x, a x 2", "r x 1 2"]));
    assert!(rules.contains(&"lost update"), "{rules:?}");
    assert!(names(&together(&["r x, a x 1", "r x 1, a x 2", "r x 1 2"])).is_empty());
}

#[test]
fn a_duplicate_element_is_named() {
    assert_eq!(names(&in_turn(&["a x 1", "r x 1 1"])), ["duplicate element"]);
}

#[test]
fn an_element_that_nobody_appended_is_named() {
    assert_eq!(names(&in_turn(&["a x 1", "r x 1 7"])), ["unwritten element"]);
}

#[test]
fn two_orders_of_one_list_are_named() {
    let rules = names(&together(&["a x 1", "a x 2", "r x 1 2", "r x 2 1"]));
    assert!(rules.contains(&"incompatible order"), "{rules:?}");
}

#[test]
fn a_transaction_appends_in_its_own_order() {
    assert_eq!(
        names(&in_turn(&["a x 1, a x 2", "r x 2 1"])),
        ["G1b (intermediate read)", "incompatible order"]
    );
}

#[test]
fn a_transaction_must_see_its_own_steps() {
    for steps in ["a x 1, r x", "r x, r x 2", "r x, a x 1, r x 2 1", "a x 1, r x 1 2", "r x 1, a x 1"] {
        let rules = names(&together(&[steps, "a x 2"]));
        assert!(rules.contains(&"internal"), "{steps}: {rules:?}");
    }
    assert!(names(&together(&["a x 1, r x 2 1, a x 3, r x 2 1 3", "a x 2"])).is_empty());
}

#[test]
fn a_cycle_is_shown_as_short_as_it_is() {
    let mut history = in_turn(&["a x 1", "r x 1, a x 2", "r x 1 2, a x 3", "r x 1 2 3", "r x 1"]);
    history.push(committed(100, 101, "a z 8"));
    let report = check(&history).unwrap();
    let [violation] = report.violations.as_slice() else { panic!("{:?}", report.violations) };
    assert_eq!(violation.operations.len(), 2);
    assert_eq!(
        violation.sentence,
        "#40 [r x [1]], #10 [r x [1], append x 2] form a cycle: #40 < #10, because #40 read x without 2, \
         which #10 appended; #10 < #40, because #10 had returned before #40 was invoked; \
         but all cannot come before one another"
    );
}

#[test]
fn an_element_appended_twice_by_the_clients_is_no_history() {
    let error = check(&in_turn(&["a x 1", "a x 1"])).unwrap_err();
    assert_eq!(error, "element 1 was appended to x twice, the second time by #10");
}
