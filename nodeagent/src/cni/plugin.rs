//! The plugin's side: one short-lived process per request, started by containerd with the CNI contract (environment and stdin).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde::Deserialize;
use serde_json::{Value, json};

use super::protocol::{Answer, LINE_BYTES_MAX, PodAddress, Request, SandboxNetwork, Verb};
use super::{LOOPBACK_NAME, PLUGIN_NAME, VERSION};

/// Waits for the agent a little longer than the agent gives itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(70);
/// CNI error code: "try again later".
const CODE_TRY_AGAIN: u32 = 11;
/// CNI error code: invalid environment or configuration.
const CODE_INVALID: u32 = 7;
/// CNI error code: ours, for everything else.
const CODE_FAILED: u32 = 100;
/// The loopback device is the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetworkConfig {
    #[serde(rename = "type")]
    kind: String,
    cni_version: Option<String>,
    agent_socket: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("{0}")]
    Invalid(String),
    #[error("the node agent does not answer at {socket}: {source}", socket = .socket.display())]
    Agent { socket: PathBuf, source: io::Error },
    #[error("{0}")]
    Failed(String),
}

impl PluginError {
    fn code(&self) -> u32 {
        match self {
            Self::Invalid(_) => CODE_INVALID,
            Self::Agent { .. } => CODE_TRY_AGAIN,
            Self::Failed(_) => CODE_FAILED,
        }
    }
}

/// Reports whether the program was started under one of the plugin's names; `main` then calls [`run`] and nothing else.
#[must_use]
pub fn is_plugin_call(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name == PLUGIN_NAME || name == LOOPBACK_NAME)
}

/// Serves one CNI call: environment and stdin in, result or error as JSON on stdout.
#[must_use]
pub fn run() -> ExitCode {
    let environment: BTreeMap<String, String> =
        std::env::vars().filter(|(name, _)| name.starts_with("CNI_")).collect();
    let (document, exit) = match serve(&environment, io::stdin()) {
        Ok(document) => (document, ExitCode::SUCCESS),
        Err(error) => {
            let document = json!({ "cniVersion": VERSION, "code": error.code(), "msg": error.to_string() });
            (document, ExitCode::FAILURE)
        }
    };
    match writeln!(io::stdout(), "{document}") {
        Ok(()) => exit,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(environment: &BTreeMap<String, String>, input: impl Read) -> Result<Value, PluginError> {
    let command = environment.get("CNI_COMMAND").map(String::as_str).unwrap_or_default();
    if command == "VERSION" {
        return Ok(
            json!({ "cniVersion": VERSION, "supportedVersions": ["0.3.0", "0.3.1", VERSION, "1.0.0"] }),
        );
    }
    let verb = match command {
        "ADD" => Verb::Add,
        "DEL" => Verb::Del,
        "CHECK" => Verb::Check,
        other => return Err(PluginError::Invalid(format!("unknown CNI_COMMAND {other:?}"))),
    };
    let config: NetworkConfig = serde_json::from_reader(input.take(LINE_BYTES_MAX))
        .map_err(|error| PluginError::Invalid(format!("network configuration: {error}")))?;
    let version = config.cni_version.clone().unwrap_or_else(|| VERSION.to_owned());
    let sandbox = sandbox(environment);
    if config.kind == LOOPBACK_NAME {
        return loopback(verb, &sandbox, &version);
    }
    let socket =
        config.agent_socket.ok_or_else(|| PluginError::Invalid("agentSocket is missing".to_owned()))?;
    let request = Request { verb, sandbox };
    let answer = ask(&socket, &request).map_err(|source| PluginError::Agent { socket, source })?;
    match answer {
        Answer::Address(address) => Ok(result(&version, &request.sandbox, address)),
        Answer::Done => Ok(json!({ "cniVersion": version })),
        Answer::Failed(message) => Err(PluginError::Failed(message)),
    }
}

fn sandbox(environment: &BTreeMap<String, String>) -> SandboxNetwork {
    let variable = |name: &str| environment.get(name).cloned().unwrap_or_default();
    let pairs = variable("CNI_ARGS");
    let arguments: BTreeMap<&str, &str> = pairs.split(';').filter_map(|pair| pair.split_once('=')).collect();
    let argument = |name: &str| arguments.get(name).copied().unwrap_or_default().to_owned();
    SandboxNetwork {
        sandbox_id: variable("CNI_CONTAINERID"),
        netns: environment.get("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from),
        interface: variable("CNI_IFNAME"),
        pod_namespace: argument("K8S_POD_NAMESPACE"),
        pod_name: argument("K8S_POD_NAME"),
        pod_uid: argument("K8S_POD_UID"),
    }
}

fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn result(version: &str, sandbox: &SandboxNetwork, address: PodAddress) -> Value {
    let mut ip =
        json!({ "version": "4", "interface": 0, "address": format!("{}/{}", address.ip, address.prefix) });
    if let (Some(gateway), Some(ip)) = (address.gateway, ip.as_object_mut()) {
        ip.insert("gateway".to_owned(), json!(gateway));
    }
    let interface = json!({ "name": sandbox.interface, "sandbox": sandbox.netns });
    json!({ "cniVersion": version, "interfaces": [interface], "ips": [ip], "dns": {} })
}

/// containerd's second network: the loopback device must be up.
fn loopback(verb: Verb, sandbox: &SandboxNetwork, version: &str) -> Result<Value, PluginError> {
    if verb != Verb::Add {
        return Ok(json!({ "cniVersion": version }));
    }
    let netns =
        sandbox.netns.as_deref().ok_or_else(|| PluginError::Invalid("CNI_NETNS is missing".to_owned()))?;
    raise_loopback(netns).map_err(|error| PluginError::Failed(format!("loopback device: {error:#}")))?;
    let interface = json!({ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": netns });
    let ip = json!({ "version": "4", "interface": 0, "address": "127.0.0.1/8" });
    Ok(json!({ "cniVersion": version, "interfaces": [interface], "ips": [ip], "dns": {} }))
}

/// Enters the namespace (this process ends right after) and sets the device up.
fn raise_loopback(netns: &Path) -> anyhow::Result<()> {
    setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let up = async {
            handle
                .link()
                .set(rtnetlink::LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build())
                .execute()
                .await
        };
        tokio::select! {
            () = connection => anyhow::bail!("netlink ended"),
            done = up => Ok(done?),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_pod_is_read_from_the_arguments() {
        let environment = environment(&[
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/n"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=a;K8S_POD_UID=u1"),
        ]);
        let sandbox = sandbox(&environment);
        assert_eq!((sandbox.pod_namespace.as_str(), sandbox.pod_name.as_str()), ("web", "a"));
        assert_eq!((sandbox.pod_uid.as_str(), sandbox.netns), ("u1", Some(PathBuf::from("/run/n"))));
    }

    #[test]
    fn an_absent_agent_is_a_retryable_error() {
        let environment = environment(&[("CNI_COMMAND", "ADD")]);
        let config = r#"{"type":"keelson-cni","agentSocket":"/nonexistent/cni.sock"}"#;
        let error = serve(&environment, config.as_bytes()).unwrap_err();
        assert_eq!(error.code(), CODE_TRY_AGAIN);
    }

    #[test]
    fn names_choose_the_plugin() {
        assert!(is_plugin_call(Path::new("/x/cni/bin/keelson-cni")));
        assert!(is_plugin_call(Path::new("loopback")));
        assert!(!is_plugin_call(Path::new("/usr/bin/keelson")));
    }
}
