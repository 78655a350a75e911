//! `--config-file`: a YAML file with the names of flags, as etcd reads it. Other flags and `ETCD_` variables then say nothing.

use std::path::Path;

use clap::{Args as _, Command, FromArgMatches};
use serde_json::{Map, Value};

use super::{Args, CliError};

/// Parts of the file whose names leave out what their flags begin with.
const SECTIONS: [(&str, &str); 2] = [("client-transport-security", ""), ("peer-transport-security", "peer-")];
/// Names in a part that are not those of a flag.
const RENAMED: [(&str, &str); 4] = [
    ("client-transport-security.crl-file", "client-crl-file"),
    ("client-transport-security.allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-transport-security.allowed-cn", "cert-allowed-cn"),
    ("peer-transport-security.allowed-hostname", "cert-allowed-hostname"),
];

impl Args {
    /// Returns what the file says that these flags name, or these flags where they name none.
    ///
    /// # Errors
    /// [`CliError::Usage`] with the file and what is wrong in it.
    pub fn resolve(self) -> Result<Self, CliError> {
        match &self.config_file {
            Some(path) => read(path),
            None => Ok(self),
        }
    }
}

fn read(path: &Path) -> Result<Args, CliError> {
    let wrong = |why: String| CliError::Usage(format!("--config-file {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let content: Value = serde_saphyr::from_str(&text).map_err(|error| {
        let said = error.to_string();
        wrong(format!("is not YAML: {}", said.lines().next().unwrap_or_default()))
    })?;
    let entries = match content {
        Value::Object(entries) => entries,
        Value::Null => Map::new(),
        _ => return Err(wrong("is not a list of names with values".to_owned())),
    };
    parse(&flags(&entries).map_err(wrong)?).map_err(wrong)
}

/// Returns the flags that stand for the file's entries. What has no value is left out, as in the sample that etcd ships.
fn flags(entries: &Map<String, Value>) -> Result<Vec<String>, String> {
    let mut flags = Vec::new();
    for (name, value) in entries {
        if name == "config-file" {
            return Err("config-file names another file".to_owned());
        }
        match SECTIONS.iter().find(|(section, _)| section == name) {
            Some((_, beginning)) => flags.extend(section(name, beginning, value)?),
            None => flags.extend(flag(name, name, value)?),
        }
    }
    Ok(flags)
}

fn section(name: &str, beginning: &str, value: &Value) -> Result<Vec<String>, String> {
    let entries = match value {
        Value::Object(entries) => entries,
        Value::Null => return Ok(Vec::new()),
        _ => return Err(format!("{name} is not a list of names with values")),
    };
    let flags = entries.iter().map(|(entry, value)| {
        let shown = format!("{name}.{entry}");
        let renamed = RENAMED.iter().find(|(from, _)| *from == shown).map_or(entry.as_str(), |(_, to)| to);
        flag(&format!("{beginning}{renamed}"), &shown, value)
    });
    Ok(flags.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Returns `--name=value`; `shown` is what a message calls it.
fn flag(name: &str, shown: &str, value: &Value) -> Result<Option<String>, String> {
    let Some(value) = text(shown, value)? else { return Ok(None) };
    Ok(Some(format!("--{name}={value}")))
}

fn text(shown: &str, value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(switch) => Ok(Some(switch.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Array(items) => {
            let items: Vec<Option<String>> =
                items.iter().map(|item| text(shown, item)).collect::<Result<_, _>>()?;
            let items: Vec<String> = items.into_iter().flatten().collect();
            Ok((!items.is_empty()).then(|| items.join(",")))
        }
        Value::Object(_) => Err(format!("{shown} has names where a value is wanted")),
    }
}

fn parse(flags: &[String]) -> Result<Args, String> {
    let command = Args::augment_args(Command::new("store")).mut_args(|flag| flag.env(None::<&str>));
    let words = std::iter::once("store").chain(flags.iter().map(String::as_str));
    let matches = command.try_get_matches_from(words);
    matches.and_then(|matches| Args::from_arg_matches(&matches)).map_err(|error| {
        let said = error.to_string();
        let reason = said.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        // The reader wrote names, not flags.
        reason.split_whitespace().collect::<Vec<_>>().join(" ").replace("argument '--", "name '")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Args, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etcd.conf.yml");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn what_a_file_says_is_what_its_flags_say() {
        let args = of("
# What etcd's sample has, with values.
name: m1
data-dir: /var/lib/store
wal-dir:
snapshot-count: 10000
election-timeout: 2000
quota-backend-bytes: 0
listen-client-urls: https://10.0.0.1:2379,https://127.0.0.1:2379
listen-peer-urls: https://10.0.0.1:2380
initial-cluster: m1=https://10.0.0.1:2380
initial-cluster-state: existing
discovery:
auto-compaction-retention: \"1\"
log-outputs: [stderr]
client-transport-security:
  cert-file: c.crt
  key-file: c.key
  client-cert-auth: true
  trusted-ca-file: ca.crt
  auto-tls: false
peer-transport-security:
  cert-file: p.crt
  key-file: p.key
  client-cert-auth: true
  trusted-ca-file: ca.crt
  crl-file: p.crl
  allowed-cn: m1,m2
")
        .unwrap();
        assert_eq!((args.name.as_str(), args.election_timeout), ("m1", 2000));
        assert_eq!(args.serving.listen_client_urls, ["https://10.0.0.1:2379", "https://127.0.0.1:2379"]);
        assert_eq!(
            (args.tls.cert_file, args.tls.peer_cert_file),
            (Some("c.crt".into()), Some("p.crt".into()))
        );
        assert!(args.tls.client_cert_auth && args.etcd.peer_client_cert_auth == Some(true));
        assert_eq!((args.tls.client_crl_file, args.tls.peer_crl_file), (None, Some("p.crl".into())));
        assert_eq!(args.tls.peer_cert_allowed_cn, ["m1", "m2"]);
        assert_eq!(args.auto_compaction_retention, "1");
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(of("").unwrap().name, "default");
    }

    #[test]
    fn what_cannot_be_read_is_said_in_one_line() {
        let cases = [
            ("nonsense: 1", "--config-file FILE: unexpected name 'nonsense' found"),
            ("- a", "is not a list of names with values"),
            ("name: [", "is not YAML"),
            ("name: {a: b}", "name has names where a value is wanted"),
            ("config-file: other", "config-file names another file"),
            ("peer-transport-security: yes please", "is not a list of names with values"),
            ("election-timeout: soon", "invalid value 'soon' for '--election-timeout"),
        ];
        for (content, expected) in cases {
            let message = of(content).map(|_| ()).unwrap_err();
            assert!(message.contains(expected) && !message.contains('\n'), "{content}: {message}");
        }
        let absent = read(Path::new("/nowhere/file")).map(|_| ()).unwrap_err().to_string();
        assert!(absent.starts_with("--config-file /nowhere/file: No such file"), "{absent}");
    }
}
