//! What real containers need on this machine; without it, nodes are hollow and one line says why.

use std::path::Path;

use super::UpArgs;

/// Programs that an agent starts.
const PROGRAMS: &[&str] = &["containerd", "runc", "nft"];

/// Returns the arguments with real agents turned into hollow nodes where containers cannot run.
pub fn adapt(mut args: UpArgs) -> UpArgs {
    if args.agents == 0 {
        return args;
    }
    if let Some(missing) = missing() {
        eprintln!(
            "keelson: containers cannot run here ({missing}); {} hollow node(s) take their place",
            args.agents
        );
        args.hollow_nodes += args.agents;
        args.agents = 0;
    }
    args
}

/// Says in a few words what is missing, if anything.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let path = std::env::var_os("PATH")?;
    let found = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if let Some(program) = PROGRAMS.iter().find(|program| !found(program)) {
        return Some(format!("{program} is not installed"));
    }
    let has_cgroups = Path::new("/sys/fs/cgroup/memory").exists()
        || Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    (!has_cgroups).then(|| "no control groups are mounted".to_owned())
}
