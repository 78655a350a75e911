//! The network plugin alone, for this crate's tests: a test binary cannot be started under the plugin's name. The shipped
//! binary is its own plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodeagent::cni::plugin::run()
}
