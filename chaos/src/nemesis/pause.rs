//! Pause: SIGSTOP to one member or a minority, and SIGCONT later: shorter than an election, longer, and longer than leases.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

/// Shorter than an election takes: nobody but the paused member may notice.
const SHORT: Duration = Duration::from_millis(400);

pub(super) struct Pause {
    members: Vec<usize>,
    length: Length,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Length {
    Short,
    Usual,
    /// Twice the usual: longer than leases of a few seconds.
    Long,
}

impl Pause {
    pub(super) fn new(aim: Aim) -> Self {
        let length = match aim.draw.choice(0, 4) {
            0 => Length::Short,
            1 => Length::Long,
            _ => Length::Usual,
        };
        let members = if aim.draw.choice(1, 3) == 0 { aim.minority() } else { vec![aim.victim] };
        Self { members, length }
    }
}

#[async_trait(?Send)]
impl Fault for Pause {
    fn members(&self) -> Vec<usize> {
        self.members.clone()
    }

    fn plan(&self) -> Value {
        json!({ "length": self.length })
    }

    fn lasting(&self, usual: Duration) -> Duration {
        match self.length {
            Length::Short => SHORT,
            Length::Usual => usual,
            Length::Long => usual * 2,
        }
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let mut stopped = Vec::new();
        for member in &self.members {
            let Some(member) = site.cluster.members.get(*member) else { continue };
            if let Some(pid) = member.pause().await? {
                stopped.push(pid);
            }
        }
        let is_whole = stopped.len() == self.members.len();
        Ok(is_whole.then(|| json!({ "pids": stopped, "state": "T" })))
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        for member in &self.members {
            if let Some(member) = site.cluster.members.get(*member) {
                member.resume()?;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Draw;

    #[test]
    fn all_lengths_are_drawn_and_never_more_than_a_minority() {
        let pauses: Vec<Pause> = (0..300)
            .map(|seed| Pause::new(Aim { victim: 4, count: 5, draw: Draw::from_seed(seed) }))
            .collect();
        for length in [Length::Short, Length::Usual, Length::Long] {
            assert!(pauses.iter().any(|pause| pause.length == length), "{length:?}");
        }
        assert!(pauses.iter().any(|pause| pause.members == [4, 0]));
        assert!(pauses.iter().all(|pause| pause.members.len() <= 2 && pause.members.contains(&4)));
    }

    #[test]
    fn lengths_lie_on_both_sides_of_an_election() {
        let pause = |length| Pause { members: vec![0], length }.lasting(Duration::from_secs(3));
        assert!(pause(Length::Short) < Duration::from_millis(500));
        assert_eq!(
            (pause(Length::Usual), pause(Length::Long)),
            (Duration::from_secs(3), Duration::from_secs(6))
        );
    }
}
