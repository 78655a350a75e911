//! Calls at an even pace, however slow the answers are: a server that stalls does not slow down what it is asked, as closed loops do.

use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::sample::float;

/// How often something is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub per_second: u32,
    /// Calls without an answer at a time; beyond that, calls are left out and counted.
    pub pending_max: usize,
}

/// What the calls showed. Latencies count from the moment when a call was due.
pub(super) struct Paced {
    latencies: Histogram<u64>,
    pub answered: u64,
    pub left_out: u64,
}

impl Paced {
    /// Returns a quantile of the latencies.
    pub(super) fn milliseconds(&self, quantile: f64) -> f64 {
        float(self.latencies.value_at_quantile(quantile)) / 1e3
    }
}

/// Calls until `until` is over, and waits for the last answers.
///
/// # Errors
/// The first call that fails.
pub(super) async fn run<F>(
    pace: Pace,
    until: impl Future<Output = ()>,
    call: impl Fn(u64) -> F,
) -> anyhow::Result<Paced>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut paced = Paced { latencies: Histogram::new(3)?, answered: 0, left_out: 0 };
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / pace.per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut pending = JoinSet::new();
    let mut count = 0;
    let mut until = std::pin::pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => break,
            // Before the next call, which may have to be left out where there are too many.
            Some(ended) = pending.join_next() => paced.note(ended.context("a call panicked")??)?,
            due = ticks.tick() => {
                if pending.len() >= pace.pending_max {
                    paced.left_out += 1;
                    continue;
                }
                let due: Instant = due.into();
                let answer = call(count);
                count += 1;
                pending.spawn(async move { answer.await.map(|()| due.elapsed()) });
            }
        }
    }
    while let Some(ended) = pending.join_next().await {
        paced.note(ended.context("a call panicked")??)?;
    }
    Ok(paced)
}

impl Paced {
    fn note(&mut self, latency: Duration) -> anyhow::Result<()> {
        self.answered += 1;
        Ok(self.latencies.record(microseconds(latency))?)
    }
}

/// What a histogram records.
pub(super) fn microseconds(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_seen_by_every_call_that_was_due_in_it() {
        let pace = Pace { per_second: 100, pending_max: 1000 };
        let begin = tokio::time::Instant::now();
        let free = begin + Duration::from_secs(1);
        let paced = run(pace, tokio::time::sleep(Duration::from_secs(2)), |_| async move {
            tokio::time::sleep_until(free).await;
            Ok(())
        });
        let paced = paced.await.unwrap();
        assert_eq!((paced.answered, paced.left_out), (200, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_beyond_the_limit_are_left_out_and_counted() {
        let pace = Pace { per_second: 100, pending_max: 10 };
        let paced = run(pace, tokio::time::sleep(Duration::from_secs(1)), |_| async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(())
        });
        let paced = paced.await.unwrap();
        assert_eq!(paced.answered, 10);
        assert!(paced.left_out > 80, "{}", paced.left_out);
    }
}
