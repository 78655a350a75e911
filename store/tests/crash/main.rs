//! The whole store on a disk that fails: at every write and every sync, the power goes, the sync fails, the disk is full, a bit flips.
//!
//! One client does one step after the other. Whatever happens, a member that starts again shows the state behind a step that
//! was acknowledged last or begun last, equal in every respect to that of a member that was never disturbed; and it goes on from there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "a test")]

mod index;
mod machine;
mod script;
mod upkeep;

use std::cell::Cell;

use machine::{End, Machine};
use script::{Sight, Step, look, perform, script};
use store::wal::Disk;

/// What an undisturbed member shows before the first step and behind each.
fn undisturbed(steps: &[Step]) -> (Vec<Sight>, Machine) {
    let machine = Machine::new(0);
    let sights = machine.live(async |member| {
        let mut sights = vec![look(member).await];
        for step in steps {
            perform(member, std::slice::from_ref(step), &Cell::new(0)).await;
            sights.push(look(member).await);
        }
        sights
    });
    (sights.unwrap(), machine)
}

/// Lets a member work until the fault; returns how many steps it acknowledged.
fn work(machine: &Machine, steps: &[Step]) -> (usize, Result<(), End>) {
    let acknowledged = Cell::new(0);
    let end = machine.live(async |member| perform(member, steps, &acknowledged).await);
    (acknowledged.get(), end)
}

/// A member that starts again has all that was acknowledged, twice over, and takes the rest of the steps.
fn check_recovery(machine: &Machine, steps: &[Step], sights: &[Sight], acknowledged: usize, what: &str) {
    let found =
        machine.live(async |member| look(member).await).unwrap_or_else(|end| panic!("{what}: {end:?}"));
    let begun = (acknowledged + 1).min(steps.len());
    let done = (acknowledged..=begun).find(|done| sights[*done] == found);
    let Some(done) = done else {
        let expected = &sights[acknowledged];
        panic!("{what}: {acknowledged} steps were acknowledged, found {found:?}, not {expected:?}")
    };
    machine.lose_power(3);
    let rest = &steps[done..];
    let last = machine.live(async |member| {
        assert_eq!(look(member).await, found, "{what}: what was shown was lost by a second power cut");
        perform(member, rest, &Cell::new(0)).await;
        look(member).await
    });
    let last = last.unwrap_or_else(|end| panic!("{what}, then {rest:?}: {end:?}"));
    assert_eq!(&last, sights.last().unwrap(), "{what}");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_every_write_point() {
    let steps = script();
    let (sights, machine) = undisturbed(&steps);
    let total = machine.disk.operations();
    assert!(total > 100, "only {total} write points");
    for operation in 1..=total {
        let machine = Machine::new(operation);
        machine.disk.cut_power_in(operation);
        let (acknowledged, end) = work(&machine, &steps);
        machine.lose_power(operation);
        let what = format!("power cut at operation {operation} of {total}, {end:?}");
        check_recovery(&machine, &steps, &sights, acknowledged, &what);
    }
}

#[test]
fn a_failed_sync_ends_the_member_and_a_restart_is_clean() {
    let steps = script();
    let (sights, machine) = undisturbed(&steps);
    for sync in 1..=machine.disk.syncs() {
        let machine = Machine::new(sync);
        machine.disk.fail_sync_in(sync);
        let (acknowledged, end) = work(&machine, &steps);
        // The last ones may come when all is done.
        if let Err(end) = &end {
            assert!(end.reason().contains("sync"), "sync {sync}: {end:?}");
        }
        // The process is gone, the page cache is not; or the power goes too.
        if sync.is_multiple_of(2) {
            machine.disk.restart_process()
        } else {
            machine.disk.crash()
        }
        machine.engines.crash();
        check_recovery(&machine, &steps, &sights, acknowledged, &format!("sync {sync} failed, {end:?}"));
    }
}

#[test]
fn a_full_disk_ends_the_member_and_a_restart_with_room_is_clean() {
    let steps = script();
    let (sights, machine) = undisturbed(&steps);
    let needed = machine.disk.used_bytes();
    let mut refused = 0;
    for capacity in (0..needed).step_by(8 * 1024) {
        let machine = Machine::new(capacity);
        machine.disk.limit_capacity(Some(capacity));
        let (acknowledged, end) = work(&machine, &steps);
        if let Err(end) = &end {
            refused += 1;
            assert!(end.reason().contains("disk full"), "{capacity} bytes: {end:?}");
        }
        machine.disk.limit_capacity(None);
        machine.disk.restart_process();
        machine.engines.crash();
        let what = format!("{capacity} bytes of room, {end:?}");
        check_recovery(&machine, &steps, &sights, acknowledged, &what);
    }
    assert!(refused >= 4, "a disk was full only {refused} times");
}

#[test]
fn a_flipped_bit_in_the_log_is_refused_with_its_place_or_does_no_harm() {
    let steps = script();
    let (sights, machine) = undisturbed(&steps);
    // A member that has stopped leaves nothing that a torn tail could be blamed for.
    machine
        .live(async |member| {
            look(member).await;
            member.stop().await;
        })
        .unwrap();
    let files = machine.disk.list().unwrap();
    let mut refused = 0;
    for file in files.iter().filter(|file| file.ends_with(".wal")) {
        let length = usize::try_from(machine.disk.length(file).unwrap()).unwrap();
        for offset in (0..length).step_by(97) {
            let copy = machine.fork();
            copy.disk.flip_bit(file, offset);
            match copy.live(async |member| look(member).await) {
                Ok(found) => assert_eq!(&found, sights.last().unwrap(), "{file} at {offset}"),
                Err(End::Refused(reason)) => {
                    assert!(reason.contains(file.as_str()) && reason.contains("offset"), "{reason}");
                    refused += 1;
                }
                Err(end) => panic!("{file} at {offset}: {end:?}"),
            }
        }
    }
    assert!(refused > 50, "only {refused} flipped bits were found");
}
