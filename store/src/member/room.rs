//! Room on the disk: how much of it is a reserve, and what the leader does when members run into theirs.
//!
//! ```text
//! free:  ├────────── enough ──────────┼─ warned ─┼──────── short ────────┼─ in need ─┤ 0
//!                                 2 reserves   1 reserve              1 log segment
//! ```
//!
//! A member that is short tells the leader. As long as a majority has room nothing else happens: those go on without the others, whose
//! disks may be full of something else. Where no majority would be left, the leader raises the `NOSPACE` alarm for each that is short,
//! while there is still room for the deletes and compactions that make more (safety rule 11). A member in need also gives up its ballast.

use crate::mvcc::{Alarm, AlarmKind, Command};

/// Log segments that the reserve holds: the log goes on while the database writes its newest tables and merges old ones.
const RESERVE_SEGMENTS: u64 = 4;
/// Part of a small disk that the reserve takes at most, as a divisor.
const RESERVE_SHARE: u64 = 8;

/// Bounds of one member's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Free bytes below which nothing is added.
    pub(super) reserve: u64,
    /// Bytes that are taken out of use to be given up in need.
    pub(super) ballast: u64,
    /// Free bytes below which the ballast is given up.
    need: u64,
}

impl Limits {
    /// `wanted` overrides what follows from the disk and the log's segments; 0 is no reserve.
    pub(super) fn new(wanted: Option<u64>, disk_bytes: u64, segment_bytes: u64) -> Self {
        let usual = segment_bytes.saturating_mul(RESERVE_SEGMENTS).min(disk_bytes / RESERVE_SHARE);
        let reserve = wanted.unwrap_or(usual);
        let ballast = (reserve / 2).min(disk_bytes / RESERVE_SHARE);
        Self { reserve, ballast, need: segment_bytes.min(reserve / 4) }
    }

    /// Whether there is too little; one who was short must have a little more, so that it does not come and go.
    pub(super) fn is_short(&self, free: u64, was_short: bool) -> bool {
        let wanted = if was_short { self.reserve.saturating_add(self.reserve / 4) } else { self.reserve };
        free < wanted
    }

    /// Whether a person should know that it will soon be short.
    pub(super) fn is_low(&self, free: u64) -> bool {
        free < self.reserve.saturating_mul(2)
    }

    pub(super) fn needs_ballast(&self, free: u64) -> bool {
        free < self.need
    }

    /// Whether the ballast can be taken without making the member short.
    pub(super) fn can_take_ballast(&self, free: u64) -> bool {
        self.ballast > 0 && free >= self.reserve.saturating_mul(2).saturating_add(self.ballast)
    }
}

/// What a member says of its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) is_disk_short: bool,
    pub(crate) is_over_quota: bool,
}

/// Returns what the leader does about voters and what they say of their room; `None` for those that did not answer.
pub(super) fn due_alarms(voters: &[(u64, Option<Room>)], is_raised: impl Fn(u64) -> bool) -> Vec<Command> {
    let short = |room: &Option<Room>| room.is_some_and(|room| room.is_disk_short);
    let with_room = voters.iter().filter(|(_, room)| room.is_some() && !short(room)).count();
    let has_majority = with_room > voters.len() / 2;
    let alarm = |member| Alarm { kind: AlarmKind::NoSpace, member };
    let command = |(id, room): &(u64, Option<Room>)| {
        let room = (*room)?;
        let lifts = has_majority && !room.is_over_quota && is_raised(*id);
        let raises = !has_majority && !is_raised(*id);
        match (raises, lifts) {
            (true, _) => Some(Command::AlarmRaise(alarm(*id))),
            (_, true) => Some(Command::AlarmClear(alarm(*id))),
            (false, false) => None,
        }
    };
    voters.iter().filter(|(_, room)| short(room)).filter_map(command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMITS: Limits = Limits { reserve: 400, ballast: 200, need: 100 };

    #[test]
    fn the_reserve_follows_from_the_log_and_from_a_small_disk() {
        let of = |wanted, disk| Limits::new(wanted, disk, 64 * MIB);
        assert_eq!(of(None, 100 << 30), Limits { reserve: 256 * MIB, ballast: 128 * MIB, need: 64 * MIB });
        assert_eq!(of(None, 1 << 30), Limits { reserve: 128 * MIB, ballast: 64 * MIB, need: 32 * MIB });
        assert_eq!(of(Some(0), 1 << 30), Limits { reserve: 0, ballast: 0, need: 0 });
        assert!(!of(Some(0), 1 << 30).is_short(0, true), "without a reserve nobody is short");
        assert!(of(Some(u64::MAX), 1 << 30).is_short(u64::MAX - 1, false));
    }

    #[test]
    fn a_member_is_warned_then_short_then_in_need_and_recovers_with_a_margin() {
        let states = [(800, false, false, false), (799, true, false, false), (399, true, true, false)];
        for (free, low, short, need) in states.into_iter().chain([(99, true, true, true)]) {
            let found = (LIMITS.is_low(free), LIMITS.is_short(free, false), LIMITS.needs_ballast(free));
            assert_eq!(found, (low, short, need), "{free}");
        }
        assert!(LIMITS.is_short(499, true) && !LIMITS.is_short(500, true) && !LIMITS.is_short(499, false));
        assert!(LIMITS.can_take_ballast(1000) && !LIMITS.can_take_ballast(999));
    }

    const ROOM: Option<Room> = Some(Room { is_disk_short: false, is_over_quota: false });
    const SHORT: Option<Room> = Some(Room { is_disk_short: true, is_over_quota: false });
    const FULL: Option<Room> = Some(Room { is_disk_short: true, is_over_quota: true });

    #[track_caller]
    fn check(rooms: &[Option<Room>], raised: &[u64], raises: &[u64], lifts: &[u64]) {
        let voters: Vec<(u64, Option<Room>)> = (1..).zip(rooms.iter().copied()).collect();
        let due = due_alarms(&voters, |id| raised.contains(&id));
        let alarm = |member: &u64| Alarm { kind: AlarmKind::NoSpace, member: *member };
        let raises = raises.iter().map(|id| Command::AlarmRaise(alarm(id)));
        let expected: Vec<Command> =
            raises.chain(lifts.iter().map(|id| Command::AlarmClear(alarm(id)))).collect();
        assert_eq!(due, expected, "{rooms:?}, raised {raised:?}");
    }

    #[test]
    fn only_where_no_majority_has_room_is_the_alarm_raised() {
        check(&[SHORT], &[], &[1], &[]);
        check(&[SHORT], &[1], &[], &[]);
        check(&[ROOM, SHORT, ROOM], &[], &[], &[]);
        check(&[ROOM, SHORT, SHORT], &[], &[2, 3], &[]);
        check(&[ROOM, SHORT, SHORT], &[2], &[3], &[]);
        check(&[ROOM, SHORT, None], &[], &[2], &[]);
        check(&[ROOM, ROOM, None], &[], &[], &[]);
        check(&[ROOM, None, None], &[], &[], &[]);
        check(&[ROOM, ROOM, SHORT, SHORT, ROOM], &[], &[], &[]);
        check(&[ROOM, SHORT, SHORT, ROOM], &[], &[2, 3], &[]);
    }

    #[test]
    fn an_alarm_goes_when_a_majority_has_room_unless_it_is_the_quotas() {
        check(&[ROOM, SHORT, ROOM], &[2], &[], &[2]);
        check(&[ROOM, FULL, ROOM], &[2], &[], &[]);
        check(&[ROOM, FULL, FULL], &[], &[2, 3], &[]);
        // Who has room lifts its own.
        check(&[ROOM, ROOM, ROOM], &[2], &[], &[]);
    }
}
