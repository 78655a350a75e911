//! Commands as the log keeps them.

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::AlarmMember;
use proto::store as wire;
use wire::command::Command as Wire;

use super::WireError;
use super::auth::{auth_from_wire, auth_to_wire};
use super::request::{txn_from_wire, txn_to_wire};
use crate::auth::Caller;
use crate::level::{Level, RaiseLevel};
use crate::mvcc::divergence::Comparison;
use crate::mvcc::{Alarm, Command, Downgrade, GrantedLease, LeaseId, LeaseRemaining, Revision};

/// Newest format that this version writes; a higher one is refused (safety rule 9).
pub const COMMAND_FORMAT: u32 = 2;
/// Format of commands that were there before feature levels. Versions of that time read it and no other.
const FIRST_FORMAT: u32 = 1;

/// Encodes a command for the log.
#[must_use]
pub fn encode_command(command: &Command) -> Bytes {
    command_to_wire(command.clone()).encode_to_vec().into()
}

/// Returns the format that first had such a command.
fn format(command: &Command) -> u32 {
    match command {
        Command::RaiseLevel(_) | Command::SetDowngrade(_) => 2,
        Command::Guarded { command, .. } => format(command),
        Command::Txn(_)
        | Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeaseExpire { .. }
        | Command::LeaseCheckpoint { .. }
        | Command::AlarmRaise(_)
        | Command::AlarmClear(_)
        | Command::CompareStates(_)
        | Command::Auth(_) => FIRST_FORMAT,
    }
}

fn command_to_wire(command: Command) -> wire::Command {
    let format = format(&command);
    let command = match command {
        Command::Txn(txn) => Wire::Txn(txn_to_wire(txn)),
        Command::Compact { revision } => Wire::Compact(wire::Compact { revision: revision.0 }),
        Command::LeaseGrant { id, ttl_seconds } => {
            Wire::LeaseGrant(wire::LeaseGrant { id: id.0, ttl_seconds })
        }
        Command::LeaseRevoke { id } => Wire::LeaseRevoke(wire::LeaseRevoke { id: id.0 }),
        Command::LeaseExpire { leases } => {
            let leases = leases
                .into_iter()
                .map(|lease| wire::GrantedLease { id: lease.id.0, grant: lease.grant })
                .collect();
            Wire::LeaseExpire(wire::LeaseExpire { leases })
        }
        Command::LeaseCheckpoint { leases } => {
            let leases = leases.into_iter().map(remaining_to_wire).collect();
            Wire::LeaseCheckpoint(wire::LeaseCheckpoint { leases })
        }
        Command::AlarmRaise(alarm) => Wire::AlarmRaise(alarm.into()),
        Command::AlarmClear(alarm) => Wire::AlarmClear(alarm.into()),
        Command::CompareStates(comparison) => Wire::CompareStates(comparison_to_wire(&comparison)),
        Command::RaiseLevel(RaiseLevel { level, members }) => {
            Wire::RaiseLevel(wire::RaiseLevel { level: level.0, members })
        }
        Command::SetDowngrade(downgrade) => {
            let target = downgrade.map_or_else(String::new, |downgrade| downgrade.target);
            Wire::SetDowngrade(wire::SetDowngrade { target })
        }
        Command::Auth(change) => Wire::Auth(auth_to_wire(change)),
        Command::Guarded { caller, command } => {
            let (user, auth_revision) = match caller {
                Caller::Nobody => (String::new(), 0),
                Caller::User { name, auth_revision } => (name, auth_revision),
            };
            let command = Some(Box::new(command_to_wire(*command)));
            Wire::Guarded(Box::new(wire::GuardedCommand { user, auth_revision, command }))
        }
    };
    wire::Command { format, command: Some(command) }
}

/// Decodes a command from the log; byte fields are slices of `bytes`.
///
/// # Errors
/// When the bytes are damaged or of a later version. A member that meets this in its committed log must stop.
pub fn decode_command(bytes: Bytes) -> Result<Command, WireError> {
    command_from_wire(wire::Command::decode(bytes)?)
}

fn command_from_wire(message: wire::Command) -> Result<Command, WireError> {
    if !(FIRST_FORMAT..=COMMAND_FORMAT).contains(&message.format) {
        return Err(WireError::Format { found: message.format, supported: COMMAND_FORMAT });
    }
    Ok(match message.command.ok_or(WireError::Missing("command"))? {
        Wire::Txn(txn) => Command::Txn(txn_from_wire(txn)?),
        Wire::Compact(compact) => Command::Compact { revision: Revision(compact.revision) },
        Wire::LeaseGrant(grant) => {
            Command::LeaseGrant { id: LeaseId(grant.id), ttl_seconds: grant.ttl_seconds }
        }
        Wire::LeaseRevoke(revoke) => Command::LeaseRevoke { id: LeaseId(revoke.id) },
        Wire::LeaseExpire(expire) => Command::LeaseExpire {
            leases: expire
                .leases
                .into_iter()
                .map(|lease| GrantedLease { id: LeaseId(lease.id), grant: lease.grant })
                .collect(),
        },
        Wire::LeaseCheckpoint(checkpoint) => Command::LeaseCheckpoint {
            leases: checkpoint.leases.into_iter().map(remaining_from_wire).collect(),
        },
        Wire::AlarmRaise(alarm) => Command::AlarmRaise(alarm_from_wire(alarm)?),
        Wire::AlarmClear(alarm) => Command::AlarmClear(alarm_from_wire(alarm)?),
        Wire::CompareStates(comparison) => Command::CompareStates(comparison_from_wire(comparison)?),
        Wire::RaiseLevel(wire::RaiseLevel { level, members }) => {
            Command::RaiseLevel(RaiseLevel { level: Level(level), members })
        }
        Wire::SetDowngrade(wire::SetDowngrade { target }) => {
            Command::SetDowngrade((!target.is_empty()).then_some(Downgrade { target }))
        }
        Wire::Auth(change) => Command::Auth(auth_from_wire(change)?),
        Wire::Guarded(guarded) => {
            let wire::GuardedCommand { user: name, auth_revision, command } = *guarded;
            let caller = match auth_revision {
                0 => Caller::Nobody,
                _ => Caller::User { name, auth_revision },
            };
            let command = command.ok_or(WireError::Missing("guarded command"))?;
            Command::Guarded { caller, command: Box::new(command_from_wire(*command)?) }
        }
    })
}

fn comparison_to_wire(comparison: &Comparison) -> wire::CompareStates {
    let digest = |(member, digest): &(u64, u128)| wire::StateDigest {
        member: *member,
        digest: Bytes::copy_from_slice(&digest.to_be_bytes()),
    };
    let Comparison { index, voters, digests } = comparison;
    wire::CompareStates { index: *index, voters: *voters, digests: digests.iter().map(digest).collect() }
}

fn comparison_from_wire(comparison: wire::CompareStates) -> Result<Comparison, WireError> {
    let wire::CompareStates { index, voters, digests } = comparison;
    let digest = |told: wire::StateDigest| {
        let bytes =
            <[u8; 16]>::try_from(&*told.digest).map_err(|_| WireError::Missing("bytes of a digest"))?;
        Ok((told.member, u128::from_be_bytes(bytes)))
    };
    let digests = digests.into_iter().map(digest).collect::<Result<_, WireError>>()?;
    Ok(Comparison { index, voters, digests })
}

fn alarm_from_wire(alarm: AlarmMember) -> Result<Alarm, WireError> {
    Alarm::from_wire(alarm).ok_or(WireError::Missing("kind of an alarm"))
}

fn remaining_to_wire(remaining: LeaseRemaining) -> wire::LeaseRemaining {
    wire::LeaseRemaining {
        id: remaining.lease.id.0,
        grant: remaining.lease.grant,
        remaining_seconds: remaining.remaining_seconds.unwrap_or(0),
    }
}

fn remaining_from_wire(remaining: wire::LeaseRemaining) -> LeaseRemaining {
    LeaseRemaining {
        lease: GrantedLease { id: LeaseId(remaining.id), grant: remaining.grant },
        remaining_seconds: (remaining.remaining_seconds > 0).then_some(remaining.remaining_seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AuthCommand;
    use crate::mvcc::{AlarmKind, Op, Put, Txn};

    fn guarded(caller: Caller, lease: LeaseId) -> Command {
        Command::Guarded { caller, command: Box::new(Command::LeaseRevoke { id: lease }) }
    }

    /// Commands with the bytes that format 1 gave them; logs on disk hold such bytes.
    fn format_1() -> Vec<(Command, &'static str)> {
        let put = Put { key: "k".into(), value: "v".into(), ..Put::default() };
        let lease = GrantedLease { id: LeaseId(5), grant: 2 };
        vec![
            (Command::Txn(Txn::of(Op::Put(put))), "0801120a120812060a016b120176"),
            (Command::Compact { revision: Revision(7) }, "08011a020807"),
            (Command::LeaseGrant { id: LeaseId(5), ttl_seconds: 60 }, "080122040805103c"),
            (Command::LeaseRevoke { id: LeaseId(5) }, "08012a020805"),
            (Command::LeaseExpire { leases: vec![lease] }, "080132060a0408051002"),
            (
                Command::LeaseCheckpoint {
                    leases: vec![LeaseRemaining { lease, remaining_seconds: Some(9) }],
                },
                "08013a080a06080510021809",
            ),
            (Command::AlarmRaise(Alarm { kind: AlarmKind::NoSpace, member: 3 }), "0801420408031001"),
            (Command::AlarmClear(Alarm { kind: AlarmKind::Corrupt, member: 0 }), "08014a021002"),
            (guarded(Caller::Nobody, LeaseId(5)), "0801a201081a0608012a020805"),
            (
                guarded(Caller::User { name: "alice".to_owned(), auth_revision: 7 }, LeaseId(5)),
                "0801a201110a05616c69636510071a0608012a020805",
            ),
            (
                Command::CompareStates(Comparison { index: 4, voters: 3, digests: vec![(1, 2)] }),
                "0801521a080410031a140801121000000000000000000000000000000002",
            ),
            (Command::Auth(AuthCommand::Enable), "0801aa01020a00"),
        ]
    }

    #[test]
    fn commands_of_format_1_stay_readable() {
        for (command, bytes) in format_1() {
            assert_eq!(hex::encode(encode_command(&command)), bytes);
            assert_eq!(decode_command(hex::decode(bytes).unwrap().into()).unwrap(), command);
        }
    }

    #[test]
    fn commands_of_format_2_stay_readable() {
        let raised = RaiseLevel { level: Level(2), members: vec![1, 300] };
        let downgrade = Downgrade { target: "3.6.0".to_owned() };
        for (command, bytes) in [
            (Command::RaiseLevel(raised), "08025a070802120301ac02"),
            (Command::SetDowngrade(Some(downgrade)), "080262070a05332e362e30"),
            (Command::SetDowngrade(None), "08026200"),
        ] {
            assert_eq!(hex::encode(encode_command(&command)), bytes);
            assert_eq!(decode_command(hex::decode(bytes).unwrap().into()).unwrap(), command);
        }
    }

    #[test]
    fn a_later_format_and_damaged_bytes_are_refused() {
        let later = Bytes::from_static(b"\x08\x03\x1a\x02\x08\x07");
        let refused = decode_command(later);
        assert_eq!(refused, Err(WireError::Format { found: 3, supported: COMMAND_FORMAT }));
        assert!(decode_command(Bytes::from_static(b"\x08\x01")).is_err(), "no command");
        assert!(decode_command(Bytes::from_static(b"\xff\xff")).is_err(), "no message");
    }
}
