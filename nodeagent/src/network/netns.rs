//! Network namespaces and work inside them.
//!
//! A namespace belongs to a thread, so work runs on a thread of its own that enters the namespace and ends afterwards;
//! tokio's workers never change theirs. A namespace is kept alive by a bind mount on a file, at any path.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::oneshot;

use crate::network::NetworkError;

/// Where network work happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Netns {
    /// The namespace this process runs in.
    Own,
    /// The namespace bound to a file.
    At(PathBuf),
}

impl Netns {
    /// Runs blocking work inside the namespace, on a thread of its own. Programs started there inherit the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub async fn run<T, F>(&self, work: F) -> Result<T, NetworkError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let netns = self.clone();
        let (answer, result) = oneshot::channel();
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                let _receiver_gone = answer.send(netns.enter().map(|()| work()));
            })
            .map_err(|source| NetworkError::Start { program: "thread", source })?;
        result.await.map_err(|_| NetworkError::ThreadEnded)?
    }

    /// Runs work that can fail by itself.
    ///
    /// # Errors
    /// The work's own, or that the namespace cannot be entered.
    pub async fn try_run<T, F>(&self, work: F) -> Result<T, NetworkError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, NetworkError> + Send + 'static,
    {
        self.run(work).await?
    }

    /// Moves the calling thread into the namespace.
    fn enter(&self) -> Result<(), NetworkError> {
        let Self::At(path) = self else { return Ok(()) };
        let file = File::open(path).map_err(|source| failed(path, "open", source))?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(path, "enter", errno.into()))
    }

    /// Returns whether a namespace is bound to the path.
    pub async fn exists(path: &Path) -> bool {
        Self::At(path.to_owned()).run(|| ()).await.is_ok()
    }

    /// Makes a new namespace with its loopback up and binds it to the path.
    ///
    /// # Errors
    /// When the file or the mount cannot be made; without root always.
    pub async fn create(path: &Path) -> Result<Self, NetworkError> {
        let target = path.to_owned();
        // `Own`: the thread starts in this process's namespace and leaves it by itself.
        Self::Own.try_run(move || bind_new(&target)).await?;
        let netns = Self::At(path.to_owned());
        netns.try_run(|| super::tool::ip_batch(&["link set lo up".to_owned()])).await?;
        Ok(netns)
    }

    /// Unbinds the namespace and removes its file. The kernel drops the namespace, its links, routes and tables, when
    /// no process is left in it. A path that does not exist is fine.
    ///
    /// # Errors
    /// When the mount or the file cannot be removed.
    pub async fn remove(path: &Path) -> Result<(), NetworkError> {
        if !path.exists() {
            return Ok(());
        }
        match umount2(path, MntFlags::MNT_DETACH) {
            // EINVAL: the file is there but nothing is mounted on it, as after a reboot.
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(errno) => return Err(failed(path, "unmount", errno.into())),
        }
        std::fs::remove_file(path).map_err(|source| failed(path, "remove", source))
    }
}

fn bind_new(target: &Path) -> Result<(), NetworkError> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(|source| failed(target, "create", source))?;
    }
    File::create(target).map_err(|source| failed(target, "create", source))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed(target, "unshare", errno.into()))?;
    let own = Path::new("/proc/thread-self/ns/net");
    mount(Some(own), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| failed(target, "bind", errno.into()))
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> NetworkError {
    NetworkError::Netns { path: path.to_owned(), action, source }
}
