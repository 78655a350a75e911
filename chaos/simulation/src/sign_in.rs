//! Who a connection is of: the first line on it says so, in the place of a certificate.
//!
//! There is no TLS in the simulator: what it encrypts would differ from run to run. So there is no proof either; nobody there lies.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest line.
const LINE_BYTES_MAX: usize = 256;

/// Whom a certificate would name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    pub name: String,
    pub group: Option<String>,
}

impl User {
    /// Returns the user whom nothing is forbidden.
    #[must_use]
    pub fn administrator() -> Self {
        Self { name: "kubernetes-admin".to_owned(), group: Some("system:masters".to_owned()) }
    }

    /// Returns a part of the control plane.
    #[must_use]
    pub fn component(name: &str) -> Self {
        Self { name: name.to_owned(), group: None }
    }

    /// Returns a node's agent.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self { name: format!("system:node:{name}"), group: Some("system:nodes".to_owned()) }
    }

    fn line(&self) -> String {
        let Self { name, group } = self;
        format!("{name} {}\n", group.as_deref().unwrap_or_default())
    }

    fn read(line: &str) -> Self {
        let (name, group) = line.split_once(' ').unwrap_or((line, ""));
        Self { name: name.to_owned(), group: Some(group.to_owned()).filter(|group| !group.is_empty()) }
    }
}

/// Says on a new connection who it is of.
pub(crate) async fn tell(stream: &mut (impl AsyncWriteExt + Unpin), user: &User) -> io::Result<()> {
    stream.write_all(user.line().as_bytes()).await
}

/// Hears on a new connection who it is of, and takes nothing else from it.
///
/// # Errors
/// When the connection ends, or nobody is named.
pub async fn heard(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<User> {
    let mut line = Vec::new();
    while line.len() < LINE_BYTES_MAX {
        match stream.read_u8().await? {
            b'\n' => return String::from_utf8(line).map(|line| User::read(&line)).map_err(io::Error::other),
            byte => line.push(byte),
        }
    }
    Err(io::Error::other("nobody signs in with so long a name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_signs_in_is_heard_and_what_follows_stays() {
        for user in [User::administrator(), User::component("system:kube-scheduler"), User::node("a")] {
            let (mut near, mut far) = tokio::io::duplex(1024);
            tell(&mut near, &user).await.unwrap();
            near.write_all(b"GET").await.unwrap();
            assert_eq!(heard(&mut far).await.unwrap(), user);
            assert_eq!(far.read_u8().await.unwrap(), b'G');
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_refused() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        near.write_all(&[b'a'; LINE_BYTES_MAX + 1]).await.unwrap();
        assert!(heard(&mut far).await.is_err());
    }
}
