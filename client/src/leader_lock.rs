//! Leader election: hold a server-owned lock, and know early when it may be lost.
//!
//! The epoch fences writes inside the store's commit, so safety never depends on the clock here; the local deadline
//! only stops a leader that cannot reach the servers from doing useless work.

use std::time::Duration;

use proto::keelson as wire;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api::Client;
use crate::options::Fence;

/// Which lock to hold and how.
#[derive(Clone, Debug)]
pub struct LeaderLockConfig {
    pub lock: String,
    /// Unique per process start, for example `host_uuid`.
    pub identity: String,
    /// How long the servers keep the lock without a renewal.
    pub ttl: Duration,
}

/// A tenure as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub lock: String,
    /// Create revision of the lock's key: what writes are fenced with.
    pub epoch: u64,
    /// Store revision of the acquisition: caches must have passed it before the first reconcile.
    pub revision: u64,
}

impl Epoch {
    /// Returns the condition to put into writes.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { lock: self.lock.clone(), epoch: self.epoch }
    }
}

/// Competes for one lock.
#[derive(Clone, Debug)]
pub struct LeaderLock {
    client: Client,
    config: LeaderLockConfig,
}

/// Leadership while it lasts. Dropping it stops the renewals; the lock then falls after its time to live.
#[derive(Debug)]
pub struct Tenure {
    pub epoch: Epoch,
    /// Cancelled when the lock is, or may be, lost.
    pub lost: CancellationToken,
    lock: LeaderLock,
    _renewals: JoinSet<()>,
}

impl LeaderLock {
    /// Returns a competitor that does nothing yet.
    #[must_use]
    pub fn new(client: Client, config: LeaderLockConfig) -> Self {
        Self { client, config }
    }

    /// Waits until this identity holds the lock, then keeps renewing it in the background.
    pub async fn acquire(&self) -> Tenure {
        let mut last_holder = String::new();
        loop {
            let asked_at = Instant::now();
            match self.try_acquire().await {
                Ok(answer) if answer.acquired => return self.tenure(&answer, asked_at),
                Ok(answer) => {
                    if answer.holder != last_holder {
                        info!(lock = %self.config.lock, holder = %answer.holder, "another instance leads");
                        last_holder = answer.holder;
                    }
                }
                Err(error) => debug!(lock = %self.config.lock, %error, "leadership not reachable"),
            }
            sleep(self.retry_period()).await;
        }
    }

    async fn try_acquire(&self) -> Result<wire::AcquireResponse, crate::ApiError> {
        let request = wire::AcquireRequest {
            lock: self.config.lock.clone(),
            identity: self.config.identity.clone(),
            ttl_seconds: u32::try_from(self.config.ttl.as_secs()).unwrap_or(u32::MAX).max(1),
        };
        let send = |mut api: LeadershipClient| {
            let request = request.clone();
            async move { api.acquire(request).await }
        };
        self.client.leadership(send).await
    }

    fn tenure(&self, answer: &wire::AcquireResponse, asked_at: Instant) -> Tenure {
        let epoch = Epoch { lock: self.config.lock.clone(), epoch: answer.epoch, revision: answer.revision };
        info!(lock = %epoch.lock, epoch = epoch.epoch, revision = epoch.revision, "leading");
        let lost = CancellationToken::new();
        let mut renewals = JoinSet::new();
        renewals.spawn(self.clone().keep(epoch.epoch, asked_at, lost.clone()));
        Tenure { epoch, lost, lock: self.clone(), _renewals: renewals }
    }

    /// Renews until the lock is lost. Time counts from when a successful renewal was *sent*.
    async fn keep(self, epoch: u64, asked_at: Instant, lost: CancellationToken) {
        let _lost_on_exit = lost.drop_guard();
        let mut held_from = asked_at;
        loop {
            sleep(self.retry_period()).await;
            let sent_at = Instant::now();
            let Some(left) = self.renew_deadline().checked_sub(sent_at - held_from) else {
                warn!(lock = %self.config.lock, epoch, "leadership not renewed in time");
                return;
            };
            match timeout(left, self.renew(epoch)).await {
                Ok(Ok(answer)) if answer.held => held_from = sent_at,
                Ok(Ok(_)) => {
                    warn!(lock = %self.config.lock, epoch, "leadership lost");
                    return;
                }
                Ok(Err(error)) => debug!(lock = %self.config.lock, %error, "renewal failed"),
                Err(_) => debug!(lock = %self.config.lock, "renewal not answered"),
            }
        }
    }

    async fn renew(&self, epoch: u64) -> Result<wire::RenewResponse, crate::ApiError> {
        let request = wire::RenewRequest {
            lock: self.config.lock.clone(),
            identity: self.config.identity.clone(),
            epoch,
        };
        let send = |mut api: LeadershipClient| {
            let request = request.clone();
            async move { api.renew(request).await }
        };
        self.client.leadership(send).await
    }

    /// Renewals and attempts are spread over the time to live, so that several may fail.
    fn retry_period(&self) -> Duration {
        self.config.ttl / 6
    }

    /// Acting stops a third of the time to live before the servers may give the lock away.
    fn renew_deadline(&self) -> Duration {
        self.config.ttl * 2 / 3
    }
}

type LeadershipClient = wire::leadership_client::LeadershipClient<tonic::transport::Channel>;

impl Tenure {
    /// Returns the condition to put into writes.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.epoch.fence()
    }

    /// Gives the lock up at once, so that a successor need not wait for its time to live.
    pub async fn release(self) {
        self.lost.cancel();
        let request = wire::ReleaseRequest {
            lock: self.epoch.lock.clone(),
            identity: self.lock.config.identity.clone(),
            epoch: self.epoch.epoch,
        };
        let send = |mut api: LeadershipClient| {
            let request = request.clone();
            async move { api.release(request).await }
        };
        if let Err(error) = self.lock.client.leadership(send).await {
            debug!(lock = %self.epoch.lock, %error, "lock not released; it falls by itself");
        }
    }
}
