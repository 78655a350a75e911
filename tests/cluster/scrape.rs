//! What a server counts, read from its `/metrics`.

use super::Cluster;

impl Cluster {
    /// Returns one series of a server, such as `apiserver_request_total{verb="GET",code="200"}`; `None` when the server does not answer
    /// or has no such series.
    pub fn metric(&self, server: &str, series: &str) -> Option<f64> {
        let metrics = ["--context", server, "--request-timeout=3s", "get", "--raw", "/metrics"];
        let output = self.kubectl(&metrics);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value =
            text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.split(' ').next());
        value.map(|value| value.parse().unwrap_or_else(|error| panic!("{series} {value}: {error}")))
    }
}
