//! The saved index while it is written, and when it is damaged: a start uses one that fits, or reads all rows.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Mutex};

use store::env::Engines;
use store::mvcc::Store;

use super::machine::{End, Machine};
use super::script::{Step, look, perform, script};
use super::{check_recovery, undisturbed};

/// Points of each saving: half written, written, flushed, published.
const POINTS: u64 = 4;

/// Lets a member work and stop; returns how many steps it acknowledged.
fn work(machine: &Machine, steps: &[Step]) -> (usize, Result<(), End>) {
    let acknowledged = Cell::new(0);
    let end = machine.live(async |member| {
        perform(member, steps, &acknowledged).await;
        member.stop().await;
    });
    (acknowledged.get(), end)
}

/// Whether the rows have a saved index that fits. One that is taken for that must give the state that all rows give.
fn has_index(machine: &Machine) -> bool {
    let Some(mut saved) = machine.engines.saved_index().unwrap() else { return false };
    let engine = machine.engines.inspect().unwrap().unwrap();
    let all_rows = Store::open(Arc::clone(&engine)).unwrap();
    let Ok(store) = Store::open_saved(engine, &mut *saved).unwrap() else { return false };
    assert_eq!((store.digest(), store.row_bytes()), (all_rows.digest(), all_rows.row_bytes()));
    true
}

#[test]
fn a_power_cut_at_any_point_of_saving_the_index_leaves_one_that_fits_or_none() {
    let steps = script();
    let (sights, _) = undisturbed(&steps);
    let machine = Machine::new(0);
    work(&machine, &steps).1.unwrap();
    let total = machine.engines.index_points();
    assert!(total >= 3 * POINTS, "only {total} points");
    let mut fits = [0; 4];
    for point in 1..=total {
        for luck in 0..3 {
            let machine = Machine::new(point);
            machine.cut_power_at_index_point(point);
            let (acknowledged, end) = work(&machine, &steps);
            assert!(matches!(end, Err(End::Died(_))), "point {point}: {end:?}");
            machine.lose_power(luck);
            fits[usize::try_from((point - 1) % POINTS).unwrap()] += usize::from(has_index(&machine));
            let what = format!("power cut at point {point} of {total}, luck {luck}");
            check_recovery(&machine, &steps, &sights, acknowledged, &what);
        }
    }
    let [half, written, flushed, published] = fits;
    let savings = usize::try_from(total / POINTS).unwrap() * 3;
    assert_eq!(published, savings, "what is published fits");
    // An earlier one may fit at the other points.
    assert!(half > 0 && written > 0 && flushed > 0 && half < savings, "{fits:?} of {savings}");
}

#[test]
fn a_disk_that_takes_no_index_ends_nothing() {
    let steps = script();
    let (sights, undisturbed) = undisturbed(&steps);
    for faulty in 0..POINTS {
        let machine = Machine::new(faulty);
        machine.engines.at_index_points(Arc::new(move |point| {
            if point % POINTS == faulty { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }));
        let (acknowledged, end) = work(&machine, &steps);
        end.unwrap();
        assert_eq!(acknowledged, steps.len());
        assert_eq!(machine.engines.unflushed_batches(), 0, "the database has all that was applied");
        assert!(machine.engines.index_points() > 0 && undisturbed.engines.index_points() > 0);
        check_recovery(&machine, &steps, &sights, acknowledged, &format!("each {faulty} of {POINTS} points"));
    }
}

#[test]
fn a_damaged_index_is_refused_in_one_line_and_all_rows_are_read() {
    let steps = script();
    let (sights, _) = undisturbed(&steps);
    let machine = Machine::new(0);
    work(&machine, &steps).1.unwrap();
    assert!(has_index(&machine));
    let mut length = 0;
    machine.engines.damage_index(|bytes| length = bytes.len());
    for at in (0..length).step_by(37) {
        for is_cut in [false, true] {
            let copy = machine.fork();
            copy.engines.damage_index(|bytes| if is_cut { bytes.truncate(at) } else { bytes[at] ^= 4 });
            let (found, lines) = logged(|| copy.live(async |member| look(member).await));
            assert_eq!(&found.unwrap(), sights.last().unwrap(), "byte {at}");
            let told = lines.lines().filter(|line| line.contains("the saved index is not used")).count();
            assert_eq!(told, 1, "byte {at}: {lines}");
        }
    }
}

/// Returns what is done with the lines that it logs.
fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Lines(Arc::clone(&lines));
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || sink.clone()).finish();
    let done = tracing::subscriber::with_default(subscriber, work);
    let lines = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    (done, lines)
}

#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
