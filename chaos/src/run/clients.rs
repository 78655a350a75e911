//! All clients of a run.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::progress::Display;
use super::{Folder, Options};
use crate::history::Writer;
use crate::kubernetes::Server;
use crate::workload::{Client, Progress, Session, Target, Workload};

/// Longest wait for clients that were told to stop; their calls have a deadline far below it.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Clients at work.
pub(super) struct Clients {
    tasks: JoinSet<std::io::Result<()>>,
    session: Session,
    pub(super) display: Display,
}

impl Clients {
    pub(super) fn start(
        options: &Options,
        folder: &Folder,
        workload: &Arc<dyn Workload>,
        (targets, servers): (&[Target], &[Server]),
        history: &Arc<Writer>,
    ) -> Self {
        let session = Session {
            history: Arc::clone(history),
            progress: Arc::new(Progress::default()),
            process_step: options.concurrency,
            period: options.client_period(),
            snapshots: folder.snapshots(),
            starts: folder.starts(),
            stop: CancellationToken::new(),
        };
        let mut tasks = JoinSet::new();
        let members = targets.len().max(1);
        for number in 0..options.concurrency {
            let place = usize::try_from(number).unwrap_or(0);
            // Every fourth client uses all members, beginning with another one each; the others are pinned.
            let mut targets = targets.to_vec();
            targets.rotate_left(place % members);
            if number % 4 != 3 {
                targets.truncate(1);
            }
            let client = Client::new(session.clone(), number, targets).with_servers(servers);
            tasks.spawn(Arc::clone(workload).work(client));
        }
        let display = Display::start(Arc::clone(&session.progress));
        Self { tasks, session, display }
    }

    /// Ends all clients; returns what they shared.
    pub(super) async fn stop(mut self) -> anyhow::Result<Session> {
        self.session.stop.cancel();
        let ending = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.context("a client panicked")??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(STOP_TIMEOUT, ending).await.context("clients do not stop")??;
        Ok(self.session)
    }
}
