//! nodeagent.
