//! The set of servers that a client knows, and the rule of when a call moves on to the next one.
//!
//! A call is sent again only when it cannot have been applied, when it only reads, or when a repeat is harmless
//! because it carries an idempotency key. Everything else goes back to the caller.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::transport::Channel;

use crate::backoff::Backoff;
use crate::error::{ApiError, Effect, Failure, from_status, lost_answer};

/// Longest time a call may take over all servers; longer than an election, so that callers rarely see one.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(15);
/// Longest wait for one server's answer to a read before another is asked.
const READ_ATTEMPT_DEADLINE: Duration = Duration::from_secs(4);
/// Longest wait for one server's answer to a write; it is not repeated, so it gets more time.
const WRITE_ATTEMPT_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after a round over all servers without success.
const ROUND_PAUSE: Duration = Duration::from_millis(25);
const ROUND_PAUSE_MAX: Duration = Duration::from_millis(400);

/// What a call's repetition would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// A read: any server's answer is as good as another's.
    Read,
    /// A write that may be applied twice if sent twice.
    UnsafeWrite,
    /// A write that the server recognises when it comes again.
    IdempotentWrite,
}

impl Repeat {
    fn effect(self) -> Effect {
        match self {
            Self::Read => Effect::Read,
            Self::UnsafeWrite | Self::IdempotentWrite => Effect::Write,
        }
    }

    fn attempt_deadline(self) -> Duration {
        match self {
            Self::Read | Self::IdempotentWrite => READ_ATTEMPT_DEADLINE,
            Self::UnsafeWrite => WRITE_ATTEMPT_DEADLINE,
        }
    }

    /// Says whether the call may be sent again after this failure.
    fn allows_retry(self, error: &ApiError) -> bool {
        match error {
            ApiError::Unavailable(_) => true,
            ApiError::OutcomeUnknown(_) => self == Self::IdempotentWrite,
            _ => false,
        }
    }
}

/// Channels to all servers; the preferred one is used until it fails.
#[derive(Debug)]
pub(crate) struct Servers {
    channels: Vec<Channel>,
    preferred: AtomicUsize,
}

impl Servers {
    /// `first` spreads clients over servers. There must be at least one channel.
    pub(crate) fn new(channels: Vec<Channel>, first: usize) -> Result<Arc<Self>, ApiError> {
        if channels.is_empty() {
            return Err(ApiError::Config(Failure::text("no server is given")));
        }
        Ok(Arc::new(Self { channels, preferred: AtomicUsize::new(first) }))
    }

    /// Returns the server to ask now, with the index to report a failure of.
    pub(crate) fn current(&self) -> (usize, Channel) {
        let index = self.preferred.load(Ordering::Relaxed) % self.channels.len();
        let channel = self.channels.get(index).cloned().expect("the index is below the length");
        (index, channel)
    }

    /// Moves on from a server that failed, unless another caller already did.
    pub(crate) fn failed(&self, index: usize) {
        let next = (index + 1) % self.channels.len();
        let preferred = self.preferred.load(Ordering::Relaxed);
        if preferred % self.channels.len() == index {
            // Losing the race means that another caller has moved on already.
            let _moved =
                self.preferred.compare_exchange(preferred, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Sends a call to the preferred server and on to the others as far as `repeat` allows.
    pub(crate) async fn call<T, F, Sent>(&self, repeat: Repeat, send: F) -> Result<T, ApiError>
    where
        F: Fn(Channel) -> Sent,
        Sent: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let end = Instant::now() + CALL_DEADLINE;
        let mut pause = Backoff::new(ROUND_PAUSE, ROUND_PAUSE_MAX, 1);
        let mut attempt_count = 0_usize;
        let mut lost = None;
        loop {
            let (index, channel) = self.current();
            let wait = repeat.attempt_deadline().min(end.saturating_duration_since(Instant::now()));
            let error = match timeout(wait, send(channel)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => from_status(&status, repeat.effect()),
                Err(_) => lost_answer(Failure::text("no answer before the deadline"), repeat.effect()),
            };
            attempt_count += 1;
            if matches!(error, ApiError::Unavailable(_) | ApiError::OutcomeUnknown(_)) {
                self.failed(index);
            }
            let pause_now = if attempt_count.is_multiple_of(self.channels.len()) {
                pause.next_delay()
            } else {
                Duration::ZERO
            };
            if !repeat.allows_retry(&error) || Instant::now() + pause_now >= end {
                return Err(outcome(error, lost));
            }
            if error.is_outcome_unknown() {
                lost = Some(error);
            }
            tokio::time::sleep(pause_now).await;
        }
    }
}

/// Returns what a call that has failed for good means: a last refusal says nothing about an earlier attempt whose answer was lost.
fn outcome(last: ApiError, lost: Option<ApiError>) -> ApiError {
    match lost {
        Some(lost) if last.is_definitely_not_applied() => lost,
        Some(_) | None => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(repeat: Repeat, error: ApiError, expected: bool) {
        assert_eq!(repeat.allows_retry(&error), expected, "{repeat:?} after {error}");
    }

    #[test]
    fn only_harmless_repeats_are_sent_again() {
        let unknown = || ApiError::OutcomeUnknown(Failure::default());
        let unavailable = || ApiError::Unavailable(Failure::default());
        check(Repeat::Read, unavailable(), true);
        check(Repeat::UnsafeWrite, unavailable(), true);
        check(Repeat::UnsafeWrite, unknown(), false);
        check(Repeat::IdempotentWrite, unknown(), true);
        check(Repeat::IdempotentWrite, ApiError::Conflict(Failure::default()), false);
        check(Repeat::Read, ApiError::Expired(Failure::default()), false);
    }

    fn three_servers() -> Arc<Servers> {
        let lazy = || tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        Servers::new(vec![lazy(), lazy(), lazy()], 1).unwrap()
    }

    fn refused_by_the_server() -> tonic::Status {
        let status = r#"{"code": 503, "reason": "ServiceUnavailable"}"#;
        let mut answer = tonic::Status::unavailable("no leader");
        let trailer = tonic::metadata::MetadataValue::from_bytes(status.as_bytes());
        answer.metadata_mut().insert_bin(crate::error::STATUS_TRAILER, trailer);
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn fate_of_a_lost_write_stays_unknown_when_its_repeats_are_refused() {
        let attempts = AtomicUsize::new(0);
        let send = |_channel| {
            let is_first = attempts.fetch_add(1, Ordering::Relaxed) == 0;
            let lost = || tonic::Status::unavailable("broken pipe");
            let answer = if is_first { lost() } else { refused_by_the_server() };
            async move { Err::<tonic::Response<()>, _>(answer) }
        };
        let error = three_servers().call(Repeat::IdempotentWrite, send).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
        assert!(attempts.into_inner() > 3, "every server is asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn write_that_every_server_refuses_was_not_applied() {
        let send = |_channel| async { Err::<tonic::Response<()>, _>(refused_by_the_server()) };
        let error = three_servers().call(Repeat::IdempotentWrite, send).await.unwrap_err();
        assert!(error.is_definitely_not_applied(), "{error}");
    }

    #[tokio::test]
    async fn failure_of_a_server_moves_on_once() {
        let servers = three_servers();
        servers.failed(1);
        servers.failed(1);
        assert_eq!(servers.current().0, 2);
    }
}
