//! Who asks, and whether it may: every request of the etcd edge goes to the store through a [`Guard`].
//!
//! Commands are decided when they are applied; what is refused here before that only spares the log. Reads are decided under the
//! same lock that they read under. While authentication is off, a request costs one look at that. Commands are guarded even then:
//! this member may be the last to hear that it was switched on.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tonic::Request;
use transport::peer::Peer;

use super::{Edge, TokenKind};
use crate::auth::{Access, AuthRefusal, Caller, Secret, access_of};
use crate::engine::EngineError;
use crate::guarded::Sessions;
use crate::kv::{Consistency, KvError, LeaseGranted};
use crate::mvcc::{
    Answer, Bounded, Command, LeaseId, Range, RangeResult, Refusal, Revision, Store, Txn, TxnResult,
};
use crate::reads::{FREE_BYTES, ReadPermit};

/// How often a request is tried again because users or permissions changed just then.
const ATTEMPTS_MAX: usize = 8;
/// Where clients put their token; the second is the name that HTTP gateways use.
const TOKEN_KEYS: [&str; 2] = ["token", "authorization"];

/// How a client shows who it is.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Nothing,
    Token(Secret),
    /// Common name of a verified certificate.
    Certificate(String),
}

/// Which certificates count as a proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateNames {
    #[default]
    Ignored,
    /// A client that shows no token is the user whom its certificate names.
    AreUsers,
}

impl Credential {
    pub(crate) fn of<T>(request: &Request<T>, names: CertificateNames) -> Self {
        let shown = TOKEN_KEYS.iter().find_map(|key| request.metadata().get(*key));
        match shown {
            // A token that is no text is nobody's.
            Some(token) => {
                let token = token.to_str().unwrap_or_default();
                Self::Token(Secret(token.strip_prefix("Bearer ").unwrap_or(token).to_owned()))
            }
            None => match names {
                CertificateNames::Ignored => Self::Nothing,
                CertificateNames::AreUsers => {
                    let subject = request.extensions().get::<Peer>().and_then(Peer::subject);
                    subject.map_or(Self::Nothing, |subject| Self::Certificate(subject.common_name))
                }
            },
        }
    }
}

/// An answer, and what was set aside for it where it is not small.
pub(crate) type Admitted<T> = (T, Option<Arc<ReadPermit>>);

/// The store as one client may use it.
pub(crate) struct Guard<'a> {
    pub(super) edge: &'a Edge,
    pub(super) credential: Credential,
    /// Whom the signature of a web token names: looked at once per request.
    pub(super) signed: OnceLock<Option<Caller>>,
}

/// What a client wants to know of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseDetail {
    Time,
    TimeAndKeys,
}

impl Guard<'_> {
    /// Reads a range, with the memory that the answer takes set aside until the permit is dropped.
    pub(crate) async fn range(
        &self,
        range: &Range,
        consistency: Consistency,
    ) -> Result<Admitted<RangeResult>, KvError> {
        self.settle(range, consistency).await?;
        let mut permit: Option<ReadPermit> = None;
        for _ in 0..ATTEMPTS_MAX {
            let allowed = permit.as_ref().map_or(FREE_BYTES, ReadPermit::bytes);
            match self.range_within(range, allowed).await? {
                Bounded::Whole(answer) => return Ok((answer, permit.map(Arc::new))),
                Bounded::Exceeds { needed } => {
                    // Given back first: who kept a part while waiting for more could wait for ever.
                    drop(permit.take());
                    permit = Some(self.edge.reads.admit(needed).await?);
                }
            }
        }
        // It grew faster than it was read.
        Err(KvError::ReadsBusy)
    }

    /// Waits until a read of this range may be answered by this member.
    pub(crate) async fn settle(&self, range: &Range, consistency: Consistency) -> Result<(), KvError> {
        range.range.validate()?;
        match consistency {
            Consistency::Linearizable => self.confirm().await,
            Consistency::Serializable => Ok(()),
        }
    }

    /// Reads a range as this member has it, if the answer takes at most `allowed` bytes.
    pub(crate) async fn range_within(
        &self,
        range: &Range,
        allowed: u64,
    ) -> Result<Bounded<RangeResult>, KvError> {
        self.read(Access::Read(&range.range), |store| store.range_within(range, allowed)).await
    }

    pub(crate) async fn txn(&self, txn: Txn) -> Result<Admitted<TxnResult>, KvError> {
        txn.validate(self.edge.limits.txn_ops)?;
        let permit = if txn.answers_many() { self.admit_txn(&txn).await? } else { None };
        match self.propose(Command::Txn(txn)).await? {
            Answer::Txn(result) => Ok((result, permit.map(Arc::new))),
            Answer::LeaseGranted { .. } | Answer::AlarmCleared { .. } | Answer::Done => Err(KvError::Corrupt),
        }
    }

    /// Sets aside what the answer takes now. Applying decides what it holds, so it may be somewhat more by then.
    async fn admit_txn(&self, txn: &Txn) -> Result<Option<ReadPermit>, KvError> {
        let needed = match self.read(Access::Txn(txn), |store| Ok(Ok(store.txn_bytes(txn)))).await {
            Ok(needed) => needed,
            // Proposing refuses it in its own words.
            Err(KvError::Auth(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if needed <= FREE_BYTES { Ok(None) } else { self.edge.reads.admit(needed).await.map(Some) }
    }

    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), KvError> {
        self.propose(Command::Compact { revision }).await.map(|_| ())
    }

    pub(crate) async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseGranted, KvError> {
        match self.propose(self.edge.auth.grant_command(id, ttl)?).await? {
            Answer::LeaseGranted { id, ttl_seconds } => Ok(LeaseGranted::new(id, ttl_seconds)),
            Answer::Txn(_) | Answer::AlarmCleared { .. } | Answer::Done => Err(KvError::Corrupt),
        }
    }

    pub(crate) async fn lease_revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.propose(Command::LeaseRevoke { id }).await.map(|_| ())
    }

    pub(crate) async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        self.permit(Access::LeaseWrite(id)).await?;
        self.edge.kv.lease_keep_alive(id).await
    }

    /// Returns remaining and granted time, and the keys if they are wanted.
    pub(crate) async fn lease_time_to_live(
        &self,
        id: LeaseId,
        detail: LeaseDetail,
    ) -> Result<(Duration, Duration, Vec<Bytes>), KvError> {
        match detail {
            LeaseDetail::Time => {
                self.permit(Access::Authenticated).await?;
                let (left, granted, _) = self.edge.kv.lease_time_to_live(id).await?;
                Ok((left, granted, Vec::new()))
            }
            LeaseDetail::TimeAndKeys => {
                self.permit(Access::LeaseKeys(id)).await?;
                let answer = self.edge.kv.lease_time_to_live(id).await?;
                // Keys may have come to the lease since.
                self.permit(Access::ReadKeys(&answer.2)).await?;
                Ok(answer)
            }
        }
    }

    pub(crate) async fn leases(&self) -> Result<Vec<LeaseId>, KvError> {
        self.permit(Access::AllLeases).await?;
        self.edge.kv.leases().await
    }

    /// Refuses a client that may not do something which the store itself does not decide.
    pub(crate) async fn permit(&self, access: Access<'_>) -> Result<(), KvError> {
        if !self.sessions().is_enabled() {
            return Ok(());
        }
        match self.read(access, |_| Ok(Ok(()))).await {
            Err(KvError::Auth(_)) => {
                // What this member knows may be old.
                self.confirm().await?;
                self.read(access, |_| Ok(Ok(()))).await
            }
            other => other,
        }
    }

    /// Reads the state as a client that may do so. It is as fresh as this member is: confirm first where that matters.
    pub(crate) async fn read<T: Send>(
        &self,
        access: Access<'_>,
        read: impl Fn(&Store) -> Result<Result<T, Refusal>, EngineError> + Send,
    ) -> Result<T, KvError> {
        for _ in 0..ATTEMPTS_MAX {
            let caller = self.caller().await?;
            let mut outcome = Err(AuthRefusal::PermissionDenied);
            self.edge.auth.with_store(&mut |store| {
                outcome = store.authorize(&caller, access).map(|()| read(store));
            });
            match outcome {
                Ok(Ok(answer)) => return Ok(answer?),
                Ok(Err(error)) => return Err(self.edge.auth.read_failed(&error)),
                Err(refusal) if self.is_outdated(refusal, &caller) => self.confirm().await?,
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(AuthRefusal::OldRevision.into())
    }

    /// Proposes a command as this client.
    pub(crate) async fn propose(&self, command: Command) -> Result<Answer, KvError> {
        let mut command = Box::new(command);
        for _ in 0..ATTEMPTS_MAX {
            self.permit(access_of(&command)).await?;
            let caller = self.caller().await?;
            let guarded = Command::Guarded { caller: caller.clone(), command };
            match self.edge.auth.propose(&guarded).await {
                // It did nothing, so trying again cannot do it twice.
                Err(KvError::Auth(refusal)) if self.is_outdated(refusal, &caller) => {
                    self.confirm().await?;
                    command = match guarded {
                        Command::Guarded { command, .. } => command,
                        other => Box::new(other),
                    };
                }
                outcome => return outcome,
            }
        }
        Err(AuthRefusal::OldRevision.into())
    }

    /// Waits until this member knows everything that was acknowledged before the call.
    pub(crate) async fn confirm(&self) -> Result<(), KvError> {
        self.edge.kv.read_index().await.map(|_| ())
    }

    async fn caller(&self) -> Result<Caller, KvError> {
        if !self.sessions().is_enabled() {
            return Ok(Caller::Nobody);
        }
        match &self.credential {
            Credential::Nothing => Ok(Caller::Nobody),
            Credential::Certificate(name) => Ok(self.sessions().certified(name)),
            Credential::Token(token) => self.bearer(token).await,
        }
    }

    async fn bearer(&self, token: &Secret) -> Result<Caller, KvError> {
        if let TokenKind::Web(signer) = &self.edge.auth_options.tokens {
            let caller = self.signed.get_or_init(|| signer.caller(token));
            return caller.clone().ok_or(AuthRefusal::InvalidToken.into());
        }
        if let Some(caller) = self.sessions().caller(token) {
            return Ok(caller);
        }
        // Another member may have given it a moment ago.
        self.confirm().await?;
        match self.sessions().caller(token) {
            Some(caller) => Ok(caller),
            None if !self.sessions().is_enabled() => Ok(Caller::Nobody),
            None => Err(AuthRefusal::InvalidToken.into()),
        }
    }

    /// Whether who asks must be found out again: something changed since, or this member did not know that it matters.
    fn is_outdated(&self, refusal: AuthRefusal, caller: &Caller) -> bool {
        match (caller, &self.credential) {
            (Caller::Nobody, Credential::Nothing) => false,
            (Caller::Nobody, Credential::Token(_) | Credential::Certificate(_)) => true,
            (Caller::User { auth_revision, .. }, _) => {
                // A web token is of one revision. A later one than this member knows is worth another look, an older one is not.
                let may_follow = match (&self.edge.auth_options.tokens, &self.credential) {
                    (TokenKind::Web(_), Credential::Token(_)) => {
                        *auth_revision > self.sessions().auth_revision()
                    }
                    (TokenKind::Simple | TokenKind::Web(_), _) => true,
                };
                refusal == AuthRefusal::OldRevision && may_follow
            }
        }
    }

    fn sessions(&self) -> &Sessions {
        self.edge.auth.sessions()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;
    use crate::auth::{AuthCommand, Permission, PermissionKind, ROOT};
    use crate::guarded::Guarded;
    use crate::memory::MemoryStore;
    use crate::mvcc::{KeyRange, Op, Put};
    use crate::watch::StoreAccess;

    const TOKEN: &str = "token-of-alice";

    /// A store in which something else is applied right before the next proposal, as by another member.
    struct Racing {
        store: MemoryStore,
        before: Mutex<Option<AuthCommand>>,
    }

    impl StoreAccess for Racing {
        fn with_store(&self, read: &mut dyn FnMut(&Store)) {
            self.store.with_store(read);
        }
    }

    #[tonic::async_trait]
    impl Guarded for Racing {
        fn sessions(&self) -> &Sessions {
            self.store.sessions()
        }

        async fn propose(&self, command: &Command) -> Result<Answer, KvError> {
            let before = self.before.lock().unwrap().take();
            if let Some(before) = before {
                self.store.propose(&Command::Auth(before)).await.unwrap();
            }
            self.store.propose(command).await
        }

        fn grant_command(&self, id: LeaseId, ttl: Duration) -> Result<Command, KvError> {
            self.store.grant_command(id, ttl)
        }

        fn unguessable(&self) -> u128 {
            self.store.unguessable()
        }

        fn read_failed(&self, error: &EngineError) -> KvError {
            self.store.read_failed(error)
        }
    }

    /// Alice may write `a`; authentication is still off.
    async fn racing() -> (Edge, Arc<Racing>) {
        let store = MemoryStore::new();
        let name = |name: &str| name.to_owned();
        let permission = Permission { kind: PermissionKind::Write, range: KeyRange::single("a") };
        for command in [
            AuthCommand::UserAdd { name: name(ROOT), password_hash: None },
            AuthCommand::UserGrantRole { user: name(ROOT), role: name(ROOT) },
            AuthCommand::UserAdd { name: name("alice"), password_hash: None },
            AuthCommand::RoleAdd { name: name("r") },
            AuthCommand::RoleGrantPermission { role: name("r"), permission },
            AuthCommand::UserGrantRole { user: name("alice"), role: name("r") },
        ] {
            store.propose(&Command::Auth(command)).await.unwrap();
        }
        let auth = Arc::new(Racing { store: store.clone(), before: Mutex::default() });
        let kv = Arc::new(store);
        let edge = Edge { auth: Arc::<Racing>::clone(&auth), ..Edge::new(&kv) };
        (edge, auth)
    }

    /// Switches authentication on and lets alice in.
    async fn enable(racing: &Racing) {
        racing.store.propose(&Command::Auth(AuthCommand::Enable)).await.unwrap();
        let mut auth_revision = 0;
        racing.with_store(&mut |store| auth_revision = store.auth().revision());
        let (user, token) = ("alice".to_owned(), Secret(TOKEN.to_owned()));
        let session = AuthCommand::BeginSession { user, token, auth_revision };
        racing.store.propose(&Command::Auth(session)).await.unwrap();
    }

    async fn put(edge: &Edge, credential: Credential) -> Result<TxnResult, KvError> {
        let put = Put { key: "a".into(), ..Put::default() };
        edge.guard_for(credential).txn(Txn::of(Op::Put(put))).await.map(|(result, _)| result)
    }

    fn alice() -> Credential {
        Credential::Token(Secret(TOKEN.to_owned()))
    }

    fn set_race(racing: &Racing, command: AuthCommand) {
        *racing.before.lock().unwrap() = Some(command);
    }

    #[tokio::test]
    async fn a_change_that_does_not_matter_costs_only_another_attempt() {
        let (edge, racing) = racing().await;
        enable(&racing).await;
        set_race(&racing, AuthCommand::RoleAdd { name: "other".to_owned() });
        put(&edge, alice()).await.unwrap();
    }

    #[tokio::test]
    async fn a_right_that_was_revoked_on_the_way_is_gone() {
        let (edge, racing) = racing().await;
        enable(&racing).await;
        let revoke = AuthCommand::UserRevokeRole { user: "alice".to_owned(), role: "r".to_owned() };
        set_race(&racing, revoke);
        assert_eq!(put(&edge, alice()).await, Err(KvError::Auth(AuthRefusal::PermissionDenied)));
    }

    #[tokio::test]
    async fn who_was_not_asked_before_authentication_was_enabled_is_nobody() {
        let (edge, racing) = racing().await;
        set_race(&racing, AuthCommand::Enable);
        let refused = put(&edge, Credential::Nothing).await;
        assert_eq!(refused, Err(KvError::Auth(AuthRefusal::UserNameEmpty)));
    }

    #[tokio::test]
    async fn a_token_is_looked_at_once_authentication_is_known_to_be_on() {
        let (edge, racing) = racing().await;
        set_race(&racing, AuthCommand::Enable);
        let refused = put(&edge, alice()).await;
        assert_eq!(refused, Err(KvError::Auth(AuthRefusal::InvalidToken)), "there is no such session");
    }

    fn request_with_certificate(common_name: &str) -> Request<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let mut request = Request::new(());
        request.extensions_mut().insert(Peer {
            remote_addr: address,
            local_addr: address,
            certificates: Arc::from([certificate.der().clone()]),
        });
        request
    }

    #[tokio::test]
    async fn a_certificate_names_a_user_where_that_is_wanted() {
        let (edge, racing) = racing().await;
        enable(&racing).await;
        for (names, expected) in [
            (CertificateNames::AreUsers, Ok(())),
            (CertificateNames::Ignored, Err(KvError::Auth(AuthRefusal::UserNameEmpty))),
        ] {
            let credential = Credential::of(&request_with_certificate("alice"), names);
            assert_eq!(put(&edge, credential).await.map(|_| ()), expected, "{names:?}");
        }
        let credential = Credential::of(&request_with_certificate("bob"), CertificateNames::AreUsers);
        assert_eq!(put(&edge, credential).await, Err(KvError::Auth(AuthRefusal::PermissionDenied)));
        let mut both = request_with_certificate("alice");
        both.metadata_mut().insert("authorization", "another".parse().unwrap());
        let credential = Credential::of(&both, CertificateNames::AreUsers);
        assert_eq!(
            put(&edge, credential).await,
            Err(KvError::Auth(AuthRefusal::InvalidToken)),
            "token first"
        );
    }
}
