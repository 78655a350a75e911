//! Notices when a member stops to answer its leader, and when it answers again: each is worth one line in the log, where openraft
//! has one for every message.

use std::time::Duration;

use tokio::time::Instant;

/// Since when a member has been silent, if it is.
#[derive(Debug, Default)]
pub(super) struct Silence(Option<Instant>);

/// What an answer, or that there was none, says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Began,
    Ended(Duration),
}

impl Silence {
    /// Notes whether a message was answered; returns what is new.
    pub(super) fn note(&mut self, is_answered: bool) -> Option<Change> {
        match (is_answered, self.0) {
            (true, Some(since)) => {
                self.0 = None;
                Some(Change::Ended(since.elapsed()))
            }
            (false, None) => {
                self.0 = Some(Instant::now());
                Some(Change::Began)
            }
            (true, None) | (false, Some(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_told_when_it_begins_and_when_it_ends() {
        let mut silence = Silence::default();
        assert_eq!(silence.note(true), None);
        assert_eq!(silence.note(false), Some(Change::Began));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(silence.note(false), None);
        assert_eq!(silence.note(true), Some(Change::Ended(Duration::from_secs(3))));
        assert_eq!(silence.note(true), None);
    }
}
