//! Status codes and texts. Clients compare the texts, so they are etcd's to the letter (`rpctypes`).

use http::StatusCode;
use tonic::{Code, Status};

use crate::admin::AdminError;
use crate::auth::AuthRefusal;
use crate::contest::ContestError;
use crate::kv::KvError;
use crate::mvcc::{Alarm, AlarmKind};
use crate::web_token::SignError;
use crate::wire::WireError;

fn etcd(code: Code, text: &str) -> Status {
    Status::new(code, format!("etcdserver: {text}"))
}

impl From<KvError> for Status {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Compacted { .. } => compacted(),
            KvError::FutureRevision { .. } => {
                etcd(Code::OutOfRange, "mvcc: required revision is a future revision")
            }
            KvError::LeaseNotFound => etcd(Code::NotFound, "requested lease not found"),
            KvError::LeaseExists => etcd(Code::FailedPrecondition, "lease already exists"),
            KvError::LeaseTtlTooLarge => etcd(Code::OutOfRange, "too large lease TTL"),
            KvError::EmptyKey => etcd(Code::InvalidArgument, "key is not provided"),
            KvError::KeyNotFound => etcd(Code::InvalidArgument, "key not found"),
            KvError::ValueProvided => etcd(Code::InvalidArgument, "value is provided"),
            KvError::LeaseProvided => etcd(Code::InvalidArgument, "lease is provided"),
            KvError::TooManyOps => etcd(Code::InvalidArgument, "too many operations in txn request"),
            KvError::DuplicateKey => etcd(Code::InvalidArgument, "duplicate key given in txn request"),
            KvError::RequestTooLarge => request_too_large(),
            KvError::NoSpace => etcd(Code::ResourceExhausted, "mvcc: database space exceeded"),
            KvError::TooManyRequests => etcd(Code::ResourceExhausted, "too many requests"),
            // Where etcd takes memory until none is left.
            KvError::ReadTooLarge { .. } | KvError::ReadsBusy => {
                etcd(Code::ResourceExhausted, &error.to_string())
            }
            KvError::NotCapable => etcd(Code::FailedPrecondition, "not capable"),
            KvError::DowngradeInProgress => {
                etcd(Code::FailedPrecondition, "cluster has a downgrade job in progress")
            }
            KvError::NoLeader => no_leader(),
            // Clients do not repeat a write after this one: it may have happened.
            KvError::OutcomeUnknown => etcd(Code::Unavailable, "request timed out"),
            KvError::Auth(refusal) => refusal.into(),
            KvError::Corrupt => etcd(Code::DataLoss, "corrupt cluster"),
            KvError::Stopped => stopped(),
        }
    }
}

impl From<AuthRefusal> for Status {
    fn from(refusal: AuthRefusal) -> Self {
        let invalid = |text| etcd(Code::InvalidArgument, text);
        let failed = |text| etcd(Code::FailedPrecondition, text);
        match refusal {
            AuthRefusal::NotEnabled => failed("authentication is not enabled"),
            AuthRefusal::UserNameEmpty => invalid("user name is empty"),
            AuthRefusal::RoleNameEmpty => invalid("role name is empty"),
            AuthRefusal::UserExists => failed("user name already exists"),
            AuthRefusal::UserNotFound => failed("user name not found"),
            AuthRefusal::RoleExists => failed("role name already exists"),
            AuthRefusal::RoleNotFound => failed("role name not found"),
            AuthRefusal::RoleNotGranted => failed("role is not granted to the user"),
            AuthRefusal::PermissionNotGranted => failed("permission is not granted to the role"),
            AuthRefusal::PermissionNotGiven => invalid("permission not given"),
            AuthRefusal::RootUserMissing => failed("root user does not exist"),
            AuthRefusal::RootRoleMissing => failed("root user does not have root role"),
            AuthRefusal::InvalidManagement => invalid("invalid auth management"),
            AuthRefusal::Failed => invalid("authentication failed, invalid user ID or password"),
            // Not in etcd's map of errors, so it goes out as it is there.
            AuthRefusal::NoPasswordUser => {
                Self::unknown("auth: authentication failed, password was given for no password user")
            }
            AuthRefusal::InvalidToken => etcd(Code::Unauthenticated, "invalid auth token"),
            AuthRefusal::PermissionDenied => etcd(Code::PermissionDenied, "permission denied"),
            AuthRefusal::OldRevision => invalid("revision of auth store is old"),
        }
    }
}

/// Neither is in etcd's map of errors.
impl From<SignError> for Status {
    fn from(error: SignError) -> Self {
        match error {
            SignError::VerifyOnly => Self::unknown(error.to_string()),
            SignError::Failed(_) => Self::internal(error.to_string()),
        }
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Self {
        match error {
            WireError::EmptyOp => etcd(Code::InvalidArgument, "key not found"),
            WireError::InvalidSort => etcd(Code::InvalidArgument, "invalid sort option"),
            WireError::InvalidPermission => etcd(Code::InvalidArgument, "invalid auth management"),
            WireError::Missing(_) | WireError::Format { .. } | WireError::Decode(_) => {
                Self::internal(error.to_string())
            }
        }
    }
}

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Self {
        let failed = |text| etcd(Code::FailedPrecondition, text);
        match error {
            AdminError::Kv(error) => error.into(),
            AdminError::Unimplemented(what) => Self::unimplemented(format!("not implemented: {what}")),
            AdminError::MemberNotFound => etcd(Code::NotFound, "member not found"),
            AdminError::InvalidUrls => etcd(Code::InvalidArgument, "given member URLs are invalid"),
            AdminError::PeerUrlsExist => failed("Peer URLs already exists"),
            AdminError::MemberExists => failed("member ID already exist"),
            // etcd declares this one a failed precondition and answers it without a code.
            AdminError::NotEnoughStarted => {
                etcd(Code::Unknown, "re-configuration failed due to not enough started members")
            }
            AdminError::Unhealthy => etcd(Code::Unavailable, "unhealthy cluster"),
            AdminError::NotLearner => failed("can only promote a learner member"),
            AdminError::LearnerNotReady => {
                failed("can only promote a learner member which is in sync with leader")
            }
            AdminError::TooManyLearners => failed("too many learner members in cluster"),
            // etcd has no such call.
            AdminError::BeingReplaced => Self::failed_precondition(error.to_string()),
            AdminError::NotLeader => failed("not leader"),
            AdminError::BadLeaderTransferee => failed("bad leader transferee"),
            AdminError::NotCaughtUp => Self::unavailable(error.to_string()),
            AdminError::SnapshotRefused(_) => Self::resource_exhausted(error.to_string()),
            AdminError::SnapshotFailed(_) => Self::internal(error.to_string()),
        }
    }
}

/// Returns etcd's name of an alarm.
pub(crate) fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// An alarm as the status of a member shows it.
pub(super) fn alarm_text(alarm: &Alarm) -> String {
    let kind = alarm_name(alarm.kind);
    match alarm.member {
        0 => format!("alarm:{kind}"),
        member => format!("memberID:{member} alarm:{kind}"),
    }
}

/// Locks and elections are clients of the store, in etcd too: what the store says comes out with its text, but as `Unknown`.
impl From<ContestError> for Status {
    fn from(error: ContestError) -> Self {
        match error {
            ContestError::Kv(error) => Self::unknown(Self::from(error).message()),
            ContestError::SessionExpired => Self::unknown("mutex: session is expired"),
            ContestError::NotLeader => Self::unknown("election: not leader"),
            ContestError::NoLeader => Self::unknown("election: no leader"),
            ContestError::LeaderNotGiven => Self::unknown("\"leader\" field must be provided"),
            ContestError::ObserveEnded => Self::unknown("election: observe closed early"),
        }
    }
}

pub(super) fn compacted() -> Status {
    etcd(Code::OutOfRange, "mvcc: required revision has been compacted")
}

pub(super) fn no_leader() -> Status {
    etcd(Code::Unavailable, "no leader")
}

pub(super) fn not_for_learner() -> Status {
    etcd(Code::FailedPrecondition, "rpc not supported for learner")
}

pub(super) fn request_too_large() -> Status {
    etcd(Code::InvalidArgument, "request is too large")
}

pub(super) fn wrong_downgrade_format() -> Status {
    etcd(Code::InvalidArgument, "wrong downgrade target version format")
}

pub(super) fn invalid_downgrade_target() -> Status {
    etcd(Code::InvalidArgument, "invalid downgrade target version")
}

pub(super) fn unknown_method() -> Status {
    etcd(Code::Unknown, "unknown method")
}

/// As the library words it that etcd hashes with.
pub(super) fn password_too_long() -> Status {
    Status::unknown("bcrypt: password length exceeds 72 bytes")
}

pub(super) fn hashing_failed(error: &dyn std::fmt::Display) -> Status {
    Status::internal(format!("cannot hash a password: {error}"))
}

/// Why a watch was not created, in the words of etcd's gRPC library.
pub(super) fn watch_refused(error: KvError) -> String {
    let status = Status::from(error);
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

pub(super) fn stopped() -> Status {
    etcd(Code::Unavailable, "server stopped")
}

/// A body of the gateway that holds no such message.
pub(crate) fn not_json(error: &dyn std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Returns the HTTP status that the gateway shows a code as.
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}
