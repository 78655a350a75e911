//! Alarms: what is wrong with a member so that the whole cluster must refuse some requests until it is mended. They are part
//! of the replicated state, so every member refuses the same requests at the same position of the log.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb as pb;
use proto::store as wire;

use super::meta::{STATE_FORMAT, check_format};
use super::row::corrupt;
use super::{Command, Refusal};
use crate::engine::EngineError;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// A member has no room: nothing may be added. Deletes, compactions and ends of leases make room and go on.
    NoSpace,
    /// A member's state differs from the others': nothing may change until a person has decided.
    Corrupt,
}

/// An alarm that some member has raised, or an operator in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    pub kind: AlarmKind,
    /// 0 when an operator named no member.
    pub member: u64,
}

impl Alarm {
    pub(crate) fn encode(self) -> Bytes {
        let record = wire::AlarmRecord { format: STATE_FORMAT, alarm: Some(self.into()) };
        record.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, EngineError> {
        let record =
            wire::AlarmRecord::decode(bytes).map_err(|error| corrupt(b"alarm", &error.to_string()))?;
        check_format(record.format)?;
        record.alarm.and_then(Self::from_wire).ok_or_else(|| corrupt(b"alarm", "unknown kind of alarm"))
    }

    /// Reads etcd's message; `None` for no kind or an unknown one.
    pub(crate) fn from_wire(alarm: pb::AlarmMember) -> Option<Self> {
        let kind = match alarm.alarm() {
            pb::AlarmType::Nospace => AlarmKind::NoSpace,
            pb::AlarmType::Corrupt => AlarmKind::Corrupt,
            pb::AlarmType::None => return None,
        };
        Some(Self { kind, member: alarm.member_id })
    }
}

impl From<Alarm> for pb::AlarmMember {
    fn from(alarm: Alarm) -> Self {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => pb::AlarmType::Nospace,
            AlarmKind::Corrupt => pb::AlarmType::Corrupt,
        };
        Self { member_id: alarm.member, alarm: kind.into() }
    }
}

/// All alarms that are raised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    raised: BTreeSet<Alarm>,
}

impl Alarms {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Alarm> {
        self.raised.iter()
    }

    /// Returns whether it was not raised before.
    pub(crate) fn raise(&mut self, alarm: Alarm) -> bool {
        self.raised.insert(alarm)
    }

    /// Returns whether it was raised before.
    pub(crate) fn clear(&mut self, alarm: Alarm) -> bool {
        self.raised.remove(&alarm)
    }

    /// Returns whether a member has raised an alarm of this kind.
    pub(crate) fn has(&self, kind: AlarmKind) -> bool {
        self.raised.iter().any(|alarm| alarm.kind == kind)
    }

    /// Refuses a command that an alarm forbids. What a transaction would do decides, not which branch it takes.
    pub(crate) fn check(&self, command: &Command) -> Result<(), Refusal> {
        if self.raised.is_empty() {
            return Ok(());
        }
        if self.has(AlarmKind::Corrupt) && changes(command) {
            return Err(Refusal::Corrupt);
        }
        if self.has(AlarmKind::NoSpace) && command.adds() {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }
}

/// Whether the command may change what clients keep here.
fn changes(command: &Command) -> bool {
    match command {
        Command::Txn(txn) => !txn.is_read_only(),
        Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeaseExpire { .. } => true,
        Command::Guarded { command, .. } => changes(command),
        Command::LeaseCheckpoint { .. }
        | Command::AlarmRaise(_)
        | Command::AlarmClear(_)
        | Command::CompareStates(_)
        | Command::RaiseLevel(_)
        | Command::SetDowngrade(_)
        | Command::Auth(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::{DeleteRange, KeyRange, LeaseId, Op, Put, Range, Revision, Txn};

    fn put() -> Op {
        Op::Put(Put { key: "k".into(), ..Put::default() })
    }

    fn delete() -> Op {
        Op::DeleteRange(DeleteRange { range: KeyRange::single("k"), prev_kv: false })
    }

    fn read() -> Op {
        Op::Range(Range::new(KeyRange::single("k")))
    }

    /// Commands, and whether each alarm lets them pass.
    fn cases() -> Vec<(Command, bool, bool)> {
        let nested = Op::Txn(Txn { failure: vec![put()], ..Txn::default() });
        vec![
            (Command::Txn(Txn::of(put())), false, false),
            (Command::Txn(Txn { failure: vec![put()], ..Txn::default() }), false, false),
            (Command::Txn(Txn::of(nested)), false, false),
            (Command::Txn(Txn::of(delete())), true, false),
            (Command::Txn(Txn::of(read())), true, true),
            (Command::Compact { revision: Revision(1) }, true, false),
            (Command::LeaseGrant { id: LeaseId(1), ttl_seconds: 2 }, false, false),
            (Command::LeaseRevoke { id: LeaseId(1) }, true, false),
            (Command::LeaseExpire { leases: Vec::new() }, true, false),
            (Command::LeaseCheckpoint { leases: Vec::new() }, true, true),
            (Command::AlarmClear(Alarm { kind: AlarmKind::Corrupt, member: 1 }), true, true),
        ]
    }

    #[test]
    fn each_alarm_refuses_what_would_make_it_worse() {
        let mut alarms = Alarms::default();
        for (command, _, _) in cases() {
            assert_eq!(alarms.check(&command), Ok(()));
        }
        alarms.raise(Alarm { kind: AlarmKind::NoSpace, member: 1 });
        for (command, passes, _) in cases() {
            let expected = if passes { Ok(()) } else { Err(Refusal::NoSpace) };
            assert_eq!(alarms.check(&command), expected, "{command:?}");
        }
        alarms.raise(Alarm { kind: AlarmKind::Corrupt, member: 2 });
        for (command, _, passes) in cases() {
            let expected = if passes { Ok(()) } else { Err(Refusal::Corrupt) };
            assert_eq!(alarms.check(&command), expected, "{command:?}");
        }
    }

    #[test]
    fn an_alarm_lasts_until_its_own_member_has_none() {
        let (first, second) =
            (Alarm { kind: AlarmKind::NoSpace, member: 1 }, Alarm { kind: AlarmKind::NoSpace, member: 2 });
        let mut alarms = Alarms::default();
        assert!(alarms.raise(first) && alarms.raise(second));
        assert!(!alarms.raise(first), "raised before");
        assert!(alarms.clear(first) && !alarms.clear(first));
        assert!(alarms.has(AlarmKind::NoSpace));
        assert!(alarms.clear(second) && !alarms.has(AlarmKind::NoSpace));
    }

    #[test]
    fn records_of_format_1_stay_readable() {
        let alarm = Alarm { kind: AlarmKind::Corrupt, member: 7 };
        assert_eq!(hex::encode(alarm.encode()), "0801120408071002");
        assert_eq!(Alarm::decode(alarm.encode()).unwrap(), alarm);
        assert!(
            Alarm::decode(Bytes::from_static(b"\x08\x02\x12\x04\x08\x07\x10\x02")).is_err(),
            "later format"
        );
        assert!(
            Alarm::decode(Bytes::from_static(b"\x08\x01\x12\x04\x08\x07\x10\x09")).is_err(),
            "unknown kind"
        );
    }
}
