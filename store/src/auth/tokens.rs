//! Sessions: which token stands for which user, on this member. Every member is told of every token through the log; each
//! forgets one that nobody has shown to it for a while. They are gone after a restart, and clients authenticate again.

use std::collections::HashMap;
use std::time::Duration;

use super::{AuthCommand, AuthState, Secret};
use crate::mvcc::Command;

/// A token ends this long after its last use (etcd's default).
pub const TOKEN_TTL: Duration = Duration::from_secs(300);
/// Most tokens at a time, at some hundred bytes each; beyond it those go first that were not used for longest.
const TOKENS_MAX: usize = 100_000;

/// What an applied command means for sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionChange {
    None,
    Began {
        user: String,
        token: Secret,
    },
    /// Authentication was switched, or users and roles have changed; sessions of `ended` are over.
    Changed {
        enabled_at: u64,
        ended: Ended,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Nobody,
    User(String),
    Everybody,
}

impl SessionChange {
    /// Returns what follows from a command that was not refused, with the state after it.
    pub(crate) fn of(command: &Command, auth: &AuthState) -> Self {
        let ended = match command {
            Command::Guarded { command, .. } => return Self::of(command, auth),
            Command::Auth(AuthCommand::BeginSession { user, token, .. }) => {
                return Self::Began { user: user.clone(), token: token.clone() };
            }
            Command::Auth(AuthCommand::Disable) => Ended::Everybody,
            Command::Auth(
                AuthCommand::UserDelete { name } | AuthCommand::UserChangePassword { name, .. },
            ) => Ended::User(name.clone()),
            Command::Auth(
                AuthCommand::Enable
                | AuthCommand::UserAdd { .. }
                | AuthCommand::UserGrantRole { .. }
                | AuthCommand::UserRevokeRole { .. }
                | AuthCommand::RoleAdd { .. }
                | AuthCommand::RoleDelete { .. }
                | AuthCommand::RoleGrantPermission { .. }
                | AuthCommand::RoleRevokePermission { .. },
            ) => Ended::Nobody,
            Command::Txn(_)
            | Command::Compact { .. }
            | Command::LeaseGrant { .. }
            | Command::LeaseRevoke { .. }
            | Command::LeaseExpire { .. }
            | Command::LeaseCheckpoint { .. }
            | Command::AlarmRaise(_)
            | Command::AlarmClear(_)
            | Command::CompareStates(_)
            | Command::RaiseLevel(_)
            | Command::SetDowngrade(_) => return Self::None,
        };
        Self::Changed { enabled_at: enabled_at(auth), ended }
    }
}

/// Returns the auth revision while authentication is on, and 0, which is none, while it is off.
pub(crate) fn enabled_at(auth: &AuthState) -> u64 {
    if auth.is_enabled() { auth.revision() } else { 0 }
}

/// All tokens that this member takes.
#[derive(Debug)]
pub(crate) struct Tokens {
    ttl: Duration,
    sessions: HashMap<Secret, Session>,
}

#[derive(Debug)]
struct Session {
    user: String,
    used: Duration,
}

impl Tokens {
    /// Returns no sessions; each will end `ttl` after its last use.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, sessions: HashMap::new() }
    }

    pub(crate) fn count(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn began(&mut self, now: Duration, user: String, token: Secret) {
        if self.sessions.len() >= TOKENS_MAX {
            self.make_room(now);
        }
        self.sessions.insert(token, Session { user, used: now });
    }

    pub(crate) fn ended(&mut self, ended: &Ended) {
        match ended {
            Ended::Nobody => {}
            Ended::User(name) => self.sessions.retain(|_, session| session.user != *name),
            Ended::Everybody => self.sessions.clear(),
        }
    }

    /// Returns whom a token stands for, and starts its time anew.
    pub(crate) fn user(&mut self, now: Duration, token: &Secret) -> Option<String> {
        let session = self.sessions.get_mut(token)?;
        if is_over(session, now, self.ttl) {
            self.sessions.remove(token);
            return None;
        }
        session.used = now;
        Some(session.user.clone())
    }

    fn make_room(&mut self, now: Duration) {
        self.sessions.retain(|_, session| !is_over(session, now, self.ttl));
        if self.sessions.len() < TOKENS_MAX {
            return;
        }
        let mut used: Vec<Duration> = self.sessions.values().map(|session| session.used).collect();
        // Half at once, so that room is not made for every single token.
        let middle = used.len() / 2;
        let (_, median, _) = used.select_nth_unstable(middle);
        let median = *median;
        self.sessions.retain(|_, session| session.used > median);
    }
}

fn is_over(session: &Session, now: Duration, ttl: Duration) -> bool {
    now.saturating_sub(session.used) >= ttl
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn token(number: usize) -> Secret {
        Secret(format!("t{number}"))
    }

    fn tokens() -> Tokens {
        let mut tokens = Tokens::new(TOKEN_TTL);
        tokens.began(START, "alice".to_owned(), token(1));
        tokens.began(START, "alice".to_owned(), token(2));
        tokens.began(START, "bob".to_owned(), token(3));
        tokens
    }

    #[test]
    fn a_token_lives_from_its_last_use() {
        let mut tokens = tokens();
        let later = START + TOKEN_TTL - Duration::from_secs(1);
        assert_eq!(tokens.user(later, &token(1)).as_deref(), Some("alice"));
        let end = START + TOKEN_TTL;
        assert_eq!(tokens.user(end, &token(1)).as_deref(), Some("alice"), "was used");
        assert_eq!(tokens.user(end, &token(2)), None, "was not");
        assert_eq!(tokens.user(end, &token(9)), None, "never existed");
    }

    #[test]
    fn sessions_of_one_user_or_all_end_at_once() {
        let mut tokens = tokens();
        tokens.ended(&Ended::User("alice".to_owned()));
        assert_eq!(
            [1, 2, 3].map(|number| tokens.user(START, &token(number)).is_some()),
            [false, false, true]
        );
        tokens.ended(&Ended::Everybody);
        assert_eq!(tokens.user(START, &token(3)), None);
    }

    #[test]
    fn there_is_a_limit_and_the_newest_stay() {
        let mut tokens = Tokens::new(TOKEN_TTL);
        for number in 0..=TOKENS_MAX {
            let now = START + Duration::from_nanos(u64::try_from(number).unwrap());
            tokens.began(now, "alice".to_owned(), token(number));
        }
        assert!(tokens.sessions.len() <= TOKENS_MAX);
        assert!(tokens.user(START, &token(0)).is_none() && tokens.user(START, &token(TOKENS_MAX)).is_some());
    }

    #[test]
    fn a_token_is_never_shown() {
        assert!(!format!("{:?}", tokens()).contains("t1"));
    }
}
