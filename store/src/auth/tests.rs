//! Decisions against a naive model that looks at one key after the other, and named rules of the replicated state.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::engine::{Engine, MemoryEngine};
use crate::mvcc::{
    Answer, Applied, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, LeaseId, Op, Put,
    Range, RangeEnd, Refusal, Revision, Store, Txn, snapshot,
};

const ALICE: &str = "alice";
const PROGRAMS: u64 = 300;
const QUESTIONS: usize = 40;

#[derive(Default)]
struct Leases(BTreeMap<LeaseId, Vec<Bytes>>);

impl LeaseKeys for Leases {
    fn keys_of(&self, id: LeaseId) -> Box<dyn Iterator<Item = &Bytes> + '_> {
        Box::new(self.0.get(&id).into_iter().flatten())
    }

    fn all_keys(&self) -> Box<dyn Iterator<Item = &Bytes> + '_> {
        Box::new(self.0.values().flatten())
    }
}

/// Every place where an interval of the programs below can begin or end. Between two neighbours nothing changes, so a range is
/// allowed if and only if each of these keys in it is.
fn boundaries() -> Vec<Bytes> {
    let mut keys = Vec::new();
    for first in ["a", "b", "c", "d"] {
        for second in ["", "\0", "\0\0", "a", "a\0", "b", "b\0"] {
            keys.push(Bytes::from(format!("{first}{second}")));
        }
    }
    keys
}

struct Program {
    rng: SmallRng,
    permissions: Vec<Permission>,
    leases: Leases,
}

impl Program {
    fn new(seed: u64) -> Self {
        let mut program =
            Self { rng: SmallRng::seed_from_u64(seed), permissions: Vec::new(), leases: Leases::default() };
        for _ in 0..program.rng.random_range(0..8) {
            let permission = Permission { kind: program.kind(), range: program.range() };
            if permission.is_valid() && program.permissions.iter().all(|old| old.range != permission.range) {
                program.permissions.push(permission);
            }
        }
        for id in 1..3 {
            let keys = (0..program.rng.random_range(0..3)).map(|_| program.key()).collect();
            program.leases.0.insert(LeaseId(id), keys);
        }
        program
    }

    fn key(&mut self) -> Bytes {
        let first = ["a", "b", "c", "d"][self.rng.random_range(0..4)];
        let second = ["", "a", "b"][self.rng.random_range(0..3)];
        Bytes::from(format!("{first}{second}"))
    }

    fn range(&mut self) -> KeyRange {
        let start = self.key();
        let end = match self.rng.random_range(0..10) {
            0..4 => RangeEnd::Single,
            4 => RangeEnd::Unbounded,
            5 => RangeEnd::Before(Bytes::from([start.as_ref(), b"\0"].concat())),
            _ => RangeEnd::Before(self.key()),
        };
        KeyRange { start, end }
    }

    fn kind(&mut self) -> PermissionKind {
        [PermissionKind::Read, PermissionKind::Write, PermissionKind::ReadWrite][self.rng.random_range(0..3)]
    }

    fn flag(&mut self) -> bool {
        self.rng.random_ratio(1, 4)
    }

    fn txn(&mut self, depth: usize) -> Txn {
        let mut txn = Txn::default();
        if self.flag() {
            let (range, target) = (self.range(), CompareTarget::Version(0));
            txn.compare.push(Compare { range, target, result: CompareResult::Equal });
        }
        for _ in 0..self.rng.random_range(0..2) {
            let op = self.op(depth);
            txn.success.push(op);
        }
        for _ in 0..self.rng.random_range(0..2) {
            let op = self.op(depth);
            txn.failure.push(op);
        }
        txn
    }

    fn op(&mut self, depth: usize) -> Op {
        match self.rng.random_range(0..4) {
            0 => Op::Range(Range::new(self.range())),
            1 => Op::DeleteRange(DeleteRange { range: self.range(), prev_kv: self.flag() }),
            2 if depth > 0 => Op::Txn(self.txn(depth - 1)),
            _ => {
                let lease = LeaseId(if self.flag() { self.rng.random_range(1..4) } else { 0 });
                Op::Put(Put { key: self.key(), lease, prev_kv: self.flag(), ..Put::default() })
            }
        }
    }

    /// The model: some permission on each key of the range.
    fn allows(&self, needs: &Need) -> bool {
        let asked: Vec<Bytes> = boundaries().into_iter().filter(|key| needs.range.contains(key)).collect();
        let asked = if asked.is_empty() { vec![needs.range.start.clone()] } else { asked };
        asked.iter().all(|key| {
            self.permissions.iter().any(|permission| {
                let suits = match needs.kind {
                    NeedKind::Read => permission.kind != PermissionKind::Write,
                    NeedKind::Write => permission.kind != PermissionKind::Read,
                };
                suits && permission.range.contains(key)
            })
        })
    }

    fn needs(&self, txn: &Txn) -> Vec<Need> {
        let mut needs: Vec<Need> = txn.compare.iter().map(|compare| Need::read(&compare.range)).collect();
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Range(range) => needs.push(Need::read(&range.range)),
                Op::DeleteRange(delete) => {
                    needs.push(Need::write(&delete.range));
                    needs.extend(delete.prev_kv.then(|| Need::read(&delete.range)));
                }
                Op::Put(put) => {
                    let key = KeyRange::single(put.key.clone());
                    needs.push(Need::write(&key));
                    needs.extend(put.prev_kv.then(|| Need::read(&key)));
                    let keys = self.leases.0.get(&put.lease).into_iter().flatten();
                    needs.extend(keys.map(|key| Need::write(&KeyRange::single(key.clone()))));
                }
                Op::Txn(nested) => needs.extend(self.needs(nested)),
            }
        }
        needs
    }

    /// A state in which alice has the permissions over two roles.
    fn state(&self) -> AuthState {
        let mut state = enabled();
        apply(&mut state, AuthCommand::UserAdd { name: ALICE.to_owned(), password_hash: None });
        for name in ["r0", "r1"] {
            apply(&mut state, AuthCommand::RoleAdd { name: name.to_owned() });
            apply(&mut state, grant_role(ALICE, name));
        }
        for (index, permission) in self.permissions.iter().enumerate() {
            let (role, permission) = (format!("r{}", index % 2), permission.clone());
            apply(&mut state, AuthCommand::RoleGrantPermission { role, permission });
        }
        state
    }
}

#[derive(Debug)]
struct Need {
    kind: NeedKind,
    range: KeyRange,
}

#[derive(Debug)]
enum NeedKind {
    Read,
    Write,
}

impl Need {
    fn read(range: &KeyRange) -> Self {
        Self { kind: NeedKind::Read, range: range.clone() }
    }

    fn write(range: &KeyRange) -> Self {
        Self { kind: NeedKind::Write, range: range.clone() }
    }
}

fn apply(state: &mut AuthState, command: AuthCommand) {
    state.apply(&command).unwrap();
}

fn grant_role(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole { user: user.to_owned(), role: role.to_owned() }
}

/// What makes authentication possible, and switches it on.
fn enabling() -> Vec<AuthCommand> {
    vec![
        AuthCommand::UserAdd { name: ROOT.to_owned(), password_hash: Some(Secret("hash".to_owned())) },
        AuthCommand::RoleAdd { name: ROOT.to_owned() },
        grant_role(ROOT, ROOT),
        AuthCommand::Enable,
    ]
}

fn enabled() -> AuthState {
    let mut state = AuthState::default();
    enabling().into_iter().for_each(|command| apply(&mut state, command));
    state
}

fn caller(state: &AuthState, name: &str) -> Caller {
    Caller::User { name: name.to_owned(), auth_revision: state.revision() }
}

#[test]
fn decisions_are_those_of_a_model_that_looks_at_every_key() {
    let (mut allowed, mut denied) = (0, 0);
    for seed in 0..PROGRAMS {
        let mut program = Program::new(seed);
        let state = program.state();
        let alice = caller(&state, ALICE);
        for _ in 0..QUESTIONS {
            let range = program.range();
            let expected = program.allows(&Need::read(&range));
            let found = decide(&state, &program.leases, &alice, Access::Read(&range));
            assert_eq!(found.is_ok(), expected, "seed {seed}: {range:?} with {:?}", program.permissions);

            let txn = program.txn(2);
            let expected = program.needs(&txn).iter().all(|need| program.allows(need));
            let found = decide(&state, &program.leases, &alice, Access::Txn(&txn));
            assert_eq!(found.is_ok(), expected, "seed {seed}: {txn:?} with {:?}", program.permissions);
            let count = if found.is_ok() { &mut allowed } else { &mut denied };
            *count += 1;

            let lease = LeaseId(program.rng.random_range(1..4));
            let keys: Vec<Bytes> = program.leases.keys_of(lease).cloned().collect();
            let single = |key: &Bytes| KeyRange::single(key.clone());
            let expected = keys.iter().all(|key| program.allows(&Need::write(&single(key))));
            let found = decide(&state, &program.leases, &alice, Access::LeaseWrite(lease));
            assert_eq!(found.is_ok(), expected, "seed {seed}: write of {lease:?}");
            let expected = keys.iter().all(|key| program.allows(&Need::read(&single(key))));
            let found = decide(&state, &program.leases, &alice, Access::LeaseKeys(lease));
            assert_eq!(found.is_ok(), expected, "seed {seed}: keys of {lease:?}");
        }
    }
    assert!(allowed > 1000 && denied > 1000, "both happen: {allowed} allowed, {denied} denied");
}

#[test]
fn a_permission_on_one_key_is_none_on_what_follows_it() {
    let mut state = enabled();
    apply(&mut state, AuthCommand::UserAdd { name: ALICE.to_owned(), password_hash: None });
    apply(&mut state, AuthCommand::RoleAdd { name: "r".to_owned() });
    apply(&mut state, grant_role(ALICE, "r"));
    let permission = Permission { kind: PermissionKind::ReadWrite, range: KeyRange::single("k") };
    apply(&mut state, AuthCommand::RoleGrantPermission { role: "r".to_owned(), permission });
    let reads = |start: &'static str, end: RangeEnd| {
        let range = KeyRange { start: start.into(), end };
        decide(&state, &Leases::default(), &caller(&state, ALICE), Access::Read(&range))
    };
    assert_eq!(reads("k", RangeEnd::Single), Ok(()));
    assert_eq!(reads("k", RangeEnd::Before("k\0".into())), Ok(()), "the same key, said as a range");
    for end in [RangeEnd::Unbounded, RangeEnd::Before("l".into()), RangeEnd::Before("k\0\0".into())] {
        assert_eq!(reads("k", end.clone()), Err(AuthRefusal::PermissionDenied), "{end:?}");
    }
    assert_eq!(reads("k\0", RangeEnd::Single), Err(AuthRefusal::PermissionDenied));
}

#[test]
fn who_asks_comes_before_what_is_asked() {
    let mut state = enabled();
    apply(&mut state, AuthCommand::UserAdd { name: ALICE.to_owned(), password_hash: None });
    let leases = Leases::default();
    let (txn, empty) = (Txn::of(Op::Range(Range::new(KeyRange::single("k")))), Txn::default());
    let ask = |caller: &Caller, access| decide(&state, &leases, caller, access);
    let (root, alice) = (caller(&state, ROOT), caller(&state, ALICE));
    let deleted = caller(&state, "bob");
    let outdated = Caller::User { name: ROOT.to_owned(), auth_revision: state.revision() - 1 };
    for access in [
        Access::Authenticated,
        Access::Admin,
        Access::Txn(&txn),
        Access::LeaseWrite(LeaseId(1)),
        Access::LeaseKeys(LeaseId(1)),
        Access::AllLeases,
        Access::User(ALICE),
        Access::Role(ROOT),
    ] {
        assert_eq!(ask(&Caller::Nobody, access), Err(AuthRefusal::UserNameEmpty), "{access:?}");
        assert_eq!(ask(&outdated, access), Err(AuthRefusal::OldRevision), "{access:?}");
        assert_eq!(ask(&deleted, access), Err(AuthRefusal::PermissionDenied), "{access:?}");
        assert_eq!(ask(&root, access), Ok(()), "{access:?}");
    }
    for access in [Access::Authenticated, Access::User(ALICE), Access::Txn(&empty)] {
        assert_eq!(ask(&alice, access), Ok(()), "{access:?}");
    }
    for access in [Access::Admin, Access::Txn(&txn), Access::User(ROOT), Access::Role(ROOT)] {
        assert_eq!(ask(&alice, access), Err(AuthRefusal::PermissionDenied), "{access:?}");
    }
    assert_eq!(ask(&Caller::Nobody, Access::Anyone), Ok(()));
    assert_eq!(ask(&Caller::Nobody, Access::Txn(&empty)), Ok(()), "does nothing, needs nothing");
}

/// A store with its engine, to be opened again.
struct Fixture {
    engine: MemoryEngine,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let engine = MemoryEngine::new();
        let store = Store::open(Arc::new(engine.clone())).unwrap();
        Self { engine, store }
    }

    fn with_alice() -> Self {
        let mut fixture = Self::new();
        let alice = AuthCommand::UserAdd { name: ALICE.to_owned(), password_hash: None };
        let permission = Permission { kind: PermissionKind::ReadWrite, range: KeyRange::prefix("a/") };
        let mut commands = enabling();
        commands.extend([
            alice,
            AuthCommand::RoleAdd { name: "r".to_owned() },
            grant_role(ALICE, "r"),
            AuthCommand::RoleGrantPermission { role: "r".to_owned(), permission },
        ]);
        for command in commands {
            fixture.apply(&Command::Auth(command)).answer.unwrap();
        }
        fixture
    }

    fn apply(&mut self, command: &Command) -> Applied {
        let applied = self.store.apply(command).unwrap();
        self.store.commit().unwrap();
        applied
    }

    fn put_as(&mut self, caller: Caller, key: &'static str) -> Result<Answer, Refusal> {
        let put = Put { key: key.into(), ..Put::default() };
        let command = Box::new(Command::Txn(Txn::of(Op::Put(put))));
        self.apply(&Command::Guarded { caller, command }).answer
    }

    fn alice(&self) -> Caller {
        caller(self.store.auth(), ALICE)
    }
}

#[test]
fn apply_decides_with_the_state_that_it_finds() {
    let mut fixture = Fixture::with_alice();
    let denied = |refusal| Err(Refusal::Auth(refusal));
    let before = fixture.alice();
    assert!(fixture.put_as(before.clone(), "a/1").is_ok());
    assert_eq!(fixture.put_as(before.clone(), "b/1"), denied(AuthRefusal::PermissionDenied));
    assert_eq!(fixture.put_as(Caller::Nobody, "a/1"), denied(AuthRefusal::UserNameEmpty));
    let revoke = AuthCommand::UserRevokeRole { user: ALICE.to_owned(), role: "r".to_owned() };
    fixture.apply(&Command::Auth(revoke)).answer.unwrap();
    assert_eq!(fixture.put_as(before, "a/1"), denied(AuthRefusal::OldRevision), "was proposed earlier");
    let alice = fixture.alice();
    assert_eq!(fixture.put_as(alice, "a/1"), denied(AuthRefusal::PermissionDenied));
    assert_eq!(fixture.store.current_revision(), Revision(2), "what is refused changes nothing");
    let root = caller(fixture.store.auth(), ROOT);
    assert!(fixture.put_as(root, "b/1").is_ok());
    // This process itself is nobody's client.
    let put = Put { key: "c".into(), ..Put::default() };
    assert!(fixture.apply(&Command::Txn(Txn::of(Op::Put(put)))).answer.is_ok());
}

#[test]
fn clients_change_users_only_as_root() {
    let mut fixture = Fixture::with_alice();
    let add = Command::Auth(AuthCommand::UserAdd { name: "bob".to_owned(), password_hash: None });
    let mut add_as = |caller: Caller| {
        fixture.apply(&Command::Guarded { caller, command: Box::new(add.clone()) }).answer.map(|_| ())
    };
    let revision = Fixture::with_alice().store.auth().revision();
    let user = |name: &str| Caller::User { name: name.to_owned(), auth_revision: revision };
    assert_eq!(add_as(user(ALICE)), Err(Refusal::Auth(AuthRefusal::PermissionDenied)));
    assert_eq!(add_as(Caller::Nobody), Err(Refusal::Auth(AuthRefusal::UserNameEmpty)));
    assert_eq!(add_as(user(ROOT)), Ok(()));
}

#[test]
fn a_session_begins_only_with_the_password_that_holds_now() {
    let mut fixture = Fixture::with_alice();
    let begin = |user: &str, auth_revision| {
        let (user, token) = (user.to_owned(), Secret("t".to_owned()));
        let command = Box::new(Command::Auth(AuthCommand::BeginSession { user, token, auth_revision }));
        Command::Guarded { caller: Caller::Nobody, command }
    };
    let compared = fixture.store.auth().revision();
    assert_eq!(fixture.apply(&begin(ALICE, compared)).answer, Ok(Answer::Done));
    let changed =
        AuthCommand::UserChangePassword { name: ALICE.to_owned(), password_hash: Secret("h".to_owned()) };
    fixture.apply(&Command::Auth(changed)).answer.unwrap();
    let refused = |refusal| Err(Refusal::Auth(refusal));
    assert_eq!(fixture.apply(&begin(ALICE, compared)).answer, refused(AuthRefusal::OldRevision));
    assert_eq!(fixture.apply(&begin("bob", compared)).answer, refused(AuthRefusal::Failed));
    fixture.apply(&Command::Auth(AuthCommand::Disable)).answer.unwrap();
    assert_eq!(fixture.apply(&begin(ALICE, compared)).answer, refused(AuthRefusal::NotEnabled));
}

#[test]
fn users_and_roles_are_there_after_a_restart_and_in_a_snapshot() {
    let mut fixture = Fixture::with_alice();
    let delete = AuthCommand::RoleDelete { name: "r".to_owned() };
    for round in 0..2 {
        // Opening compares what it finds with the stored digest.
        let reopened = Store::open(Arc::new(fixture.engine.clone())).unwrap();
        assert_eq!(reopened.auth(), fixture.store.auth(), "round {round}");
        assert_eq!(reopened.digest(), fixture.store.digest());

        let copy = MemoryEngine::new();
        let _ended = snapshot::export(&fixture.engine, &mut |chunk| {
            snapshot::import(&copy, chunk).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
        let copied = Store::open(Arc::new(copy)).unwrap();
        assert_eq!(copied.auth(), fixture.store.auth(), "round {round}");

        let before = fixture.store.digest();
        if round == 0 {
            fixture.apply(&Command::Auth(delete.clone())).answer.unwrap();
            assert_ne!(fixture.store.digest(), before, "users and roles are part of the digest");
        }
    }
    assert!(fixture.store.auth().user(ALICE).unwrap().roles.is_empty());
}

#[test]
fn a_damaged_user_is_found_at_start() {
    let fixture = Fixture::with_alice();
    let key = [&[0xff][..], b"auth/user/alice"].concat();
    let record = fixture.engine.get(&key).unwrap().unwrap();
    let mut batch = crate::engine::Batch::default();
    batch.put(Bytes::from(key), Bytes::from([record.as_ref(), b"\x22\x04root"].concat()));
    fixture.engine.write(&batch).unwrap();
    assert!(Store::open(Arc::new(fixture.engine.clone())).is_err(), "alice is no root");
}
