//! The only writer: turns actions into fenced calls and says what became of them.

use std::time::Duration;

use client::{ApiError, Client, DynamicObject, Fence, Patch, WriteOptions};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::action::{Action, Note, Verb};
use super::own_writes::OwnWrites;
use crate::events;
use crate::metrics::Metrics;

/// Most writes of one plan in flight; batches start with one and double, so that a plan that cannot succeed (quota,
/// admission) costs one failed call instead of hundreds.
const BATCH_SIZE_MAX: usize = 32;

/// Writes on behalf of one controller during one tenure.
#[derive(Clone, Debug)]
pub struct Executor {
    client: Client,
    fence: Fence,
    /// Names the controller in Events.
    component: &'static str,
    metrics: Metrics,
    lost: CancellationToken,
    /// Pause between decision and commit; zero but in tests that depose a leader in between.
    commit_delay: Duration,
}

/// Why a plan stopped, and what must be asked again before anything else is decided.
#[derive(Clone, Debug)]
pub struct Failed {
    pub error: ApiError,
    /// Actions whose outcome is unknown.
    pub unresolved: Vec<Action>,
}

impl Executor {
    /// Returns a writer whose every write carries `fence`; being fenced out cancels `lost`.
    #[must_use]
    pub fn new(
        client: Client,
        fence: Fence,
        component: &'static str,
        metrics: Metrics,
        lost: CancellationToken,
    ) -> Self {
        Self { client, fence, component, metrics, lost, commit_delay: Duration::ZERO }
    }

    /// Waits this long before the writes of every plan.
    #[must_use]
    pub fn with_commit_delay(self, commit_delay: Duration) -> Self {
        Self { commit_delay, ..self }
    }

    /// Returns the client, for reads that a cache cannot answer.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs actions in order, like verbs side by side; stops after the first batch with a failure.
    pub async fn run(&self, actions: &[Action]) -> (OwnWrites, Result<(), Failed>) {
        let mut own_writes = OwnWrites::default();
        if !self.commit_delay.is_zero() && !actions.is_empty() {
            let _counted = self.metrics.commit_delayed(self.component);
            tokio::time::sleep(self.commit_delay).await;
        }
        let mut rest = actions;
        let mut batch_size = 1;
        while let Some(first) = rest.first() {
            let like =
                rest.iter().take(batch_size).take_while(|action| may_share_batch(first, action)).count();
            let (batch, next) = rest.split_at(like.max(1));
            rest = next;
            batch_size = (batch_size * 2).min(BATCH_SIZE_MAX);
            let results = join_all(batch.iter().map(|action| self.write(action))).await;
            let failed = collect(batch, results, &mut own_writes);
            if let Some(failed) = failed {
                if failed.error.is_fenced_out() {
                    self.fenced_out();
                }
                return (own_writes, Err(failed));
            }
        }
        (own_writes, Ok(()))
    }

    /// Tells users; a lost message is not worth a retry.
    pub async fn tell(&self, notes: &[Note]) {
        for note in notes {
            let options = self.options(None);
            if let Err(error) = events::record(&self.client, self.component, note, &options).await {
                debug!(%error, reason = note.reason, "event not recorded");
            }
        }
    }

    async fn write(&self, action: &Action) -> Result<u64, ApiError> {
        let result = self.send(action).await;
        self.metrics.write(self.component, &result);
        match (&result, &action.success, &action.failure) {
            (Ok((name, _)), Some(note), _) => {
                let message = note.message.replace("{name}", name);
                self.tell(&[Note { message, ..note.clone() }]).await;
            }
            (Err(error), _, Some(note)) if !error.is_fenced_out() && !error.is_conflict() => {
                let message = note.message.replace("{error}", &error.to_string());
                self.tell(&[Note { message, ..note.clone() }]).await;
            }
            _ => {}
        }
        result.map(|(_, revision)| revision)
    }

    /// Returns the name and the revision of what was written.
    async fn send(&self, action: &Action) -> Result<(String, u64), ApiError> {
        let Action { kind, namespace, name, .. } = action;
        let written: DynamicObject = match &action.verb {
            Verb::Create { object, idempotency_key } => {
                let key = Some(idempotency_key.clone()).filter(|key| !key.is_empty());
                let options = self.options(key);
                self.client.create_as(kind, &dynamic(object)?, &options).await?
            }
            Verb::Update { subresource, object } => {
                let object = dynamic(object)?;
                self.client.update_subresource_as(kind, subresource, &object, &self.options(None)).await?
            }
            Verb::Patch { subresource, patch } => {
                let patch = Patch::Merge(patch.clone());
                let target = (namespace.as_str(), name.as_str());
                self.client.patch_as(kind, target, subresource, &patch, &self.options(None)).await?
            }
            Verb::Delete(delete) => {
                let deleted = self.client.delete_as(kind, namespace, name, delete, &self.options(None)).await;
                match deleted {
                    // Gone, or replaced by a namesake: what was to be deleted does not exist any more.
                    Err(ApiError::NotFound(_)) | Ok(()) => return Ok((name.clone(), 0)),
                    Err(error) => return Err(error),
                }
            }
        };
        let written_name = written.metadata.name.clone().unwrap_or_default();
        Ok((written_name, client::object::revision(&written)))
    }

    fn options(&self, idempotency_key: Option<String>) -> WriteOptions {
        WriteOptions { fence: Some(self.fence.clone()), idempotency_key, dry_run: false }
    }

    fn fenced_out(&self) {
        self.metrics.fenced_out.inc();
        warn!(lock = %self.fence.lock, epoch = self.fence.epoch, "write fenced out; another instance leads");
        self.lost.cancel();
    }
}

/// Creates and deletes do not depend on each other; updates of one plan may.
fn may_share_batch(first: &Action, other: &Action) -> bool {
    matches!(
        (&first.verb, &other.verb),
        (Verb::Create { .. }, Verb::Create { .. }) | (Verb::Delete(_), Verb::Delete(_))
    )
}

fn collect(
    batch: &[Action],
    results: Vec<Result<u64, ApiError>>,
    own_writes: &mut OwnWrites,
) -> Option<Failed> {
    let mut failed: Option<Failed> = None;
    for (action, result) in batch.iter().zip(results) {
        match result {
            Ok(revision) => match &action.verb {
                Verb::Delete(options) => {
                    let uid = options.uid.as_deref().unwrap_or_default();
                    own_writes.deleted(&action.kind, &action.namespace, &action.name, uid);
                }
                Verb::Create { .. } | Verb::Update { .. } | Verb::Patch { .. } => {
                    own_writes.wrote(&action.kind, revision);
                }
            },
            Err(error) => {
                let unknown = error.is_outcome_unknown();
                let fenced_out = error.is_fenced_out();
                let failed =
                    failed.get_or_insert_with(|| Failed { error: error.clone(), unresolved: vec![] });
                if fenced_out {
                    failed.error = error;
                }
                if unknown {
                    failed.unresolved.push(action.clone());
                }
            }
        }
    }
    failed
}

fn dynamic(object: &serde_json::Value) -> Result<DynamicObject, ApiError> {
    serde_json::from_value(object.clone())
        .map_err(|error| ApiError::Malformed(client::Failure::text(error.to_string())))
}
