//! `/healthz`, `/livez`, `/readyz` (with `?verbose` and one path per check) and `/metrics`.

use std::time::Duration;

use axum::body::Body;
use http::{Response, StatusCode};

use super::query::Query;
use super::{Rest, respond};

/// A server that did not hear from a leader for so long must not be sent traffic.
const LEADER_SILENCE_MAX: Duration = Duration::from_secs(5);
/// A quorum read that takes longer than this counts as failed.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

struct Check {
    name: &'static str,
    failure: Option<String>,
}

impl Rest {
    /// Answers health and metrics paths; `None` for any other.
    pub(super) async fn health(&self, path: &str, query: &Query) -> Option<Response<Body>> {
        let (root, single) = match path.strip_prefix('/')?.split_once('/') {
            Some((root, single)) => (root, Some(single)),
            None => (path.strip_prefix('/')?, None),
        };
        let checks = match root {
            "livez" | "healthz" => vec![Check { name: "ping", failure: None }],
            "readyz" => vec![
                Check { name: "ping", failure: None },
                Check {
                    name: "shutdown",
                    failure: self.shutdown.is_cancelled().then(|| "draining".to_owned()),
                },
                Check { name: "leader-contact", failure: self.leader_contact() },
                Check { name: "store", failure: self.store_read().await },
            ],
            "metrics" if single.is_none() => {
                let text = self.metrics.render(&*self.api.storage.kv);
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                return Some(respond::with_type(StatusCode::OK, kind, text));
            }
            _ => return None,
        };
        match single {
            None => Some(summary(root, &checks, query)),
            Some(single) => match checks.iter().find(|check| check.name == single) {
                Some(Check { failure: None, .. }) => Some(respond::text(StatusCode::OK, "ok")),
                Some(Check { failure: Some(why), .. }) => Some(respond::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("internal server error: {why}\n"),
                )),
                None => Some(respond::text(StatusCode::NOT_FOUND, "404 page not found\n")),
            },
        }
    }

    fn leader_contact(&self) -> Option<String> {
        let silence = self.api.storage.kv.status().leader_silence;
        (silence > LEADER_SILENCE_MAX).then(|| format!("no leader heard for {} s", silence.as_secs()))
    }

    async fn store_read(&self) -> Option<String> {
        match tokio::time::timeout(READ_TIMEOUT, self.api.storage.kv.read_index()).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("a quorum read timed out".to_owned()),
        }
    }
}

fn summary(root: &str, checks: &[Check], query: &Query) -> Response<Body> {
    let excluded = query.all("exclude");
    let is_excluded = |check: &Check| excluded.iter().any(|name| name == check.name);
    let failed = checks.iter().any(|check| check.failure.is_some() && !is_excluded(check));
    if !failed && !query.has("verbose") {
        return respond::text(StatusCode::OK, "ok");
    }
    let mut text = String::new();
    for check in checks {
        let line = match &check.failure {
            _ if is_excluded(check) => format!("[+]{} excluded: ok\n", check.name),
            None => format!("[+]{} ok\n", check.name),
            Some(why) => format!("[-]{} failed: {why}\n", check.name),
        };
        text.push_str(&line);
    }
    let (verdict, code) =
        if failed { ("failed", StatusCode::INTERNAL_SERVER_ERROR) } else { ("passed", StatusCode::OK) };
    text.push_str(&format!("{root} check {verdict}\n"));
    respond::text(code, text)
}
